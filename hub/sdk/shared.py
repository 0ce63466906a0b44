"""What all workers of one connection share, wherever they run: its token, its waits, its calls and its retries.

A connector asks here instead of keeping such things itself, so that one login serves all workers, a wait that the far
side asked of one is kept by all, and no two of them spend the same call of a daily budget. What one of them had
to put up with it counts in a `Tally`, so that a run can say it in plain words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeAlias

from hub.sdk.secret import Secret

RETRIES = 500
"""Retries that a connection may have in hand; each success earns one back (the bucket of the AWS SDKs)."""
EARLY = timedelta(seconds=30)
"""A token is renewed so long before it ends, so that none runs out on its way."""
DAY = timedelta(hours=24)
LOOK = timedelta(hours=1)
"""How long a budget is taken for spent on what was told last: calls come back all day, and an answer alone tells."""
LOOKS = 24
"""Calls that are set aside for such looks, one for each hour of a day, so that none of them is out of the reserve."""
LOOKS_SHARE = 100
"""Of a small budget no more than one call in so many is set aside, and one at least."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, when it ends (None: the far side does not say), and what came with it, such as the host."""

    value: Secret
    ends_at: datetime | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Budget:
    """The calls of one connection in a rolling day: how many there are for everybody, and how many are used."""

    most: int
    used: int

    @property
    def left(self) -> int:
        """Calls that nobody has made yet, never below zero."""
        return max(0, self.most - self.used)

    @property
    def looks(self) -> int:
        """Calls that are set aside to see whether others have come back."""
        return max(1, min(LOOKS, self.most // LOOKS_SHARE))

    def above(self, reserve_percent: int) -> int:
        """Calls left above the last `reserve_percent` of the day's, below zero where others are in them already."""
        reserve = -(-self.most * reserve_percent // 100)  # rounded up
        return self.left - reserve

    def free(self, reserve_percent: int) -> int:
        """Calls that anybody may make: neither of the reserve nor set aside for looks. Never below zero."""
        return max(0, self.above(reserve_percent) - self.looks)


class Shared(Protocol):
    """Safe to share between threads. Every time is that of one clock for all workers."""

    @property
    def origin(self) -> object:
        """The same object for all that one process opens of a connection, to keep by it what is known of the far side.

        What is given to a connector may be a view of it, with the token of a lease.
        """
        ...

    def token(self, mint: Callable[[], Token], *, refused: Token | None = None) -> Token:
        """The connection's token. `mint` logs in, one worker at a time, where there is none that holds.

        `refused` is the token that the far side no longer takes; whoever comes with an older one gets the newer.
        """
        ...

    def hold_off(self, seconds: float) -> None:
        """Nobody calls the far side for so long; the longest wait asked for counts."""
        ...

    def wait(self) -> float:
        """Seconds until the far side may be called again; 0 where it may be now."""
        ...

    def learn(self, budget: Budget) -> None:
        """What the far side says of its calls: it counts everybody's, so its word replaces ours, never lowering it."""
        ...

    def budget(self) -> Budget | None:
        """What is known of the calls; None where the far side has told nothing."""
        ...

    def spend(self, calls: int, *, reserve_percent: int = 0) -> bool:
        """Takes calls out of the budget as `spent` says; False, and nothing taken, where they may not be made."""
        ...

    def may_retry(self, cost: int) -> bool:
        """Takes a retry out of the bucket; False where it is empty: the far side is failing, not a call."""
        ...

    def succeeded(self) -> None:
        """A call was answered: one retry comes back."""
        ...


class LocalShared:
    """For one process: what the embedded default, the conformance kit and twins need."""

    def __init__(self, now: Callable[[], datetime] | None = None) -> None:
        self._now = now or (lambda: datetime.now(UTC))
        self._lock = threading.RLock()
        self._minting = threading.Lock()
        self._token: Token | None = None
        self._until: datetime | None = None
        self._budget: Budget | None = None
        self._told_at: datetime | None = None
        self._retries = RETRIES

    @property
    def origin(self) -> object:
        """As `Shared.origin`."""
        return self

    def token(self, mint: Callable[[], Token], *, refused: Token | None = None) -> Token:
        """As `Shared.token`."""
        with self._minting:
            known = self._token
            if known is None or known is refused or ended(known, self._now()):
                known = self._token = mint()
            return known

    def hold_off(self, seconds: float) -> None:
        """As `Shared.hold_off`."""
        with self._lock:
            until = self._now() + timedelta(seconds=seconds)
            self._until = max(until, self._until or until)

    def wait(self) -> float:
        """As `Shared.wait`."""
        with self._lock:
            return 0.0 if self._until is None else max(0.0, (self._until - self._now()).total_seconds())

    def learn(self, budget: Budget) -> None:
        """As `Shared.learn`."""
        with self._lock:
            self._budget = merged(self.budget(), budget)
            self._told_at = self._now()

    def budget(self) -> Budget | None:
        """As `Shared.budget`."""
        with self._lock:
            old = self._told_at is None or self._now() - self._told_at > DAY
            return None if old else self._budget

    def spend(self, calls: int, *, reserve_percent: int = 0) -> bool:
        """As `Shared.spend`."""
        with self._lock:
            if self._budget is None or self._told_at is None:
                return True
            after = spent(self._budget, self._told_at, self._now(), calls, reserve_percent)
            if after is None:
                return False
            self._budget, self._told_at = after
            return True

    def may_retry(self, cost: int) -> bool:
        """As `Shared.may_retry`."""
        with self._lock:
            if self._retries < cost:
                return False
            self._retries -= cost
            return True

    def succeeded(self) -> None:
        """As `Shared.succeeded`."""
        with self._lock:
            self._retries = min(RETRIES, self._retries + 1)


def ended(token: Token, now: datetime) -> bool:
    """Whether a token has run out, or is about to."""
    return token.ends_at is not None and token.ends_at - EARLY <= now


def merged(known: Budget | None, told: Budget) -> Budget:
    """What is known after the far side's word: answers overtake each other, so the higher use of one day is newer.

    A use that fell by more than calls under way could explain is a new day.
    """
    if known is None or known.most != told.most or told.used < known.used - max(100, known.most // 20):
        return told
    return Budget(told.most, max(known.used, told.used))


def spent(
    known: Budget, told_at: datetime, now: datetime, calls: int, reserve_percent: int
) -> tuple[Budget, datetime] | None:
    """The budget once these calls are taken, and when it was told; None where they may not be made.

    Whoever comes stops a little above the reserve. What is set aside there is for one look an hour, whose answer tells
    how many calls have come back meanwhile. The reserve itself is never touched: where nothing is left above it, nobody
    calls until what was told is a day old. By then all of our own calls have come back; whose else were made, the next
    answer tells.
    """
    if now - told_at > DAY:
        return spent(Budget(known.most, 0), now - LOOK, now, calls, reserve_percent)
    above = known.above(reserve_percent) - calls
    after = Budget(known.most, known.used + calls)
    if above >= known.looks:
        return after, told_at
    return (after, now) if above >= 0 and now - told_at >= LOOK else None


class Happening(StrEnum):
    """Something that was dealt with: no record was lost by it, and somebody may wonder why the run took so long."""

    WAITED = "waited"
    """The far side asked to wait; the amount is in seconds."""
    LOGGED_IN = "logged in"
    """A session ended before its time, and a new one was opened."""
    REPEATED = "repeated"
    """A call was made again, since nobody answered it or the far side was busy."""
    LOCKED = "locked"
    """Records that somebody else held were sent again; the amount is in records."""
    LEFT = "left"
    """A job of the far side ended before it came to these records, which were sent again; the amount is in records."""
    FOUND = "found"
    """A job that was begun before was found again and not sent twice."""
    MISSED = "missed"
    """A live source could not tell everything that changed, and a run was ordered that finds it."""


Told: TypeAlias = Mapping[str, tuple[int, float]]
"""How often each happened, and the sum of the amounts."""


class Tally:
    """Counts what happens; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, tuple[int, float]] = {}

    def add(self, what: Happening, amount: float = 1) -> None:
        """It happened once more, of this size."""
        with self._lock:
            times, sum_ = self._told.get(what.value, (0, 0.0))
            self._told[what.value] = (times + 1, sum_ + amount)

    def drain(self) -> Told:
        """What happened since the last look, which is forgotten here."""
        with self._lock:
            told, self._told = self._told, {}
            return told


def together(some: Told, others: Told) -> dict[str, tuple[int, float]]:
    """The sum of two."""
    none = (0, 0.0)
    names = {*some, *others}
    return {
        name: (some.get(name, none)[0] + others.get(name, none)[0], some.get(name, none)[1] + others.get(name, none)[1])
        for name in sorted(names)
    }


class LentShared:
    """A view of what is shared, whose tokens are lent: the connector's own way to log in is never called."""

    def __init__(self, shared: Shared, lend: Callable[[Token | None], Token]) -> None:
        """`lend` gives the token, another one where that which it is shown was refused."""
        self._lend = lend
        self.origin = shared.origin
        self.hold_off = shared.hold_off
        self.wait = shared.wait
        self.learn = shared.learn
        self.budget = shared.budget
        self.spend = shared.spend
        self.may_retry = shared.may_retry
        self.succeeded = shared.succeeded

    def token(self, mint: Callable[[], Token], *, refused: Token | None = None) -> Token:  # noqa: ARG002
        """As `Shared.token`, but for `mint`."""
        return self._lend(refused)
