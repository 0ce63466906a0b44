"""The key ring: seals and opens values, and makes keyed digests, under the one key of this installation."""

from __future__ import annotations

import hmac
import os
import threading
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy.orm import Session

from hub.database import Database
from hub.keys.envelope import open_sealed, parse, rewrap, seal
from hub.keys.file import FileKek
from hub.keys.store import add_root, load_root, replace_root
from hub.keys.types import KekProvider, KeyringError, SealedError
from hub.settings import Settings

ROOT_IDENTITY = {"kind": "root", "format": "1"}


class KeyRing:
    """Seals under a fresh key per value; digests under keys derived from a root that rotation does not change.

    Safe to share between threads. `identity` says what a value is and where it belongs (table, row, kind); it is not
    stored, so that a value opens only where the same identity is given.
    """

    def __init__(self, kek: KekProvider, root: bytes) -> None:
        self._kek = kek
        self._root = root
        self._derived: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"KeyRing({self._kek.id}, version {self._kek.version})"

    @property
    def version(self) -> int:
        """The version of the key-encryption key that seals now."""
        return self._kek.version

    def seal(self, plain: bytes, identity: Mapping[str, str]) -> bytes:
        """The value, encrypted and bound to its identity."""
        return seal(self._kek, plain, identity)

    def open(self, sealed: bytes, identity: Mapping[str, str]) -> bytes:
        """The value. SealedError where one bit, the identity or the key differs."""
        return open_sealed(self._kek, sealed, identity)

    def rewrap(self, sealed: bytes, identity: Mapping[str, str]) -> bytes:
        """The sealed value under the current version of the key; the same bytes where it is so already."""
        return sealed if parse(sealed).kek_version == self._kek.version else rewrap(self._kek, sealed, identity)

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


def open_ring(settings: Settings, database: Database) -> KeyRing:
    """The key ring of this installation; makes the key at the very first start, and only then.

    KeyringError where the key is missing, unsafe, or not the one this database was sealed under.
    """
    with database.read() as session:
        sealed = load_root(session)
    if sealed is None:
        kek = FileKek.load(settings.key_file) if settings.key_file.exists() else FileKek.create(settings.key_file)
        sealed = _store_root(kek, database)
    else:
        kek = FileKek.load(settings.key_file)
    return KeyRing(kek, _open_root(kek, sealed, settings))


def rotate(
    settings: Settings, database: Database, beside: Callable[[Session, int], object] = lambda _session, _version: None
) -> KeyRing:
    """Adds a version of the key that seals from now on; what was sealed before still opens.

    What `beside` does with the new version's number belongs to the same transaction.
    """
    open_ring(settings, database)
    kek = FileKek.load(settings.key_file).renew()
    with database.begin() as session:
        sealed = load_root(session)
        assert sealed is not None
        replace_root(session, rewrap(kek, sealed, ROOT_IDENTITY))
        beside(session, kek.version)
    return open_ring(settings, database)


def _store_root(kek: FileKek, database: Database) -> bytes:
    with database.begin() as session:
        add_root(session, seal(kek, os.urandom(32), ROOT_IDENTITY))
        stored = load_root(session)
    assert stored is not None
    return stored


def _open_root(kek: FileKek, sealed: bytes, settings: Settings) -> bytes:
    try:
        return open_sealed(kek, sealed, ROOT_IDENTITY)
    except SealedError as error:
        raise KeyringError(
            f"the key in {settings.key_file} is not the one this database was sealed under ({error}); "
            "put the right key file back, nothing was changed"
        ) from None
