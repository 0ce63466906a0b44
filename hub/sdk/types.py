"""The nouns that pass between the hub and a connector: entities, selections, pages, changes and results.

A page, its changes and its results are one polars frame each; nothing on the batch path is a Python object per record.
None of the three shows its frame when printed, so that no log or traceback holds a record value by accident.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Any, Self, TypeAlias

import polars as pl

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Value: TypeAlias = bool | int | float | str | bytes | Decimal | date | datetime | time | None
"""One typed value of a record, as Python holds it. Timestamps with a zone are aware, without one are naive."""

KEY = "_key"
VERSION = "_version"
DELETED = "_deleted"
INVALID = "_invalid"
BEFORE = "_before"
CLEAR = "_clear"
RESERVED = (KEY, VERSION, DELETED, INVALID)

MAX_JSON_BYTES = 4096


class FieldType(StrEnum):
    """What a field holds. `TIMESTAMP` is a wall clock without zone, `INSTANT` a moment, kept in UTC."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    REAL = "real"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    INSTANT = "instant"
    BYTES = "bytes"
    UUID = "uuid"
    JSON = "json"


class Operator(StrEnum):
    """What a filter may ask of one field. A source declares those whose answer holds at least every wanted record."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    IN = "in"
    NOT_IN = "not in"
    IS_NULL = "is null"
    NOT_NULL = "is not null"


ALL_OPERATORS = frozenset(Operator)

_PLAIN: Mapping[FieldType, pl.DataType] = {
    FieldType.TEXT: pl.String(),
    FieldType.INTEGER: pl.Int64(),
    FieldType.REAL: pl.Float64(),
    FieldType.BOOLEAN: pl.Boolean(),
    FieldType.DATE: pl.Date(),
    FieldType.TIME: pl.Time(),
    FieldType.TIMESTAMP: pl.Datetime("us"),
    FieldType.INSTANT: pl.Datetime("us", "UTC"),
    FieldType.BYTES: pl.Binary(),
    FieldType.UUID: pl.String(),
    FieldType.JSON: pl.String(),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an entity.

    `length` is in characters (bytes for BYTES); `precision` and `scale` are of a DECIMAL; `values` is a closed list
    that the far side enforces; `operators` are those a filter on this field may push to the far side; `required` says
    that a new record is refused without a value; `derived` that its value can change while all of the entity's
    `changed_by` stand still, as a formula over other records does.
    """

    name: str
    type: FieldType
    nullable: bool = True
    writable: bool = False
    title: str = ""
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    values: tuple[str, ...] = ()
    operators: frozenset[Operator] = ALL_OPERATORS
    required: bool = False
    derived: bool = False

    @property
    def dtype(self) -> pl.DataType:
        """The polars type of this field's column in every page."""
        if self.type is FieldType.DECIMAL:
            return pl.Decimal(self.precision or 38, 12 if self.scale is None else self.scale)
        return _PLAIN[self.type]


class Mode(StrEnum):
    """How a change lands: on a record that exists, on one that is made when missing, or as a new one."""

    UPDATE = "update"
    UPSERT = "upsert"
    CREATE = "create"


@dataclass(frozen=True, slots=True)
class Alternate:
    """A field that names a record as well as its key does: no two records ever hold the same value.

    For far systems that make their keys themselves, so that a new record can be named by nothing else. `modes` are the
    writes that may go by it; with it goes `Mode.UPDATE`, by which undo puts back what the others wrote.
    """

    field: str
    modes: frozenset[Mode]


@dataclass(frozen=True)
class Entity:
    """One kind of record of a far system.

    `key` names the fields that identify a record, in order; an entity without a key can be looked at, not mapped.
    `changed_by` names the fields that can serve as an incremental cursor. `modes` are the writes it takes; empty means
    read-only. `conditional` says that a write is refused where the record moved since it was read. `alternates` are the
    other fields that writes may name a record by.
    """

    name: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] = ()
    title: str = ""
    changed_by: tuple[str, ...] = ()
    modes: frozenset[Mode] = frozenset()
    conditional: bool = False
    alternates: tuple[Alternate, ...] = ()

    def keyed_by(self, names: Collection[str]) -> Self:
        """The entity as changes see it that name their records by this alternate; itself where it is none."""
        for each in self.alternates:
            if [each.field] == [*names]:
                return replace(self, key=(each.field,), modes=each.modes, alternates=())
        return self

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        """Fields by their exact name."""
        return {each.name: each for each in self.fields}

    def schema(self, fields: Iterable[str]) -> dict[str, pl.DataType]:
        """The polars schema of the named fields, in the order given. KeyError names an unknown field."""
        return {name: self.by_name[name].dtype for name in fields}

    def key_dtype(self) -> pl.Struct:
        """The type of the `_key` column: a struct of the key fields in key order."""
        return pl.Struct([pl.Field(name, self.by_name[name].dtype) for name in self.key])

    def page_schema(self, fields: Iterable[str]) -> dict[str, pl.DataType]:
        """The schema of a page of these fields, the four reserved columns last."""
        reserved: dict[str, pl.DataType] = {
            KEY: self.key_dtype(),
            VERSION: pl.String(),
            DELETED: pl.Boolean(),
            INVALID: pl.String(),
        }
        return {**self.schema(fields), **reserved}


