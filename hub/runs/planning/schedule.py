"""The schedule: starts each run whose time has come, and counts the times that were dropped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim
from sqlalchemy.orm import Session

from hub.audit import Action
from hub.connections import ConnectionsError
from hub.logs import Log
from hub.mappings import MappingsError, Published
from hub.models import ModelError
from hub.runs.installation import Installation
from hub.runs.planning.planning import Order, start
from hub.runs.types import RunError
from hub.sdk import ConnectorError

SCHEDULE = "service:schedule"
"""Who starts a run whose time has come."""
MOST_MISSED = 10_000
"""Ticks counted at most between two looks: a week of minutes."""

log = Log(__name__)


def tick(hub: Installation, now: datetime | None = None) -> list[str]:
    """Starts every run whose time has come; their ids. A tick that meets a run or a pause is dropped and counted.

    `now` is the database's own clock unless given. A mapping that cannot run keeps no other from it.
    """
    if now is None:
        with hub.database.read() as session:
            now = hub.database.now(session)
    started = []
    for published in (each.published for each in hub.mappings.list()):
        if published is not None and (due := _due(hub, published, now)) is not None:
            started += _acted_on(hub, published.mapping, due)
    return started


@dataclass(frozen=True, slots=True)
class _Tick:
    """A time of a schedule that nobody acted on yet, how many before it were missed, and why it is dropped, if so."""

    at: datetime
    missed: int
    dropped: str | None


class _ActedOnError(Exception):
    """Somebody else acted on the tick meanwhile."""


def _due(hub: Installation, published: Published, now: datetime) -> _Tick | None:
    document = hub.mappings.document(published)
    if document.run.schedule is None:
        return None
    zone = ZoneInfo(document.read.timezone)
    at = next(CronSim(document.run.schedule, now.astimezone(zone) + timedelta(seconds=1), reverse=True))
    at = at.astimezone(UTC)
    with hub.database.read() as session:
        known = hub.ledger.last_tick(session, published.mapping)
        since = max(known[0], published.published_at) if known is not None else published.published_at
        if at <= since:
            return None
        busy = hub.ledger.active(session, published.mapping) is not None
        meets = busy or hub.ledger.active_at(session, published.mapping, at)
    between = islice(CronSim(document.run.schedule, since.astimezone(zone)), MOST_MISSED)
    missed = sum(1 for _ in takewhile(lambda each: each < at, between)) if known else 0
    return _Tick(at, missed, "paused" if published.paused else "running" if meets else None)


def _acted_on(hub: Installation, mapping: str, due: _Tick) -> list[str]:
    """Starts the run of a tick; noted in the same transaction, so that a process that dies loses neither."""
    if due.dropped is not None:
        _drop(hub, mapping, due, due.dropped)
        return []

    def note(session: Session) -> None:
        if not _noted(hub, session, mapping, due, due.missed, "missed"):
            raise _ActedOnError

    try:
        return [start(hub, Order(mapping, SCHEDULE), note)]
    except _ActedOnError:
        return []
    except (RunError, ConnectorError, MappingsError, ConnectionsError, ModelError) as error:
        log.error("scheduled run not started", mapping=mapping, why=str(error))  # noqa: TRY400
        _drop(hub, mapping, due, "refused")
        return []


def _drop(hub: Installation, mapping: str, due: _Tick, why: str) -> None:
    with hub.database.begin() as session:
        _noted(hub, session, mapping, due, due.missed + 1, why)


def _noted(hub: Installation, session: Session, mapping: str, due: _Tick, dropped: int, why: str) -> bool:
    """Notes a tick and those dropped with it; False where somebody else acted on it already."""
    if not hub.ledger.tick(session, mapping, due.at, dropped):
        return False
    if dropped:
        hub.record(session, SCHEDULE, Action.RUN_SKIP, f"mapping:{mapping}", dropped=dropped, why=why)
    return True
