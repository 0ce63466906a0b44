"""The one account with a password: made with a setup secret that counts once, and gone when the provider works."""

from __future__ import annotations

import base64
import hmac
import re
import secrets
import threading
from datetime import datetime, timedelta
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from sqlalchemy.orm import Session

from hub.access.people import store
from hub.access.people.attempts import Attempts
from hub.access.people.sessions import Sessions, actor_of
from hub.access.people.types import Login, Opened, SignInError
from hub.access.store import roles as granted
from hub.access.types import AccessError, Actor, Role
from hub.audit import Action, AuditLog, Event, Outcome
from hub.database import Database
from hub.keys import KeyRing
from hub.sdk import Secret

SETUP_LIFE = timedelta(minutes=30)
LEAST_PASSWORD, MOST_PASSWORD = 12, 256
"""Characters of a password."""
STEP_SECONDS = 30
DRIFT = 1
"""Steps by which the clock of whoever shows a code may be off."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
LOCAL = ""
"""The issuer of the local account."""


class Enrolment(NamedTuple):
    """What an authenticator takes: the secret in base32, and the same as an address."""

    secret: str
    uri: str


class LocalAccounts:
    """Setup secrets and the account that one makes; safe to share between threads. No account exists by itself."""

    def __init__(
        self, database: Database, keys: KeyRing, audit: AuditLog, sessions: Sessions, attempts: Attempts
    ) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit
        self._sessions = sessions
        self._attempts = attempts
        self._argon = PasswordHasher()
        # 64 MiB each: many wrong passwords at once must not take the machine's memory.
        self._hashing = threading.BoundedSemaphore(2)
        self._nobody = self._argon.hash(secrets.token_hex(16))

    def make_setup(self, *, actor: Actor) -> tuple[Secret, datetime]:
        """A setup secret in place of the one before, and when it ends. AccessError where an administrator exists."""
        text = f"setup-{secrets.token_urlsafe(32)}"
        digest = self._setup_digest(text)
        with self._database.begin() as session:
            _refuse_second(session)
            store.forget_setups(session)
            ends = self._database.now(session) + SETUP_LIFE
            totp = self._keys.seal(secrets.token_bytes(20), {"table": "access_setup", "digest": digest.hex()})
            session.add(store.SetupRow(digest=digest, totp=totp, expires_at=ends))
            self._audit.record(session, Event(str(actor), Action.SETUP_MAKE, "hub", detail={"ends": ends.isoformat()}))
        return Secret(text), ends

    def enrol(self, setup: str, name: str, address: str) -> Enrolment:
        """The TOTP secret of the account that this setup secret will make. SignInError where it does not count."""
        self._attempts.take(address)
        digest = self._setup_digest(setup)
        with self._database.begin() as session:
            found = store.setup_of(session, digest, self._database.now(session))
            if found is not None:
                self._attempts.forgive(session, address)
                secret = self._opened_setup(found)
        if found is None:
            self._failed("setup", address)
            raise SignInError("setup", "the setup secret does not count; `hub access setup` prints a new one")
        uri = TOTP(secret, 6, SHA1(), STEP_SECONDS).get_provisioning_uri(name or "admin", "Hub")  # noqa: S303
        return Enrolment(base64.b32encode(secret).decode(), uri)

    def set_up(self, setup: str, name: str, password: str, code: str, address: str) -> Opened:
        """Makes the one administrator and logs them in; uses up the secret. A wrong code lets it count on."""
        _check_account(name, password)
        self._attempts.take(address)
        hashed = self._hashed(password)
        digest = self._setup_digest(setup)
        with self._database.begin() as session:
            now = self._database.now(session)
            found = store.setup_of(session, digest, now)
            step = None if found is None else _step(self._opened_setup(found), code, now, -1)
            # Taken before anything else: whoever comes at the same moment waits here, and finds it gone.
            if found is not None and step is not None and store.take_setup(session, digest):
                _refuse_second(session)
                row = self._make(session, name, hashed, self._opened_setup(found), step)
                self._attempts.forgive(session, address)
                return self._sessions.open(
                    session, row, Login(now), before=None, detail={"setup": True, "address": self._where(address)}
                )
        why = "code" if found is not None and step is None else "setup"
        self._failed(why, address)
        raise SignInError(why, "the setup secret or the code does not count")

    def log_in(self, name: str, password: str, code: str, address: str, before: str | None = None) -> Opened:
        """A session for the right name, password and code. SignInError says which was wrong to the trail alone."""
        self._attempts.take(address, name)
        with self._database.read() as session:
            person = store.person_named(session, name)
            account = None if person is None else session.get(store.LocalRow, person.id)
        if person is None or account is None or person.disabled_at is not None:
            self._matches(self._nobody, password)
            self._failed("unknown", address)
            raise SignInError("unknown")
        why = "password" if not self._matches(self._open(account, "password").decode(), password) else "code"
        if why == "code" and (opened := self._proven(person.id, account, code, address, name, before)) is not None:
            return opened
        self._failed(why, address, person.name)
        raise SignInError(why)

    def retire(self, session: Session) -> None:
        """Ends every local account in the caller's transaction: a provider has logged an administrator in."""
        now = self._database.now(session)
        store.forget_setups(session)
        for person in store.people(session):
            if person.issuer == LOCAL and person.disabled_at is None:
                person.disabled_at = now
                store.forget_local(session, person.id)
                store.end_sessions(session, person.id)
                detail = {"why": "the identity provider logged an administrator in"}
                self._audit.record(session, Event("hub", Action.PERSON_DISABLE, actor_of(person.name), detail=detail))

    def _proven(
        self, person_id: str, account: store.LocalRow, code: str, address: str, name: str, before: str | None
    ) -> Opened | None:
        with self._database.begin() as session:
            now = self._database.now(session)
            step = _step(self._open(account, "totp"), code, now, account.step)
            person = session.get_one(store.PersonRow, person_id)
            if step is None or person.disabled_at is not None or not store.use_step(session, person_id, step):
                return None
            self._attempts.forgive(session, address, name)
            return self._sessions.open(
                session, person, Login(now), before=before, detail={"address": self._where(address)}
            )

    def _make(self, session: Session, name: str, hashed: str, totp: bytes, step: int) -> store.PersonRow:
        if store.person_named(session, name) is not None:
            raise AccessError("name: somebody is called so already, or was; choose another")
        now = self._database.now(session)
        row = store.PersonRow(
            id=secrets.token_hex(8),
            name=name,
            issuer=LOCAL,
            subject=name,
            title=name,
            claimed=[Role.ADMIN.value],
            created_at=now,
        )
        account = store.LocalRow(person=row.id, password=b"", totp=b"", step=step)
        account.password = self._keys.seal(hashed.encode(), _identity(account, "password"))
        account.totp = self._keys.seal(totp, _identity(account, "totp"))
        session.add_all([row, account])
        session.flush()
        self._audit.record(session, Event("hub", Action.PERSON_CREATE, actor_of(name), detail={"person": row.id}))
        return row

    def _failed(self, why: str, address: str, name: str | None = None) -> None:
        # What was typed as a name is not told: it may be a password in the wrong field.
        actor = actor_of(name or "unknown")
        detail = {"why": why, "method": "local", "address": self._where(address)}
        with self._database.begin() as session:
            self._audit.record(session, Event(actor, Action.SESSION_OPEN, "hub", Outcome.FAILED, detail=detail))

    def _hashed(self, password: str) -> str:
        with self._hashing:
            return self._argon.hash(password)

    def _matches(self, hashed: str, password: str) -> bool:
        with self._hashing:
            try:
                return self._argon.verify(hashed, password[: MOST_PASSWORD + 1])
            except VerifyMismatchError:
                return False

    def _open(self, account: store.LocalRow, part: str) -> bytes:
        return self._keys.open(getattr(account, part), _identity(account, part))

    def _opened_setup(self, row: store.SetupRow) -> bytes:
        return self._keys.open(row.totp, {"table": "access_setup", "digest": row.digest.hex()})

    def _setup_digest(self, text: str) -> bytes:
        return self._keys.mac("setup-secret", text.encode())

    def _where(self, address: str) -> str:
        return self._keys.mac("address", address.encode()).hex()[:16]