@dataclass(frozen=True, slots=True)
class Compare:
    """One comparison with bound values; `value` is a tuple for IN and NOT_IN, None for the null tests."""

    field: str
    operator: Operator
    value: Value | tuple[Value, ...] = None


@dataclass(frozen=True, slots=True)
class AllOf:
    """True where every part is; SQL's three-valued logic."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True where some part is; SQL's three-valued logic. There is no negation: operators carry it."""

    parts: tuple[Filter, ...]


Filter: TypeAlias = Compare | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records, and which of their fields. Never a query string from outside.

    `part` is a connector's own description of one slice, opaque to the hub: what `split` made, `read` understands.
    `changed_by` asks for pages in order of (that field, key), and makes the cursor incremental.
    """

    entity: str
    fields: tuple[str, ...]
    where: Filter | None = None
    changed_by: str | None = None
    part: Mapping[str, Json] | None = None
    page_rows: int = 10_000

    def to_json(self) -> str:
        """Canonical JSON. ValueError above 4 kB."""
        return _capped(
            {
                "entity": self.entity,
                "fields": list(self.fields),
                "where": filter_to_json(self.where),
                "changed_by": self.changed_by,
                "part": dict(self.part) if self.part is not None else None,
                "page_rows": self.page_rows,
            },
            "selection",
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        raw = json.loads(text)
        return cls(
            entity=raw["entity"],
            fields=tuple(raw["fields"]),
            where=filter_from_json(raw["where"]),
            changed_by=raw["changed_by"],
            part=raw["part"],
            page_rows=raw["page_rows"],
        )


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a read stands; the connector's own words, stored by the engine, at most 4 kB of JSON."""

    state: Mapping[str, Json]

    def to_json(self) -> str:
        """Canonical JSON. ValueError above 4 kB."""
        return _capped(dict(self.state), "cursor")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        return cls(json.loads(text))


@dataclass(frozen=True, slots=True)
class Page:
    """Some records and the cursor that stands after the last of them.

    `frame` has the selected fields, typed as `Entity.page_schema` says, and the four reserved columns: `_key`
    (struct), `_version` (text, null where the far side has none), `_deleted`, `_invalid` (why this record cannot be
    read, or null). `gap` is a live source's word that it cannot tell what moved before this cursor; see `Live`.
    `since` is when the oldest change that a live page tells of was made, by the far side's clock, where that says so.
    """

    frame: pl.DataFrame = field(repr=False)
    cursor: Cursor
    gap: bool = False
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What to write to one entity: one row per record, in order.

    `frame` has `_key` (struct of the key's fields, or of one alternate), `_version` (text; null: no version to hold the
    far side to), `_before` (struct of the target fields as they were read; a null struct: not known, so no condition),
    `_clear` (list of the fields to set to null in this row) and one column per target field, where null means *leave
    alone*. A record that already holds every wanted value counts as applied, whatever its version.
    """

    entity: str
    mode: Mode
    fields: tuple[str, ...]
    frame: pl.DataFrame = field(repr=False)

    def __len__(self) -> int:
        return self.frame.height


APPLIED, UNCHANGED, CONFLICT, REJECTED, UNKNOWN = "applied", "unchanged", "conflict", "rejected", "unknown"

RESULT_SCHEMA: Mapping[str, pl.DataType] = {
    "state": pl.String(),
    "field": pl.String(),
    "reason": pl.String(),
    "version": pl.String(),
}


@dataclass(frozen=True, slots=True)
class Results:
    """What the far side answered: one row per change, in the order of the changes.

    `frame` is `RESULT_SCHEMA`: `state` (applied, unchanged, conflict, rejected, unknown), `field` and `reason` where
    one was rejected, and the new `version` where the far side told it.
    """

    frame: pl.DataFrame = field(repr=False)

    def __len__(self) -> int:
        return self.frame.height


@dataclass(frozen=True)
class Grant:
    """The exact entities and fields of one connection that a mapping may read and write, drawn from its document."""

    reads: Mapping[str, frozenset[str]] = field(default_factory=dict)
    writes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    modes: Mapping[str, frozenset[Mode]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Sorted lists, ready for canonical JSON."""
        return {
            "reads": {name: sorted(fields) for name, fields in sorted(self.reads.items())},
            "writes": {name: sorted(fields) for name, fields in sorted(self.writes.items())},
            "modes": {name: sorted(modes) for name, modes in sorted(self.modes.items())},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            reads={name: frozenset(fields) for name, fields in raw["reads"].items()},
            writes={name: frozenset(fields) for name, fields in raw["writes"].items()},
            modes={name: frozenset(Mode(each) for each in modes) for name, modes in raw["modes"].items()},
        )

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return sha256(_canonical(self.to_json()).encode()).hexdigest()

    def __or__(self, other: Grant) -> Grant:
        """Both grants together."""
        return Grant(
            reads=_union(self.reads, other.reads),
            writes=_union(self.writes, other.writes),
            modes=_union(self.modes, other.modes),
        )


