"""Envelope encryption and keyed digests: every value sealed under a key of its own, bound to what it is.

Owns the key-encryption key wherever it is kept, its rotation, the key ring, keys that sign, and canonical JSON. Refuses
to start on a wrong or missing key, to make a new key where sealed values exist, and to know what it seals: secrets and
leases are `access`.
"""

from hub.keys.canonical import canonical
from hub.keys.ring import KeyRing, open_ring
from hub.keys.rotation import Behind, behind, retire, rewrap_some, rotate, versions
from hub.keys.signing import Signer, SigningKey, open_signing_key, public_key, renew_signing_key
from hub.keys.types import KekProvider, KeyringError, SealedError, directly

__all__ = [
    "Behind",
    "KekProvider",
    "KeyRing",
    "KeyringError",
    "SealedError",
    "Signer",
    "SigningKey",
    "behind",
    "canonical",
    "directly",
    "open_ring",
    "open_signing_key",
    "public_key",
    "renew_signing_key",
    "retire",
    "rewrap_some",
    "rotate",
    "versions",
]
