"""An OpenID Connect provider on this machine: real sockets, real TLS, real signatures, and bad manners on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from hub.sdk.testing.tls import Certificates


@dataclass
class Grant:
    """What a code stands for."""

    client_id: str
    redirect_uri: str
    challenge: str
    claims: dict[str, Any]


@dataclass
class ProviderTwin:
    """One provider with one client. `claims` is who logs in next; the rest is how it misbehaves."""

    certificates: Certificates
    client_id: str = "hub"
    client_secret: str = "s3cret:of/the hub"
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "0001", "preferred_username": "anna"})
    seen: list[str] = field(default_factory=list)
    wrong: dict[str, Any] = field(default_factory=dict)
    """Claims that replace those of the next ID tokens; None leaves one out."""
    header: dict[str, Any] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)
    signer: Any = None
    """A key that is not published."""
    unsigned: bool = False
    tells_issuer: str | None = "own"
    broken: bool = False

    def __post_init__(self) -> None:
        self._codes: dict[str, Grant] = {}
        self.rotate()
        twin = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                twin.seen.append(self.path)
                if self.path.startswith("/authorize?"):
                    self.send(200, "text/html; charset=utf-8", twin.asks(f"{twin.issuer}{self.path}").encode())
                    return
                self.answer(*twin.get(self.path))

            def do_POST(self) -> None:
                twin.seen.append(self.path)
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.answer(*twin.token(form, self.headers.get("Authorization", "")))

            def answer(self, status: int, told: Any) -> None:
                self.send(status, "application/json", json.dumps(told).encode())

            def send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.server.socket = self.certificates.server().wrap_socket(self.server.socket, server_side=True)
        self.issuer = f"https://localhost:{self.server.server_port}"

    def rotate(self) -> None:
        """A new key, under a new name; the old one is published no more."""
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid = secrets.token_hex(4)

    @contextmanager
    def running(self) -> Iterator[ProviderTwin]:
        """Answers until the block ends."""
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def get(self, path: str) -> tuple[int, Any]:
        """Discovery and keys."""
        if self.broken:
            return 500, {"error": "down"}
        if path == "/.well-known/openid-configuration":
            return 200, {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": self.tells_issuer is not None,
                **self.described,
            }
        if path == "/keys":
            public = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
            return 200, {"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "RS256"}]}
        return 404, {}

    def authorize(self, url: str) -> dict[str, str]:
        """What a browser comes back with after it was sent to `url` and the person logged in."""
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.issuer}/authorize"
        asked = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=True).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        claims = {**self.claims, "nonce": asked["nonce"]}
        if "max_age" in asked:
            claims.setdefault("auth_time", int(time.time()))
        self._codes[code] = Grant(asked["client_id"], asked["redirect_uri"], asked["code_challenge"], claims)
        back = {"code": code, "state": asked["state"]}
        if self.tells_issuer is not None:
            back["iss"] = self.issuer if self.tells_issuer == "own" else self.tells_issuer
        return back

    def asks(self, url: str) -> str:
        """The page on which a real browser's person says who they are; what they follow is another site's link."""
        redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        back = escape(f"{redirect}?{urlencode(self.authorize(url))}")
        head = '<!doctype html><html lang="en"><title>Provider</title><link rel="icon" href="data:,">'
        return f'{head}<a href="{back}">It is me</a>'

    def token(self, form: str, authorization: str) -> tuple[int, Any]:
        """The token endpoint: one use a code, for who began, with the verifier of the challenge."""
        given = {name: values[0] for name, values in parse_qs(form).items()}
        grant = self._codes.pop(given.get("code", ""), None)
        name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        genuine = urlencode({"": self.client_secret})[1:].replace("+", "%20") == secret and name == self.client_id
        if grant is None or not genuine or given.get("redirect_uri") != grant.redirect_uri:
            return 400, {"error": "invalid_grant"}
        proof = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(proof).rstrip(b"=").decode() != grant.challenge:
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "unused", "token_type": "Bearer", "id_token": self.id_token(grant)}

    def id_token(self, grant: Grant) -> str:
        """As told: signed, or wrongly so."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": grant.client_id, "iat": now, "exp": now + 300, **grant.claims}
        claims = {name: value for name, value in {**claims, **self.wrong}.items() if value is not None}
        if self.unsigned:
            return jwt.encode(claims, None, algorithm="none", headers={"kid": self.kid})
        header = {"kid": self.kid, **self.header}
        algorithm = header.pop("alg", "RS256")
        key = self.signer or self.key
        return jwt.encode(claims, key, algorithm=algorithm, headers=header)