def _union(left: Mapping[str, frozenset[Any]], right: Mapping[str, frozenset[Any]]) -> dict[str, frozenset[Any]]:
    return {name: left.get(name, frozenset()) | right.get(name, frozenset()) for name in {*left, *right}}


_TAGS: Sequence[tuple[str, type]] = (
    ("datetime", datetime),
    ("date", date),
    ("time", time),
)


def value_to_json(value: Value) -> Json:
    """A value as JSON that keeps its type: what JSON lacks becomes `{"tag": text}`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"real": repr(value)}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    for tag, kind in _TAGS:
        if isinstance(value, kind):
            return {tag: value.isoformat()}
    raise TypeError(f"{type(value).__name__} is no value of a record")


def value_from_json(raw: Json) -> Value:
    """The inverse of `value_to_json`."""
    if raw is None or isinstance(raw, bool | int | float | str):
        return raw
    assert isinstance(raw, Mapping)
    ((tag, text),) = raw.items()
    assert isinstance(text, str)
    if tag == "real":
        return float(text)
    if tag == "decimal":
        return Decimal(text)
    if tag == "bytes":
        return bytes.fromhex(text)
    kinds: dict[str, Any] = dict(_TAGS)
    value: Value = kinds[tag].fromisoformat(text)
    return value


def filter_to_json(tree: Filter | None) -> Json:
    """A filter tree as JSON."""
    if tree is None:
        return None
    if isinstance(tree, Compare):
        value: Json = (
            [value_to_json(each) for each in tree.value] if isinstance(tree.value, tuple) else value_to_json(tree.value)
        )
        return {"field": tree.field, "operator": tree.operator.value, "value": value}
    return {"all" if isinstance(tree, AllOf) else "any": [filter_to_json(each) for each in tree.parts]}


def filter_from_json(raw: Any) -> Filter | None:
    """The inverse of `filter_to_json`."""
    if raw is None:
        return None
    if "field" in raw:
        listed = raw["value"]
        value = tuple(value_from_json(each) for each in listed) if isinstance(listed, list) else value_from_json(listed)
        return Compare(raw["field"], Operator(raw["operator"]), value)
    kind, key = (AllOf, "all") if "all" in raw else (AnyOf, "any")
    parts = tuple(part for part in (filter_from_json(each) for each in raw[key]) if part is not None)
    return kind(parts)


def filter_fields(tree: Filter | None) -> frozenset[str]:
    """Every field a filter looks at."""
    if tree is None:
        return frozenset()
    if isinstance(tree, Compare):
        return frozenset({tree.field})
    return frozenset().union(*(filter_fields(each) for each in tree.parts))


def _canonical(raw: Json) -> str:
    return json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _capped(raw: Json, what: str) -> str:
    text = _canonical(raw)
    if len(text.encode()) > MAX_JSON_BYTES:
        raise ValueError(f"the {what} is {len(text.encode())} bytes of JSON; at most {MAX_JSON_BYTES} are allowed")
    return text
