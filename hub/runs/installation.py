"""Everything one installed hub consists of, opened once per process and handed to whoever carries out a verb."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hub.audit import Action, AuditLog, Event, Outcome, Retention, SealedLog, SubjectKeys, legible
from hub.database import Database, DatabaseClock, DatabaseError
from hub.keys import KeyRing, open_ring
from hub.logs import Log
from hub.runs.types import RunState
from hub.sdk import Grant
from hub.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

    from hub.access import Access, Vault
    from hub.access.approvals import Approvals, Custody
    from hub.access.leases import Broker, BrokerClient, Credentials, Holder
    from hub.access.people import People
    from hub.audit.anchors import Anchoring
    from hub.connections import Connections
    from hub.decisions import DecisionLog, Standing
    from hub.mappings import Mappings
    from hub.models import Registry
    from hub.runs.store import Ledger

T = TypeVar("T")

RING_STALE = 30.0
"""Seconds after which a ring that nobody heard is rung again."""

log = Log(__name__)


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

    def __init__(
        self, settings: Settings, database: Database, keys: KeyRing, client: BrokerClient | None = None
    ) -> None:
        """`client` is the lease broker where it is a process of its own."""
        self.client = client
        self.settings = settings
        self.database = database
        self.keys = keys
        self.clock = database.clock or DatabaseClock(database)
        self.subjects = SubjectKeys(keys)
        self.audit = AuditLog(database, clock=self.clock, subjects=self.subjects)
        self.sealed = SealedLog(database, keys)
        self.opening = threading.RLock()

    @Room
    def access(self) -> Access:
        """Callers and their keys."""
        from hub.access import Access

        told = self.settings
        return Access(self.database, self.keys, self.audit, environment=told.environment, issuer=told.address)

    @Room
    def approvals(self) -> Approvals:
        """What waits for a second person."""
        from hub.access.approvals import Approvals

        return Approvals(self.database, self.keys, self.audit)

    @Room
    def people(self) -> People:
        """Who logs in with a browser, and their sessions."""
        from hub.access.people import People
        from hub.access.people.oidc import configured

        return People(self.database, self.keys, self.audit, self.access.roles, configured(self.settings))

    @Room
    def vault(self) -> Vault:
        """The secrets of connections."""
        from hub.access import Vault

        return Vault(self.keys, self.settings)

    @Room
    def connections(self) -> Connections:
        """The configured systems."""
        from hub.connections import Connections

        parts = self.database, self.keys, self.audit, self.vault
        here, production = self.client is None, self.settings.production
        return Connections(*parts, broker=self._broker, here=here, production=production)

    def _broker(self, credentials: Credentials) -> Broker:
        if self.client is not None:
            return self.client
        from hub.access.leases import LeaseBroker

        seconds = self.settings.lease_seconds
        return LeaseBroker(self.database, self.audit, credentials, seconds=seconds, fence=self.ledger.left)

    @Room
    def registry(self) -> Registry:
        """The models."""
        from hub.mappings import model_users
        from hub.models import Registry

        production = self.settings.production
        return Registry(self.database, self.keys, self.audit, users=model_users, production=production)

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
    def retention(self) -> Retention:
        """How long the bodies of events are kept."""
        return Retention(self.database, self.audit)

    @Room
    def custody(self) -> Custody:
        """What takes two people of the key and the trail."""
        from hub.access.approvals import Custody

        parts = self.database, self.audit, self.approvals, self.retention
        return Custody(*parts, production=self.settings.production)

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
        """One audit event in the caller's transaction. `outcome` defaults to done; other names go to the detail.

        `about` tells of the record that is the subject, and is sealed under its key.
        """
        outcome, about = more.pop("outcome", Outcome.DONE), more.pop("about", {})
        run, digest = more.pop("run", None), more.pop("digest", None)
        self.audit.record(session, Event(actor, action, subject, outcome, run, digest, more, about))  # type: ignore[arg-type]

    def end(self, session: Session, run: str, state: RunState, reason: str | None, actor: str = "hub") -> bool:
        """Moves a run to HELD or a final state, with its event; False where it had ended already."""
        if not self.ledger.set_state(session, run, state, reason):
            return False
        counts = self.ledger.counts(session, run).to_json()
        action = {RunState.HELD: Action.RUN_HOLD, RunState.CANCELLED: Action.RUN_CANCEL}.get(state, Action.RUN_FINISH)
        why = {} if reason is None else {"reason": legible(reason)}
        self.record(session, actor, action, run, run=run, state=state.value, counts=counts, **why)
        log.info("run ended" if state.final else "run held", run=run, state=state.value, reason=reason, **counts)
        return True

    def close(self) -> None:
        """Gives back every lease, and every connection to the hub's own database and to the broker."""
        if "connections" in self.__dict__:
            self.connections.leases.close()
        if "celery" in self.__dict__ and self.celery is not None:
            from hub.queue import hang_up

            hang_up(self.celery)
        if self.client is not None:
            self.client.hang_up()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_installation(settings: Settings, database: Database | None = None) -> Installation:
    """Opens the rooms of the hub that these settings describe; its database must be migrated already.

    They all take the time from the database's clock where it was given one. Where the lease broker is a process of its
    own, the key is there and nothing here reads it.
    """
    database = database or Database(settings)
    database.check()
    if settings.lease_socket is None:
        return Installation(settings, database, open_ring(settings, database))
    from hub.access.leases import BorrowedRing, BrokerClient
    from hub.connections import types as connections

    kinds = [each for each in vars(connections).values() if isinstance(each, type) and issubclass(each, Exception)]
    client = BrokerClient(settings.lease_socket, {each.__name__: each for each in kinds})
    return Installation(settings, database, BorrowedRing(client), client)


def permitted(hub: Installation, holder: Holder, connection: str, grant: Grant) -> bool:
    """Whether the lease broker lends a connection for a grant.

    To a run for exactly what its own version was granted. To a request for what any version was that somebody published
    or handed in, or for nothing: to be asked who one is, and what there is.
    """
    if holder.run is None:
        return grant == Grant() or hub.mappings.was_granted(connection, grant)
    with hub.database.read() as session:
        version = hub.ledger.version_of(session, holder.run)
    return version is not None and hub.mappings.was_granted(connection, grant, version)


@contextmanager
def serving_leases(hub: Installation, socket: Path) -> Iterator[None]:
    """While open, the lease broker of this installation answers at a socket, and at that for the API if it has one."""
    from hub.access.leases import Office, Part, Server, own_key, users_of

    settings = hub.settings
    own_key(hub.database, hub.keys)
    lends, broker = settings.lease_to_api, hub.connections.leases.broker
    office = Office(hub.keys, broker, partial(permitted, hub), lends_to_api=lends)
    users, doors = users_of(settings.lease_users), {Part.WORKER: socket, Part.API: settings.lease_api_socket}
    with ExitStack() as stack:
        for part, path in doors.items():
            if path is not None:
                server = stack.enter_context(Server(path, office, part, users))
                stack.callback(path.unlink, missing_ok=True)
                stack.callback(server.shutdown)
                server.start()
        yield
