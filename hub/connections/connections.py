"""The connections of one installation: made, looked at, checked, paused, opened behind the guard."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from sqlalchemy.orm import Session

from hub.access import AccessError, Actor, ActorKind, Caller, Reference, Vault
from hub.access.approvals import ApprovalKind, Approvals, DualControl, actor_of
from hub.access.leases import (
    Broker,
    Credentials,
    Held,
    Holder,
    LeaseBroker,
    Leases,
    offer,
    own_key,
    retire,
    take_in,
)
from hub.audit import Action, AuditLog, Event, Outcome
from hub.connections import store
from hub.connections.catalogue import Catalogue, check_names, make_config, reaches_private, secret_names
from hub.connections.credentials import Vaulted, secret_name
from hub.connections.guard import GuardedConnection
from hub.connections.shared import DatabaseShared, leased
from hub.connections.types import (
    Connection,
    ConnectionsError,
    InvalidConnectionError,
    PausedConnectionError,
    UnknownConnectionError,
    nearest,
)
from hub.database import Database
from hub.faults import around
from hub.keys import KeyRing
from hub.sdk import CheckReport, Connector, ConnectorError, Context, Entity, Grant, Json, RightsReport, Secret, Tally

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
SYSTEM = Actor(ActorKind.SERVICE, "hub")


class Connections:
    """Safe to share between threads; what `open` yields belongs to one."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        audit: AuditLog,
        vault: Vault,
        *,
        catalogue: Catalogue | None = None,
        broker: Callable[[Credentials], Broker] | None = None,
        here: bool = True,
        production: bool = False,
    ) -> None:
        """`broker` makes the lease broker of what opens credentials; without one it is a module of this process.

        `here` says that credentials are opened in this process; elsewhere they can be sealed and nothing more. In
        `production` a connection that reaches a private network takes two people.
        """
        self._database = database
        self._keys = keys
        self._audit = audit
        self._vault = vault
        self.catalogue = catalogue or Catalogue()
        self.credentials = Vaulted(database, keys, vault, self.catalogue, self._note_untrusted)
        made = LeaseBroker(database, audit, self.credentials) if broker is None else broker(self.credentials)
        self.leases = Leases(made)
        self._here = here
        self._dual = DualControl(database, Approvals(database, keys, audit), production=production)
        self._shared: dict[str, DatabaseShared] = {}

    def create(
        self,
        name: str,
        connector: str,
        settings: Mapping[str, Json],
        secrets: Mapping[str, Secret | Reference],
        actor: Caller | Actor,
    ) -> Connection:
        """A new connection. InvalidConnectionError names the setting that is wrong; nothing is stored then.

        ApprovalError, with the approval asked for, where its settings let it reach a private network in production and
        no other person approved exactly these.
        """
        if not NAME.fullmatch(name):
            raise InvalidConnectionError(
                f"name: a connection is named in lower-case letters, digits and _, not {name!r}"
            )
        spec = self.catalogue.spec(connector)
        check_names(spec, settings, secrets)
        with self._database.read() as session:
            self._refuse_taken(session, name)
        given = {each: one if isinstance(one, Secret) else Secret.withheld() for each, one in secrets.items()}
        config = make_config(spec, settings, given)
        # Stored as the connector understood it, so that a default that changes later changes nothing here.
        plain = config.model_dump(mode="json", exclude=set(secret_names(spec)))
        private = reaches_private(spec, config)
        content: dict[str, Json] = {"connection": name, "connector": connector, "settings": plain}
        subject = f"connection:{name}"
        if private:
            what = f"connection {name} would reach a private network"
            self._dual.ask(ApprovalKind.PRIVATE, subject, content, actor, what)
        with self._database.begin() as session:
            self._refuse_taken(session, name)
            if private:
                self._dual.use(session, ApprovalKind.PRIVATE, subject, content, actor)
            self._put_secrets(session, name, secrets)
            row = store.ConnectionRow(
                name=name,
                connector=connector,
                settings=plain,
                secrets=sorted(secrets),
                mac=self.credentials.mac(name, connector, plain, sorted(secrets)),
                paused=False,
                created_by=actor_of(actor),
                created_at=self._database.now(session),
            )
            session.add(row)
            detail: dict[str, Json] = {"connector": connector, "settings": plain, "secrets": sorted(secrets)}
            self._record(session, actor, Action.CONNECTION_CREATE, name, detail=detail)
            return _connection(row)

    def put_secrets(self, name: str, secrets: Mapping[str, Secret | Reference], actor: Actor) -> None:
        """New versions of some secrets of a connection, say after a password was changed at the far side.

        A process that opens none seals them to the lease broker, which takes them in within seconds.
        """
        if not self._here:
            self.seal_secrets(name, secrets, actor)
            return
        with self._database.begin() as session:
            row = self._row(session, name)
            check_names(self.catalogue.spec(row.connector), (), secrets)
            self._put_secrets(session, name, secrets)
            store.forget_token(session, name)
            retire(session, self._database, name)
            row.secrets = sorted({*row.secrets, *secrets})
            row.mac = self.credentials.mac(name, row.connector, row.settings, row.secrets)
            self._record(session, actor, Action.SECRET_PUT, name, detail={"secrets": sorted(secrets)})
        self.leases.drop(name)

    def seal_secrets(self, name: str, secrets: Mapping[str, Secret | Reference], actor: Actor) -> None:
        """As `put_secrets`, for whoever must not be able to open them: nothing in this process can do that afterwards.

        Where the lease broker is this process, it takes them in at once.
        """
        check_names(self.catalogue.spec(self.get(name).connector), (), secrets)
        if self._here:
            own_key(self._database, self._keys)
        offer(self._database, self._keys, self._audit, name, secrets, actor)
        if self._here:
            self.take_in()

    def take_in(self) -> int:
        """Stores what was sealed to the lease broker; how many secrets that were. For the broker's process."""

        def put(name: str, secrets: Mapping[str, Secret | Reference], actor: str) -> None:
            kind, _, who = actor.partition(":")
            try:
                self.put_secrets(name, secrets, Actor(ActorKind(kind), who))
            except ConnectionsError as error:  # it was removed meanwhile
                raise AccessError(str(error)) from None

        return take_in(self._database, self._keys, self._audit, put)

    def get(self, name: str) -> Connection:
        """One connection. UnknownConnectionError names the nearest one."""
        with self._database.read() as session:
            return _connection(self._row(session, name))

    def list(self) -> list[Connection]:
        """All connections by name."""
        with self._database.read() as session:
            return [_connection(each) for each in store.connections(session)]

    def check(self, name: str, actor: Actor = SYSTEM, context: Context | None = None) -> CheckReport:
        """Logs in and tells identity and rights; also of a paused connection. Both ends are recorded."""
        try:
            with self._opened(name, context or Context()) as (connector, held):
                report = GuardedConnection(name, connector, Grant(), held.check).check()
        except ConnectorError as error:
            self._note_check(name, actor, Outcome.FAILED, {"error": type(error).__name__})
            raise
        detail = {"identity": report.identity, "product": report.product, "missing": list(report.missing)}
        self._note_check(name, actor, Outcome.DONE, detail)
        return report

    def verify(self, name: str, grant: Grant) -> RightsReport:
        """What the connection's login holds over there, held against a grant; also of a paused connection."""
        with self._opened(name, Context(), grant) as (connector, held):
            return GuardedConnection(name, connector, grant, held.check).verify()

    def _note_check(self, name: str, actor: Actor, outcome: Outcome, detail: Mapping[str, Json]) -> None:
        with self._database.begin() as session:
            self._record(session, actor, Action.CONNECTION_CHECK, name, outcome, detail)

    def _note_untrusted(self, name: str, host: str) -> None:
        with self._database.begin() as session:
            self._record(session, SYSTEM, Action.CONNECTION_UNTRUSTED, name, Outcome.FAILED, {"host": host})

    def entities(
        self, name: str, names: Collection[str] | None = None, *, tally: Tally | None = None
    ) -> Sequence[Entity]:
        """What the connection can read and write, asked of the far side; with `names` these entities alone.

        `tally` is told what had to be put up with.
        """
        with self._opened(name, Context(tally=tally or Tally())) as (connector, held):
            return GuardedConnection(name, connector, Grant(), held.check).entities(names)

    def tells(self, name: str) -> bool:
        """Whether the connection tells of changes as they happen; asked of it only where its connector can at all."""
        if "live" not in self.catalogue.spec(self.get(name).connector).roles:
            return False
        with self._opened(name, Context()) as (connector, held):
            return GuardedConnection(name, connector, Grant(), held.check).live() is not None

    def page_rows(self, name: str, most: int) -> int:
        """Records in one page of this connection: `most`, or fewer where its connector's limits say so."""
        return min(most, self.catalogue.spec(self.get(name).connector).limits.page_rows)

    def remove(self, name: str, actor: Actor) -> None:
        """Forgets the connection and destroys its secrets."""
        with self._database.begin() as session:
            row = self._row(session, name)
            for each in row.secrets:
                self._vault.destroy_secret(session, secret_name(name, each))
            session.delete(row)
            store.forget_shared(session, name)
            retire(session, self._database, name, slices=True)
            self._record(session, actor, Action.CONNECTION_REMOVE, name)
        self.leases.drop(name)

    def pause(self, name: str, actor: Actor) -> None:
        """Nothing opens the connection until it is resumed; what is open goes on to the end of its page."""
        self._set_paused(name, actor, paused=True)

    def resume(self, name: str, actor: Actor) -> None:
        """The connection may be opened again."""
        self._set_paused(name, actor, paused=False)

    def refuse_paused(self, name: str) -> None:
        """PausedConnectionError where the connection is paused."""
        if self.get(name).paused:
            raise PausedConnectionError(f"connection {name} is paused; resume it with hub connections resume {name}")

    @contextmanager
    def open(
        self, name: str, grant: Grant, context: Context | None = None, holder: Holder | None = None
    ) -> Iterator[GuardedConnection]:
        """The connection behind its guard, closed at the end of the block. PausedConnectionError where it is paused.

        It is opened under a lease: for the slice in the hands of `holder`, or for the requests of this process.
        """
        self.refuse_paused(name)
        with self._opened(name, context or Context(), grant, holder) as (connector, held):
            yield GuardedConnection(name, connector, grant, held.check)

    @contextmanager
    def _opened(
        self, name: str, context: Context, grant: Grant | None = None, holder: Holder | None = None
    ) -> Iterator[tuple[Connector, Held]]:
        with self.leases.hold(name, grant or Grant(), holder) as held:
            given = held.credential
            spec = self.catalogue.spec(given.connector)
            shared = self._shared.setdefault(name, DatabaseShared(self._database, self._keys, name))
            context.distrusted = partial(self._note_untrusted, name)
            context.shared = leased(shared, self.leases, held, context) if given.minted else shared
            with around("open"):
                connector = self.catalogue.make(spec, make_config(spec, given.settings, given.secrets), context)
            try:
                yield connector, held
            finally:
                with around("close"):
                    connector.close()

    def _row(self, session: Session, name: str) -> store.ConnectionRow:
        row = store.connection(session, name)
        if row is None:
            raise UnknownConnectionError(f"there is no connection {name}{nearest(name, store.names(session))}")
        return row

    def _refuse_taken(self, session: Session, name: str) -> None:
        if store.connection(session, name) is not None:
            raise InvalidConnectionError(f"there is a connection {name} already; choose another name")

    def _put_secrets(self, session: Session, name: str, secrets: Mapping[str, Secret | Reference]) -> None:
        for each, secret in secrets.items():
            self._vault.put_secret(session, secret_name(name, each), secret)

    def _set_paused(self, name: str, actor: Actor, *, paused: bool) -> None:
        with self._database.begin() as session:
            self._row(session, name).paused = paused
            self._record(session, actor, Action.CONNECTION_PAUSE if paused else Action.CONNECTION_RESUME, name)

    def _record(
        self,
        session: Session,
        actor: Caller | Actor,
        action: Action,
        name: str,
        outcome: Outcome = Outcome.DONE,
        detail: Mapping[str, Json] | None = None,
    ) -> None:
        self._audit.record(session, Event(actor_of(actor), action, f"connection:{name}", outcome, detail=detail or {}))


def _connection(row: store.ConnectionRow) -> Connection:
    return Connection(
        name=row.name,
        connector=row.connector,
        settings=row.settings,
        secrets=tuple(row.secrets),
        paused=row.paused,
        created_by=row.created_by,
        created_at=row.created_at,
    )
