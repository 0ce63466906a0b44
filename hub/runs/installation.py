"""Everything one installed hub consists of, opened once per process and handed to whoever carries out a verb."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hub.audit import Action, AuditLog, Event, Outcome, SealedLog
from hub.database import Database, DatabaseClock, DatabaseError
from hub.keys import KeyRing, open_ring
from hub.runs.types import RunState
from hub.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

    from hub.access import Access
    from hub.audit.anchors import Anchoring
    from hub.connections import Connections
    from hub.decisions import DecisionLog, Standing
    from hub.mappings import Mappings
    from hub.models import Registry
    from hub.runs.store import Ledger

T = TypeVar("T")

RING_STALE = 30.0
"""Seconds after which a ring that nobody heard is rung again."""

log = structlog.get_logger(__name__)


class Room(Generic[T]):
    """One room of an installation, opened by the first thread that asks for it while others wait.

    With it come the libraries it needs: a verb that only looks something up pays for no other.
    """

    def __init__(self, opening: Callable[[Installation], T]) -> None:
        self._opening = opening
        self.__doc__ = opening.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, hub: Installation, owner: type | None = None) -> T:
        with hub.opening:
            if self._name not in hub.__dict__:
                hub.__dict__[self._name] = self._opening(hub)
        found: T = hub.__dict__[self._name]
        return found


class Installation:
    """The rooms of one hub, sharing one database and one key ring; safe to share between threads."""

    def __init__(self, settings: Settings, database: Database, keys: KeyRing) -> None:
        self.settings = settings
        self.database = database
        self.keys = keys
        self.clock = database.clock or DatabaseClock(database)
        self.audit = AuditLog(database, clock=self.clock)
        self.sealed = SealedLog(database, keys)
        self.opening = threading.RLock()

    @Room
    def access(self) -> Access:
        """Callers and their keys."""
        from hub.access import Access

        return Access(self.database, self.keys, self.audit, environment=self.settings.environment)

    @Room
    def connections(self) -> Connections:
        """The configured systems."""
        from hub.access import Vault
        from hub.connections import Connections

        return Connections(self.database, self.keys, self.audit, Vault(self.keys, self.settings))

    @Room
    def registry(self) -> Registry:
        """The models."""
        from hub.models import Registry

        return Registry(self.database, self.keys, self.audit)

    @Room
    def mappings(self) -> Mappings:
        """The mappings and their versions."""
        from hub.mappings import Mappings

        production = self.settings.production
        rooms = self.connections, self.registry
        return Mappings(self.database, self.keys, self.audit, *rooms, production=production)

    @Room
    def log(self) -> DecisionLog:
        """The decisions."""
        from hub.decisions import DecisionLog

        return DecisionLog(self.database, self.keys, self.settings.segments, self.clock)

    @Room
    def standing(self) -> Standing:
        """Where each record stands."""
        from hub.decisions import Standing

        return Standing(self.database, self.keys)

    @Room
    def ledger(self) -> Ledger:
        """The runs."""
        from hub.runs.store import Ledger

        return Ledger(self.database, self.keys)

    def open_rooms(self) -> None:
        """Opens every room now: for a process that stays, whose first request or slice is not to wait for it."""
        for name, room in vars(type(self)).items():
            if isinstance(room, Room):
                getattr(self, name)

    @Room
    def anchoring(self) -> Anchoring:
        """Where checkpoints of the audit log go."""
        from hub.audit.anchors import Anchoring, configured

        return Anchoring(
            self.database,
            self.sealed,
            self.audit,
            configured(self.settings),
            apart=timedelta(seconds=self.settings.audit_anchor_seconds),
        )

    @cached_property
    def celery(self) -> Celery | None:
        """The doorbell's application; None where no broker is configured."""
        if self.settings.broker_url is None:
            return None
        from hub.queue import make_app

        return make_app(self.settings)

    def ring(self, pools: Iterable[str]) -> None:
        """Rings the bell of each pool once. Losing it costs latency only, so it never fails for who rings."""
        if self.celery is None:
            return
        # Celery takes a second to import, and an embedded hub has no bell.
        from hub.queue import ring

        for pool in pools:
            try:
                wanted = self.database.retrying(lambda s, p=pool: self.ledger.wants_ring(s, p, RING_STALE))  # type: ignore[misc]
                if wanted and not ring(self.celery, pool):
                    self.unring(pool)
            except (DBAPIError, DatabaseError) as error:
                log.warning("the bell was not rung", pool=pool, why=type(error).__name__)

    def unring(self, pool: str) -> None:
        """A ring was heard, or nobody will hear it: the next one must not wait for it."""
        self.database.retrying(lambda session: self.ledger.heard(session, pool), repeatable=True)

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
        """Gives back every connection to the hub's own database and to the broker."""
        if "celery" in self.__dict__ and self.celery is not None:
            from hub.queue import hang_up

            hang_up(self.celery)
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
    return Installation(settings, database, open_ring(settings, database))
