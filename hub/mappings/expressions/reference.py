"""The reference page of the language, written from the list of functions."""

from __future__ import annotations

from collections.abc import Iterator

from hub.mappings.expressions.functions import REGISTRY, Function
from hub.mappings.expressions.syntax import MAX_CHARACTERS, MAX_DEPTH

OPERATORS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "`+` `-` `*` `%`",
        "Integers are checked: what does not fit 64 bits is an error. Decimals are exact, or an error.",
        (("1 + 2 * 3", "7"), ("9223372036854775807 + 1", "error: a result is out of range"), ("0.1 + 0.2", "0.3")),
    ),
    ("`/`", "Always a real number.", (("7 / 2", "3.5"), ("1 / 0", "error: division by zero"), ("null / 0", "null"))),
    (
        "`=` `<>` `<` `<=` `>` `>=`",
        "Like is compared with like; null beside anything gives null. Text is compared by code point, case counts.",
        (("1 < 1.5", "true"), ("'a' < 'B'", "false"), ("null = null", "null")),
    ),
    (
        "`AND` `OR` `NOT`",
        "From left to right; what follows is not computed once the answer is settled, and cannot be an error then.",
        (("false and 1 / 0 > 1", "false"), ("null or true", "true"), ("not null", "null")),
    ),
    ("`IS [NOT] NULL`, `IS [NOT] TRUE`", "Never null.", (("null is null", "true"), ("null is not true", "true"))),
    ("`IS [NOT] DISTINCT FROM`", "Equality that counts null as a value.", (("null is distinct from 1", "true"),)),
    ("`IN`, `NOT IN`", "A list of literals.", (("3 in (1, 3)", "true"), ("2 not in (1, null)", "null"))),
    ("`BETWEEN a AND b`", "Both ends included.", (("5 between 1 and 5", "true"),)),
    (
        "`LIKE`, `ILIKE`, `ESCAPE`",
        "`%` is any text, `_` one character; the pattern is a literal. ILIKE ignores case.",
        (("'abc' like 'a%'", "true"), ("'ABC' like 'a%'", "false"), ("'50%' like '50!%' escape '!'", "true")),
    ),
    ("`||`", "Joins text; null where a part is null.", (("'a' || 'b'", "ab"),)),
    (
        "`CASE`",
        "Both forms. Only the conditions up to the first true one and its value are computed.",
        (("case when 0 = 0 then 0 else 10 / 0 end", "0.0"), ("case 2 when 1 then 'a' end", "null")),
    ),
    (
        "`CAST(x AS type)`, `x::type`",
        (
            "To text, integer, decimal(p, s), real, boolean, date, time, timestamp, timestamptz or uuid. What cannot be"
            " read so is an error. Fewer digits are rounded half away from zero."
        ),
        (("cast('12' as integer)", "12"), ("cast(2.5 as integer)", "3"), ("'1.005'::decimal(5, 2)", "1.01")),
    ),
    (
        "`TRY_CAST(x AS type)`",
        "As CAST, but null where the value cannot be read so. An error inside x stays one.",
        (("try_cast('n/a' as integer)", "null"), ("try_cast(1 / 0 as integer)", "error: division by zero")),
    ),
    (
        "Literals",
        (
            "A backslash in a text is a backslash, and a quote is doubled. A number with a point is a decimal, one with"
            " an exponent a real."
        ),
        (("'it''s'", "it's"), ("1e3", "1000.0"), ("date '2024-12-31'", "2024-12-31")),
    ),
)
"""What is written without a function's name: how, the rule, examples."""

_HEAD = f"""# Expressions

<!-- Written from the code by hub.mappings.expressions.reference; a test fails when it is stale. -->

Features, conditions, outputs and aggregates are SQL scalar expressions over the fields of one record. There are no
comments, sub-selects, windows, parameters or lambdas. An expression has at most {MAX_CHARACTERS} characters and is
nested at most {MAX_DEPTH} deep.

- A field is written by its exact name, case included; one that is not a plain word, or is an SQL word, goes between
  double quotes: `"My Field"`. A field of a lookup is written `orders.spent`.
- Types are strict: text and numbers do not mix by themselves. Integers, decimals and reals do, as the widest of them.
- What cannot be computed puts *that record* in error, with a reason, and only where the branch is taken. The others go
  on. The reason never holds a value.
- A field of type real that is NaN or infinite puts the record in error when it is used: there is no comparison with it.
- Dates are read off the wall clock of the mapping's timezone, changes of summer time included. A timestamp without a
  zone is such a wall clock. Where an instant meets a wall clock or a date, the instant is read off that clock.
- Dates lie in the years 1 to 9999; what leaves them is an error.

## Operators

"""

_TAIL = """
## In the aggregate of a lookup

`count(*)`, `count(x)`, `count(distinct x)`, `sum(x)`, `min(x)`, `max(x)`, `avg(x)` and `stddev(x)` (of a sample), with
any expression inside and around them: `sum(case when Status = 'Open' then NetAmount else 0 end)`, `max(x) - min(x)`.
Nulls are ignored. Over no value at all a count is 0 and all others are null. Sums of integers are checked and those of
decimals exact; `avg` and `stddev` are real. A record looked up for which the expression inside is in error puts the
aggregate in error.

## Where outputs are written

`reasons(n)` is the text of the n strongest reasons for a score, n from 1 to 20.
"""


def groups() -> dict[str, list[Function]]:
    """The functions by subject, each once, in the order of their names."""
    found: dict[str, list[Function]] = {}
    unique = {each.name: each for each in REGISTRY.functions.values()}
    for name in sorted(unique):
        found.setdefault(unique[name].group, []).append(unique[name])
    return dict(sorted(found.items()))


def examples() -> Iterator[tuple[str, str]]:
    """Every example of the page: an expression and the result it shows."""
    for _, _, shown in OPERATORS:
        yield from shown
    for members in groups().values():
        for each in members:
            yield from each.examples


def render_reference() -> str:
    """The page, as Markdown."""
    lines = [_HEAD]
    lines += [_entry(f"### {title}", rule, shown) for title, rule, shown in OPERATORS]
    for group, members in groups().items():
        lines.append(f"## {group}\n\n")
        for each in members:
            also = f" Also {', '.join(f'`{name}`' for name in each.aliases)}." if each.aliases else ""
            lines.append(_entry(f"### `{each.signature}`", each.rule + also, each.examples))
    return "".join(lines).rstrip() + "\n" + _TAIL


def _entry(title: str, rule: str, shown: tuple[tuple[str, str], ...]) -> str:
    rows = "".join(f"- `{text}` is {_result(result)}\n" for text, result in shown)
    return f"{title}\n\n{rule}\n\n{rows}\n"


def _result(result: str) -> str:
    if result.startswith("error: "):
        return f"an error: {result.removeprefix('error: ')}"
    return f"`{result}`"
