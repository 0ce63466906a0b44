"""The key ring: seals and opens values, and makes keyed digests, under the one key of this installation."""

from __future__ import annotations

import hmac
import os
import threading
import time
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy.exc import DBAPIError

from hub.database import Database
from hub.keys.envelope import MAGIC, Envelope, open_envelope, parse, rewrap, seal
from hub.keys.providers import open_provider
from hub.keys.providers.working import LOOK_SECONDS, WorkingKek, working_identity
from hub.keys.store import ROOT_IDENTITY, Root, add_root, holds_sealed_values, load_root
from hub.keys.types import KekProvider, KeyringError, SealedError
from hub.sdk import ConnectorError
from hub.settings import Settings


class Floors:
    """The least versions of the key-encryption keys that may be used, as of half a minute ago."""

    def __init__(self, database: Database, floors: Mapping[str, int]) -> None:
        self._database = database
        self._floors = floors
        self._looked = time.monotonic()

    def of(self, kek_id: str) -> int:
        """The floor of one key; 0 where none was raised."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self.look()
        return self._floors.get(kek_id, 0)

    def look(self) -> None:
        """Asks the database now."""
        self._looked = time.monotonic()
        try:
            with self._database.read() as session:
                root = load_root(session)
        except DBAPIError:
            return  # what holds without the database needs it the next moment, and fails there
        if root is not None:
            self._floors = root.floors


class KeyRing:
    """Seals under a fresh key per value; digests under keys derived from a root that rotation does not change.

    Safe to share between threads. `identity` says what a value is and where it belongs (table, row, kind); it is not
    stored, so that a value opens only where the same identity is given. `directly` is for secrets: their data keys are
    wrapped by the key-encryption key itself, those of other values by a working key that it wraps.
    """

    def __init__(
        self,
        kek: KekProvider,
        root: bytes,
        *,
        working: KekProvider | None = None,
        others: Sequence[KekProvider] = (),
        floors: Floors | None = None,
    ) -> None:
        self._kek = kek
        self._root = root
        self._working = working or kek
        self._outer = {each.id: each for each in (*others, kek)}
        self._floors = floors
        self._derived: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"KeyRing({self._kek.id})"

    def __reduce__(self) -> str:
        raise TypeError("a key ring is neither copied nor pickled")

    @property
    def kek(self) -> KekProvider:
        """The key-encryption key in use."""
        return self._kek

    @property
    def version(self) -> int:
        """The version of the key-encryption key that wraps now."""
        return self._kek.version

    def seal(self, plain: bytes, identity: Mapping[str, str], *, directly: bool = False) -> bytes:
        """The value, encrypted and bound to its identity.

        With `directly`, KeyringError where the version that this process wraps with was withdrawn: it was started with
        a key that leaked, or that nothing opens any more.
        """
        sealed = seal(self._kek if directly else self._working, plain, identity)
        if directly and self._withdrawn(version := parse(sealed).kek_version, self._kek):
            raise KeyringError(
                f"version {version} of {self._kek.place} was withdrawn; start this process with the new one"
            )
        return sealed

    def open(self, sealed: bytes, identity: Mapping[str, str], *, directly: bool = False) -> bytes:
        """The value. SealedError where one bit, the identity or the key differs.

        With `directly`, what a mere working key wraps is refused: whoever holds that makes no secret.
        """
        parts = parse(sealed)
        if parts.kek_id == self._working.id and not (directly and self._working is not self._kek):
            return open_envelope(self._working, parts, identity)
        kek = self._outer.get(parts.kek_id, self._kek)
        if self._withdrawn(parts.kek_version, kek):
            raise SealedError(
                f"sealed under version {parts.kek_version} of key {kek.id}, which was withdrawn; "
                "`hub keys rewrap` moves what the hub itself has sealed"
            )
        return open_envelope(kek, parts, identity)

    def stale(self, sealed: bytes, version: int) -> bool:
        """Whether a value that is sealed directly is not under that version of the key in use."""
        parts = parse(sealed)
        return (parts.kek_id, parts.kek_version) != (self._kek.id, version)

    def rewrap(self, sealed: bytes, identity: Mapping[str, str]) -> bytes:
        """The value under the current version of the key that wraps it; a floor does not stand in the way of that."""
        parts = parse(sealed)
        if parts.kek_id == self._working.id:
            return rewrap(self._working, self._working, parts, identity)
        return rewrap(self._of(parts), self._kek, parts, identity)

    def mac(self, purpose: str, message: bytes) -> bytes:
        """HMAC-SHA-256 of the message under the key of this purpose; stays the same when the key is rotated."""
        return hmac.digest(self._derived.get(purpose) or self.derive(purpose), message, "sha256")

    def derive(self, purpose: str) -> bytes:
        """The 32-byte key of one purpose (HKDF-SHA-256); keys of different purposes tell nothing of each other."""
        with self._lock:
            if purpose not in self._derived:
                kdf = HKDF(SHA256(), 32, salt=None, info=b"hub.keys.derive\x00" + purpose.encode())
                self._derived[purpose] = kdf.derive(self._root)
            return self._derived[purpose]

    def _withdrawn(self, version: int, kek: KekProvider) -> bool:
        return self._floors is not None and version < self._floors.of(kek.id)

    def _of(self, parts: Envelope) -> KekProvider:
        return self._outer.get(parts.kek_id, self._kek)


def open_ring(settings: Settings, database: Database) -> KeyRing:
    """The key ring of this installation; makes the key at the very first start, and only then.

    KeyringError where the key is missing, unsafe, withdrawn, or not the one this database was sealed under.
    """
    try:
        return _opened(settings, database)
    except ConnectorError as error:
        raise KeyringError(f"the key-encryption key cannot be used: {error.message}; nothing was changed") from error


def _opened(settings: Settings, database: Database) -> KeyRing:
    with database.read() as session:
        root = load_root(session)
        found = holds_sealed_values(session, MAGIC) if root is None else None
    if found is not None:
        raise KeyringError(
            f"the table {found} holds sealed values, but the root that their key opens is gone; "
            "put the database back from a backup, no new key is made"
        )
    kek = open_provider(settings, settings.kek, first=root is None)
    others = [open_provider(settings, settings.kek_before, first=False)] if settings.kek_before else []
    keks = {each.id: each for each in (*others, kek)}
    version = kek.version  # asked before anything is stored: a service may say that its key is of no use
    if root is None:
        root = _first(kek, database)
    if version < root.floors.get(kek.id, 0):
        raise KeyringError(
            f"version {version} of {kek.place} was withdrawn, version {root.floors[kek.id]} is the least that may "
            "be used; give this process the new one"
        )
    opened = _open_root(keks, root, kek)
    working = WorkingKek(database, keks)
    return KeyRing(kek, opened, working=working, others=others, floors=Floors(database, root.floors))


def _first(kek: KekProvider, database: Database) -> Root:
    with database.begin() as session:
        working = seal(kek, os.urandom(32), working_identity(1))
        add_root(session, seal(kek, os.urandom(32), ROOT_IDENTITY), working)
        stored = load_root(session)
    assert stored is not None
    return stored


def _open_root(keks: Mapping[str, KekProvider], root: Root, kek: KekProvider) -> bytes:
    try:
        parts = parse(root.sealed)
        return open_envelope(keks.get(parts.kek_id, kek), parts, ROOT_IDENTITY)
    except SealedError as error:
        raise KeyringError(
            f"{kek.place} is not the one this database was sealed under ({error}); "
            "put the right key back, nothing was changed"
        ) from None
