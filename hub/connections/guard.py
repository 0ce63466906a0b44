"""The guard: nothing outside the grant is asked of a far system, and nothing that was not asked for comes back.

Everything here costs per page or per call, never per record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TypeAlias

import polars as pl

from hub.connections.types import GrantError
from hub.faults import around, reach
from hub.sdk import (
    Changes,
    CheckReport,
    Connector,
    Cursor,
    Destination,
    Entity,
    Field,
    Grant,
    Journal,
    Live,
    Page,
    Provisioner,
    Results,
    RightsReport,
    Selection,
    Source,
    Spec,
    UnexpectedError,
)
from hub.sdk.types import (
    APPLIED,
    BEFORE,
    CLEAR,
    CONFLICT,
    KEY,
    REJECTED,
    RESERVED,
    RESULT_SCHEMA,
    UNCHANGED,
    UNKNOWN,
    VERSION,
    filter_fields,
)

CHANGE_COLUMNS = frozenset({KEY, VERSION, BEFORE, CLEAR})
STATES = (APPLIED, UNCHANGED, CONFLICT, REJECTED, UNKNOWN)


Check: TypeAlias = Callable[[str], None]
"""Asked before every call to the far side, by the name of the call: raises where the lease on it is over."""


def _unchecked(_call: str) -> None: ...


class _Rules:
    """The grant of one connection, asked before every call."""

    def __init__(self, connection: str, grant: Grant, leased: Check) -> None:
        self._connection = connection
        self._grant = grant
        self.leased = leased

    @contextmanager
    def around(self, call: str, keys: pl.Series | None = None) -> Iterator[None]:
        """One call to the far side, under a lease that goes on."""
        self.leased(call)
        with around(call, keys):
            yield

    def check_read(self, selection: Selection, also: Iterable[str] = ()) -> None:
        """Every field that the selection shows, filters on, orders by or matches."""
        asked = {*selection.fields, *filter_fields(selection.where), *also}
        if selection.changed_by is not None:
            asked.add(selection.changed_by)
        self._check("read", self._grant.reads, selection.entity, asked)

    def check_write(self, entity: str, fields: Iterable[str]) -> None:
        """Every field that is written."""
        self._check("write", self._grant.writes, entity, set(fields))

    def check_changes(self, changes: Changes) -> None:
        """Fields, mode, and the frame itself: a column more could be one field more."""
        frame = changes.frame
        targets = set(changes.fields) | (set(frame.columns) - CHANGE_COLUMNS)
        if CLEAR in frame.columns and frame.height:
            targets.update(frame[CLEAR].explode(empty_as_null=True).drop_nulls().unique().to_list())
        if isinstance(frame.schema.get(BEFORE), pl.Struct):
            targets.update(field.name for field in frame.schema[BEFORE].fields)  # type: ignore[attr-defined]
        self.check_write(changes.entity, targets)
        if changes.mode not in self._grant.modes.get(changes.entity, frozenset()):
            raise self._refused(f"the mode {changes.mode} on {changes.entity}")

    def _check(self, verb: str, granted: Mapping[str, frozenset[str]], entity: str, asked: set[str]) -> None:
        if entity not in granted:
            raise self._refused(f"to {verb} {entity}")
        if missing := asked - granted[entity]:
            raise self._refused(f"to {verb} {', '.join(sorted(missing))} of {entity}")

    def _refused(self, what: str) -> GrantError:
        return GrantError(f"the grant on connection {self._connection} lacks the right {what}")


class GuardedSource:
    """A source that reads what is granted and hands on what was asked for."""

    def __init__(self, source: Source, rules: _Rules) -> None:
        self._source = source
        self._rules = rules

    def read(self, selection: Selection, *, after: Cursor | None = None) -> Iterator[Page]:
        """As `Source.read`; refused at the call, not at the first page."""
        self._rules.check_read(selection)
        return _trimmed("read", lambda: self._source.read(selection, after=after), selection, self._rules.leased)

    def lookup(self, selection: Selection, match: pl.DataFrame) -> Iterator[Page]:
        """As `Source.lookup`."""
        self._rules.check_read(selection, match.columns)
        return _trimmed("lookup", lambda: self._source.lookup(selection, match), selection, self._rules.leased)

    def split(self, selection: Selection, parts: int) -> Sequence[Selection]:
        """As `Source.split`; the parts may differ from the whole in `part` alone."""
        self._rules.check_read(selection)
        with self._rules.around("split"):
            made = self._source.split(selection, parts)
        if not 1 <= len(made) <= max(parts, 1):
            raise UnexpectedError(f"{selection.entity} was to be split into at most {parts} parts, not {len(made)}")
        if any(replace(each, part=selection.part) != selection for each in made):
            raise UnexpectedError(f"a part of {selection.entity} selects something else than the whole")
        return made

    def head(self, selection: Selection) -> Cursor | None:
        """As `Source.head`."""
        self._rules.check_read(selection)
        with self._rules.around("head"):
            return self._source.head(selection)


class GuardedDestination:
    """A destination that writes what is granted and answers every change."""

    def __init__(self, destination: Destination, rules: _Rules) -> None:
        self._destination = destination
        self._rules = rules

    def write(self, changes: Changes, *, journal: Journal) -> Results:
        """As `Destination.write`. UnexpectedError where the answers do not fit the changes: they are unknown then."""
        self._rules.check_changes(changes)
        with self._rules.around("write", changes.frame[KEY]):
            results = self._destination.write(changes, journal=journal)
        return _fitting(results, changes)


class GuardedLive:
    """A live source that follows what is granted."""

    def __init__(self, live: Live, rules: _Rules) -> None:
        self._live = live
        self._rules = rules

    def follow(self, selection: Selection, *, after: Cursor | None) -> Iterator[Page]:
        """As `Live.follow`; refused at the call."""
        self._rules.check_read(selection)
        return _trimmed("follow", lambda: self._live.follow(selection, after=after), selection, self._rules.leased)

    def acknowledge(self, cursor: Cursor) -> None:
        """As `Live.acknowledge`."""
        with self._rules.around("acknowledge"):
            self._live.acknowledge(cursor)


class GuardedProvisioner:
    """A provisioner that makes the fields the grant lets be written, and no others."""

    def __init__(self, provisioner: Provisioner, rules: _Rules) -> None:
        self._provisioner = provisioner
        self._rules = rules

    def provision(self, entity: str, fields: Sequence[Field]) -> None:
        """As `Provisioner.provision`."""
        self._rules.check_write(entity, [each.name for each in fields])
        with self._rules.around("provision"):
            self._provisioner.provision(entity, fields)

    def granted(self, entity: str, fields: Sequence[Field]) -> str:
        """As `Provisioner.granted`."""
        self._rules.check_write(entity, [each.name for each in fields])
        with self._rules.around("provision"):
            return self._provisioner.granted(entity, fields)


class GuardedConnection(AbstractContextManager["GuardedConnection"]):
    """An open connection as the rest of the hub sees it: a connector whose every role is guarded."""

    def __init__(self, name: str, connector: Connector, grant: Grant, leased: Check = _unchecked) -> None:
        """`leased` is asked before every call to the far side."""
        self.name = name
        self.grant = grant
        self._connector = connector
        self._rules = _Rules(name, grant, leased)

    @property
    def spec(self) -> Spec:
        """What the connector is."""
        return self._connector.spec

    def check(self) -> CheckReport:
        """As `Connector.check`, of the entities of the grant; of all where it names none."""
        named = {*self.grant.reads, *self.grant.writes}
        with self._rules.around("check"):
            return self._connector.check(sorted(named) or None)

    def entities(self, names: Collection[str] | None = None) -> Sequence[Entity]:
        """As `Connector.entities`: names and types, no values."""
        with self._rules.around("entities"):
            return self._connector.entities(names)

    def plan(self, login: str | None = None) -> str:
        """What to grant at the far side for this grant, in its own terms; as `Connector.plan`."""
        return self._connector.plan(self.grant, login=login)

    def verify(self) -> RightsReport:
        """What the login holds there, held against this grant."""
        with self._rules.around("verify"):
            return self._connector.verify(self.grant)

    def source(self) -> GuardedSource | None:
        """The guarded source, or None where this connection cannot be read."""
        role = self._connector.source()
        return None if role is None else GuardedSource(role, self._rules)

    def destination(self) -> GuardedDestination | None:
        """The guarded destination, or None where this connection cannot be written."""
        role = self._connector.destination()
        return None if role is None else GuardedDestination(role, self._rules)

    def live(self) -> GuardedLive | None:
        """The guarded live source, or None where this connection tells of no changes."""
        role = self._connector.live()
        return None if role is None else GuardedLive(role, self._rules)

    def provisioner(self) -> GuardedProvisioner | None:
        """The guarded provisioner, or None where this connection makes no fields."""
        role = self._connector.provisioner()
        return None if role is None else GuardedProvisioner(role, self._rules)

    def close(self) -> None:
        """As `Connector.close`."""
        with around("close"):
            self._connector.close()

    def __exit__(self, *exc: object) -> None:
        self.close()


def _trimmed(call: str, ask: Callable[[], Iterator[Page]], selection: Selection, leased: Check) -> Iterator[Page]:
    wanted = [*selection.fields, *RESERVED]
    for page in _reaching(call, ask, leased):
        if page.frame.columns == wanted:
            yield page
            continue
        if missing := [name for name in wanted if name not in page.frame.columns]:
            raise UnexpectedError(f"a page of {selection.entity} lacks {', '.join(missing)}")
        yield replace(page, frame=page.frame.select(wanted))


def _reaching(call: str, ask: Callable[[], Iterator[Page]], leased: Check) -> Iterator[Page]:
    """The pages, each a call to the far side of its own; the last finds that there are no more."""
    leased(call)
    reach(f"before {call}")
    for page in ask():
        reach(f"after {call}", page.frame[KEY] if KEY in page.frame.columns else None)
        yield page
        leased(call)
        reach(f"before {call}")


def _fitting(results: Results, changes: Changes) -> Results:
    frame = results.frame
    if frame.height != changes.frame.height:
        raise UnexpectedError(f"{changes.frame.height} changes of {changes.entity} have {frame.height} results")
    if dict(frame.schema) != dict(RESULT_SCHEMA):
        raise UnexpectedError(f"the results of {changes.entity} do not have the columns {', '.join(RESULT_SCHEMA)}")
    if not frame["state"].is_in(STATES).fill_null(value=False).all():
        raise UnexpectedError(f"a result of {changes.entity} has a state that is none of {', '.join(STATES)}")
    return results
