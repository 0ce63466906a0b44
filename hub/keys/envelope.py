"""The sealed form: a fresh data key per value, AES-256-GCM, and a header that says how to open it.

    "hk" | format 1 | algorithm 1 | length of id | kek id | kek version, 4 bytes | length of wrapped key, 2 bytes
    | wrapped key | nonce, 12 bytes | ciphertext and tag

The identity, the format and the algorithm are bound to the wrapped key and to the ciphertext, so that neither can be
moved. The version of the key is bound to the wrapped key alone: rotation wraps anew without touching the value.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.keys.canonical import canonical
from hub.keys.types import KekProvider, SealedError, Wrapped

MAGIC = b"hk"
FORMAT = 1
AES_256_GCM = 1
KEY_BYTES = 32
NONCE_BYTES = 12

_START = struct.Struct(">2sBBB")
_VERSION = struct.Struct(">I")
_LENGTH = struct.Struct(">H")


class Envelope(NamedTuple):
    """The parts of one sealed value."""

    kek_id: str
    wrapped: Wrapped
    nonce: bytes
    ciphertext: bytes

    @property
    def kek_version(self) -> int:
        """The version of the key-encryption key."""
        return self.wrapped.version


def seal(kek: KekProvider, plain: bytes, identity: Mapping[str, str]) -> bytes:
    """The value, sealed under a data key used once."""
    drawn = os.urandom(KEY_BYTES + NONCE_BYTES)
    key, nonce = drawn[:KEY_BYTES], drawn[KEY_BYTES:]
    ciphertext = AESGCM(key).encrypt(nonce, plain, _body_aad(identity))
    return _written(Envelope(kek.id, kek.wrap(key, _bound(identity)), nonce, ciphertext))


def open_envelope(kek: KekProvider, parts: Envelope, identity: Mapping[str, str]) -> bytes:
    """The value itself. SealedError where a bit, the identity or the key differs."""
    if parts.kek_id != kek.id:
        raise SealedError(f"sealed under key {parts.kek_id}, but the hub holds {kek.id}")
    key = kek.unwrap(parts.wrapped, _bound(identity))
    try:
        return AESGCM(key).decrypt(parts.nonce, parts.ciphertext, _body_aad(identity))
    except (InvalidTag, ValueError):
        raise SealedError("a sealed value was altered or stands in the wrong place") from None


def rewrap(old: KekProvider, kek: KekProvider, parts: Envelope, identity: Mapping[str, str]) -> bytes:
    """The same sealed value with its data key under the current version of `kek`; the value itself is not opened."""
    bound = _bound(identity)
    same = old.id == kek.id
    wrapped = kek.rewrap(parts.wrapped, bound) if same else kek.wrap(old.unwrap(parts.wrapped, bound), bound)
    return _written(parts._replace(kek_id=kek.id, wrapped=wrapped))


def parse(sealed: bytes) -> Envelope:
    """The parts of a sealed value, nothing opened yet. SealedError where it is none."""
    try:
        magic, form, algorithm, id_length = _START.unpack_from(sealed)
        at = _START.size + id_length
        kek_id = sealed[_START.size : at].decode("ascii")
        (version,) = _VERSION.unpack_from(sealed, at)
        (length,) = _LENGTH.unpack_from(sealed, at + _VERSION.size)
    except (struct.error, UnicodeDecodeError):
        raise SealedError("this is no sealed value") from None
    if magic != MAGIC:
        raise SealedError("this is no sealed value")
    if (form, algorithm) != (FORMAT, AES_256_GCM):
        raise SealedError(f"sealed in format {form} with algorithm {algorithm}, which this version does not know")
    start = at + _VERSION.size + _LENGTH.size
    end = start + length
    nonce_end = end + NONCE_BYTES
    return Envelope(kek_id, Wrapped(version, sealed[start:end]), sealed[end:nonce_end], sealed[nonce_end:])


def _written(parts: Envelope) -> bytes:
    name = parts.kek_id.encode("ascii")
    header = _START.pack(MAGIC, FORMAT, AES_256_GCM, len(name)) + name + _VERSION.pack(parts.kek_version)
    content = parts.wrapped.content
    return b"".join((header, _LENGTH.pack(len(content)), content, parts.nonce, parts.ciphertext))


def _bound(identity: Mapping[str, str]) -> dict[str, str]:
    """What a data key is for: an encryption context, as key services call it."""
    return {"hub.format": str(FORMAT), "hub.algorithm": "AES-256-GCM", **identity}


def _body_aad(identity: Mapping[str, str]) -> bytes:
    return b"hub.keys.value\x00" + bytes((FORMAT, AES_256_GCM)) + canonical(identity)
