"""Public keys as JSON Web Keys (RFC 7517): read from what others publish, written for those who read ours."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from hub.access.types import AccessError

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

LEAST_RSA_BITS = 2048
CURVES = {"secp256r1", "secp384r1", "secp521r1"}
MOST_KEYS = 100
"""Keys of one set that are looked at."""
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
_REQUIRED = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}


def public_key(jwk: Mapping[str, Any]) -> PublicKey:
    """The public key of a JWK: RSA of 2048 bits or more, P-256, P-384, P-521, Ed25519. AccessError for every other."""
    if _PRIVATE & set(jwk):
        raise AccessError("the JWK holds a private or a symmetric key; hand over the public key alone")
    try:
        key = jwt.PyJWK(dict(jwk)).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        raise AccessError("this is no JWK that can be read") from None
    return check_key(key)


def public_keys(jwks: Mapping[str, Any]) -> dict[str, PublicKey]:
    """The usable signing keys of a JWK set, by `kid` ("" where one has none). Others are left out."""
    listed = jwks.get("keys")
    if not isinstance(listed, list):
        raise AccessError("this is no JWK set; it has a list named keys")
    found = {}
    for each in listed[:MOST_KEYS]:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        try:
            found[str(each.get("kid", ""))] = public_key(each)
        except AccessError:
            continue  # others' sets hold keys for other purposes and of kinds to come
    return found


def check_key(key: object) -> PublicKey:
    """AccessError unless it is a public key of a kind and size that the hub believes."""
    if isinstance(key, RSAPublicKey) and key.key_size >= LEAST_RSA_BITS:
        return key
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in CURVES:
        return key
    if isinstance(key, Ed25519PublicKey):
        return key
    raise AccessError(
        f"the key must be a public one: RSA of {LEAST_RSA_BITS} bits or more, P-256, P-384, P-521, Ed25519"
    )


def jwk_of(key: PublicKey) -> dict[str, Any]:
    """The required members of a public key's JWK."""
    if isinstance(key, RSAPublicKey):
        made = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, EllipticCurvePublicKey):
        made = ECAlgorithm.to_jwk(key, as_dict=True)
    else:
        made = OKPAlgorithm.to_jwk(key, as_dict=True)
    return {name: made[name] for name in _REQUIRED[made["kty"]]}


def thumbprint(key: PublicKey) -> str:
    """The key's thumbprint (RFC 7638), which serves as its `kid`."""
    written = json.dumps(jwk_of(key), separators=(",", ":"), sort_keys=True)
    return urlsafe_b64encode(sha256(written.encode("ascii")).digest()).rstrip(b"=").decode("ascii")
