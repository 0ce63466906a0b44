"""What each record must satisfy before the model sees it: the document's expectations and the model's own limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import polars as pl

from hub.mappings.types import HELD, INVALID, Compiled, Expectation
from hub.models import InputField
from hub.sdk import Field, FieldType, Value

FEW = 16
"""Up to so many records are judged one by one: polars takes some 10 µs for each rule, whatever the number of rows."""


@dataclass(frozen=True)
class Rule:
    """One thing a feature must not be. A missing value breaks no rule but `missing`."""

    feature: str
    kind: Literal["missing", "below", "above", "foreign"]
    reason: str
    state: str
    bound: float = 0.0
    values: frozenset[Value] = frozenset()
    listed: pl.Series | None = None

    def broken(self) -> pl.Expr:
        """True or null where a record breaks it or has no value."""
        value = pl.col(self.feature)
        if self.kind == "missing":
            return value.is_null()
        if self.kind == "below":
            return value < self.bound
        if self.kind == "above":
            return value > self.bound
        assert self.listed is not None
        return ~value.is_in(self.listed.implode())

    def breaks(self, value: bool | float | str | None) -> bool:
        """The same of one value."""
        if value is None or self.kind == "missing":
            return value is None and self.kind == "missing"
        if self.kind == "foreign":
            return value not in self.values
        assert not isinstance(value, str)
        return value < self.bound if self.kind == "below" else value > self.bound


class Rules:
    """All rules of a mapping, in the order of its features; the first that a record breaks decides."""

    def __init__(self, compiled: Compiled) -> None:
        self.rules = tuple(_rules(compiled))
        self._columns = list(dict.fromkeys(each.feature for each in self.rules))
        self._places = [(self._columns.index(each.feature), each) for each in self.rules]
        self._first = (
            pl.coalesce(pl.when(each.broken()).then(pl.lit(at, dtype=pl.UInt32)) for at, each in enumerate(self.rules))
            if self.rules
            else pl.lit(None, dtype=pl.UInt32)
        )
        self._verdicts = pl.DataFrame(
            {"state": [each.state for each in self.rules], "reason": [each.reason for each in self.rules]},
            schema={"state": pl.String, "reason": pl.String},
        )

    def verdicts(self, features: pl.DataFrame) -> pl.DataFrame | None:
        """`state` and `reason` per record, null where every rule holds; None where that is so of all."""
        if not self.rules:
            return None
        first = self._few(features) if features.height <= FEW else features.select(self._first.alias("at")).to_series()
        if first.null_count() == len(first):
            return None
        found = self._verdicts[first.fill_null(0)]
        broken = pl.lit(first.is_not_null())
        return found.select(pl.when(broken).then(pl.col(name)).alias(name) for name in ("state", "reason"))

    def _few(self, features: pl.DataFrame) -> pl.Series:
        rows = features[self._columns].rows()
        firsts = [
            next((at for at, (place, rule) in enumerate(self._places) if rule.breaks(row[place])), None) for row in rows
        ]
        return pl.Series("at", firsts, dtype=pl.UInt32)


def _rules(compiled: Compiled) -> Iterator[Rule]:
    inputs = compiled.model.signature.by_name
    for name in compiled.features:
        for each in compiled.document.expect:
            if each.feature == name:
                yield from _expected(each, inputs.get(name))
        if name in inputs:
            yield from _scorable(name, inputs[name])


def _expected(given: Expectation, wanted: InputField | None) -> Iterator[Rule]:
    name, state = given.feature, HELD if given.otherwise == "hold" else INVALID
    if given.required:
        yield Rule(name, "missing", f"{name}: missing", state)
    if given.minimum is not None:
        yield Rule(name, "below", f"{name}: less than {_plain(given.minimum)}", state, given.minimum)
    if given.maximum is not None:
        yield Rule(name, "above", f"{name}: more than {_plain(given.maximum)}", state, given.maximum)
    if given.among is not None:
        listed = pl.Series([each for each in given.among if each is not None], strict=False)
        if wanted is not None:
            listed = listed.cast(Field(name, wanted.type).dtype)
        yield _foreign(name, listed, f"{name}: not among the expected values", state)


def _scorable(name: str, wanted: InputField) -> Iterator[Rule]:
    if not wanted.nullable:
        yield Rule(name, "missing", f"{name}: missing, and the model needs it", INVALID)
    if wanted.closed and wanted.categories and wanted.type is FieldType.TEXT:
        listed = pl.Series(list(wanted.categories))
        yield _foreign(name, listed, f"{name}: not a value the model knows", INVALID)


def _foreign(name: str, listed: pl.Series, reason: str, state: str) -> Rule:
    return Rule(name, "foreign", reason, state, values=frozenset(listed.to_list()), listed=listed)


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else repr(bound)
