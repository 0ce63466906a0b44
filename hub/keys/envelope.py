"""The sealed form: a fresh data key per value, AES-256-GCM, and a header that says how to open it.

    "hk" | format 1 | algorithm 1 | length of id | kek id | kek version, 4 bytes | length of wrapped key, 2 bytes
    | wrapped key | nonce, 12 bytes | ciphertext and tag

The identity is bound to the wrapped key and to the ciphertext, so that neither can be moved. The header is bound to the
wrapped key alone: rotation wraps anew without touching the value.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.keys.canonical import canonical
from hub.keys.types import KekProvider, SealedError

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

    header: bytes
    kek_id: str
    kek_version: int
    wrapped: bytes
    nonce: bytes
    ciphertext: bytes


def seal(kek: KekProvider, plain: bytes, identity: Mapping[str, str]) -> bytes:
    """The value, sealed under a data key used once."""
    bound = canonical(identity)
    drawn = os.urandom(KEY_BYTES + NONCE_BYTES)
    key, nonce = drawn[:KEY_BYTES], drawn[KEY_BYTES:]
    return b"".join((*_wrapped(kek, key, bound), nonce, AESGCM(key).encrypt(nonce, plain, _body_aad(bound))))


def open_sealed(kek: KekProvider, sealed: bytes, identity: Mapping[str, str]) -> bytes:
    """The value itself. SealedError where a bit, the identity or the key differs."""
    parts = parse(sealed)
    bound = canonical(identity)
    key = _unwrapped(kek, parts, bound)
    try:
        return AESGCM(key).decrypt(parts.nonce, parts.ciphertext, _body_aad(bound))
    except (InvalidTag, ValueError):
        raise SealedError("a sealed value was altered or stands in the wrong place") from None


def rewrap(kek: KekProvider, sealed: bytes, identity: Mapping[str, str]) -> bytes:
    """The same sealed value with its data key under the current version of the key-encryption key."""
    parts = parse(sealed)
    bound = canonical(identity)
    key = _unwrapped(kek, parts, bound)
    return b"".join((*_wrapped(kek, key, bound), parts.nonce, parts.ciphertext))


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
    at += _VERSION.size
    start = at + _LENGTH.size
    end = start + length
    nonce_end = end + NONCE_BYTES
    return Envelope(sealed[:at], kek_id, version, sealed[start:end], sealed[end:nonce_end], sealed[nonce_end:])


def _wrapped(kek: KekProvider, key: bytes, bound: bytes) -> tuple[bytes, bytes, bytes]:
    name = kek.id.encode("ascii")
    header = _START.pack(MAGIC, FORMAT, AES_256_GCM, len(name)) + name + _VERSION.pack(kek.version)
    wrapped = kek.wrap(key, header + bound)
    return header, _LENGTH.pack(len(wrapped)), wrapped


def _unwrapped(kek: KekProvider, parts: Envelope, bound: bytes) -> bytes:
    if parts.kek_id != kek.id:
        raise SealedError(f"sealed under key {parts.kek_id}, but the hub holds {kek.id}")
    return kek.unwrap(parts.wrapped, parts.kek_version, parts.header + bound)


def _body_aad(bound: bytes) -> bytes:
    return b"hub.keys.value\x00" + bytes((FORMAT, AES_256_GCM)) + bound
