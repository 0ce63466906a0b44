"""Compiled mappings written by hand, so that the stages are tried without a document or a far system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import polars as pl

from hub.mappings.expressions import Expression, ValueType, compile_aggregate, compile_expression, compile_order
from hub.mappings.pipeline import Facts
from hub.mappings.types import (
    WRITTEN_NAMES,
    Compiled,
    CompiledLookup,
    Decide,
    Document,
    Expectation,
    Fallback,
    Feature,
    Lookup,
    ModelUse,
    Read,
    RunPolicy,
    Write,
)
from hub.models import InputField, ModelVersion, Signature, Task, Way
from hub.sdk import Entity, Field, FieldType, Mode

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
FACTS = Facts(NOW, "lead_conversion", 7, "lead_score 3")
CONDITION = ValueType(FieldType.BOOLEAN)

LEAD = Entity(
    "Lead",
    (
        Field("Id", FieldType.TEXT, nullable=False),
        Field("Employees", FieldType.INTEGER),
        Field("Revenue", FieldType.DECIMAL, precision=12, scale=2),
        Field("Industry", FieldType.TEXT),
        Field("Email", FieldType.TEXT),
        Field("Created", FieldType.TIMESTAMP),
        Field("Converted", FieldType.BOOLEAN),
        Field("Score", FieldType.INTEGER, writable=True),
        Field("Band", FieldType.TEXT, writable=True, length=6, values=("Hot", "Warm", "Cold", "Review")),
        Field("Why", FieldType.TEXT, writable=True, length=40),
        Field("ScoredAt", FieldType.INSTANT, writable=True),
    ),
    key=("Id",),
    modes=frozenset({Mode.UPDATE}),
)
ACCOUNT = Entity(
    "Account",
    (
        Field("No", FieldType.INTEGER, nullable=False),
        Field("Domain", FieldType.TEXT),
        Field("Open", FieldType.BOOLEAN),
        Field("Amount", FieldType.DECIMAL, precision=12, scale=2),
        Field("Day", FieldType.DATE),
    ),
    key=("No",),
)
SCORES = Entity(
    "Scores",
    (
        Field("Lead", FieldType.TEXT, nullable=False, writable=True),
        Field("Kind", FieldType.INTEGER, nullable=False, writable=True),
        Field("Score", FieldType.INTEGER, writable=True),
        Field("Share", FieldType.DECIMAL, writable=True, precision=5, scale=2),
        Field("Note", FieldType.TEXT, writable=True, length=10),
    ),
    key=("Lead", "Kind"),
    modes=frozenset({Mode.UPSERT}),
)
FEATURES = {"company_size": "coalesce(Employees, 0)", "industry": "Industry"}
INPUTS = (
    InputField("company_size", FieldType.REAL, nullable=False),
    InputField("industry", FieldType.TEXT, nullable=True),
)


@dataclass
class Look:
    """A lookup in a test's words."""

    match: Mapping[str, str]
    where: str | None = None
    take: Literal["one", "first"] | None = None
    order: str | None = None
    aggregate: Mapping[str, str] | None = None
    missing: Literal["null", "hold", "invalid"] = "null"
    entity: Entity = ACCOUNT


