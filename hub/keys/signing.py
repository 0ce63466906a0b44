"""Keys that sign what leaves the hub: Ed25519, one per purpose, sealed under the key-encryption key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy.orm import Session

from hub.keys.ring import KeyRing
from hub.keys.store import add_signing_key, load_signing_key, replace_signing_key


class Signer(Protocol):
    """Signs; the private key stays where it is."""

    @property
    def public(self) -> bytes:
        """The 32 bytes that verify."""
        ...

    def sign(self, message: bytes) -> bytes:
        """64 bytes of Ed25519 (RFC 8032)."""
        ...


@dataclass(frozen=True, repr=False)
class SigningKey:
    """One Ed25519 key, opened."""

    public: bytes
    _private: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.public.hex()[:16]}…)"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is neither copied nor pickled")

    def sign(self, message: bytes) -> bytes:
        """64 bytes of Ed25519 (RFC 8032)."""
        return self._private.sign(message)


def open_signing_key(session: Session, keys: KeyRing, purpose: str) -> SigningKey:
    """The signing key of a purpose; made in the session's transaction where there is none yet.

    SealedError where it was altered, or belongs to another purpose or another key ring.
    """
    stored = load_signing_key(session, purpose)
    if stored is None:
        made = Ed25519PrivateKey.generate()
        public = made.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        plain = made.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        add_signing_key(session, purpose, public, keys.seal(plain, _identity(purpose, public)))
        stored = load_signing_key(session, purpose)
        assert stored is not None
    public, sealed = stored
    return SigningKey(public, Ed25519PrivateKey.from_private_bytes(keys.open(sealed, _identity(purpose, public))))


def renew_signing_key(session: Session, keys: KeyRing, purpose: str) -> tuple[SigningKey, SigningKey]:
    """The old and the new signing key of a purpose; the new one is in its place when the transaction commits.

    The old private half is forgotten with it: what it signed verifies by its public half, which the caller keeps.
    """
    old = open_signing_key(session, keys, purpose)
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    plain = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    replace_signing_key(session, purpose, public, keys.seal(plain, _identity(purpose, public)))
    return old, SigningKey(public, private)


def public_key(session: Session, purpose: str) -> bytes | None:
    """The public half of a purpose's key; None before it first signed."""
    stored = load_signing_key(session, purpose)
    return None if stored is None else stored[0]


def _identity(purpose: str, public: bytes) -> dict[str, str]:
    return {"kind": "signing-key", "purpose": purpose, "public": public.hex()}
