"""Clients: registered, proven by secret, key or certificate, given tokens, known again by them, ended."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from cryptography import x509

from hub.access.callers import bump
from hub.access.jose import (
    ASYMMETRIC,
    Expected,
    PublicKey,
    TokenError,
    claimed_subject,
    public_key,
    thumbprint,
    verify_token,
)
from hub.access.keytext import make_client_id, make_secret
from hub.access.oauth import store
from hub.access.oauth.issuing import TOKEN_SECONDS, Issuer, fingerprint
from hub.access.oauth.types import Bearer, Client, ClientMethod, Presented, TokenGrantError
from hub.access.tokens import MAX_LIVE, USE_NOTED_EVERY, check_wanted, networks, within
from hub.access.types import (
    ALL_SCOPES,
    AccessError,
    Actor,
    ActorKind,
    Caller,
    Resource,
    Rights,
    Scope,
    Shown,
    UnauthenticatedError,
)
from hub.audit import Action, AuditLog, Event, Outcome
from hub.database import Database
from hub.keys import KeyRing
from hub.sdk import Secret

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MOST_ASSERTION_SECONDS = 300
"""How long an assertion may be good for; so long its `jti` is remembered."""
_KINDS = frozenset({"", "jwt", "client-authentication+jwt"})


class Clients:
    """The clients of one installation; safe to share between threads."""

    def __init__(self, database: Database, keys: KeyRing, audit: AuditLog, issuer: str) -> None:
        self.issuer = Issuer(database, keys, issuer)
        self.endpoint = f"{issuer}/oauth/token"
        self._database = database
        self._keys = keys
        self._audit = audit

    def add(
        self,
        name: str,
        *,
        owner: str,
        scopes: Iterable[Scope],
        actor: Actor,
        jwks: Sequence[Mapping[str, Any]] = (),
        subject: str | None = None,
        only: Iterable[Resource] | None = None,
        addresses: Iterable[str] = (),
        days: int = 90,
    ) -> tuple[Client, Secret | None]:
        """A new client of the service `name`, and its secret where it has one, which is shown now or never.

        It proves itself by a key of `jwks`, by a certificate for `subject` (RFC 4514), or else by the secret.
        AccessError where it would live longer than a year, hold nothing, or be a third live client of its name.
        """
        wanted, allowed = frozenset(scopes), None if only is None else frozenset(only)
        check_wanted(name, owner, wanted, allowed, days)
        method = _method(jwks, subject)
        client, secret = make_client_id(), make_secret() if method is ClientMethod.SECRET else None
        with self._database.begin() as session:
            if store.live_clients(session, name) >= MAX_LIVE:
                raise AccessError(f"{name} has {MAX_LIVE} live clients already; revoke one of them first")
            now = self._database.now(session)
            row = store.ClientRow(
                id=client,
                name=name,
                owner=owner,
                method=method.value,
                digest=None if secret is None else self._digest(client, secret),
                jwks={thumbprint(key): dict(jwk) for jwk in jwks for key in [public_key(jwk)]} or None,
                subject=None if subject is None else _name(subject).rfc4514_string(),
                scopes=sorted(wanted),
                resources=None if allowed is None else sorted(map(str, allowed)),
                addresses=networks(addresses),
                created_by=str(actor),
                created_at=now,
                expires_at=now + timedelta(days=days),
            )
            session.add(row)
            limits = {"resources": row.resources, "addresses": list(row.addresses), "days": days}
            detail = {"name": name, "owner": owner, "method": row.method, "scopes": row.scopes, **limits}
            self._audit.record(session, Event(str(actor), Action.CLIENT_CREATE, f"client:{client}", detail=detail))
            return _client(row), None if secret is None else Secret(secret)

    def revoke(self, client: str, *, actor: Actor) -> None:
        """Ends a client and every token it was given, at once. AccessError where there is none that lives."""
        with self._database.begin() as session:
            if not store.revoke_client(session, client):
                raise AccessError(f"there is no live client with the id {client}")
            bump(session)
            self._audit.record(session, Event(str(actor), Action.CLIENT_REVOKE, f"client:{client}"))

    def list_clients(self) -> list[Client]:
        """All clients, oldest first, ended ones included."""
        with self._database.read() as session:
            return [_client(each) for each in store.clients(session)]

    def token(self, shown: Presented) -> dict[str, Any]:
        """The answer to a request for a token. TokenGrantError, with its event, where it is refused."""
        if shown.form.get("grant_type") != "client_credentials":
            code = "unsupported_grant_type" if shown.form.get("grant_type") else "invalid_request"
            raise TokenGrantError(code, "the one grant there is is client_credentials")
        method, client = self._named(shown)
        with self._database.read() as session:
            row = next(iter(store.clients(session, [client])), None) if _is_id(client) else None
            now = self._database.now(session)
        if row is None or row.method != method or not self._proves(row, shown, now):
            raise self._turned_away(client, "proof")
        if row.revoked_at is not None or row.expires_at <= now:
            raise self._turned_away(client, "ended")
        if row.addresses and not within(shown.address, row.addresses):
            raise self._turned_away(client, "address")
        scopes = self._scopes(row, shown.form.get("scope"))
        bound = shown.certificate if method is ClientMethod.CERTIFICATE else None
        text, jti = self.issuer.make(client, scopes, now, bound)
        with self._database.begin() as session:
            store.touch_client(session, client, now, USE_NOTED_EVERY)
            detail = {"scopes": sorted(scopes), "jti": jti, "method": method.value}
            actor = str(Actor(ActorKind.SERVICE, row.name))
            self._audit.record(session, Event(actor, Action.CLIENT_TOKEN, f"client:{client}", detail=detail))
        written = " ".join(sorted(scopes))
        return {"access_token": text, "token_type": "Bearer", "expires_in": TOKEN_SECONDS, "scope": written}

    def callers(self, shown: Sequence[Shown]) -> list[Bearer | UnauthenticatedError]:
        """For each access token who bears it, or why nobody does. A client that was ended opens nothing any more."""
        verified = [self._verified(each.text) for each in shown]
        wanted = {each["client_id"] for each in verified if isinstance(each, dict)}
        rows: dict[str, store.ClientFacts] = {}
        now = datetime.now(UTC)
        if wanted:
            with self._database.read() as session:
                rows = {each.id: each for each in store.clients(session, wanted)}
                now = self._database.now(session)
        return [
            self._caller(each, rows.get(each["client_id"]), about, now) if isinstance(each, dict) else each
            for each, about in zip(verified, shown, strict=True)
        ]

    def _verified(self, text: str) -> dict[str, Any] | UnauthenticatedError:
        try:
            return self.issuer.verify(text)
        except TokenError as error:
            if error.why != "form":  # what no issuer ever made is no attempt to get in
                self._record_denied("service:unknown", "hub", {"why": error.why})
            return error

    def _caller(
        self, claims: Mapping[str, Any], row: store.ClientFacts | None, shown: Shown, now: datetime
    ) -> Bearer | UnauthenticatedError:
        if row is None or row.revoked_at is not None or row.expires_at <= now:
            return self._refused(claims, "ended", "the client of this token was ended; ask its owner for a new one")
        bound = (claims.get("cnf") or {}).get("x5t#S256")
        if bound is not None and (shown.certificate is None or fingerprint(shown.certificate) != bound):
            return self._refused(claims, "certificate", "the token is bound to a certificate that was not shown")
        if row.addresses and not within(shown.address, row.addresses):
            return self._refused(claims, "address", "the token is not known here")
        scopes = {ALL_SCOPES[each] for each in str(claims["scope"]).split() if each in ALL_SCOPES}
        only = None if row.resources is None else map(Resource.parse, row.resources)
        rights = Rights.of([ALL_SCOPES[each] for each in row.scopes], only).narrowed(scopes)
        caller = Caller(Actor(ActorKind.SERVICE, row.name), row.owner, rights, f"client:{row.id}")
        return Bearer(caller, now, min(datetime.fromtimestamp(claims["exp"], UTC), row.expires_at))

    def _named(self, shown: Presented) -> tuple[ClientMethod, str]:
        """The one way in which a request proves who it is, and who that would be."""
        form = shown.form
        if "client_secret" in form:
            raise TokenGrantError("invalid_request", "send the secret in the Authorization header, not in the body")
        asserts = "client_assertion" in form or "client_assertion_type" in form
        if (shown.basic is not None) + asserts > 1:
            raise TokenGrantError("invalid_request", "prove who you are in one way, not in two")
        if shown.basic is not None:
            return ClientMethod.SECRET, self._agreed(form, shown.basic[0])
        if asserts:
            if form.get("client_assertion_type") != ASSERTION:
                raise TokenGrantError("invalid_request", f"client_assertion_type must be {ASSERTION}")
            return ClientMethod.KEY, self._agreed(form, claimed_subject(form.get("client_assertion", "")) or "")
        if shown.certificate is None or not form.get("client_id"):
            raise self._turned_away(form.get("client_id", ""), "nothing")
        return ClientMethod.CERTIFICATE, form["client_id"]

    def _agreed(self, form: Mapping[str, str], client: str) -> str:
        if form.get("client_id", client) != client:
            raise self._turned_away(client, "names")
        return client

    def _proves(self, row: store.ClientFacts, shown: Presented, now: datetime) -> bool:
        if row.method == ClientMethod.SECRET:
            secret = shown.basic[1] if shown.basic is not None else ""
            return row.digest is not None and hmac.compare_digest(self._digest(row.id, secret), row.digest)
        if row.method == ClientMethod.KEY:
            return self._asserts(row, shown.form.get("client_assertion", ""), now)
        return row.subject is not None and shown.certificate is not None and _is_for(shown.certificate, row.subject)

    def _asserts(self, row: store.ClientFacts, text: str, now: datetime) -> bool:
        held: dict[str | None, PublicKey] = {kid: public_key(jwk) for kid, jwk in (row.jwks or {}).items()}
        held |= {jwk["kid"]: held[kid] for kid, jwk in (row.jwks or {}).items() if "kid" in jwk}
        alone = next(iter(held.values())) if len(row.jwks or {}) == 1 else None
        audience = (self.issuer.issuer, self.endpoint)
        expected = Expected(row.id, audience, ASYMMETRIC, _KINDS, ("sub", "jti"), single=False)
        try:
            claims = verify_token(text, lambda kid: held.get(kid) if kid is not None else alone, expected)
        except TokenError:
            return False
        until = int(claims["exp"])
        if claims["sub"] != row.id or until > now.timestamp() + MOST_ASSERTION_SECONDS:
            return False
        seen = sha256(json.dumps([row.id, claims["jti"]]).encode("utf-8")).digest()
        with self._database.begin() as session:
            return store.use_assertion(session, seen, datetime.fromtimestamp(until, UTC) + timedelta(minutes=1), now)

    def _scopes(self, row: store.ClientFacts, asked: str | None) -> frozenset[Scope]:
        """The scopes asked for, or all; RFC 6749 lets the server refuse, and less than was asked for is no help."""
        held = frozenset(ALL_SCOPES[each] for each in row.scopes)
        if asked is None:
            return held
        wanted = set(asked.split())
        if not wanted or not wanted <= set(held):
            raise TokenGrantError("invalid_scope", "the client is not registered for that; leave scope out for all")
        return frozenset(ALL_SCOPES[each] for each in wanted)

    def _turned_away(self, client: str, why: str) -> TokenGrantError:
        subject = f"client:{client}" if _is_id(client) else "hub"
        self._record_denied("service:unknown", subject, {"why": why})
        return TokenGrantError("invalid_client", "the client is not known here, or did not prove who it is")

    def _refused(self, claims: Mapping[str, Any], why: str, message: str) -> UnauthenticatedError:
        self._record_denied("service:unknown", f"client:{claims['client_id']}", {"why": why})
        return UnauthenticatedError(message)

    def _record_denied(self, actor: str, subject: str, detail: dict[str, str]) -> None:
        with self._database.begin() as session:
            self._audit.record(session, Event(actor, Action.ACCESS_DENIED, subject, Outcome.DENIED, detail=detail))

    def _digest(self, client: str, secret: str) -> bytes:
        return self._keys.mac("access-client", f"{client}_{secret}".encode())


def _is_id(client: str) -> bool:
    """Whether it could be the id of a client; anything else is not even looked for."""
    return client.isascii() and client.isalnum() and len(client) <= 40


def _method(jwks: Sequence[Mapping[str, Any]], subject: str | None) -> ClientMethod:
    if jwks and subject is not None:
        raise AccessError("subject: a client proves itself by a key or by a certificate, not by both")
    if jwks:
        return ClientMethod.KEY
    return ClientMethod.SECRET if subject is None else ClientMethod.CERTIFICATE


def _name(subject: str) -> x509.Name:
    try:
        return x509.Name.from_rfc4514_string(subject)
    except ValueError:
        raise AccessError("subject: write the name in the certificate as CN=crm,O=Ward (RFC 4514)") from None


def _is_for(certificate: bytes, subject: str) -> bool:
    """Whether a certificate, whose chain the proxy has verified, is of that subject and of this moment."""
    try:
        found = x509.load_der_x509_certificate(certificate)
        now = datetime.now(UTC)
        return found.subject == _name(subject) and found.not_valid_before_utc <= now <= found.not_valid_after_utc
    except ValueError:
        return False


def _client(row: store.ClientRow | store.ClientFacts) -> Client:
    return Client(
        id=row.id,
        name=row.name,
        owner=row.owner,
        method=ClientMethod(row.method),
        scopes=frozenset(ALL_SCOPES[each] for each in row.scopes),
        resources=None if row.resources is None else frozenset(map(Resource.parse, row.resources)),
        addresses=tuple(row.addresses),
        subject=row.subject,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