def _identity(account: store.LocalRow, part: str) -> dict[str, str]:
    return {"table": "access_local", "person": account.person, "kind": part}


def is_admin(session: Session, person: store.PersonRow) -> bool:
    """Whether somebody holds the role admin: by their last login, or given here."""
    held = granted(session, actor_of(person.name))
    return Role.ADMIN.value in person.claimed or any(each.role == Role.ADMIN.value for each in held)


def _refuse_second(session: Session) -> None:
    for person in store.people(session):
        if person.disabled_at is None and is_admin(session, person):
            raise AccessError(f"{person.name} is an administrator already; `hub access people disable` ends them first")


def _check_account(name: str, password: str) -> None:
    if not NAME.fullmatch(name):
        raise AccessError("name: 1 to 64 letters, digits and . _ @ -, the first a letter or digit")
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        raise AccessError(f"password: {LEAST_PASSWORD} to {MOST_PASSWORD} characters")


def _step(secret: bytes, code: str, now: datetime, used: int) -> int | None:
    """The step whose code this is, later than the one used up; None for a wrong code."""
    current = int(now.timestamp()) // STEP_SECONDS
    totp = TOTP(secret, 6, SHA1(), STEP_SECONDS)  # noqa: S303  (RFC 6238; what authenticators speak)
    for step in range(current - DRIFT, current + DRIFT + 1):
        if hmac.compare_digest(totp.generate(step * STEP_SECONDS), code.encode()) and step > used:
            return step
    return None
