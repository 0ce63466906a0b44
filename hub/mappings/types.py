"""The nouns of a mapping: the document as it was written, and what it compiles to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias

from hub.access import Resource
from hub.access.approvals import ApprovalError as ApprovalError
from hub.sdk import Cursor, Entity, FieldType, Grant, Json, Mode, Value

if TYPE_CHECKING:
    from hub.mappings.expressions import Aggregate, Expression, OrderKey, ValueType
    from hub.models import ModelVersion


@dataclass(frozen=True, slots=True)
class Read:
    """Which records are due: an entity of a connection, filtered; `where` is an expression over its fields.

    `changed_by` makes incremental runs possible; `refresh` re-reads everything that often, for what moves without a
    stamp; `leaves` says what happens to the score of a record that leaves the selection.
    """

    connection: str
    entity: str
    where: str | None = None
    changed_by: str | None = None
    refresh: timedelta | None = None
    timezone: str = "UTC"
    leaves: Literal["keep", "clear"] = "keep"


@dataclass(frozen=True, slots=True)
class Lookup:
    """Records of another entity that belong to each record read.

    `match` names their field and gives our expression, which may use an earlier lookup's columns. `take: one` refuses
    a second match (that record is invalid), `first` wants `order`; otherwise `aggregate` folds the matches.
    """

    name: str
    connection: str
    entity: str
    match: Mapping[str, str]
    where: str | None = None
    take: Literal["one", "first"] | None = None
    order: str | None = None
    aggregate: Mapping[str, str] | None = None
    missing: Literal["null", "hold", "invalid"] = "null"


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of the model: an expression over the fields read and the lookups' columns."""

    name: str
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Expectation:
    """What one feature must satisfy before the model sees it, and what becomes of a record that does not."""

    feature: str
    minimum: float | None = None
    maximum: float | None = None
    among: tuple[Value, ...] | None = None
    required: bool = False
    otherwise: Literal["invalid", "hold"] = "invalid"


@dataclass(frozen=True, slots=True)
class ModelUse:
    """Which model scores, by alias or version number."""

    name: str
    use: str = "champion"


@dataclass(frozen=True, slots=True)
class Fallback:
    """What is decided instead where `when` holds; the names not in `set` keep what was decided."""

    when: str
    set: Mapping[str, str]
    because: str


@dataclass(frozen=True, slots=True)
class Decide:
    """Named results over the model's outputs and the features; `hold` sends a record to a person instead."""

    set: Mapping[str, str]
    fallback: Fallback | None = None
    hold: str | None = None


@dataclass(frozen=True, slots=True)
class Expires:
    """How long a written score holds, and what happens then."""

    after: timedelta
    then: Literal["clear", "keep"] = "keep"


