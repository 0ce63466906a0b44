"""API keys: made, shown once, checked, ended; and the one door through which every caller is known and let pass."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property, partial
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from hub.access import store
from hub.access.callers import KNOWN_SECONDS, KnownCallers, bump
from hub.access.keytext import KeyText, make_key_text, parse_key_text
from hub.access.roles import Roles
from hub.access.types import (
    ALL_SCOPES,
    PERSONAL,
    WHOLE,
    AccessError,
    Actor,
    ActorKind,
    Caller,
    DeniedError,
    HiddenError,
    Resource,
    Rights,
    Ruling,
    Scope,
    Shown,
    Token,
    UnauthenticatedError,
    decide,
)
from hub.audit import Action, AuditLog, Event, Outcome, legible
from hub.database import Database
from hub.keys import KeyRing
from hub.sdk import Secret

if TYPE_CHECKING:
    from hub.access.oauth import Clients

MAX_DAYS = 365
MAX_LIVE = 2
"""Live keys of one name: the old one and its successor, so that a key can be changed without a pause."""
USE_NOTED_EVERY = timedelta(seconds=KNOWN_SECONDS)


class Access:
    """The API keys of one installation, and the roles of its people; safe to share between threads."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        audit: AuditLog,
        *,
        environment: str = "dev",
        issuer: str = "http://127.0.0.1:8700",
    ) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit
        self._environment = environment
        self._issuer = issuer
        self._known = KnownCallers(database)
        self.roles = Roles(database, audit)

    @cached_property
    def clients(self) -> Clients:
        """The programs that take short access tokens; a hub without any pays for no cryptography of theirs."""
        from hub.access.oauth import Clients

        return Clients(self._database, self._keys, self._audit, self._issuer)

    def create_token(
        self,
        name: str,
        *,
        owner: str,
        scopes: Iterable[Scope],
        actor: Actor,
        only: Iterable[Resource] | None = None,
        addresses: Iterable[str] = (),
        days: int = 90,
    ) -> tuple[Token, Secret]:
        """A new API key for the service `name`, answered for by the person `owner`; its text is shown now or never.

        It is held to the resources `only` and to the networks `addresses` (10.1.0.0/16) where there are some.
        AccessError where it would live longer than a year, allow nothing, or be a third live key of its name.
        """
        wanted = frozenset(scopes)
        allowed = None if only is None else frozenset(only)
        check_wanted(name, owner, wanted, allowed, days)
        allowed_from = networks(addresses)
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
                resources=None if allowed is None else sorted(map(str, allowed)),
                addresses=allowed_from,
                created_by=str(actor),
                created_at=now,
                expires_at=now + timedelta(days=days),
            )
            session.add(row)
            limits = {"resources": row.resources, "addresses": list(allowed_from), "days": days}
            detail = {"name": name, "owner": owner, "scopes": row.scopes, **limits}
            self._audit.record(session, Event(str(actor), Action.TOKEN_CREATE, f"token:{parts.id}", detail=detail))
            return _token(row), Secret(text)

    def authenticate(self, text: str, address: str | None = None) -> Caller:
        """The caller that a key stands for. UnauthenticatedError for every other text; typing errors cost no query.

        `address` is where it came from; a key that is held to some networks opens nothing without one.
        """
        (found,) = self.authenticate_all([Shown(text, address)])
        if isinstance(found, UnauthenticatedError):
            raise found
        return found

    def authenticate_all(self, shown: Sequence[Shown]) -> list[Caller | UnauthenticatedError]:
        """As `authenticate`, of several keys and tokens in one look: for each its caller, or why there is none."""
        epoch = self._known.epoch()
        met = [self._known.find(each, epoch) for each in shown]
        strange = [each for each, caller in zip(shown, met, strict=True) if caller is None]
        keys = iter(self._by_keys([each for each in strange if not _is_token(each)], epoch))
        others = [each for each in strange if _is_token(each)]
        tokens = iter(self._by_tokens(others, epoch) if others else ())
        return [caller or next(tokens if _is_token(each) else keys) for each, caller in zip(shown, met, strict=True)]

    def familiar(self) -> Callable[[Shown], Awaitable[Caller | None]]:
        """For one event loop: who it was that showed the same a moment ago, without a thread, and as sure as a look.

        None for everybody else: `authenticate_all` tells who that is, or why it is nobody.
        """
        return partial(self._known.find_by, self._known.line())

    def _by_tokens(self, shown: Sequence[Shown], epoch: int | None) -> list[Caller | UnauthenticatedError]:
        found: list[Caller | UnauthenticatedError] = []
        for each, met in zip(shown, self.clients.callers(shown), strict=True):
            if not isinstance(met, UnauthenticatedError):
                self._known.remember(each, met.caller, epoch, met.now, met.end)
            found.append(met if isinstance(met, UnauthenticatedError) else met.caller)
        return found

    def _by_keys(self, shown: Sequence[Shown], epoch: int | None) -> list[Caller | UnauthenticatedError]:
        parsed = [_parsed(each.text) for each in shown]
        wanted = {each.id for each in parsed if isinstance(each, KeyText)}
        if not wanted:
            return [each for each in parsed if isinstance(each, UnauthenticatedError)]
        with self._database.read() as session:
            rows = store.token_facts(session, wanted)
            now = self._database.now(session)
        found = [
            parts if isinstance(parts, UnauthenticatedError) else self._proven(parts, each.address, rows, now)
            for parts, each in zip(parsed, shown, strict=True)
        ]
        used = set()
        for each, parts, caller in zip(shown, parsed, found, strict=True):
            if isinstance(caller, Caller) and isinstance(parts, KeyText):
                used.add(parts.id)
                self._known.remember(each, caller, epoch, now, rows[parts.id].expires_at)
        for row in rows.values():
            if row.id in used and (row.last_used_at is None or row.last_used_at <= now - USE_NOTED_EVERY):
                with self._database.begin() as session:
                    store.touch_token(session, row.id, now, USE_NOTED_EVERY)
        return found

    def _proven(
        self, parts: KeyText, address: str | None, rows: Mapping[str, store.TokenFacts], now: datetime
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
        if row.addresses and not within(address, row.addresses):
            return self._turned_away(parts.id, "address", "the API key is not known here")
        rights = Rights.of(
            [ALL_SCOPES[each] for each in row.scopes],
            None if row.resources is None else map(Resource.parse, row.resources),
        )
        return Caller(Actor(ActorKind.SERVICE, row.name), row.owner, rights, f"token:{row.id}")

    def revoke_token(self, token_id: str, *, actor: Actor) -> None:
        """Ends a key at once. AccessError where there is none that lives."""
        with self._database.begin() as session:
            if not store.revoke_token(session, token_id):
                raise AccessError(f"there is no live API key with the id {token_id}")
            bump(session)
            self._audit.record(session, Event(str(actor), Action.TOKEN_REVOKE, f"token:{token_id}"))

    def list_tokens(self) -> list[Token]:
        """All keys, oldest first, ended ones included."""
        with self._database.read() as session:
            return [_token(each) for each in store.tokens(session)]

    def require(
        self, caller: Caller, scope: Scope, resource: Resource | None = None, subject: str | None = None
    ) -> None:
        """Passes whom `decide` lets pass. Else an event, and HiddenError where the resource itself is out of sight.

        DeniedError where the caller holds the scope for nothing, or asks for the whole hub. `subject` is what the
        event tells of, where that is not the resource but something that belongs to it, such as a run.
        """
        ruling = decide(caller, scope, resource)
        if ruling.allowed:
            return
        detail = {"scope": scope.value, "why": ruling.value, "credential": caller.credential}
        self._record_denied(str(caller.actor), subject or ("hub" if resource is None else str(resource)), detail)
        if ruling is Ruling.ELSEWHERE and resource is not None:
            raise HiddenError(f"there is no {resource.kind} {resource.name} that {caller.actor} may see", resource.kind)
        raise DeniedError(f"{caller.actor} lacks the scope {scope.value}" + ("" if resource else " for the whole hub"))

    def _turned_away(self, token_id: str, why: str, message: str) -> UnauthenticatedError:
        self._record_denied("service:unknown", f"token:{token_id}", {"why": why})
        return UnauthenticatedError(message)

    def _record_denied(self, actor: str, subject: str, detail: dict[str, str | None]) -> None:
        with self._database.begin() as session:
            self._audit.record(
                session, Event(actor, Action.ACCESS_DENIED, legible(subject), Outcome.DENIED, detail=detail)
            )

    def _digest(self, parts: KeyText) -> bytes:
        return self._keys.mac("access-token", f"{parts.environment}_{parts.id}_{parts.secret}".encode("ascii"))


def _is_token(shown: Shown) -> bool:
    """Whether it has the form of a signed token; a key has no full stop."""
    return shown.text.count(".") == 2


def _parsed(text: str) -> KeyText | UnauthenticatedError:
    try:
        return parse_key_text(text)
    except UnauthenticatedError as error:
        return error


def check_wanted(name: str, owner: str, scopes: frozenset[Scope], only: frozenset[Resource] | None, days: int) -> None:
    """AccessError unless a program may be given these scopes, for these resources, so long."""
    if not name or not name.isprintable() or len(name) > 100:
        raise AccessError("name: an API key is named after the service that uses it, in 1 to 100 characters")
    if not owner or not owner.isprintable() or len(owner) > 100:
        raise AccessError("owner: an API key has a person who answers for it, in 1 to 100 characters")
    if not scopes:
        open_to_programs = ", ".join(each for each in Scope if each not in PERSONAL)
        raise AccessError(f"scopes: an API key without a scope opens nothing; choose from {open_to_programs}")
    if not 1 <= days <= MAX_DAYS:
        raise AccessError(f"days: an API key lives 1 to {MAX_DAYS} days, not {days}")
    if personal := scopes & PERSONAL:
        raise AccessError(f"scopes: {min(personal)} is for people; no program holds it")
    if only is not None and not only:
        raise AccessError("only: name at least one resource, or leave it out to allow every one")
    if only is not None and (whole := scopes & WHOLE):
        raise AccessError(f"only: the scope {min(whole)} is over the whole hub; choose narrower scopes")


def networks(addresses: Iterable[str]) -> list[str]:
    """The networks as they are stored. AccessError for what is none."""
    made = []
    for each in addresses:
        try:
            made.append(str(ip_network(each)))
        except ValueError:
            raise AccessError(f"addresses: {each!r} is no network such as 10.1.0.0/16 or 2001:db8::/32") from None
    return made


def within(address: str | None, allowed: Iterable[str]) -> bool:
    """Whether an address is in one of the networks."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in ip_network(each) for each in allowed)


def _token(row: store.TokenRow) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        owner=row.owner,
        scopes=frozenset(ALL_SCOPES[each] for each in row.scopes),
        resources=None if row.resources is None else frozenset(map(Resource.parse, row.resources)),
        addresses=tuple(row.addresses),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
