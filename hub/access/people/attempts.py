"""Failed logins per account and per address, counted before they are judged, so that many at once count as many."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hub.access.people import store
from hub.access.people.types import TooOftenError
from hub.database import Database
from hub.keys import KeyRing

FREE_OF_ACCOUNT, FREE_OF_ADDRESS = 5, 20
"""Failures that cost no wait."""
FIRST_WAIT, LONGEST_WAIT = 10.0, 900.0
"""Seconds to wait after the next failure, doubled by each further one, at most the latter."""
FORGOTTEN = timedelta(hours=1)
"""After so long without a failure nothing of them counts."""


class Attempts:
    """Kept in the database, so that all processes and restarts count together; safe to share between threads."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys

    def take(self, address: str, account: str | None = None) -> None:
        """Counts an attempt as failed until it is forgiven. TooOftenError, and nothing counted, while one must wait."""
        names = self._names(address, account)
        with self._database.begin() as session:
            now = self._database.now(session)
            store.forget_attempts(session, now - FORGOTTEN)
            known = store.attempts(session, sorted(names))
            waits = [_wait(*known[name], free, now) for name, free in names.items() if name in known]
            if waits and max(waits) > 0:
                raise TooOftenError(max(waits))
            for name in sorted(names):
                store.count_attempt(session, name, now)

    def forgive(self, session: Session, address: str, account: str | None = None) -> None:
        """The attempt was a good one: the account starts afresh, the address gets back what it took."""
        names = self._names(address, account)
        for name, (failures, _) in store.attempts(session, sorted(names)).items():
            store.set_attempts(session, name, 0 if names[name] == FREE_OF_ACCOUNT else max(0, failures - 1))

    def _names(self, address: str, account: str | None) -> dict[bytes, int]:
        names = {self._keys.mac("login-attempt", f"address {address}".encode()): FREE_OF_ADDRESS}
        if account is not None:
            names[self._keys.mac("login-attempt", f"account {account}".encode())] = FREE_OF_ACCOUNT
        return names


def _wait(failures: int, at: datetime, free: int, now: datetime) -> float:
    if failures < free:
        return 0.0
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - free, 16))
    return max(0.0, wait - (now - at).total_seconds())
