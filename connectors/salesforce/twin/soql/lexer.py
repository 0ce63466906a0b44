"""SOQL text to words, strings, numbers, moments and signs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from connectors.salesforce.twin.org.problems import RefusedError

Kind = Literal["word", "string", "number", "moment", "date", "sign", "end"]

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<moment>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|z|[+-]\d\d:?\d\d)?)
  | (?P<date>\d{4}-\d\d-\d\d(?![\d-]))
  | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![A-Za-z_]))
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<string>'(?:[^'\\]|\\.)*')
  | (?P<sign><=|>=|!=|<>|[=<>(),.:])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\"}
MOST_TEXT = 100_000


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of the text; `column` counts from 1."""

    kind: Kind
    text: str
    column: int

    def is_word(self, word: str) -> bool:
        """Whether it is that keyword, in whatever case."""
        return self.kind == "word" and self.text.upper() == word


def tokens(text: str) -> list[Token]:
    """The pieces of a query, with an end. RefusedError for what is no SOQL at all."""
    if len(text) > MOST_TEXT:
        raise RefusedError("MALFORMED_QUERY", f"SOQL statements cannot be longer than {MOST_TEXT} characters.")
    made: list[Token] = []
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise malformed(text, place + 1, f"line 1:{place} {_complaint(text[place])}")
        kind = found.lastgroup
        if kind != "space":
            made.append(Token(kind, found.group(), place + 1))  # type: ignore[arg-type]
        place = found.end()
    made.append(Token("end", "<EOF>", len(text) + 1))
    return made


def unquoted(text: str, *, pattern: bool = False) -> str:
    r"""The value of a string with its quotes. In a `pattern` (of LIKE), `\_` and `\%` stay escaped."""
    made: list[str] = []
    letters = iter(text[1:-1])
    for each in letters:
        if each != "\\":
            made.append(each)
            continue
        after = next(letters)
        if after in "_%":
            made.append(f"\\{after}" if pattern else after)
        elif after.lower() in _ESCAPED:
            plain = _ESCAPED[after.lower()]
            made.append("\\\\" if pattern and plain == "\\" else plain)
        else:
            raise RefusedError(
                "MALFORMED_QUERY",
                f"Invalid string literal {text}. Illegal character sequence '\\{after}' in string literal.",
            )
    return "".join(made)


def pointed(text: str, column: int, message: str) -> str:
    """A message that shows the place in the query, in the shape that Salesforce gives it."""
    start = max(0, column - 40)
    return f"\n{text[start : column + 30]}\n{' ' * (column - 1 - start)}^\nERROR at Row:1:Column:{column}\n{message}"


def malformed(text: str, column: int, message: str) -> RefusedError:
    """The text is no query."""
    return RefusedError("MALFORMED_QUERY", pointed(text, column, message))


def _complaint(sign: str) -> str:
    return (
        "mismatched character '<EOF>' expecting '''" if sign == "'" else f"no viable alternative at character '{sign}'"
    )
