"""What anybody may seal to the lease broker and the broker alone opens: HPKE (RFC 9180), for whoever must hold no key.

X25519, HKDF-SHA-256 and AES-256-GCM; `info` binds a value to the one setting of the one connection it is for.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy.orm import Session

from hub.access.leases import store
from hub.access.references import Reference
from hub.access.types import AccessError, Actor, VaultError
from hub.access.vault import MAX_SECRET_BYTES
from hub.audit import Action, AuditLog, Event, Outcome
from hub.database import Database
from hub.keys import KeyRing, SealedError, canonical
from hub.sdk import Json, Secret

FORMAT = b"hp1"
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
PURPOSE = "sealing-key"
"""Of the keyed digest over the public half."""
MOST = 50
"""Values taken in at a time."""

Put = Callable[[str, Mapping[str, Secret | Reference], str], None]
"""Stores secrets of a connection for an actor."""


def seal_to(public: bytes, plain: bytes, info: Mapping[str, str]) -> bytes:
    """The value, sealed to the holder of the private half; whoever sealed it cannot open it."""
    key = X25519PublicKey.from_public_bytes(public)
    return FORMAT + SUITE.encrypt(plain, key, info=canonical({"format": FORMAT.decode(), **info}))


class SealingKey:
    """The private half, opened; the broker's alone."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private

    def __repr__(self) -> str:
        return "SealingKey(…)"

    def __reduce__(self) -> str:
        raise TypeError("a sealing key is neither copied nor pickled")

    def open(self, sealed: bytes, info: Mapping[str, str]) -> bytes:
        """The value. SealedError where a bit, the key or what it is for differs."""
        if not sealed.startswith(FORMAT):
            raise SealedError("a value was sealed in a form that this version does not know")
        try:
            bound = canonical({"format": FORMAT.decode(), **info})
            return SUITE.decrypt(sealed[len(FORMAT) :], self._private, info=bound)
        except (InvalidTag, ValueError):
            raise SealedError("a sealed value was altered, moved, or sealed to another key") from None


def open_sealing_key(session: Session, keys: KeyRing) -> SealingKey:
    """The key of this installation; made in the session's transaction where there is none yet."""
    found = store.sealing_key(session)
    if found is None:
        made = X25519PrivateKey.generate()
        public = made.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        plain = made.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        sealed = keys.seal(plain, key_identity(public))
        store.add_sealing_key(session, store.StoredKey(public, keys.mac(PURPOSE, public), sealed))
        found = store.sealing_key(session)
        assert found is not None
    return SealingKey(X25519PrivateKey.from_private_bytes(keys.open(found.sealed, key_identity(found.public))))


def offer(
    database: Database,
    keys: KeyRing,
    audit: AuditLog,
    connection: str,
    secrets: Mapping[str, Secret | Reference],
    actor: Actor,
) -> None:
    """Seals secrets of a connection to the broker, which takes them in soon.

    AccessError where it has made no key, or where another stands in that one's place.
    """
    with database.read() as session:
        found = store.sealing_key(session)
    if found is None:
        raise AccessError("the lease broker has not made its key yet; start `hub broker` once")
    if not hmac.compare_digest(found.mac, keys.mac(PURPOSE, found.public)):
        raise AccessError("the key that secrets are sealed to was replaced where it is stored; nothing was sealed")
    with database.begin() as session:
        for name, secret in secrets.items():
            plain = json.dumps(_told(secret)).encode()
            if not 1 <= len(plain) <= MAX_SECRET_BYTES or (isinstance(secret, Secret) and not secret):
                raise VaultError(f"secret {name} is empty or has more than {MAX_SECRET_BYTES} bytes")
            store.add_offer(
                session, connection, name, seal_to(found.public, plain, _bound_to(connection, name)), str(actor)
            )
        detail: dict[str, Json] = {"secrets": sorted(secrets), "sealed": True}
        event = Event(str(actor), Action.SECRET_PUT, f"connection:{connection}", Outcome.STARTED, detail=detail)
        audit.record(session, event)


def take_in(database: Database, keys: KeyRing, audit: AuditLog, put: Put) -> int:
    """Opens what was sealed to the broker and stores it, in the order it came; how many values there were.

    What does not open, or fits no connection, is dropped with an event: nobody can mend it.
    """
    with database.read() as session:
        offers = [
            (each.id, each.connection, each.name, each.sealed, each.actor) for each in store.offers(session, MOST)
        ]
    if not offers:
        return 0
    key = own_key(database, keys)
    for number, connection, name, sealed, actor in offers:
        why = None
        try:
            put(connection, {name: _given(key.open(sealed, _bound_to(connection, name)))}, actor)
        except (SealedError, AccessError, ValueError, KeyError) as error:
            why = type(error).__name__
        _settle(database, audit, (number, connection, name, actor), why)
    return len(offers)


def own_key(database: Database, keys: KeyRing) -> SealingKey:
    """The key of this installation, made where there is none yet."""
    with database.begin() as session:
        return open_sealing_key(session, keys)


def _settle(database: Database, audit: AuditLog, offered: tuple[int, str, str, str], why: str | None) -> None:
    """An offer that was taken in, or never will be, with an event that says why not."""
    number, connection, name, actor = offered
    with database.begin() as session:
        store.drop_offer(session, number)
        if why is not None:
            told = {"name": name, "why": why}
            event = Event(actor, Action.SECRET_PUT, f"connection:{connection}", Outcome.FAILED, detail=told)
            audit.record(session, event)


def key_identity(public: bytes) -> dict[str, str]:
    """What the sealed private half is bound to."""
    return {"kind": "sealing-key", "public": public.hex()}


def _bound_to(connection: str, name: str) -> dict[str, str]:
    return {"purpose": "secret", "connection": connection, "name": name}


def _told(secret: Secret | Reference) -> dict[str, str]:
    return {"secret": secret.reveal()} if isinstance(secret, Secret) else {"reference": str(secret)}


def _given(plain: bytes) -> Secret | Reference:
    raw = json.loads(plain)
    if "secret" in raw:
        return Secret(raw["secret"])
    reference = Reference.parse(raw["reference"])
    if reference is None:
        raise ValueError("no reference")
    return reference
