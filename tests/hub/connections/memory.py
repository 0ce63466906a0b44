"""A connector whose far system is a list in this process; counts what reaches it and can be told to misbehave."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import polars as pl

from hub.sdk import (
    Changes,
    CheckReport,
    Config,
    Context,
    Cursor,
    Entity,
    Field,
    FieldType,
    Grant,
    Journal,
    Mode,
    Page,
    Results,
    Right,
    RightsReport,
    RightStatus,
    Secret,
    Selection,
    Spec,
    UnauthorizedError,
    setting,
)
from hub.sdk.types import RESULT_SCHEMA

LEAD = Entity(
    "Lead",
    (
        Field("Id", FieldType.INTEGER, nullable=False),
        Field("Email", FieldType.TEXT),
        Field("Salary", FieldType.INTEGER),
        Field("Score", FieldType.INTEGER, writable=True),
        Field("Band", FieldType.TEXT, writable=True),
    ),
    key=("Id",),
    modes=frozenset(Mode),
)


class MemoryConfig(Config):
    """Where, as whom, and with what."""

    host: str = setting(title="Host", min_length=1)
    port: int = setting(5432, title="Port", ge=1, le=65535)
    password: Secret = setting(title="Password")
    token: Secret | None = setting(None, title="Token")


@dataclass
class Far:
    """The far system: every call that reached it, and what it does next."""

    calls: list[tuple[str, object]] = field(default_factory=list)
    extra: bool = False
    lack: str | None = None
    results: pl.DataFrame | None = None
    parts: list[Selection] | None = None
    opened: int = 0
    closed: int = 0
    excess: tuple[str, ...] = ()
    passwords: list[str] = field(default_factory=list)


FAR = Far()


class MemoryConnector:
    """Plays every role at once."""

    spec: ClassVar[Spec]

    def __init__(self, config: MemoryConfig, context: Context) -> None:
        self.config = config
        FAR.opened += 1
        FAR.passwords.append(config.password.reveal())

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        if self.config.password.reveal() == "wrong":
            raise UnauthorizedError("the login was refused")
        rights = (RightStatus("select", granted=True), RightStatus("update", granted=False, subject="Lead"))
        return CheckReport(f"hub@{self.config.host}", "Memory 1.0", rights)

    def entities(self, names: Collection[str] | None = None) -> Sequence[Entity]:
        return (LEAD,) if names is None or LEAD.name in names else ()

    def plan(self, grant: Grant, *, login: str | None = None) -> str:
        return f"grant {sorted(grant.reads)}" + (f" to {login}" if login else "")

    def verify(self, grant: Grant) -> RightsReport:
        missing = ("update Lead",) if grant.writes else ()
        return RightsReport(f"hub@{self.config.host}", missing, FAR.excess)

    def source(self) -> Self:
        return self

    def destination(self) -> Self:
        return self

    def live(self) -> Self:
        return self

    def provisioner(self) -> Self:
        return self

    def close(self) -> None:
        FAR.closed += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def read(self, selection: Selection, *, after: Cursor | None = None) -> Iterator[Page]:
        FAR.calls.append(("read", selection))
        names = [each.name for each in LEAD.fields] if FAR.extra else [*selection.fields]
        frame = pl.DataFrame(schema=LEAD.page_schema(names), data={n: [None] * 2 for n in LEAD.page_schema(names)})
        yield Page(frame.drop(FAR.lack) if FAR.lack else frame, Cursor({"at": 2}))

    def lookup(self, selection: Selection, match: pl.DataFrame) -> Iterator[Page]:
        FAR.calls.append(("lookup", match.columns))
        yield from self.read(selection)

    def split(self, selection: Selection, parts: int) -> Sequence[Selection]:
        FAR.calls.append(("split", parts))
        return FAR.parts or [replace(selection, part={"from": each}) for each in range(parts)]

    def write(self, changes: Changes, *, journal: Journal) -> Results:
        FAR.calls.append(("write", changes.fields))
        made = pl.DataFrame({"state": ["applied"] * len(changes)}, schema=None).with_columns(
            pl.lit(None, pl.String).alias(name) for name in list(RESULT_SCHEMA)[1:]
        )
        return Results(made if FAR.results is None else FAR.results)

    def follow(self, selection: Selection, *, after: Cursor | None) -> Iterator[Page]:
        FAR.calls.append(("follow", selection))
        yield from (replace(page, frame=page.frame.clear(), gap=True) for page in self.read(selection))

    def acknowledge(self, cursor: Cursor) -> None:
        FAR.calls.append(("acknowledge", cursor))

    def provision(self, entity: str, fields: Sequence[Field]) -> None:
        FAR.calls.append(("provision", [each.name for each in fields]))


SPEC = Spec(
    name="memory",
    title="Memory",
    kind="database",
    config=MemoryConfig,
    factory=f"{__name__}:MemoryConnector",
    roles=frozenset({"source", "destination", "live", "provisioner"}),
    rights=(Right("select", "to read"),),
)
MemoryConnector.spec = SPEC
