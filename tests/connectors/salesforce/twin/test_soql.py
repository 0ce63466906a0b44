"""SOQL: what is read is what was written, and what is chosen is what Python would choose."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.twin.org.org import Org
from connectors.salesforce.twin.org.problems import RefusedError
from connectors.salesforce.twin.org.rules import holds
from connectors.salesforce.twin.soql.compile import Compiler
from connectors.salesforce.twin.soql.parser import parse
from connectors.salesforce.twin.soql.periods import NUMBERED, PLAIN, days_of
from connectors.salesforce.twin.soql.tree import (
    Aggregate,
    Both,
    Comparison,
    Condition,
    Not,
    Order,
    Period,
)
from connectors.salesforce.twin.soql.tree import (
    Path as FieldPath,
)

TODAY = date(2026, 11, 25)
NAMES = ("Company", "Industry", "Country")
NUMBERS = ("AnnualRevenue", "NumberOfEmployees")


@pytest.fixture(scope="module")
def org(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Org]:
    made = Org(tmp_path_factory.mktemp("org") / "twin.db")
    rows = [
        {
            "LastName": f"L{n}",
            "Company": ("Zeta", "alpha", "Älpha", "O'Neil", "50%_off", "a\\b")[n % 6],
            "Industry": ("Banking", "banking", None, "Energy")[n % 4],
            "Country": (None, "Germany", "Österreich")[n % 3],
            "AnnualRevenue": (None, 0, 10.0, -5, 1e9)[n % 5],
            "NumberOfEmployees": (None, 1, 50)[n % 3],
            "IsUnreadByOwner": n % 2 == 0,
        }
        for n in range(60)
    ]
    from connectors.salesforce.twin.org.writing import Writer

    assert all(each.done for each in Writer(made, made.schema.objects["lead"], made.users["sales"]).create(rows))
    yield made
    made.close()


def chosen(org: Org, text: str) -> list[tuple[Any, ...]]:
    """The values a query finds, without the id that each row begins with."""
    made = Compiler(org.schema, org.store, org.access.of(org.users["integration"]), TODAY).compile(parse(text))
    statement = made.statement if made.query.limit is None else made.statement.limit(made.query.limit)
    with org.store.reading() as connection:
        return [tuple(row) for row in connection.execute(statement)]


def stored(org: Org) -> list[dict[str, Any]]:
    kind = org.schema.objects["lead"]
    table = org.store.table(kind)
    with org.store.reading() as connection:
        return [dict(row) for row in connection.execute(table.select()).mappings()]


def quoted(value: Any) -> str:
    """A value as SOQL has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)


texts = st.sampled_from(["Zeta", "ALPHA", "älpha", "O'Neil", "50%_off", "a\\b", "Banking", "Germany", "österreich", ""])
comparisons = st.one_of(
    st.builds(
        lambda name, sign, value: Comparison(FieldPath((name,)), sign, value),
        st.sampled_from(NAMES),
        st.sampled_from(["=", "!="]),
        st.one_of(texts, st.none()),
    ),
    st.builds(
        lambda name, sign, value: Comparison(FieldPath((name,)), sign, value),
        st.sampled_from(NUMBERS),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        st.sampled_from([0, 1, 10, -5, 49.5, 10**9]),
    ),
    st.builds(
        lambda name, sign, values: Comparison(FieldPath((name,)), sign, tuple(values)),
        st.sampled_from(NAMES),
        st.sampled_from(["IN", "NOT IN"]),
        st.lists(texts, min_size=1, max_size=3),
    ),
    st.builds(lambda value: Comparison(FieldPath(("IsUnreadByOwner",)), "=", value), st.booleans()),
)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(
            lambda word, parts: Both(word, tuple(parts)),
            st.sampled_from(["AND", "OR"]),
            st.lists(inner, min_size=2, max_size=3),
        ),
    ),
    max_leaves=6,
)


def spelled(condition: Condition) -> str:
    """A condition as text, every part of a whole in brackets."""
    if isinstance(condition, Not):
        return f"NOT ({spelled(condition.part)})"
    if isinstance(condition, Both):
        return f" {condition.word} ".join(f"({spelled(each)})" for each in condition.parts)
    value = condition.value
    shown = f"({', '.join(map(quoted, value))})" if isinstance(value, tuple) else quoted(value)
    return f"{condition.path.text} {condition.operator} {shown}"


@given(conditions)
def test_a_condition_chooses_what_it_says(org: Org, condition: Condition) -> None:
    found = {row[0] for row in chosen(org, f"SELECT Id FROM Lead WHERE {spelled(condition)}")}
    assert found == {row["Id"] for row in stored(org) if holds(condition, row, TODAY)}


def bare(condition: Condition | None) -> Any:
    """The same without the places in the text."""
    if isinstance(condition, Not):
        return ("not", bare(condition.part))
    if isinstance(condition, Both):
        return (condition.word, [bare(each) for each in condition.parts])
    return None if condition is None else (condition.path.parts, condition.operator, condition.value)


@given(conditions)
def test_what_is_read_is_what_was_written(condition: Condition) -> None:
    assert bare(parse(f"SELECT Id FROM Lead WHERE {spelled(condition)}").where) == bare(condition)


@given(st.text(max_size=60))
def test_no_text_does_anything_but_be_read_or_be_refused(text: str) -> None:
    for asked in (text, f"SELECT Id FROM Lead WHERE {text}", f"SELECT {text} FROM Lead"):
        try:
            outcome = type(parse(asked)).__name__
        except RefusedError as error:
            outcome = error.code
        assert outcome in {"Query", "MALFORMED_QUERY", "NUMBER_OUTSIDE_VALID_RANGE"}


