"""Everything one installed hub consists of, opened once per process and handed to whoever carries out a verb."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import structlog
from sqlalchemy.orm import Session

from hub.access import Access, Vault
from hub.audit import Action, AuditLog, Event, Outcome
from hub.connections import Connections
from hub.database import Database, DatabaseClock
from hub.decisions import DecisionLog, Standing
from hub.keys import KeyRing, open_ring
from hub.mappings import Mappings
from hub.models import Registry
from hub.runs.store import Ledger
from hub.runs.types import RunState
from hub.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

RING_STALE = 30.0
"""Seconds after which a ring that nobody heard is rung again."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Installation:
    """The rooms of one hub, sharing one database and one key ring; safe to share between threads."""

    settings: Settings
    database: Database
    keys: KeyRing
    audit: AuditLog
    access: Access
    connections: Connections
    registry: Registry
    mappings: Mappings
    log: DecisionLog
    standing: Standing
    ledger: Ledger

    @cached_property
    def celery(self) -> Celery | None:
        """The doorbell's application; None where no broker is configured."""
        if self.settings.broker_url is None:
            return None
        from hub.queue import make_app

        return make_app(self.settings)

    def ring(self, pools: Iterable[str]) -> None:
        """Rings the bell of each pool once. Losing it costs latency only, so a broker that is down is no error."""
        if self.celery is None:
            return
        # Celery takes a second to import, and an embedded hub has no bell.
        from hub.queue import ring

        for pool in pools:
            if not self.database.retrying(lambda s, p=pool: self.ledger.wants_ring(s, p, RING_STALE)):  # type: ignore[misc]
                continue
            if not ring(self.celery, pool):
                self.unring(pool)

    def unring(self, pool: str) -> None:
        """A ring was heard, or nobody will hear it: the next one must not wait for it."""
        self.database.retrying(lambda session: self.ledger.heard(session, pool))

    def pending(self) -> bool:
        """Whether some run can still go on without a person."""
        with self.database.read() as session:
            return self.ledger.pending(session)

    def record(self, session: Session, actor: str, action: Action, subject: str, **more: object) -> None:
        """One audit event in the caller's transaction. `outcome` defaults to done; other names go to the detail."""
        outcome = more.pop("outcome", Outcome.DONE)
        run, digest = more.pop("run", None), more.pop("digest", None)
        self.audit.record(session, Event(actor, action, subject, outcome, run, digest, more))  # type: ignore[arg-type]

    def end(self, session: Session, run: str, state: RunState, reason: str | None, actor: str = "hub") -> bool:
        """Moves a run to HELD or a final state, with its event; False where it had ended already."""
        if not self.ledger.set_state(session, run, state, reason):
            return False
        counts = self.ledger.counts(session, run).to_json()
        action = {RunState.HELD: Action.RUN_HOLD, RunState.CANCELLED: Action.RUN_CANCEL}.get(state, Action.RUN_FINISH)
        self.record(session, actor, action, run, run=run, state=state.value, counts=counts)
        log.info("run ended" if state.final else "run held", run=run, state=state.value, reason=reason, **counts)
        return True

    def close(self) -> None:
        """Gives back every connection to the hub's own database."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_installation(settings: Settings, database: Database | None = None) -> Installation:
    """Opens the rooms of the hub that these settings describe; its database must be migrated already.

    They all take the time from the database's clock where it was given one.
    """
    database = database or Database(settings)
    database.check()
    keys = open_ring(settings, database)
    clock = database.clock or DatabaseClock(database)
    audit = AuditLog(database, clock=clock)
    connections = Connections(database, keys, audit, Vault(keys, settings))
    registry = Registry(database, keys, audit)
    return Installation(
        settings=settings,
        database=database,
        keys=keys,
        audit=audit,
        access=Access(database, keys, audit, environment=settings.environment),
        connections=connections,
        registry=registry,
        mappings=Mappings(database, keys, audit, connections, registry, production=settings.production),
        log=DecisionLog(database, keys, settings.segments, clock),
        standing=Standing(database, keys),
        ledger=Ledger(database, keys),
    )
