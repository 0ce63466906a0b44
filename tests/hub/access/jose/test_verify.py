"""Forged, stale and misdirected tokens, each refused for its own reason; and that only one place decodes any."""

from __future__ import annotations

import ast
import base64
import hashlib
import hmac
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

import hub
from hub.access import AccessError, UnauthenticatedError
from hub.access.jose import (
    ASYMMETRIC,
    Expected,
    PublicKey,
    TokenError,
    UnknownKeyError,
    jwk_of,
    public_key,
    public_keys,
    thumbprint,
    verify_token,
)

ED = ed25519.Ed25519PrivateKey.generate()
OTHER_ED = ed25519.Ed25519PrivateKey.generate()
EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, PublicKey] = {"ed": ED.public_key(), "ec": EC.public_key(), "rsa": RSA.public_key()}
EXPECTED = Expected(
    "https://issuer.example",
    "https://hub.example",
    frozenset({"EdDSA", "ES256", "RS256"}),
    frozenset({"at+jwt"}),
    ("sub", "jti"),
)


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {
        "iss": EXPECTED.issuer,
        "aud": EXPECTED.audience,
        "sub": "crm",
        "jti": "1",
        "iat": now,
        "exp": now + 300,
    } | more
    return {name: value for name, value in made.items() if value is not None}


def token(key: Any = ED, algorithm: str = "EdDSA", kid: str | None = "ed", typ: str = "at+jwt", **more: Any) -> str:
    header = more.pop("header", {})
    return jwt.encode(claims(**more), key, algorithm, headers={"typ": typ, **({"kid": kid} if kid else {}), **header})


def verify(text: str, expected: Expected = EXPECTED) -> dict[str, Any]:
    return verify_token(text, lambda kid: KEYS.get(kid or ""), expected)


