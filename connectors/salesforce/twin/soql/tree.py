"""What a SOQL text says, as a tree: names as they were written, values read, places kept for the messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal as OneOf
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Path:
    """A field, perhaps of a parent: `Account.Owner.Name`. `column` counts from 1 in the text."""

    parts: tuple[str, ...]
    column: int = 1

    @property
    def text(self) -> str:
        """As it is written."""
        return ".".join(self.parts)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`COUNT(Id) total`; the path of a plain `COUNT()` is None."""

    function: str
    path: Path | None
    alias: str | None
    column: int = 1


@dataclass(frozen=True, slots=True)
class Children:
    """`(SELECT Id FROM Contacts)` among the fields."""

    query: Query


@dataclass(frozen=True, slots=True)
class Period:
    """A date literal: `LAST_N_DAYS:7`."""

    name: str
    number: int | None = None


Value: TypeAlias = str | int | float | bool | date | datetime | Period | None
Operator: TypeAlias = OneOf["=", "!=", "<", "<=", ">", ">=", "LIKE", "IN", "NOT IN", "INCLUDES", "EXCLUDES"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field beside a value, or values, or the records another query chooses."""

    path: Path
    operator: Operator
    value: Value | tuple[Value, ...] | Query


@dataclass(frozen=True, slots=True)
class Both:
    """AND or OR of two or more conditions."""

    word: OneOf["AND", "OR"]
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    part: Condition


Condition: TypeAlias = Comparison | Both | Not
Selected: TypeAlias = Path | Aggregate | Children


@dataclass(frozen=True, slots=True)
class Order:
    """One part of ORDER BY. `nulls_last` is None where the text does not say: then nulls come first."""

    path: Path
    descending: bool = False
    nulls_last: bool | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query. `fields_all` is the word of `FIELDS(ALL)`; `column` is where the object's name stands."""

    text: str
    selected: tuple[Selected, ...]
    entity: str
    column: int
    alias: str | None = None
    where: Condition | None = None
    group: tuple[Path, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int | None = None
    fields_all: str | None = None

    @property
    def aggregated(self) -> bool:
        """Whether it answers groups instead of records."""
        return bool(self.group) or any(isinstance(each, Aggregate) for each in self.selected)

    @property
    def counting(self) -> bool:
        """Whether it is the plain `COUNT()`, which answers a number and no records."""
        return any(isinstance(each, Aggregate) and each.path is None for each in self.selected)


def comparisons(condition: Condition | None) -> Iterator[Comparison]:
    """Every comparison in a condition."""
    if isinstance(condition, Comparison):
        yield condition
    elif isinstance(condition, Not):
        yield from comparisons(condition.part)
    elif isinstance(condition, Both):
        for each in condition.parts:
            yield from comparisons(each)
