"""What a connection is opened with, told to the lease broker alone: verified settings, secrets or minted tokens."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256

from sqlalchemy.orm import Session

from hub.access import Vault
from hub.access.leases import Credential
from hub.connections import store
from hub.connections.catalogue import Catalogue, make_config
from hub.connections.shared import DatabaseShared
from hub.connections.types import InvalidConnectionError, UnknownConnectionError, nearest
from hub.database import Database
from hub.keys import KeyRing, canonical
from hub.sdk import Context, Grant, Json, Secret, Token


class Vaulted:
    """`hub.access.leases.Credentials` over the vault; safe to share between threads."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        vault: Vault,
        catalogue: Catalogue,
        distrusted: Callable[[str, str], None] = lambda _connection, _host: None,
    ) -> None:
        """`distrusted` is told of a connection whose far side did not prove who it is when a token was asked for."""
        self._distrusted = distrusted
        self._database = database
        self._keys = keys
        self._vault = vault
        self._catalogue = catalogue
        self._shared: dict[str, DatabaseShared] = {}

    def credential(self, session: Session, connection: str) -> Credential:
        """As `Credentials.credential`. InvalidConnectionError where what is stored was altered."""
        row = self._row(session, connection)
        if self._catalogue.spec(row.connector).minter is None:
            return Credential(row.connector, row.settings, self._secrets(session, row), minted=False)
        withheld = {each: Secret.withheld() for each in row.secrets}
        return Credential(row.connector, row.settings, withheld, minted=True)

    def token(self, connection: str, grant: Grant, refused: str | None, seconds: float | None) -> Token:
        """As `Credentials.token`: minted once for all workers whose work asks for the same scopes."""
        with self._database.read() as session:
            row = self._row(session, connection)
        spec = self._catalogue.spec(row.connector)
        minter = self._catalogue.minter(spec)
        plain = make_config(spec, row.settings, {each: Secret.withheld() for each in row.secrets})
        shared = self._tokens(connection, tuple(minter.scopes(plain, grant)))

        def mint() -> Token:
            with self._database.read() as session:
                secrets = self._secrets(session, self._row(session, connection))
            own = self._tokens(connection, ())
            context = Context(shared=own, distrusted=partial(self._distrusted, connection))
            context.deadline = None if seconds is None else context.clock.monotonic() + seconds
            try:
                return minter.mint(make_config(spec, row.settings, secrets), grant, context)
            finally:
                for each in secrets.values():
                    each.forget()

        found = shared.token(mint)
        if refused is not None and hmac.compare_digest(digest_of(found), refused):
            found = shared.token(mint, refused=found)
        return found

    def mac(self, name: str, connector: str, settings: Mapping[str, Json], secrets: Sequence[str]) -> bytes:
        """The keyed digest that binds what a connection is."""
        bound = canonical({"name": name, "connector": connector, "settings": settings, "secrets": secrets})
        return self._keys.mac("connection", bound)

    def _row(self, session: Session, name: str) -> store.ConnectionRow:
        row = store.connection(session, name)
        if row is None:
            raise UnknownConnectionError(f"there is no connection {name}{nearest(name, store.names(session))}")
        if not hmac.compare_digest(row.mac, self.mac(name, row.connector, row.settings, row.secrets)):
            raise InvalidConnectionError(f"the stored settings of connection {name} were altered; create it anew")
        return row

    def _secrets(self, session: Session, row: store.ConnectionRow) -> dict[str, Secret]:
        return {each: self._vault.open_secret(session, secret_name(row.name, each)) for each in row.secrets}

    def _tokens(self, connection: str, scopes: tuple[str, ...]) -> DatabaseShared:
        """What the tokens of some scopes share; without any it is what the workers of the connection share anyway."""
        name = connection if not scopes else f"{connection}/{sha256(canonical(list(scopes))).hexdigest()[:16]}"
        return self._shared.setdefault(name, DatabaseShared(self._database, self._keys, name))


def digest_of(token: Token) -> str:
    """By which a token is told from others: the SHA-256 of its value, in hex."""
    return sha256(token.value.reveal().encode()).hexdigest()


def secret_name(connection: str, name: str) -> str:
    """What a secret of a connection is called in the vault."""
    return f"connection/{connection}/{name}"
