"""OAuth: JWT bearer, client credentials, username and password; tokens that expire when unused and can be revoked."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import jwt

from connectors.salesforce.twin.faces.call import Answer, Call, Route, route
from connectors.salesforce.twin.org.problems import session_ended

if TYPE_CHECKING:
    from connectors.salesforce.twin.org.org import Org

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCES = ("https://login.salesforce.com", "https://test.salesforce.com")
LONGEST_ASSERTION = 300
"""Seconds ahead that an assertion may expire."""
SESSION_SECONDS = 7200.0
"""How long a session lasts without being used."""


class Sessions:
    """Tokens and the credentials they are given for. Kept in the store, so that they outlive the process."""

    def __init__(self, org: Org) -> None:
        self._org = org
        self._lock = threading.Lock()
        self.seconds = SESSION_SECONDS
        self._used: dict[str, float] = {}
        if org.store.get("credentials", "app") is None:
            self._begin()
        self.app: dict[str, str] = org.store.get("credentials", "app")
        self._tokens: dict[str, dict[str, Any]] = org.store.all("token")

    def _begin(self) -> None:
        made = {
            "consumer_key": f"3MVG9{secrets.token_urlsafe(48)}",
            "consumer_secret": secrets.token_hex(32).upper(),
            "run_as": "integration",
            "certificate": "",
        }
        self._org.store.put("credentials", "app", made)
        for short in ("integration", "admin", "sales"):
            word = {"password": secrets.token_urlsafe(12), "security_token": secrets.token_urlsafe(18)}
            self._org.store.put("password", short, word)

    def passwords(self) -> dict[str, dict[str, str]]:
        """Password and security token by short user name."""
        return self._org.store.all("password")

    def set_certificate(self, public_key: str) -> None:
        """The public key (PEM) that assertions are verified with."""
        self.app["certificate"] = public_key
        self._org.store.put("credentials", "app", self.app)

    def give(self, short: str) -> str:
        """A new session for a user."""
        token = f"{self._org.id[:15]}!AQ{secrets.token_urlsafe(60).replace('-', '.')}"
        self._tokens[token] = {"user": self._org.users[short], "short": short}
        self._used[token] = self._org.clock.seconds()
        self._org.store.put("token", token, self._tokens[token])
        return token

    def user_of(self, token: str) -> str:
        """The id of the user of a session that lasts. RefusedError INVALID_SESSION_ID otherwise."""
        with self._lock:
            kept = self._tokens.get(token)
            now = self._org.clock.seconds()
            if kept is None or now - self._used.get(token, now) > self.seconds:
                self._tokens.pop(token, None)
                raise session_ended()
            self._used[token] = now
            return str(kept["user"])

    def lives(self, token: str) -> bool:
        """Whether a session lasts; asking does not prolong it."""
        with self._lock:
            now = self._org.clock.seconds()
            return token in self._tokens and now - self._used.get(token, now) <= self.seconds

    def revoke(self, token: str) -> bool:
        """Ends one session; whether there was one."""
        with self._lock:
            self._org.store.drop("token", token)
            return self._tokens.pop(token, None) is not None

    def revoke_all(self) -> int:
        """Ends every session; how many there were."""
        known = list(self._tokens)
        return sum(self.revoke(each) for each in known)

    def login(self, username: str, password: str) -> str | None:
        """The short name of the user whose password, or password and security token, this is."""
        for short, kept in self.passwords().items():
            if self._org.username(short) == username:
                wanted = (kept["password"] + kept["security_token"]).encode()
                return short if hmac.compare_digest(password.encode(), wanted) else None
        return None


def routes() -> list[Route]:
    """What OAuth answers; none of it counts against the day's budget."""
    return [
        route("POST", "services/oauth2/token", token, "login.oauth", counted=False, open=True),
        route("POST", "services/oauth2/revoke", revoke, "login.revoke", counted=False, open=True),
        route("GET", "services/oauth2/userinfo", who, "login.userinfo"),
        route("GET", "id/{organization}/{person}", who, "login.identity"),
    ]


