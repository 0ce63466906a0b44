"""Who was known a moment ago is known again, unless a right was taken away since or a minute has gone by.

The number that moves when a right ends is read with every request, from the database and in the request's own time: a
key that was revoked by any process opens nothing from then on. What nothing moves, an end by date, is met within a
minute; a key is remembered no longer than it lives.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from hub.access.callers.store import bump, epoch
from hub.access.types import Caller, Shown
from hub.database import Database, DatabaseError, Glance

if TYPE_CHECKING:
    from hub.access.callers.line import Line

__all__ = ["KNOWN_SECONDS", "KnownCallers", "bump"]

KNOWN_SECONDS = 60.0
"""Also how often the use of a key is noted."""
MOST_KNOWN = 10_000


class _Met(NamedTuple):
    caller: Caller
    epoch: int | None
    until: float


class KnownCallers:
    """Callers by what they showed; safe to share between threads. Under a clock of its own nobody is remembered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._simulated = database.clock is not None
        self._glance = Glance(database, epoch())
        self._met: OrderedDict[bytes, _Met] = OrderedDict()
        self._lock = threading.Lock()

    def epoch(self) -> int | None:
        """The number as it stands; to be read before anything that `remember` is told."""
        return self._glance.read()

    def line(self) -> Line:
        """A line to the number for one event loop."""
        from hub.access.callers.line import Line

        return Line(self._database, epoch())

    def find(self, shown: Shown, now: int | None) -> Caller | None:
        """The caller who showed the same a moment ago, in the same epoch."""
        return self._named(_name(shown), now)

    async def find_by(self, line: Line, shown: Shown) -> Caller | None:
        """As `find`, in the epoch that the line tells; None as well where it tells none."""
        name = _name(shown)
        if name not in self._met:
            return None
        try:
            return self._named(name, await line.read())
        except DatabaseError:
            return None

    def _named(self, name: bytes, now: int | None) -> Caller | None:
        with self._lock:
            met = self._met.get(name)
            if met is None:
                return None
            if met.epoch != now or met.until <= time.monotonic():
                del self._met[name]
                return None
            return met.caller

    def remember(self, shown: Shown, caller: Caller, epoch: int | None, now: datetime, end: datetime) -> None:
        """That the caller was found in that epoch, at that moment of the database, and ends then."""
        if self._simulated:
            return
        seconds = min(KNOWN_SECONDS, (end - now) / timedelta(seconds=1))
        with self._lock:
            self._met[_name(shown)] = _Met(caller, epoch, time.monotonic() + seconds)
            while len(self._met) > MOST_KNOWN:
                self._met.popitem(last=False)


def _name(shown: Shown) -> bytes:
    """A digest over all that was shown: the key itself is not kept."""
    made = sha256(shown.text.encode("utf-8", "surrogatepass"))
    made.update(b"\0" + (shown.address or "").encode() + b"\0" + (shown.certificate or b""))
    return made.digest()