@dataclass(frozen=True, slots=True)
class Write:
    """Where results land. `connection`, `entity` and `key` are the read's own for mode update without a target.

    `set` is written whole or not at all; `with_` travels along and never causes a write; `when_changed` gives, per
    target field, the smallest difference worth a write.
    """

    mode: Mode
    connection: str
    entity: str
    set: Mapping[str, str]
    key: Mapping[str, str] | None = None
    with_: Mapping[str, str] = field(default_factory=dict)
    when_changed: Mapping[str, float] = field(default_factory=dict)
    expires: Expires | None = None


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """When runs start and what stops them. `rejected` is a share (0.01 = 1 %) of the last 1,000 written."""

    schedule: str | None = None
    follow: bool = False
    changed: int | None = None
    rejected: float | None = None
    ahead: bool = False
    deadline: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a key and its value begin in the text, as 1-based line and column.

    `inset` is how many characters stand before the text itself (a quote, or none); None where offsets into the text
    are no offsets into the line (block scalars, escapes, folded lines).
    """

    key: tuple[int, int]
    value: tuple[int, int]
    inset: int | None = None

    @property
    def place(self) -> tuple[int, int]:
        """The value where it stands on the line of its key, else the key, which is what a reader looks for."""
        return self.value if self.value[0] == self.key[0] else self.key


@dataclass(frozen=True)
class Document:
    """A mapping as an admin wrote it; `digest` is the SHA-256 of its canonical JSON and names the version."""

    mapping: str
    title: str
    owner: str
    purpose: str
    read: Read
    lookups: tuple[Lookup, ...]
    features: tuple[Feature, ...]
    expect: tuple[Expectation, ...]
    model: ModelUse
    decide: Decide
    write: Write
    run: RunPolicy
    digest: str
    source: Mapping[str, Json]
    marks: Mapping[tuple[str | int, ...], Mark] = field(default_factory=dict, compare=False, repr=False)

    @property
    def connections(self) -> frozenset[str]:
        """Every connection that the mapping reads or writes."""
        return frozenset({self.read.connection, self.write.connection, *(each.connection for each in self.lookups)})

    @property
    def resources(self) -> tuple[Resource, ...]:
        """All that whoever writes the document must have rights over: a mapping reaches what its systems reach."""
        systems = map(Resource.connection, sorted(self.connections))
        return Resource.mapping(self.mapping), Resource.model(self.model.name), *systems


@dataclass(frozen=True, slots=True)
class CompiledLookup:
    """A lookup with its expressions resolved; its columns appear to later expressions as `<name>.<column>`.

    `fields` are read from the far entity; `columns` are what it adds, with the dotted names.
    """

    lookup: Lookup
    entity: Entity
    fields: tuple[str, ...]
    match: Mapping[str, Expression]
    where: Expression | None
    order: tuple[OrderKey, ...] | None = None
    aggregate: Mapping[str, Aggregate] | None = None
    columns: Mapping[str, ValueType] = field(default_factory=dict)


@dataclass(frozen=True)
class Compiled:
    """A document resolved against live entities and a model's signature: nothing in it is text to be parsed.

    `fields` are read from the source, the targets included where the record read is the one written (`in_place`).
    `grants` is the exact right needed, per connection. `lineage` maps each target field to the source fields
    (`connection/entity.field`) it can depend on.
    """

    document: Document
    source: Entity
    target: Entity
    in_place: bool
    fields: tuple[str, ...]
    where: Expression | None
    lookups: tuple[CompiledLookup, ...]
    features: Mapping[str, Expression]
    decide: Mapping[str, Expression]
    fallback_when: Expression | None
    fallback: Mapping[str, Expression]
    hold: Expression | None
    set: Mapping[str, Expression]
    with_: Mapping[str, Expression]
    key: Mapping[str, Expression] | None
    model: ModelVersion
    grants: Mapping[str, Grant]
    lineage: Mapping[str, frozenset[str]]

    @property
    def reasons(self) -> int:
        """How many reasons the written fields show; 0 where none does."""
        return max((each.reasons for each in (*self.set.values(), *self.with_.values())), default=0)


class MappingState(StrEnum):
    """Where a version of a mapping stands: the names are stored."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    PUBLISHED = "published"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Published:
    """One immutable published version: `number` counts per mapping, `digest` is the document's."""

    mapping: str
    number: int
    digest: str
    text: str
    published_at: datetime
    published_by: str
    paused: bool
    author: str = ""
    approved_by: str = ""
    pause_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a mapping stands: its published version, if any, and the newest version handed in."""

    mapping: str
    published: Published | None
    newest_digest: str
    newest_state: str


@dataclass(frozen=True, slots=True)
class Watermark:
    """What the last complete run of a mapping version read up to, and when everything was last read."""

    digest: str
    cursor: Cursor | None
    at: datetime
    full_at: datetime | None


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where (1-based line and column, dotted path), what, and what would be right."""

    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.path}: {self.message}"


class MappingsError(Exception):
    """A mapping cannot be used as asked; the message names the fix."""


class UnknownMappingError(MappingsError):
    """There is no mapping, or no published version, of that name."""


class AlteredMappingError(MappingsError):
    """A published version is not what was published."""


class PausedMappingError(MappingsError):
    """The mapping is paused: a person has to resume it."""


Taken: TypeAlias = Mapping[tuple[str, str, str], str]
"""Which published mapping writes a target field, by connection, entity and field."""


class MappingError(Exception):
    """A document that cannot be used, with everything that is wrong with it, in the order of its lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(each) for each in problems))
        self.problems = tuple(problems)


WRITTEN_NAMES: Mapping[str, FieldType] = {
    "scored_at": FieldType.INSTANT,
    "model": FieldType.TEXT,
    "model_version": FieldType.INTEGER,
    "mapping_version": FieldType.TEXT,
    "because": FieldType.TEXT,
}
"""What `set` and `with` may use beside features, outputs and decided names; `because` is null without a fallback."""


READY, INVALID, HELD = "ready", "invalid", "held"
"""What the feature and decide stages say of a record, in the column `_state`; why, in `_reason`."""
