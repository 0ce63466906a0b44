"""The contract between the hub and a connector: its description, its verbs, its roles and what it is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import polars as pl
from pydantic import BaseModel, ConfigDict
from pydantic import Field as _PydanticField

from hub.sdk.shared import LocalShared, Shared, Tally, Token
from hub.sdk.types import Changes, Cursor, Entity, Field, Grant, Page, Results, Selection

if TYPE_CHECKING:
    import structlog


class Config(BaseModel):
    """Settings and secrets of one connection. Unknown settings are refused; secrets are fields of type `Secret`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)


PRIVATE = "reaches_private"


def setting(default: Any = ..., *, title: str, reaches_private: bool = False, **limits: Any) -> Any:
    """One setting of a `Config`, with the title an admin sees. `limits` are pydantic's (`ge`, `max_length`, …).

    `reaches_private` marks the one by which the far side may stand in a private network: in production the hub takes a
    connection where it is set from two people only. A connector without one calls public addresses alone.
    """
    marks: dict[str, Any] = {"json_schema_extra": {PRIVATE: True}} if reaches_private else {}
    return _PydanticField(default, title=title, description=title, **marks, **limits)


@dataclass(frozen=True, slots=True)
class Right:
    """A right on the far side that the connector may need: its name there, why, and whether nothing works without."""

    name: str
    why: str
    mandatory: bool = True


@dataclass(frozen=True, slots=True)
class RightStatus:
    """Whether one right is granted; `subject` is the entity or field it is about, empty for the whole connection."""

    right: str
    granted: bool
    subject: str = ""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Who we are at the far side, which rights we hold, and what budget of calls is left (None: it has none)."""

    identity: str
    product: str
    rights: tuple[RightStatus, ...] = ()
    budget_left: int | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """The rights not granted, by name and subject."""
        return tuple(f"{each.right} {each.subject}".strip() for each in self.rights if not each.granted)


@dataclass(frozen=True, slots=True)
class RightsReport:
    """What a login holds at the far side, held against what a grant needs; each line in the far side's own words.

    `missing` lacks for the grant, `excess` is held beyond it (other objects and fields, deleting, administering),
    `untold` is what the far side does not tell this login. The same rights give the same lines, so that an excess that
    people accepted is known again.
    """

    identity: str
    missing: tuple[str, ...] = ()
    excess: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What the far side bears: records per page and per write call, keys per lookup, calls a day (None: no bound).

    The hub never asks for pages above `page_rows`, whatever its settings say.
    """

    page_rows: int = 10_000
    write_rows: int = 10_000
    lookup_keys: int = 10_000
    calls_per_day: int | None = None


@dataclass(frozen=True)
class Spec:
    """What a connector is, readable without importing its client.

    `factory` is `module:Class`, imported when a connection is first opened; the class takes `(config, context)`.
    `roles` are those some connection of this kind can play. `minter` is `module:Class` of a `Minter`, imported where
    credentials are kept; with it the secrets of the config never reach the connector.
    """

    name: str
    title: str
    kind: Literal["database", "crm", "erp", "ehr", "file", "message"]
    config: type[Config]
    factory: str
    roles: frozenset[Literal["source", "destination", "live", "provisioner"]]
    rights: tuple[Right, ...] = ()
    limits: Limits = field(default_factory=Limits)
    minter: str | None = None


class Clock(Protocol):
    """Time, injected: never read from the system by a connector."""

    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def _log() -> structlog.stdlib.BoundLogger:
    import structlog

    made: structlog.stdlib.BoundLogger = structlog.get_logger("connector")
    return made


@dataclass
class Context:
    """What the hub gives a connector instance, which belongs to one thread.

    `deadline` is a value of `clock.monotonic()` by which the call under way should have ended (None: no deadline); the
    hub sets it before a call. `cancelled` is asked between pages and between write batches. `pause` waits, in seconds.
    `shared` is what all workers of the connection have in common. `tally` is told what had to be put up with.
    `distrusted` is told the host whose certificate did not hold, once for each time it was called and not trusted.
    """

    clock: Clock = field(default_factory=SystemClock)
    deadline: float | None = None
    cancelled: Callable[[], bool] = lambda: False
    log: structlog.stdlib.BoundLogger = field(default_factory=_log)
    pause: Callable[[float], None] = time.sleep
    shared: Shared = field(default_factory=LocalShared)
    tally: Tally = field(default_factory=Tally)
    distrusted: Callable[[str], None] = lambda _host: None

    def seconds_left(self, cap: float) -> float:
        """The smaller of `cap` and what the deadline leaves, never below zero."""
        if self.deadline is None:
            return cap
        return max(0.0, min(cap, self.deadline - self.clock.monotonic()))


class Journal(Protocol):
    """Where a write notes the handle of a far-side job, so that a crash finds it again instead of sending it twice."""

    def note(self, handle: str) -> None:
        """Durable when it returns."""
        ...

    def last(self) -> str | None:
        """The last handle noted for these very changes, by whoever tried them before."""
        ...