@given(st.text(max_size=30))
def test_a_string_comes_back_as_it_was(text: str) -> None:
    where = parse(f"SELECT Id FROM Lead WHERE Company = {quoted(text)}").where
    assert isinstance(where, Comparison)
    assert where.value == text


def test_a_whole_query_is_read() -> None:
    made = parse(
        "SELECT Id, l.Owner.Name, COUNT(Id) n FROM Lead l WHERE (Name LIKE 'A\\%%' AND CreatedDate = LAST_N_DAYS:7) OR"
        " AnnualRevenue >= 1.5e3 GROUP BY Id, Owner.Name ORDER BY Name DESC NULLS LAST, Id LIMIT 5 OFFSET 10"
    )
    assert made.selected[0] == FieldPath(("Id",), 8)
    assert made.selected[2] == Aggregate("COUNT", FieldPath(("Id",), 32), "n", 26)
    assert (made.entity, made.alias, made.limit, made.offset) == ("Lead", "l", 5, 10)
    assert [(each.path.text, each.descending, each.nulls_last) for each in made.order] == [
        ("Name", True, True),
        ("Id", False, None),
    ]
    assert isinstance(made.order[0], Order)
    assert isinstance(made.where, Both)
    like, period = made.where.parts[0].parts  # type: ignore[union-attr]
    assert like.value == "A\\%%"  # type: ignore[union-attr]
    assert period.value == Period("LAST_N_DAYS", 7)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-11-25", date(2026, 11, 25)),
        ("2026-11-25T10:00:00Z", datetime(2026, 11, 25, 10, tzinfo=UTC)),
        ("2026-11-25T10:00:00.000+01:00", datetime(2026, 11, 25, 9, tzinfo=UTC)),
        ("2026-11-25T10:00:00.000+0000", datetime(2026, 11, 25, 10, tzinfo=UTC)),
        ("-12", -12),
        ("1.5", 1.5),
        ("TRUE", True),
        ("null", None),
    ],
)
def test_a_literal_is_read(text: str, value: Any) -> None:
    where = parse(f"SELECT Id FROM Lead WHERE X = {text}").where
    assert isinstance(where, Comparison)
    assert where.value == value
    assert type(where.value) is type(value)


@pytest.mark.parametrize(
    ("period", "first", "after"),
    [
        (Period("TODAY"), date(2026, 11, 25), date(2026, 11, 26)),
        (Period("YESTERDAY"), date(2026, 11, 24), date(2026, 11, 25)),
        (Period("THIS_WEEK"), date(2026, 11, 22), date(2026, 11, 29)),
        (Period("LAST_MONTH"), date(2026, 10, 1), date(2026, 11, 1)),
        (Period("NEXT_QUARTER"), date(2027, 1, 1), date(2027, 4, 1)),
        (Period("THIS_YEAR"), date(2026, 1, 1), date(2027, 1, 1)),
        (Period("LAST_N_DAYS", 7), date(2026, 11, 18), date(2026, 11, 26)),
        (Period("NEXT_N_DAYS", 3), date(2026, 11, 26), date(2026, 11, 29)),
        (Period("LAST_N_MONTHS", 2), date(2026, 9, 1), date(2026, 11, 1)),
        (Period("N_DAYS_AGO", 2), date(2026, 11, 23), date(2026, 11, 24)),
        (Period("LAST_90_DAYS"), date(2026, 8, 27), date(2026, 11, 26)),
    ],
    ids=lambda each: each.name if isinstance(each, Period) else None,
)
def test_a_date_literal_means_these_days(period: Period, first: date, after: date) -> None:
    assert days_of(period, TODAY) == (first, after)


@given(st.sampled_from(sorted(PLAIN | NUMBERED)), st.integers(1, 40), st.dates(date(1990, 1, 1), date(2090, 1, 1)))
def test_every_date_literal_means_some_days_on_every_day(name: str, number: int, today: date) -> None:
    first, after = days_of(Period(name, number if name in NUMBERED else None), today)
    assert first < after


def test_nulls_come_first_unless_the_query_says_otherwise(org: Org) -> None:
    for text, expected in (("", True), (" DESC", True), (" DESC NULLS LAST", False), (" ASC NULLS LAST", False)):
        found = chosen(org, f"SELECT AnnualRevenue FROM Lead ORDER BY AnnualRevenue{text}")
        assert (found[0][1] is None) is expected
        assert (found[-1][1] is None) is not expected


def test_like_takes_wildcards_and_can_escape_them(org: Org) -> None:
    def companies(pattern: str) -> set[str]:
        return {row[1] for row in chosen(org, f"SELECT Company FROM Lead WHERE Company LIKE '{pattern}'")}

    assert companies("%LPHA") == {"alpha", "Älpha"}
    assert companies("älph_") == {"Älpha"}
    assert companies("50\\%\\_off") == {"50%_off"}
    assert companies("50\\_%") == set()


def test_a_query_within_a_query_chooses_records(org: Org) -> None:
    inner = "SELECT OwnerId FROM Lead WHERE Industry = 'Energy'"
    assert len(chosen(org, f"SELECT Name FROM User WHERE Id IN ({inner})")) == 1
    assert len(chosen(org, f"SELECT Name FROM User WHERE Id NOT IN ({inner})")) == 3
