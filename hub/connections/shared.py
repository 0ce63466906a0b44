"""What the workers of one connection share, kept in the hub's database: every process of the installation sees it."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hub.access.leases import Held, Leases
from hub.connections import store
from hub.database import Database
from hub.keys import KeyRing, SealedError
from hub.logs import conceal
from hub.sdk import Context, Secret, Shared, Token, UnavailableError
from hub.sdk.shared import DAY, RETRIES, Budget, LentShared, ended, merged, spent

MINTING_SECONDS = 20.0
"""How long one worker may take to log in before another tries."""
LOOK_SECONDS = 0.1
SUCCESSES = 20
"""Answered calls gathered before their retries are given back: a commit for each would cost more than it tells."""


class DatabaseShared:
    """`hub.sdk.Shared` for one connection, by the database's clock. Safe to share between threads and processes."""

    def __init__(self, database: Database, keys: KeyRing, name: str) -> None:
        self._database = database
        self._keys = keys
        self._name = name
        self._lock = threading.Lock()
        self._held: tuple[int, Token] | None = None
        self._successes = 0

    @property
    def origin(self) -> object:
        """As `Shared.origin`."""
        return self

    def token(self, mint: Callable[[], Token], *, refused: Token | None = None) -> Token:
        """As `Shared.token`; UnavailableError where another worker has been logging in for too long."""
        until = time.monotonic() + 2 * MINTING_SECONDS
        while time.monotonic() < until:
            found, mine = self._database.retrying(lambda s: self._turn(s, refused), repeatable=True)
            if found is not None:
                return found
            if mine:
                return self._minted(mint)
            time.sleep(LOOK_SECONDS)
        raise UnavailableError(f"connection {self._name}: another worker is still logging in")

    def _turn(self, session: Session, refused: Token | None) -> tuple[Token | None, bool]:
        """The token that holds; or None, and whether this worker is the one to log in now."""
        row = store.shared(session, self._name)
        now = self._database.now(session)
        token = self._known(row)
        if token is not None and not ended(token, now) and token is not refused:
            return token, False
        if row.minting_until is not None and row.minting_until > now:
            return None, False
        row.minting_until = now + timedelta(seconds=MINTING_SECONDS)
        return None, True

    def _known(self, row: store.SharedRow) -> Token | None:
        if row.token is None:
            return None
        if self._held is None or self._held[0] != row.token_number:
            try:
                self._held = (row.token_number, _unpacked(self._keys.open(row.token, self._identity)))
            except SealedError:
                return None  # sealed under a key that is gone: a new login costs less than a person's time
        return self._held[1]

    def _minted(self, mint: Callable[[], Token]) -> Token:
        try:
            token = mint()
        except BaseException:
            self._database.retrying(self._give_back, repeatable=True)
            raise
        sealed = self._keys.seal(_packed(token), self._identity)

        def keep(session: Session) -> int:
            row = store.shared(session, self._name)
            row.token, row.minting_until = sealed, None
            row.token_number += 1
            return row.token_number

        conceal(token.value)
        self._held = (self._database.retrying(keep, repeatable=True), token)
        return token

    def _give_back(self, session: Session) -> None:
        store.shared(session, self._name).minting_until = None

    @property
    def _identity(self) -> dict[str, str]:
        return {"kind": "access_token", "connection": self._name}

    def hold_off(self, seconds: float) -> None:
        """As `Shared.hold_off`."""

        def note(session: Session) -> None:
            row = store.shared(session, self._name)
            until = self._database.now(session) + timedelta(seconds=seconds)
            row.wait_until = max(until, row.wait_until or until)

        self._database.retrying(note, repeatable=True)

    def wait(self) -> float:
        """As `Shared.wait`."""
        with self._database.read() as session:
            row = store.look(session, self._name)
            if row is None or row.wait_until is None:
                return 0.0
            return max(0.0, (row.wait_until - self._database.now(session)).total_seconds())

    def learn(self, budget: Budget) -> None:
        """As `Shared.learn`."""

        def note(session: Session) -> None:
            row = store.shared(session, self._name)
            now = self._database.now(session)
            known = merged(_budget(row, now), budget)
            row.budget_most, row.budget_used, row.budget_at = known.most, known.used, now

        self._database.retrying(note, repeatable=True)

    def budget(self) -> Budget | None:
        """As `Shared.budget`."""
        with self._database.read() as session:
            row = store.look(session, self._name)
            return None if row is None else _budget(row, self._database.now(session))

    def spend(self, calls: int, *, reserve_percent: int = 0) -> bool:
        """As `Shared.spend`."""

        def take(session: Session) -> bool:
            row = store.shared(session, self._name)
            if row.budget_most is None or row.budget_at is None:
                return True
            known = Budget(row.budget_most, row.budget_used)
            after = spent(known, row.budget_at, self._database.now(session), calls, reserve_percent)
            if after is None:
                return False
            row.budget_used, row.budget_at = after[0].used, after[1]
            return True

        return self._database.retrying(take, repeatable=True)

    def may_retry(self, cost: int) -> bool:
        """As `Shared.may_retry`."""

        def take(session: Session) -> bool:
            row = store.shared(session, self._name)
            if row.retries < cost:
                return False
            row.retries -= cost
            return True

        return self._database.retrying(take, repeatable=True)

    def succeeded(self) -> None:
        """As `Shared.succeeded`."""
        with self._lock:
            self._successes += 1
            if self._successes < SUCCESSES:
                return
            earned, self._successes = self._successes, 0

        def give(session: Session) -> None:
            row = store.shared(session, self._name)
            row.retries = min(RETRIES, row.retries + earned)

        self._database.retrying(give, repeatable=True)


def leased(shared: Shared, leases: Leases, held: Held, context: Context) -> LentShared:
    """What the workers of one connection share, with tokens by the lease. LeaseError where that is over."""

    def lend(refused: Token | None) -> Token:
        deadline = context.deadline
        left = None if deadline is None else max(0.0, deadline - context.clock.monotonic())
        return leases.token(held, refused, left)

    return LentShared(shared, lend)


def _budget(row: store.SharedRow, now: datetime) -> Budget | None:
    if row.budget_most is None or row.budget_at is None or now - row.budget_at > DAY:
        return None
    return Budget(row.budget_most, row.budget_used)


def _packed(token: Token) -> bytes:
    ends = token.ends_at.isoformat() if token.ends_at is not None else None
    value = base64.b64encode(token.value.reveal().encode()).decode()
    return json.dumps({"value": value, "ends_at": ends, "facts": dict(token.facts)}).encode()


def _unpacked(content: bytes) -> Token:
    raw = json.loads(content)
    token = Token(conceal(Secret(base64.b64decode(raw["value"]).decode())), facts=raw["facts"])
    return token if raw["ends_at"] is None else replace(token, ends_at=datetime.fromisoformat(raw["ends_at"]))