class Source(Protocol):
    """A connection that can be read."""

    def read(self, selection: Selection, *, after: Cursor | None = None) -> Iterator[Page]:
        """Pages in a repeatable order, the first before the last is made; `after` resumes without loss or repeat."""
        ...

    def lookup(self, selection: Selection, match: pl.DataFrame) -> Iterator[Page]:
        """The records whose fields equal some row of `match` (columns named as fields, rows distinct, no nulls)."""
        ...

    def split(self, selection: Selection, parts: int) -> Sequence[Selection]:
        """At most `parts` disjoint selections that together are the whole one."""
        ...

    def head(self, selection: Selection) -> Cursor | None:
        """Where an incremental read of this selection would start if all that stands now had been read.

        Taken before a read begins, so that nothing that moves meanwhile is lost; a far side whose stamps can appear
        late (a transaction still in flight) answers a cursor that much earlier. None: nothing there yet.
        """
        ...


class Destination(Protocol):
    """A connection that can be written."""

    def write(self, changes: Changes, *, journal: Journal) -> Results:
        """One result per change, in order. Never raises for one bad row."""
        ...


class Live(Protocol):
    """A connection that tells of changes as they happen."""

    def follow(self, selection: Selection, *, after: Cursor | None) -> Iterator[Page]:
        """Pages as they come, at least an empty one every ten seconds, until the context is cancelled.

        A row is a record that somebody else changed, made or deleted: its selected fields as they stand when the page
        is made, once per page however often it moved, and `_deleted` where it is gone. A change that moved none of the
        selected fields need not come; one that this connection's own login made does not. `where` counts as in a read:
        a record that has left it does not come. `changed_by` and `part` have no meaning here. A page holds at most
        `page_rows` records, however many changes came at once; what a page does not hold comes with the next, and its
        cursor stands before that. A change may come again after a resume, and is never lost without a word:

        `Page.gap` says that what moved before this page's cursor may never be told, because the far side no longer
        keeps it, dropped it, or was not followed then. Such a page holds no record. Whoever follows must reconcile by
        a read that begins after the page came, and store that it must in one commit with the cursor; what moves from
        then on comes by later pages. So the first page after `after=None` is a gap, and so is the first after a cursor
        that is too old or no longer understood; another can come at any time. Empty pages may come before it, with a
        cursor that leads to the gap again.

        An empty page may carry a newer cursor: storing it keeps the cursor of a quiet selection from growing old.
        UnavailableError once the far side has failed or been silent several times in a row: follow again from the last
        cursor stored, after `retry_after`. Closing the iterator gives the stream back.
        """
        ...

    def acknowledge(self, cursor: Cursor) -> None:
        """Called once what the page held is stored, in the order of the pages, by the thread that follows.

        For a far side that keeps the position itself or is to be answered; where a cursor is enough, nothing is done.
        """
        ...


class Provisioner(Protocol):
    """A connection that can make the score fields itself."""

    def provision(self, entity: str, fields: Sequence[Field]) -> None:
        """Creates the missing ones; those that stand with the same type are left alone."""
        ...

    def granted(self, entity: str, fields: Sequence[Field]) -> str:
        """What `provision` grants beside making them, and to whom, for whoever looks first; empty: nothing."""
        ...


class Minter(Protocol):
    """Exchanges what a connection keeps for long, a key or a password, for a token that lasts a while.

    It runs where credentials are kept, never in a worker. The connector is given the token by `context.shared.token`,
    and a config whose secrets are withheld. Made without arguments; nothing is kept between two calls.
    """

    def scopes(self, config: Config, grant: Grant) -> Sequence[str]:
        """What to ask the far side for, in its own terms, so that the token allows what is granted and no more.

        Nothing where its tokens cannot be narrowed. Work that asks for the same shares a token.
        """
        ...

    def mint(self, config: Config, grant: Grant, context: Context) -> Token:
        """A new token for `scopes`, and in its facts what the connector needs besides, such as the host.

        UnauthorizedError where the far side refuses the login, UnavailableError where it does not answer.
        """
        ...


class Connector(Protocol):
    """One configured connection to a far system. A role that is None cannot be played by this connection."""

    spec: ClassVar[Spec]

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        """Logs in. UnauthorizedError for a bad login, UnavailableError for a far side that does not answer.

        With `names` only the rights on these entities need be told: where looking costs calls, a mapping needs its own.
        """
        ...

    def entities(self, names: Collection[str] | None = None) -> Sequence[Entity]:
        """What can be read and written with the rights we hold; a field we may not see is absent.

        With `names` these alone, as far as they are there: where describing costs calls, a mapping needs only its own.
        """
        ...

    def plan(self, grant: Grant, *, login: str | None = None) -> str:
        """What to grant at the far side, in its own terms: to `login` there, or to the login of this connection.

        Whoever administers the far side can run or deploy it as it is, and it is exactly enough for the grant.
        """
        ...

    def verify(self, grant: Grant) -> RightsReport:
        """Asks the far side what this login holds, and names what it lacks for the grant and what it has beyond it.

        Rights over everything and over what the grant does not name count too, as far as the far side tells.
        """
        ...

    def source(self) -> Source | None: ...

    def destination(self) -> Destination | None: ...

    def live(self) -> Live | None: ...

    def provisioner(self) -> Provisioner | None: ...

    def close(self) -> None:
        """Gives back every socket; harmless when repeated."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
