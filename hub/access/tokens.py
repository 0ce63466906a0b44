"""API keys: made, shown once, checked, ended; and the one place that says whether a caller may."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from hub.access import store
from hub.access.keytext import KeyText, make_key_text, parse_key_text
from hub.access.types import (
    ALL_SCOPES,
    AccessError,
    Actor,
    ActorKind,
    Caller,
    DeniedError,
    Scope,
    Token,
    UnauthenticatedError,
)
from hub.audit import Action, AuditLog, Event, Outcome
from hub.database import Database
from hub.keys import KeyRing
from hub.sdk import Secret

MAX_DAYS = 365
MAX_LIVE = 2
"""Live keys of one name: the old one and its successor, so that a key can be changed without a pause."""
USE_NOTED_EVERY = timedelta(minutes=1)


class Access:
    """The API keys of one installation; safe to share between threads."""

    def __init__(self, database: Database, keys: KeyRing, audit: AuditLog, *, environment: str = "dev") -> None:
        self._database = database
        self._keys = keys
        self._audit = audit
        self._environment = environment

    def create_token(
        self,
        name: str,
        *,
        owner: str,
        scopes: Iterable[Scope],
        actor: Actor,
        mappings: Iterable[str] | None = None,
        days: int = 90,
    ) -> tuple[Token, Secret]:
        """A new API key for the service `name`, answered for by the person `owner`; its text is shown now or never.

        AccessError where it would live longer than a year, allow nothing, or be a third live key of its name.
        """
        wanted = frozenset(scopes)
        allowed = None if mappings is None else frozenset(mappings)
        _check_wanted(name, owner, wanted, allowed, days)
        parts, text = make_key_text(self._environment)
        with self._database.begin() as session:
            if store.live_tokens(session, name) >= MAX_LIVE:
                raise AccessError(f"{name} has {MAX_LIVE} live API keys already; revoke one of them first")
            now = self._database.now(session)
            row = store.TokenRow(
                id=parts.id,
                name=name,
                owner=owner,
                digest=self._digest(parts),
                scopes=sorted(wanted),
                mappings=None if allowed is None else sorted(allowed),
                created_by=str(actor),
                created_at=now,
                expires_at=now + timedelta(days=days),
            )
            session.add(row)
            detail = {"name": name, "owner": owner, "scopes": sorted(wanted), "mappings": row.mappings, "days": days}
            self._audit.record(session, Event(str(actor), Action.TOKEN_CREATE, f"token:{parts.id}", detail=detail))
            return _token(row), Secret(text)

    def authenticate(self, text: str) -> Caller:
        """The caller that a key stands for. UnauthenticatedError for every other text; typing errors cost no query."""
        (found,) = self.authenticate_all([text])
        if isinstance(found, UnauthenticatedError):
            raise found
        return found

    def authenticate_all(self, texts: Sequence[str]) -> list[Caller | UnauthenticatedError]:
        """As `authenticate`, of several keys in one look: for each its caller, or why there is none."""
        parsed = [_parsed(each) for each in texts]
        wanted = {each.id for each in parsed if isinstance(each, KeyText)}
        if not wanted:
            return [each for each in parsed if isinstance(each, UnauthenticatedError)]
        with self._database.read() as session:
            rows = store.token_facts(session, wanted)
            now = self._database.now(session)
        found = [each if isinstance(each, UnauthenticatedError) else self._proven(each, rows, now) for each in parsed]
        used = {each.token for each in found if isinstance(each, Caller)}
        for row in rows.values():
            if row.id in used and (row.last_used_at is None or row.last_used_at <= now - USE_NOTED_EVERY):
                with self._database.begin() as session:
                    store.touch_token(session, row.id, now, USE_NOTED_EVERY)
        return found

    def _proven(
        self, parts: KeyText, rows: Mapping[str, store.TokenFacts], now: datetime
    ) -> Caller | UnauthenticatedError:
        row = rows.get(parts.id)
        # Compared even where there is no such key, so that the time taken does not tell.
        genuine = hmac.compare_digest(self._digest(parts), row.digest if row else bytes(32))
        if row is None or not genuine or parts.environment != self._environment:
            return self._turned_away(parts.id, "unknown", "the API key is not known here")
        if row.revoked_at is not None:
            return self._turned_away(parts.id, "revoked", "the API key was revoked; ask its owner for a new one")
        if row.expires_at <= now:
            return self._turned_away(parts.id, "expired", "the API key has expired; ask its owner for a new one")
        scopes = frozenset(ALL_SCOPES[each] for each in row.scopes)
        mappings = None if row.mappings is None else frozenset(row.mappings)
        return Caller(Actor(ActorKind.SERVICE, row.name), row.owner, scopes, mappings, row.id)

    def revoke_token(self, token_id: str, *, actor: Actor) -> None:
        """Ends a key at once. AccessError where there is none that lives."""
        with self._database.begin() as session:
            if not store.revoke_token(session, token_id):
                raise AccessError(f"there is no live API key with the id {token_id}")
            self._audit.record(session, Event(str(actor), Action.TOKEN_REVOKE, f"token:{token_id}"))

    def list_tokens(self) -> list[Token]:
        """All keys, oldest first, ended ones included."""
        with self._database.read() as session:
            return [_token(each) for each in store.tokens(session)]

    def require(self, caller: Caller, scope: Scope, mapping: str | None = None) -> None:
        """DeniedError, and an event, unless the caller holds the scope, for that mapping where one is named."""
        if caller.may(scope, mapping):
            return
        detail = {"scope": scope.value, "mapping": mapping, "token": caller.token}
        self._record_denied(str(caller.actor), f"mapping:{mapping}" if mapping else "hub", detail)
        where = f" for mapping {mapping}" if mapping else ""
        raise DeniedError(f"{caller.actor} lacks the scope {scope.value}{where}")

    def _turned_away(self, token_id: str, why: str, message: str) -> UnauthenticatedError:
        self._record_denied("service:unknown", f"token:{token_id}", {"why": why})
        return UnauthenticatedError(message)

    def _record_denied(self, actor: str, subject: str, detail: dict[str, str | None]) -> None:
        with self._database.begin() as session:
            self._audit.record(session, Event(actor, Action.ACCESS_DENIED, subject, Outcome.DENIED, detail=detail))

    def _digest(self, parts: KeyText) -> bytes:
        return self._keys.mac("access-token", f"{parts.environment}_{parts.id}_{parts.secret}".encode("ascii"))


def _parsed(text: str) -> KeyText | UnauthenticatedError:
    try:
        return parse_key_text(text)
    except UnauthenticatedError as error:
        return error


def _check_wanted(name: str, owner: str, scopes: frozenset[Scope], mappings: frozenset[str] | None, days: int) -> None:
    if not name or not name.isprintable() or len(name) > 100:
        raise AccessError("name: an API key is named after the service that uses it, in 1 to 100 characters")
    if not owner or not owner.isprintable() or len(owner) > 100:
        raise AccessError("owner: an API key has a person who answers for it, in 1 to 100 characters")
    if not scopes:
        raise AccessError(f"scopes: an API key without a scope opens nothing; choose from {', '.join(ALL_SCOPES)}")
    if not 1 <= days <= MAX_DAYS:
        raise AccessError(f"days: an API key lives 1 to {MAX_DAYS} days, not {days}")
    if mappings is not None and not mappings:
        raise AccessError("mappings: name at least one mapping, or leave it out to allow every mapping")
    if mappings is not None and Scope.ADMIN in scopes:
        raise AccessError("mappings: the scope admin cannot be held to some mappings; choose narrower scopes")


def _token(row: store.TokenRow) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        owner=row.owner,
        scopes=frozenset(ALL_SCOPES[each] for each in row.scopes),
        mappings=None if row.mappings is None else frozenset(row.mappings),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