def written(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand, as a forger does."""
    parts = [json.dumps(each).encode() for each in (header, payload)] + [signature]
    return ".".join(base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts)


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(ED, "EdDSA", "ed"), (EC, "ES256", "ec"), (RSA, "RS256", "rsa")])
def test_a_genuine_token_gives_its_claims(key: Any, algorithm: str, kid: str) -> None:
    assert verify(token(key, algorithm, kid, scope="score"))["scope"] == "score"


def test_a_token_without_a_signature_is_refused() -> None:
    for alg in ("none", "None", "NONE", "nOnE"):
        with pytest.raises(UnauthenticatedError, match="by an algorithm that is not allowed"):
            verify(written({"alg": alg, "typ": "at+jwt", "kid": "ed"}, claims()))
    head, body, _ = token().split(".")
    with pytest.raises(UnauthenticatedError, match="its signature is wrong"):
        verify(f"{head}.{body}.")


def test_a_public_key_is_no_shared_secret() -> None:
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = written({"alg": "HS256", "typ": "at+jwt", "kid": "rsa"}, claims()).rpartition(".")[0]
    forged = hmac.new(pem, signed.encode(), hashlib.sha256).digest()
    with pytest.raises(UnauthenticatedError, match="by an algorithm that is not allowed"):
        verify(f"{signed}.{base64.urlsafe_b64encode(forged).rstrip(b'=').decode()}")


def test_an_algorithm_fits_its_key_or_the_key_is_not_known() -> None:
    with pytest.raises(UnauthenticatedError, match="by a key that is not known here"):
        verify(token(EC, "ES256", "rsa"))
    with pytest.raises(UnknownKeyError, match="by a key that is not known here"):
        verify(token(RSA, "RS256", "ed"))
    p384 = ec.generate_private_key(ec.SECP384R1())
    expected = replace(EXPECTED, algorithms=ASYMMETRIC)
    assert verify_token(token(p384, "ES384", "p384"), lambda _: p384.public_key(), expected)["sub"] == "crm"
    with pytest.raises(UnknownKeyError):
        verify_token(token(p384, "ES384", "p384"), lambda _: EC.public_key(), expected)


def test_nobody_can_allow_a_symmetric_algorithm() -> None:
    secret = "s" * 64
    lax = replace(EXPECTED, algorithms=frozenset({"HS256", "none"}))
    with pytest.raises(TokenError, match="not allowed here") as refused:
        verify_token(token(secret, "HS256"), lambda _: secret, lax)  # type: ignore[arg-type,return-value]
    assert refused.value.why == "algorithm"


@pytest.mark.parametrize(
    "brought",
    [
        {"jwk": jwk_of(OTHER_ED.public_key())},
        {"jku": "https://evil.example/jwks.json"},
        {"x5u": "https://evil.example/cert.pem"},
        {"x5c": ["MIIB"]},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_token_does_not_bring_its_own_key(brought: dict[str, Any]) -> None:
    for key in (ED, OTHER_ED):
        with pytest.raises(UnauthenticatedError, match="brings a key along"):
            verify(token(key, header=brought))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (lambda: token(OTHER_ED), "its signature is wrong"),
        (lambda: token(kid="other"), "by a key that is not known here"),
        (lambda: token(kid=None), "by a key that is not known here"),
        (lambda: token(exp=int(time.time()) - 60), "it has expired"),
        (lambda: token(nbf=int(time.time()) + 60), "its time has not come"),
        (lambda: token(iat=int(time.time()) + 60), "its time has not come"),
        (lambda: token(aud="https://elsewhere.example"), "it is meant for somebody else"),
        (lambda: token(aud=["https://hub.example"]), "it is meant for somebody else"),
        (lambda: token(aud=["https://hub.example", "https://elsewhere.example"]), "it is meant for somebody else"),
        (lambda: token(iss="https://evil.example"), "it is issued by somebody else"),
        (lambda: token(typ="JWT"), "of another kind"),
        (lambda: token(typ="id_token"), "of another kind"),
        (lambda: written({"alg": "EdDSA", "kid": "ed"}, claims()), "of another kind"),
        (lambda: token(exp=None), "a claim is missing"),
        (lambda: token(jti=None), "a claim is missing"),
        (lambda: token(sub=None), "a claim is missing"),
        (lambda: token(header={"crit": ["exp"]}), "it is malformed"),
        (lambda: token(exp=float("inf")), "it is malformed"),
        (lambda: "x" * 20_000, "too long"),
        (lambda: "x", "it is malformed"),
        (lambda: "", "it is malformed"),
        (lambda: "é.é.é", "it is malformed"),
        (lambda: base64.urlsafe_b64encode(b"[" * 11_000).decode() + ".e30.e30", "it is malformed"),
        (lambda: written({"alg": ["EdDSA"], "typ": "at+jwt", "kid": "ed"}, claims()), "not allowed"),
        (lambda: written({"alg": "EdDSA", "typ": 7, "kid": "ed"}, claims()), "of another kind"),
        (lambda: written({"alg": "EdDSA", "typ": "at+jwt", "kid": {}}, claims()), "it is malformed"),
    ],
)
def test_a_token_that_does_not_hold_is_refused(text: Any, said: str) -> None:
    with pytest.raises(UnauthenticatedError, match=said):
        verify(text())


def test_a_flipped_byte_of_a_token_is_noticed() -> None:
    text = token()
    for place in range(0, len(text) - 1, 7):
        if text[place] == ".":
            continue
        wrong = "A" if text[place] != "A" else "B"
        with pytest.raises(UnauthenticatedError):
            verify(text[:place] + wrong + text[place + 1 :])


def test_an_id_token_for_the_same_audience_is_no_access_token() -> None:
    with pytest.raises(UnauthenticatedError, match="of another kind"):
        verify(token(typ="JWT", nonce="n"))


@pytest.mark.parametrize("key", [ED, EC, RSA])
def test_a_key_reads_as_it_is_written(key: Any) -> None:
    jwk = jwk_of(key.public_key())
    assert public_key(jwk).public_bytes(*RAW) == key.public_key().public_bytes(*RAW)
    assert len(thumbprint(key.public_key())) == 43


RAW = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_a_thumbprint_is_that_of_the_standard() -> None:
    """The example of RFC 8037, appendix A.3."""
    key = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert thumbprint(public_key(key)) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize(
    ("jwk", "said"),
    [
        ({"kty": "oct", "k": "c2VjcmV0"}, "private or a symmetric key"),
        ({**jwk_of(ED.public_key()), "d": "AA"}, "private or a symmetric key"),
        (jwk_of(rsa.generate_private_key(65537, 1024).public_key()), "RSA of 2048 bits or more"),
        (
            json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256K1()).public_key())),
            "RSA of 2048 bits or more, P-256",
        ),
        ({"kty": "RSA"}, "no JWK that can be read"),
        ({}, "no JWK that can be read"),
    ],
)
def test_a_key_that_is_not_believed_is_refused(jwk: dict[str, Any], said: str) -> None:
    with pytest.raises(AccessError, match=said):
        public_key(jwk)


def test_a_set_gives_the_keys_that_can_be_used() -> None:
    usable = jwk_of(ED.public_key()) | {"kid": "a", "use": "sig"}
    jwks = {"keys": [usable, usable | {"kid": "b", "use": "enc"}, {"kty": "oct", "k": "AA", "kid": "c"}, 7, {}]}
    assert set(public_keys(jwks)) == {"a"}
    with pytest.raises(AccessError, match="no JWK set"):
        public_keys({"keys": {}})


def test_one_place_decodes_tokens() -> None:
    """By the rule of ruff, and here for calls on instances and names that the rule does not see."""
    root = Path(hub.__file__).parent
    wrong = []
    for path in sorted(root.rglob("*.py")):
        if path == root / "access" / "jose" / "verify.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            imported = [each.name for each in node.names] if isinstance(node, ast.ImportFrom) else []
            came = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if named.startswith(("jwt.decode", "jwt.get_unverified", "jwt.PyJWT(", "jwt.api_")):
                wrong.append(f"{path.name}:{node.lineno} {named}")  # type: ignore[attr-defined]
            if came.split(".")[0] in {"jwt", "joserfc", "authlib", "jose", "jwcrypto"} and came != "jwt.algorithms":
                wrong.append(f"{path.name}:{node.lineno} from {came} import {', '.join(imported)}")  # type: ignore[attr-defined]
    assert wrong == []
