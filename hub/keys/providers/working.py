"""The hub's own working keys: what records and decisions are sealed under, themselves sealed under the outer key.

A page seals dozens of values; asking a key service for each would make its latency and its price those of every score.
So the service is asked once for each version, at start. Secrets do not take this way: each is wrapped by the outer key.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hub.database import Database
from hub.keys.envelope import open_envelope, parse
from hub.keys.providers.local import LocalKek
from hub.keys.store import newest_working_key, working_key
from hub.keys.types import KekProvider
from hub.sdk import Clock, SystemClock

WORKING = "working"
LOOK_SECONDS = 30.0
"""How often a process looks whether another has made a newer version."""


class WorkingKek(LocalKek):
    """Working keys by version, opened as they are met. Earlier ones are never destroyed."""

    def __init__(self, database: Database, keks: Mapping[str, KekProvider], clock: Clock | None = None) -> None:
        super().__init__(WORKING, {}, "the hub's database")
        self._database = database
        self._keks = keks
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._newest = 0
        self._looked = float("-inf")

    @property
    def version(self) -> int:
        """The version that wraps: the newest, as of half a minute ago. An older one is no mistake, all are kept."""
        if self._clock.monotonic() - self._looked > LOOK_SECONDS:
            self._look()
        return self._newest

    def held(self, version: int) -> bytes | None:
        """The key of a version, opened under the outer key where this process has not met it."""
        if version not in self._keys:
            with self._database.read() as session:
                sealed = working_key(session, version)
            if sealed is None:
                return None
            parts = parse(sealed)
            if parts.kek_id not in self._keks:
                return None
            self._keys[version] = open_envelope(self._keks[parts.kek_id], parts, working_identity(version))
        return self._keys[version]

    def _look(self) -> None:
        with self._lock:
            try:
                with self._database.read() as session:
                    self._newest = newest_working_key(session)
            except (DBAPIError, PoolTimeoutError):
                if not self._newest:
                    raise
            self._looked = self._clock.monotonic()


def working_identity(version: int) -> dict[str, str]:
    """What a working key is bound to."""
    return {"kind": "working-key", "version": str(version)}
