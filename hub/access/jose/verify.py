"""`verify_token`: signature and claims of a signed token in one step. Nothing else in the hub decodes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from hub.access.jose.public import PublicKey
from hub.access.types import UnauthenticatedError

MOST_CHARACTERS = 16_384
"""Of one token; nothing longer is looked at."""
LEEWAY_SECONDS = 10
"""By how much two clocks may differ."""
ASYMMETRIC = frozenset(
    {"EdDSA", "ES256", "ES384", "ES512", *(f"{kind}{bits}" for kind in ("RS", "PS") for bits in (256, 384, 512))}
)
"""The algorithms that exist for the hub. All are asymmetric: no public key can be passed off as a shared secret."""
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_BRINGS_A_KEY = {"jwk", "jku", "x5u", "x5c"}


class TokenError(UnauthenticatedError):
    """A token does not hold; `why` is one word for the trail."""

    def __init__(self, why: str, said: str) -> None:
        super().__init__(said)
        self.why = why


class UnknownKeyError(TokenError):
    """The token names a key that is not among those known; its issuer may have changed them since."""

    def __init__(self) -> None:
        super().__init__("key", "the token is signed by a key that is not known here")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must be.

    `audience` is the one it must be for, or those of which it must name one; `single` asks for one and no list. `kinds`
    are the values its `typ` may have, in lower case; "" allows none. `required` are claims it must have beside exp, iss
    and aud.
    """

    issuer: str
    audience: str | tuple[str, ...]
    algorithms: frozenset[str]
    kinds: frozenset[str]
    required: tuple[str, ...] = ()
    single: bool = True


def verify_token(text: str, find: Callable[[str | None], PublicKey | None], expected: Expected) -> dict[str, Any]:
    """The claims of a token that is genuine, meant for us, and of this moment.

    `find` gives the key of a `kid`, from keys that were known before. TokenError says what does not hold, without
    anything out of the token; UnknownKeyError that there is no such key.
    """
    if len(text) > MOST_CHARACTERS:
        raise TokenError("form", "the token is too long")
    try:
        algorithm, kid = _header(text, expected)
        key = find(kid)
        if key is None or not _fits(key, algorithm):
            raise UnknownKeyError
        claims: dict[str, Any] = jwt.decode(
            text,
            key,
            algorithms=[algorithm],
            issuer=expected.issuer,
            audience=expected.audience,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", *expected.required], "strict_aud": expected.single},
        )
    except jwt.PyJWTError as error:
        why, said = _SAID.get(type(error), _MALFORMED)
        raise TokenError(why, f"the token does not hold: {said}") from None
    except (ValueError, OverflowError, RecursionError):
        raise TokenError(_MALFORMED[0], f"the token does not hold: {_MALFORMED[1]}") from None
    return claims


def claimed_subject(text: str) -> str | None:
    """Whom a token says it is of, to find the keys to hold it against: believe nothing of it before that was done."""
    if len(text) > MOST_CHARACTERS:
        return None
    try:
        found = jwt.decode(text, options={"verify_signature": False}).get("sub")
    except (jwt.PyJWTError, ValueError, OverflowError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _fits(key: PublicKey, algorithm: str) -> bool:
    if algorithm == "EdDSA":
        return isinstance(key, Ed25519PublicKey)
    if isinstance(key, EllipticCurvePublicKey):
        return _CURVES.get(algorithm) == key.curve.name
    return isinstance(key, RSAPublicKey) and algorithm[:2] in ("RS", "PS")


def _header(text: str, expected: Expected) -> tuple[str, str | None]:
    header = jwt.get_unverified_header(text)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in expected.algorithms & ASYMMETRIC:
        raise TokenError("algorithm", "the token is signed by an algorithm that is not allowed here")
    if _BRINGS_A_KEY & set(header):
        raise TokenError("header", "the token brings a key along; keys are known before, or not at all")
    kind = header.get("typ", "")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in expected.kinds:
        raise TokenError("kind", "the token is of another kind than is asked for here")
    return algorithm, header.get("kid")


_MALFORMED = ("form", "it is malformed")
_SAID: dict[type[jwt.PyJWTError], tuple[str, str]] = {
    jwt.ExpiredSignatureError: ("expired", "it has expired"),
    jwt.ImmatureSignatureError: ("early", "its time has not come"),
    jwt.InvalidAudienceError: ("audience", "it is meant for somebody else"),
    jwt.InvalidIssuerError: ("issuer", "it is issued by somebody else"),
    jwt.InvalidSignatureError: ("signature", "its signature is wrong"),
    jwt.MissingRequiredClaimError: ("claims", "a claim is missing"),
}