def token(call: Call) -> Answer:
    """POST /services/oauth2/token."""
    given = {name: values[-1] for name, values in parse_qs(call.body.decode("utf-8", "replace")).items()}
    grant = given.get("grant_type")
    if grant == JWT_BEARER:
        return _bearer(call, given)
    if grant == "client_credentials":
        return _credentials(call, given)
    if grant == "password":
        return _password(call, given)
    return _refused("unsupported_grant_type", "grant type not supported")


def revoke(call: Call) -> Answer:
    """POST /services/oauth2/revoke."""
    given = parse_qs(call.body.decode("utf-8", "replace"))
    done = call.site.sessions.revoke((given.get("token") or [call.query.get("token", "")])[-1])
    return Answer(b"") if done else _refused("invalid_token", "invalid token: ")


def who(call: Call) -> Answer:
    """Who the session belongs to."""
    org = call.site.org
    short = next(name for name, known in org.users.items() if known == call.user)
    return Answer(
        {
            "sub": f"{call.site.url}/id/{org.id}/{call.user}",
            "user_id": call.user,
            "organization_id": org.id,
            "preferred_username": org.username(short),
            "active": True,
            "urls": {"rest": f"{call.site.url}/services/data/v{{version}}/"},
        }
    )


def _bearer(call: Call, given: Mapping[str, str]) -> Answer:
    app = call.site.sessions.app
    try:
        claims = jwt.decode(
            given.get("assertion", ""),
            app["certificate"],
            algorithms=["RS256"],
            audience=[*AUDIENCES, call.site.url],
            options={"require": ["exp", "iss", "sub", "aud"], "verify_exp": False, "verify_iat": False},
        )
    except jwt.InvalidAudienceError:
        return _refused("invalid_grant", "audience is invalid")
    except (jwt.InvalidTokenError, ValueError, TypeError):
        return _refused("invalid_grant", "invalid assertion")
    if claims["iss"] != app["consumer_key"]:
        return _refused("invalid_client_id", "client identifier invalid")
    ahead = float(claims["exp"]) - call.site.org.clock.seconds()
    if not 0 < ahead <= LONGEST_ASSERTION:
        return _refused("invalid_grant", "expired authorization code" if ahead <= 0 else "assertion expires too late")
    return _granted(call, str(claims["sub"]), "user hasn't approved this consumer")


def _credentials(call: Call, given: Mapping[str, str]) -> Answer:
    key, secret = _client(call, given)
    refused = _check_client(call, key, secret)
    return refused or _granted(
        call, call.site.org.username(call.site.sessions.app["run_as"]), "no client credentials user enabled"
    )


def _password(call: Call, given: Mapping[str, str]) -> Answer:
    refused = _check_client(call, given.get("client_id", ""), given.get("client_secret", ""))
    if refused:
        return refused
    short = call.site.sessions.login(given.get("username", ""), given.get("password", ""))
    if short is None:
        return _refused("invalid_grant", "authentication failure")
    return _granted(call, call.site.org.username(short), "")


def _client(call: Call, given: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, rest = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            key, _, secret = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return key, secret
    return given.get("client_id", ""), given.get("client_secret", "")


def _check_client(call: Call, key: str, secret: str) -> Answer | None:
    app = call.site.sessions.app
    if not hmac.compare_digest(key.encode(), app["consumer_key"].encode()):
        return _refused("invalid_client_id", "client identifier invalid")
    if not hmac.compare_digest(secret.encode(), app["consumer_secret"].encode()):
        return _refused("invalid_client", "invalid client credentials")
    return None


def _granted(call: Call, username: str, otherwise: str) -> Answer:
    org = call.site.org
    short = next((each for each in org.users if org.username(each) == username), None)
    if short is None or short == "automation":
        return _refused("invalid_grant", otherwise)
    body = {
        "access_token": call.site.sessions.give(short),
        "signature": secrets.token_urlsafe(32),
        "scope": "api",
        "instance_url": call.site.url,
        "id": f"{call.site.url}/id/{org.id}/{org.users[short]}",
        "token_type": "Bearer",
        "issued_at": str(int(org.clock.seconds() * 1000)),
    }
    return Answer(body)


def _refused(error: str, description: str) -> Answer:
    return Answer({"error": error, "error_description": description}, 400)
