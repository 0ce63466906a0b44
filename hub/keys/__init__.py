"""Envelope encryption and keyed digests: every value sealed under a key of its own, bound to what it is.

Owns the key-encryption key, the key ring, keys that sign, and canonical JSON. Refuses to start on a wrong or missing
key, to make a new key where sealed values exist, and to know what it seals: secrets and leases are `access`.
"""

from hub.keys.canonical import canonical
from hub.keys.ring import KeyRing, open_ring, rotate
from hub.keys.signing import Signer, SigningKey, open_signing_key, public_key
from hub.keys.types import KekProvider, KeyringError, SealedError

__all__ = [
    "KekProvider",
    "KeyRing",
    "KeyringError",
    "SealedError",
    "Signer",
    "SigningKey",
    "canonical",
    "open_ring",
    "open_signing_key",
    "public_key",
    "rotate",
]
