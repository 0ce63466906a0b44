"""The connections of one installation: made, looked at, checked, paused, opened behind the guard."""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy.orm import Session

from hub.access import Actor, ActorKind, Reference, Vault
from hub.audit import Action, AuditLog, Event, Outcome
from hub.connections import store
from hub.connections.catalogue import Catalogue, check_names, make_config, secret_names
from hub.connections.guard import GuardedConnection
from hub.connections.shared import DatabaseShared
from hub.connections.types import (
    Connection,
    InvalidConnectionError,
    PausedConnectionError,
    UnknownConnectionError,
    nearest,
)
from hub.database import Database
from hub.faults import around
from hub.keys import KeyRing, canonical
from hub.sdk import CheckReport, Connector, ConnectorError, Context, Entity, Grant, Json, Secret

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
    ) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit
        self._vault = vault
        self.catalogue = catalogue or Catalogue()
        self._shared: dict[str, DatabaseShared] = {}

    def create(
        self,
        name: str,
        connector: str,
        settings: Mapping[str, Json],
        secrets: Mapping[str, Secret | Reference],
        actor: Actor,
    ) -> Connection:
        """A new connection. InvalidConnectionError names the setting that is wrong; nothing is stored then."""
        if not NAME.fullmatch(name):
            raise InvalidConnectionError(
                f"name: a connection is named in lower-case letters, digits and _, not {name!r}"
            )
        spec = self.catalogue.spec(connector)
        check_names(spec, settings, secrets)
        with self._database.begin() as session:
            if store.connection(session, name) is not None:
                raise InvalidConnectionError(f"there is a connection {name} already; choose another name")
            self._put_secrets(session, name, secrets)
            config = make_config(spec, settings, self._secrets(session, name, sorted(secrets)))
            # Stored as the connector understood it, so that a default that changes later changes nothing here.
            plain = config.model_dump(mode="json", exclude=set(secret_names(spec)))
            row = store.ConnectionRow(
                name=name,
                connector=connector,
                settings=plain,
                secrets=sorted(secrets),
                mac=self._mac(name, connector, plain, sorted(secrets)),
                paused=False,
                created_by=str(actor),
                created_at=self._database.now(session),
            )
            session.add(row)
            detail: dict[str, Json] = {"connector": connector, "settings": plain, "secrets": sorted(secrets)}
            self._record(session, actor, Action.CONNECTION_CREATE, name, detail=detail)
            return _connection(row)

    def put_secrets(self, name: str, secrets: Mapping[str, Secret | Reference], actor: Actor) -> None:
        """New versions of some secrets of a connection, say after a password was changed at the far side."""
        with self._database.begin() as session:
            row = self._row(session, name)
            check_names(self.catalogue.spec(row.connector), (), secrets)
            self._put_secrets(session, name, secrets)
            store.forget_token(session, name)
            row.secrets = sorted({*row.secrets, *secrets})
            row.mac = self._mac(name, row.connector, row.settings, row.secrets)
            self._record(session, actor, Action.SECRET_PUT, name, detail={"secrets": sorted(secrets)})

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
            with self._opened(name, context or Context()) as connector:
                report = GuardedConnection(name, connector, Grant()).check()
        except ConnectorError as error:
            self._note_check(name, actor, Outcome.FAILED, {"error": type(error).__name__})
            raise
        detail = {"identity": report.identity, "product": report.product, "missing": list(report.missing)}
        self._note_check(name, actor, Outcome.DONE, detail)
        return report

    def _note_check(self, name: str, actor: Actor, outcome: Outcome, detail: Mapping[str, Json]) -> None:
        with self._database.begin() as session:
            self._record(session, actor, Action.CONNECTION_CHECK, name, outcome, detail)

    def entities(self, name: str, names: Collection[str] | None = None) -> Sequence[Entity]:
        """What the connection can read and write, asked of the far side; with `names` these entities alone."""
        with self._opened(name, Context()) as connector:
            return GuardedConnection(name, connector, Grant()).entities(names)

    def tells(self, name: str) -> bool:
        """Whether the connection tells of changes as they happen; asked of it only where its connector can at all."""
        if "live" not in self.catalogue.spec(self.get(name).connector).roles:
            return False
        with self._opened(name, Context()) as connector:
            return GuardedConnection(name, connector, Grant()).live() is not None

    def remove(self, name: str, actor: Actor) -> None:
        """Forgets the connection and destroys its secrets."""
        with self._database.begin() as session:
            row = self._row(session, name)
            for each in row.secrets:
                self._vault.destroy_secret(session, _secret_name(name, each))
            session.delete(row)
            store.forget_shared(session, name)
            self._record(session, actor, Action.CONNECTION_REMOVE, name)

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
    def open(self, name: str, grant: Grant, context: Context | None = None) -> Iterator[GuardedConnection]:
        """The connection behind its guard, closed at the end of the block. PausedConnectionError where it is paused."""
        self.refuse_paused(name)
        with self._opened(name, context or Context()) as connector:
            yield GuardedConnection(name, connector, grant)

    @contextmanager
    def _opened(self, name: str, context: Context) -> Iterator[Connector]:
        with self._database.read() as session:
            row = self._row(session, name)
            if not hmac.compare_digest(row.mac, self._mac(name, row.connector, row.settings, row.secrets)):
                raise InvalidConnectionError(f"the stored settings of connection {name} were altered; create it anew")
            secrets = self._secrets(session, name, row.secrets)
        spec = self.catalogue.spec(row.connector)
        context.shared = self._shared.setdefault(name, DatabaseShared(self._database, self._keys, name))
        with around("open"):
            connector = self.catalogue.make(spec, make_config(spec, row.settings, secrets), context)
        try:
            yield connector
        finally:
            with around("close"):
                connector.close()

    def _row(self, session: Session, name: str) -> store.ConnectionRow:
        row = store.connection(session, name)
        if row is None:
            raise UnknownConnectionError(f"there is no connection {name}{nearest(name, store.names(session))}")
        return row

    def _put_secrets(self, session: Session, name: str, secrets: Mapping[str, Secret | Reference]) -> None:
        for each, secret in secrets.items():
            self._vault.put_secret(session, _secret_name(name, each), secret)

    def _secrets(self, session: Session, name: str, names: Sequence[str]) -> dict[str, Secret]:
        return {each: self._vault.open_secret(session, _secret_name(name, each)) for each in names}

    def _set_paused(self, name: str, actor: Actor, *, paused: bool) -> None:
        with self._database.begin() as session:
            self._row(session, name).paused = paused
            self._record(session, actor, Action.CONNECTION_PAUSE if paused else Action.CONNECTION_RESUME, name)

    def _record(
        self,
        session: Session,
        actor: Actor,
        action: Action,
        name: str,
        outcome: Outcome = Outcome.DONE,
        detail: Mapping[str, Json] | None = None,
    ) -> None:
        self._audit.record(session, Event(str(actor), action, f"connection:{name}", outcome, detail=detail or {}))

    def _mac(self, name: str, connector: str, settings: Mapping[str, Json], secrets: Sequence[str]) -> bytes:
        bound = canonical({"name": name, "connector": connector, "settings": settings, "secrets": secrets})
        return self._keys.mac("connection", bound)


def _secret_name(connection: str, name: str) -> str:
    return f"connection/{connection}/{name}"


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
