"""One login by the provider: what is asked, what the answer must match, and who has come (OIDC Core 3.1, RFC 7636).

All that the answer is held against lies sealed on the hub's side, under the digest of a cookie of the very browser that
began; it is taken out once. Somebody is known by issuer and subject, never by an e-mail address.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from sqlalchemy.orm import Session

from hub.access.jose import Expected, TokenError, UnknownKeyError, verify_token
from hub.access.people import store
from hub.access.people.attempts import Attempts
from hub.access.people.local import NAME, LocalAccounts, is_admin
from hub.access.people.oidc.provider import Provider
from hub.access.people.sessions import Sessions, actor_of
from hub.access.people.types import Claims, Login, Opened, ProviderError, SignInError, Visit
from hub.access.types import AccessError
from hub.audit import Action, AuditLog, Event, Outcome
from hub.database import Database
from hub.keys import KeyRing
from hub.sdk import Json

LIFE = timedelta(minutes=10)
"""Time to log in at the provider."""
SKEW = timedelta(seconds=30)
KINDS = frozenset({"", "jwt"})
"""What an ID token may call itself: OpenID Connect gives it no type of its own."""
_PLACE = re.compile(r"/[A-Za-z0-9][A-Za-z0-9/?%:@!$&'()*+,;=._~-]*", re.ASCII)
"""A path and a query (RFC 3986) on this very host: `//` would begin the name of another."""


@dataclass(frozen=True, slots=True)
class Started:
    """Where to send the browser, and the text of the cookie that it must bring back."""

    url: str
    text: str


@dataclass(frozen=True, slots=True)
class _Kept:
    state: str
    nonce: str
    verifier: str
    next: str
    person: str | None
    begun_at: datetime


class SignIn:
    """Logins of one provider; safe to share between threads."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        audit: AuditLog,
        sessions: Sessions,
        local: LocalAccounts,
        attempts: Attempts,
        provider: Provider,
    ) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit
        self._sessions = sessions
        self._local = local
        self._attempts = attempts
        self._provider = provider

    def begin(self, place: str = "/account", visit: Visit | None = None) -> Started:
        """A login that goes on at `place`; with a visit, the same person proves anew who they are."""
        wire = self._provider.settings
        endpoint = self._provider.endpoint("authorization_endpoint")
        text, state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(4))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": wire.client_id,
            "redirect_uri": wire.redirect_uri,
            "scope": wire.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        if visit is not None:
            asked |= {"prompt": "login", "max_age": "0"}
            asked |= {"acr_values": wire.step_up_acr} if wire.step_up_acr else {}
        with self._database.begin() as session:
            now = self._database.now(session)
            kept = {
                "state": state,
                "nonce": nonce,
                "verifier": verifier,
                "next": place if _PLACE.fullmatch(place) else "/account",
                "person": visit.person.id if visit is not None else None,
                "begun_at": now.isoformat(),
            }
            store.forget_signins(session, now)
            digest = self._digest(text)
            sealed = self._keys.seal(json.dumps(kept).encode(), _identity(digest))
            session.add(store.SignInRow(digest=digest, sealed=sealed, expires_at=now + LIFE))
        mark = "&" if "?" in endpoint else "?"
        return Started(f"{endpoint}{mark}{urlencode(asked)}", text)

    def finish(self, text: str, answer: Mapping[str, str], address: str, before: str | None = None) -> Opened:
        """The session of who came back with this answer. SignInError, and one event with why, for every other answer.

        `text` is the browser's cookie, `before` the session it had. ProviderError where the provider does not answer.
        """
        self._attempts.take(address)
        try:
            expected = self._taken(text)
            claims = self._claims(expected, answer)
            login = self._login(expected, claims)
            return self._enter(expected, claims, login, address, before)
        except (SignInError, ProviderError) as error:
            self._failed(error.why if isinstance(error, SignInError) else "provider", address)
            raise

    def _taken(self, text: str) -> _Kept:
        digest = self._digest(text)
        with self._database.begin() as session:
            sealed = store.take_signin(session, digest, self._database.now(session))
        if sealed is None:
            raise SignInError("state", "this login was not begun in this browser, or too long ago; begin anew")
        kept = json.loads(self._keys.open(sealed, _identity(digest)))
        return _Kept(**{**kept, "begun_at": datetime.fromisoformat(kept["begun_at"])})

    def _claims(self, expected: _Kept, answer: Mapping[str, str]) -> Claims:
        wire = self._provider.settings
        if not hmac.compare_digest(answer.get("state", "").encode(), expected.state.encode()):
            raise SignInError("state", "this login was not begun in this browser, or too long ago; begin anew")
        told = answer.get("iss")
        if told != wire.issuer and (told is not None or self._provider.tells_issuer):
            raise SignInError("issuer")
        if "error" in answer or not answer.get("code"):
            raise SignInError("refused", "the identity provider let nobody in")
        token = self._provider.redeem(answer["code"], expected.verifier)
        try:
            claims = self._verified(token, anew=False)
        except UnknownKeyError:
            claims = self._verified(token, anew=True)
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), expected.nonce.encode()):
            raise SignInError("nonce")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            raise SignInError("sub")
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != wire.client_id:
            raise SignInError("aud")
        return claims

    def _verified(self, token: str, *, anew: bool) -> Claims:
        wire = self._provider.settings
        keys = self._provider.keys(anew=anew)
        only = next(iter(keys.values())) if len(keys) == 1 else None
        expected = Expected(
            issuer=wire.issuer,
            audience=wire.client_id,
            algorithms=frozenset(wire.algorithms),
            kinds=KINDS,
            required=("sub", "iat", "nonce"),
            single=False,
        )
        try:
            return verify_token(token, lambda kid: keys.get(kid) if kid is not None else only, expected)
        except UnknownKeyError as error:
            if not anew:
                raise
            raise SignInError(error.why) from error
        except TokenError as error:
            raise SignInError(error.why) from error

    def _login(self, expected: _Kept, claims: Claims) -> Login:
        """When and how strongly they proved who they are; at a step-up, not before it was asked for.

        A clock of the provider's that is ahead makes no login last: it counts from no later than now.
        """
        stamp, acr = claims.get("auth_time"), claims.get("acr")
        acr = acr if isinstance(acr, str) and len(acr) <= 200 else None
        known = isinstance(stamp, int) and not isinstance(stamp, bool) and 0 < stamp < 2**40
        at = datetime.fromtimestamp(stamp, UTC) if known and stamp is not None else None
        if expected.person is not None:
            if at is None or at < expected.begun_at - SKEW:
                raise SignInError("auth_time", "the identity provider did not ask who you are; try again")
            wanted = self._provider.settings.step_up_acr
            if wanted is not None and acr != wanted:
                raise SignInError("acr", "the identity provider did not ask for the second step; try again")
        return Login(at, acr, "oidc")

    def _enter(self, expected: _Kept, claims: Claims, login: Login, address: str, before: str | None) -> Opened:
        wire = self._provider.settings
        with self._database.begin() as session:
            row = store.person_of(session, wire.issuer, claims["sub"])
            if expected.person is not None and (row is None or row.id != expected.person):
                raise SignInError("person", "somebody else logged in; log out first")
            if row is None:
                row = self._make(session, claims)
            if row.disabled_at is not None:
                raise SignInError("disabled")
            row.title = _title(claims, row.name)
            row.claimed = _roles(claims.get(wire.roles_claim), wire.roles)
            if is_admin(session, row):
                self._local.retire(session)
            self._attempts.forgive(session, address)
            if login.authenticated_at is not None:
                login = replace(login, authenticated_at=min(login.authenticated_at, self._database.now(session)))
            detail: dict[str, Json] = {"address": self._where(address), "step_up": expected.person is not None}
            opened = self._sessions.open(session, row, login, before=before, detail=detail)
            return Opened(opened.text, opened.visit, expected.next)

    def _make(self, session: Session, claims: Claims) -> store.PersonRow:
        wire = self._provider.settings
        row = store.PersonRow(
            id=secrets.token_hex(8),
            name=_free_name(session, claims.get(wire.name_claim)),
            issuer=wire.issuer,
            subject=claims["sub"],
            title="",
            claimed=[],
            created_at=self._database.now(session),
        )
        session.add(row)
        session.flush()
        self._audit.record(session, Event("hub", Action.PERSON_CREATE, actor_of(row.name), detail={"person": row.id}))
        return row

    def _failed(self, why: str, address: str) -> None:
        detail = {"why": why, "method": "oidc", "address": self._where(address)}
        with self._database.begin() as session:
            event = Event(actor_of("unknown"), Action.SESSION_OPEN, "hub", Outcome.FAILED, detail=detail)
            self._audit.record(session, event)

    def _digest(self, text: str) -> bytes:
        return self._keys.mac("signin", text.encode())

    def _where(self, address: str) -> str:
        return self._keys.mac("address", address.encode()).hex()[:16]


def _identity(digest: bytes) -> dict[str, str]:
    return {"table": "access_signin", "digest": digest.hex()}


def _free_name(session: Session, wanted: object) -> str:
    """What the trail will call them: what the provider does, with a number where somebody is called so already."""
    name = wanted if isinstance(wanted, str) and NAME.fullmatch(wanted) else f"person-{secrets.token_hex(4)}"
    if store.person_named(session, name) is None:
        return name
    for number in range(2, 1000):
        if store.person_named(session, f"{name}-{number}") is None:
            return f"{name}-{number}"
    raise AccessError("there are too many people of one name")


def _title(claims: Claims, name: str) -> str:
    title = claims.get("name")
    return title[:100] if isinstance(title, str) and title.isprintable() and title else name


def _roles(groups: Any, roles: Mapping[str, str]) -> list[str]:
    """The roles that the groups of a token stand for, by the settings; groups that are not named there give none."""
    named = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    return sorted({roles[each] for each in named if isinstance(each, str) and each in roles})
