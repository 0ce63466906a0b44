"""Access tokens (RFC 9068): made with a key of their own, believed for ten minutes, for one audience."""

from __future__ import annotations

import json
import secrets
import threading
from base64 import urlsafe_b64encode
from collections.abc import Collection
from datetime import datetime
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hub.access.jose import Expected, PublicKey, jwk_of, thumbprint, verify_token
from hub.access.types import Scope
from hub.database import Database
from hub.keys import KeyRing, SigningKey, open_signing_key, public_key

PURPOSE = "access-token"
"""The signing key of tokens; no other thing is signed with it."""
TOKEN_SECONDS = 600
ALGORITHM = "EdDSA"


class Issuer:
    """Signs and verifies the tokens of one installation; safe to share between threads. Its key is opened once."""

    def __init__(self, database: Database, keys: KeyRing, issuer: str) -> None:
        self.issuer = issuer
        self._database = database
        self._keys = keys
        self._lock = threading.Lock()
        self._signer: SigningKey | None = None
        self._public: dict[str | None, PublicKey] = {}
        self._expected = Expected(
            issuer, issuer, frozenset({ALGORITHM}), frozenset({"at+jwt"}), ("sub", "client_id", "scope", "jti", "iat")
        )

    def make(
        self, client: str, scopes: Collection[Scope], now: datetime, certificate: bytes | None = None
    ) -> tuple[str, str]:
        """A token for a client and its `jti`; bound to the certificate where there is one (RFC 8705)."""
        began, jti = int(now.timestamp()), secrets.token_urlsafe(16)
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.issuer,
            "sub": client,
            "client_id": client,
            "scope": " ".join(sorted(scopes)),
            "iat": began,
            "nbf": began,
            "exp": began + TOKEN_SECONDS,
            "jti": jti,
        }
        if certificate is not None:
            claims["cnf"] = {"x5t#S256": fingerprint(certificate)}
        signer = self._opened()
        kid = thumbprint(Ed25519PublicKey.from_public_bytes(signer.public))
        signed = ".".join(map(_encoded, ({"alg": ALGORITHM, "typ": "at+jwt", "kid": kid}, claims)))
        return f"{signed}.{_written(signer.sign(signed.encode('ascii')))}", jti

    def verify(self, text: str) -> dict[str, Any]:
        """The claims of a token of ours. TokenError for every other text."""
        return verify_token(text, self._key, self._expected)

    def jwks(self) -> dict[str, Any]:
        """The public key, as a JWK set."""
        self._opened()
        return {
            "keys": [{**jwk_of(key), "kid": kid, "use": "sig", "alg": ALGORITHM} for kid, key in self._public.items()]
        }

    def _key(self, kid: str | None) -> PublicKey | None:
        if not self._public:
            with self._database.read() as session:
                found = public_key(session, PURPOSE)
            if found is not None:
                self._known(found)
        return self._public.get(kid)

    def _opened(self) -> SigningKey:
        with self._lock:
            if self._signer is None:
                with self._database.begin() as session:
                    self._signer = open_signing_key(session, self._keys, PURPOSE)
                self._known(self._signer.public)
            return self._signer

    def _known(self, raw: bytes) -> None:
        key = Ed25519PublicKey.from_public_bytes(raw)
        self._public = {thumbprint(key): key}


def fingerprint(certificate: bytes) -> str:
    """The SHA-256 of a certificate (DER), as `x5t#S256` writes it."""
    return _written(sha256(certificate).digest())


def _encoded(part: dict[str, Any]) -> str:
    return _written(json.dumps(part, separators=(",", ":")).encode("utf-8"))


def _written(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
