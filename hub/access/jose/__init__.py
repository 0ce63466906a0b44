"""Signed tokens (JWS, RFC 7515 and 7519): the one place where one is believed, and the keys that it is held against.

Refuses symmetric algorithms, keys that a token brings along, and everything that the verifier did not name in advance.
"""

from __future__ import annotations

from hub.access.jose.public import PublicKey, jwk_of, public_key, public_keys, thumbprint
from hub.access.jose.verify import (
    ASYMMETRIC,
    Expected,
    TokenError,
    UnknownKeyError,
    claimed_subject,
    verify_token,
)

__all__ = [
    "ASYMMETRIC",
    "Expected",
    "PublicKey",
    "TokenError",
    "UnknownKeyError",
    "claimed_subject",
    "jwk_of",
    "public_key",
    "public_keys",
    "thumbprint",
    "verify_token",
]
