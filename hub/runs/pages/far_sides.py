"""The far sides of one run: connections opened when they are first needed, one for each thread that uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime

import polars as pl

from hub.access.leases import Holder
from hub.connections import GuardedConnection, GuardedLive, GuardedSource
from hub.mappings import Compiled, CompiledLookup
from hub.mappings.expressions import to_filter
from hub.runs.installation import Installation
from hub.runs.pages.remembered import Remembered
from hub.runs.types import RunError
from hub.sdk import Context, Selection, Tally


class FarSides:
    """What a mapping reads from and writes to, under its grant; usable while `opening` is open.

    With `remembers` a key is looked up once for as long as that.
    """

    def __init__(self, hub: Installation, compiled: Compiled, *, remembers: bool = False) -> None:
        self._hub = hub
        self._compiled = compiled
        self._open: dict[tuple[str, str], tuple[GuardedConnection, Context]] = {}
        self._stack = ExitStack()
        self._patience: float | None = None
        self._holder: Holder | None = None
        self._remembers = remembers
        self._remembered: dict[str, Remembered] = {}
        self.tally = Tally()

    @contextmanager
    def opening(self, seconds: float | None = None) -> Iterator[None]:
        """While open, connections may be used; with `seconds`, no call on them goes on for longer."""
        with ExitStack() as stack:
            self._stack, self._open, self._patience = stack, {}, seconds
            self._remembered.clear()
            yield

    def turn(self, holder: Holder) -> None:
        """The next slice: what is open goes on under its leases. LeaseError where one is over."""
        self._holder = holder
        names = {name for name, _ in [*self._open]}
        if names:
            self._hub.connections.leases.turn(names, holder)

    def look_for_pause(self) -> None:
        """PausedConnectionError where a connection that is open was paused since."""
        for name, _ in [*self._open]:  # the other threads of the trip may open one meanwhile
            self._hub.connections.refuse_paused(name)

    def source(self, role: str) -> GuardedSource:
        """The source that the mapping reads, for the thread of that role. RunError where it cannot be read."""
        name = self._compiled.document.read.connection
        source = self._connect(name, role).source()
        if source is None:
            raise RunError(f"connection {name} cannot be read")
        return source

    def live(self, cancelled: Callable[[], bool]) -> GuardedLive:
        """The live source that the mapping follows until `cancelled`. RunError where it cannot be followed."""
        name = self._compiled.document.read.connection
        live = self._connect(name, "follow").live()
        if live is None:
            raise RunError(f"connection {name} cannot be followed")
        self._open[(name, "follow")][1].cancelled = cancelled
        return live

    def target(self, seconds: float) -> GuardedConnection:
        """The connection that the mapping writes to, with so many seconds to spend."""
        return self._connect(self._compiled.document.write.connection, "write", seconds)

    def _connect(self, name: str, role: str, seconds: float | None = None) -> GuardedConnection:
        """The trip's own connection for one thread role; a deadline counts from each call."""
        if (name, role) not in self._open:
            made = Context(tally=self.tally)
            opening = self._hub.connections.open(name, self._compiled.grants[name], made, self._holder)
            opened = self._stack.enter_context(opening)
            self._open[(name, role)] = (opened, made)
        connection, context = self._open[(name, role)]
        seconds = self._patience if seconds is None else seconds
        context.deadline = None if seconds is None else context.clock.monotonic() + seconds
        return connection

    def read_lookup(self, lookup: CompiledLookup, match: pl.DataFrame, now: datetime) -> Iterator[pl.DataFrame]:
        """The records of another entity that match, page by page. RunError where it cannot be read."""
        if not self._remembers:
            return self._looked_up(lookup, match, now)
        name = lookup.lookup.name
        if name not in self._remembered:
            self._remembered[name] = Remembered(lambda keys: self._looked_up(lookup, keys, now))
        return self._remembered[name].read(match)

    def _looked_up(self, lookup: CompiledLookup, match: pl.DataFrame, now: datetime) -> Iterator[pl.DataFrame]:
        connection = self._connect(lookup.lookup.connection, "lookup")
        source = connection.source()
        if source is None:
            raise RunError(f"connection {lookup.lookup.connection} cannot be read")
        pushed = to_filter(lookup.where, lookup.entity.by_name, now=now).pushed if lookup.where is not None else None
        rows = min(self._hub.settings.page_rows, connection.spec.limits.page_rows)
        selection = Selection(lookup.entity.name, lookup.fields, where=pushed, page_rows=rows)
        for page in source.lookup(selection, match):
            yield page.frame

    def read_targets(self, keys: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
        """What the target records hold now, aligned with `keys`, and `_there`; all null where there is none to read.

        `_there` is null alone where the target cannot be read at all.
        """
        connection = self._connect(self._compiled.document.write.connection, "targets")
        readable = connection.source() is not None
        empty = pl.DataFrame(schema=self._compiled.target.schema((*keys.columns, *fields)))
        found = self.look_up(connection, keys.unique(), fields) if readable else empty
        found = found.with_columns(_there=pl.lit(value=True))
        both = keys.join(found, on=keys.columns, how="left", maintain_order="left", nulls_equal=True)
        return both.with_columns(pl.col("_there").fill_null(False if readable else None))

    def look_up(self, connection: GuardedConnection, keys: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
        """The keys and fields of those target records that are there, in no order."""
        source = connection.source()
        assert source is not None
        wanted = (*keys.columns, *(name for name in fields if name not in keys.columns))
        selection = Selection(self._compiled.target.name, wanted)
        empty = pl.DataFrame(schema=self._compiled.target.schema(wanted))
        return pl.concat([empty, *(page.frame.select(wanted) for page in source.lookup(selection, keys))])