@dataclass
class Draft:
    """What a test says of a mapping; the rest is the lead mapping."""

    features: Mapping[str, str] = field(default_factory=lambda: FEATURES)
    inputs: Sequence[InputField] = INPUTS
    where: str | None = None
    lookups: Mapping[str, Look] = field(default_factory=dict)
    expect: Sequence[Expectation] = ()
    decide: Mapping[str, str] = field(default_factory=lambda: {"score": "round(100 * probability)"})
    fallback: Fallback | None = None
    hold: str | None = None
    set: Mapping[str, str] = field(default_factory=lambda: {"Score": "score"})
    with_: Mapping[str, str] = field(default_factory=dict)
    when_changed: Mapping[str, float] = field(default_factory=dict)
    target: Entity = LEAD
    key: Mapping[str, str] | None = None
    source: Entity = LEAD
    timezone: str = "Europe/Berlin"
    mode: Mode = Mode.UPDATE
    changed_by: str | None = None

    def compile(self) -> Compiled:
        """The compiled mapping."""
        names = {each.name: ValueType.of(each) for each in self.source.fields}
        where = self._one(self.where, names, CONDITION)
        lookups = tuple(self._lookup(name, each, names) for name, each in self.lookups.items())
        by_name = {each.name: each for each in self.inputs}
        features = {
            name: self._text(text, names, ValueType(by_name[name].type) if name in by_name else None)
            for name, text in self.features.items()
        }
        model = model_version(self.inputs)
        seen = {name: each.type for name, each in features.items()}
        seen |= {name: ValueType(kind) for name, kind in model.signature.outputs().items()}
        decided = dict(seen)
        decide = {}
        for name, text in self.decide.items():
            decide[name] = self._text(text, decided)
            decided[name] = decide[name].type
        instead = self.fallback.set if self.fallback else {}
        wide = decided | {name: ValueType(kind) for name, kind in WRITTEN_NAMES.items()}
        in_place = self.target is self.source
        key = None if self.key is None else {name: self._text(text, names) for name, text in self.key.items()}
        return Compiled(
            document=self._document(),
            source=self.source,
            target=self.target,
            in_place=in_place,
            fields=tuple(each.name for each in self.source.fields),
            where=where,
            lookups=lookups,
            features=features,
            decide=decide,
            fallback_when=self._one(self.fallback.when if self.fallback else None, seen, CONDITION),
            fallback={name: self._text(text, seen, decide[name].type) for name, text in instead.items()},
            hold=self._one(self.hold, decided, CONDITION),
            set={name: self._text(text, wide, reasons=True) for name, text in self.set.items()},
            with_={name: self._text(text, wide, reasons=True) for name, text in self.with_.items()},
            key=key,
            model=model,
            grants={},
            lineage={},
        )

    def _one(self, text: str | None, names: Mapping[str, ValueType], expect: ValueType) -> Expression | None:
        return None if text is None else self._text(text, names, expect)

    def _text(
        self, text: str, names: Mapping[str, ValueType], expect: ValueType | None = None, *, reasons: bool = False
    ) -> Expression:
        return compile_expression(text, names, timezone=self.timezone, expect=expect, allow_reasons=reasons)

    def _lookup(self, name: str, look: Look, names: dict[str, ValueType]) -> CompiledLookup:

        theirs = {each.name: ValueType.of(each) for each in look.entity.fields}
        match = {field: self._text(text, names) for field, text in look.match.items()}
        order = None if look.order is None else compile_order(look.order, theirs)
        aggregate = None
        columns = {f"{name}.{field}": kind for field, kind in theirs.items()}
        if look.aggregate is not None:
            aggregate = {
                each: compile_aggregate(text, theirs, timezone=self.timezone) for each, text in look.aggregate.items()
            }
            columns = {f"{name}.{each}": made.type for each, made in aggregate.items()}
        names.update(columns)
        lookup = Lookup(
            name, "crm", look.entity.name, look.match, look.where, look.take, look.order, look.aggregate, look.missing
        )
        where = self._one(look.where, theirs, CONDITION)
        return CompiledLookup(lookup, look.entity, tuple(theirs), match, where, order, aggregate, columns)

    def _document(self) -> Document:
        return Document(
            mapping="lead_score",
            title="Lead score",
            owner="sales",
            purpose="Rank leads",
            read=Read("crm", self.source.name, self.where, self.changed_by, timezone=self.timezone),
            lookups=(),
            features=tuple(Feature(name, text, TITLES.get(name, name)) for name, text in self.features.items()),
            expect=tuple(self.expect),
            model=ModelUse("lead_conversion"),
            decide=Decide(self.decide, self.fallback, self.hold),
            write=Write(self.mode, "crm", self.target.name, self.set, self.key, self.with_, self.when_changed),
            run=RunPolicy(),
            digest="d" * 64,
            source={},
        )


TITLES = {"company_size": "Company size", "industry": "Industry"}


def model_version(inputs: Sequence[InputField]) -> ModelVersion:
    """A binary classifier's version with these inputs."""
    return ModelVersion(
        name="lead_conversion",
        number=7,
        digest="m" * 64,
        signature=Signature(Task.BINARY, tuple(inputs), ("no", "yes"), "yes"),
        runtime="sklearn",
        way=Way.AS_IS,
        largest_difference=0.0,
        rows_compared=0,
        tolerance=0.0,
        metrics={},
        owner="science",
        note="",
        pool="default",
        created_at=NOW,
    )


def page(rows: Sequence[Mapping[str, Any]], entity: Entity = LEAD) -> pl.DataFrame:
    """A page of an entity; what a row does not say is null, and its key and flags are filled in."""
    schema = entity.page_schema([each.name for each in entity.fields])
    full = [
        {
            "_key": {name: row.get(name) for name in entity.key},
            "_version": "v1",
            "_deleted": False,
            "_invalid": None,
            **row,
        }
        for row in rows
    ]
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in full], schema=schema)


def leads(n: int, **columns: Sequence[Any]) -> pl.DataFrame:
    """A page of `n` leads L0, L1, …"""
    return page([{"Id": f"L{at}", **{name: values[at] for name, values in columns.items()}} for at in range(n)])


def predicted(*probabilities: float | None) -> pl.DataFrame:
    """What the model answers."""
    return pl.DataFrame(
        {
            "probability": pl.Series(probabilities, dtype=pl.Float64),
            "label": ["yes"] * len(probabilities),
            "confidence": pl.Series(probabilities, dtype=pl.Float64),
        }
    )


def reader(*pages: pl.DataFrame, asked: list[pl.DataFrame] | None = None) -> Callable[..., Iterator[pl.DataFrame]]:
    """A far side that answers every lookup with these pages, and notes what it was asked."""

    def read(lookup: CompiledLookup, match: pl.DataFrame, now: datetime) -> Iterator[pl.DataFrame]:
        if asked is not None:
            asked.append(match)
        yield from pages

    return read
