"""How often: so many requests a second by name, counted by all processes together in Redis, or by each its share.

Policy: a counter that cannot be reached lets nobody through who would not pass otherwise. Each process then counts by
itself, and allows its part of the whole: the rate divided by HUB_API_REPLICAS. A process that keeps asking for a
caller is given some requests at a time, which are counted before they are made.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from hub.logs import Log

MOST_KNOWN = 10_000
"""Callers whose rate is remembered."""
ASK_SECONDS = 0.25
"""How long Redis may take to answer."""
AWAY_SECONDS = 5.0
"""How long Redis is left alone after it did not answer."""
HELD_SECONDS = 0.25
"""How long a process may use what it was given for a caller; what is left then was counted in vain."""
HELD_MOST, HELD_PART = 8, 50
"""At most so many are given to a process at a time, and at most this part of what a caller may use at once."""

log = Log(__name__)


class Rates:
    """A token bucket per name: `rate` a second, and `burst` at once. Kept in this process, for the latest callers.

    The library's own store in memory keeps every name that it ever saw, and starts a thread for each that ends.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str) -> float:
        """Takes one; 0, or the seconds until there is one again."""
        with self._lock:
            left, now = self._refilled(name)
            taken = left >= 1
            self._left[name] = (left - 1 if taken else left, now)
            self._left.move_to_end(name)
            while len(self._left) > MOST_KNOWN:
                self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) / self._rate

    def left(self, name: str) -> float:
        """As `take`, without taking."""
        with self._lock:
            left, _ = self._refilled(name)
            return 0.0 if left >= 1 else (1 - left) / self._rate

    def _refilled(self, name: str) -> tuple[float, float]:
        now = self._clock()
        left, then = self._left.get(name, (self._burst, now))
        return min(self._burst, left + (now - then) * self._rate), now


class _Held(NamedTuple):
    """What one process was given for one caller: how many at a time, how many are left, and until when."""

    given: int
    left: int
    until: float


class SharedRates:
    """As `Rates`, over all processes: a moving window in Redis, of `burst` requests in the time that `rate` gives."""

    def __init__(self, purpose: str, rate: float, burst: float, *, url: str | None, replicas: int = 1) -> None:
        self._purpose = purpose
        self._here = Rates(rate / replicas, max(1.0, burst / replicas))
        self._item = RateLimitItemPerSecond(max(1, round(burst)), max(1, round(burst / rate)))
        self._most = max(1, min(HELD_MOST, round(burst) // HELD_PART))
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._away_until = 0.0
        self._window: MovingWindowRateLimiter | None = None
        self._storage: RedisStorage | None = None
        if url is not None and url.startswith("redis"):
            timeouts = {"socket_timeout": ASK_SECONDS, "socket_connect_timeout": ASK_SECONDS}
            self._storage = RedisStorage(
                f"async+{url}", wrap_exceptions=True, implementation="redispy", key_prefix="hub-rates", **timeouts
            )
            self._window = MovingWindowRateLimiter(self._storage)

    async def take(self, name: str) -> float:
        """Takes one; 0, or the seconds until there is one again."""
        if self._window is not None and time.monotonic() >= self._away_until:
            held, now = self._held.get(name, _Held(0, 0, 0.0)), time.monotonic()
            if held.left and now < held.until:
                self._held[name] = held._replace(left=held.left - 1)
                return 0.0
            # Twice as many as were used up in time, else one: who comes seldom to many processes pays for no more.
            wanted = min(max(1, 2 * held.given), self._most) if now < held.until else 1
            try:
                if await self._draw(name, wanted) or (wanted > 1 and await self._draw(name, 1)):
                    return 0.0
                return await self._wait(name)
            except StorageError as error:
                self._lost(error)
        return self._here.take(name)

    async def left(self, name: str) -> float:
        """As `take`, without taking."""
        if self._window is not None and time.monotonic() >= self._away_until:
            try:
                if await self._window.test(self._item, self._purpose, name):
                    return 0.0
                return await self._wait(name)
            except StorageError as error:
                self._lost(error)
        return self._here.left(name)

    async def close(self) -> None:
        """Gives the connections to Redis back."""
        if self._storage is not None:
            await self._storage.bridge.storage.aclose()  # type: ignore[attr-defined]

    async def _draw(self, name: str, number: int) -> bool:
        assert self._window is not None
        if not await self._window.hit(self._item, self._purpose, name, cost=number):
            return False
        self._held[name] = _Held(number, number - 1, time.monotonic() + HELD_SECONDS)
        self._held.move_to_end(name)
        while len(self._held) > MOST_KNOWN:
            self._held.popitem(last=False)
        return True

    async def _wait(self, name: str) -> float:
        assert self._window is not None
        stats = await self._window.get_window_stats(self._item, self._purpose, name)
        return max(stats.reset_time - time.time(), 0.001)

    def _lost(self, error: StorageError) -> None:
        self._away_until = time.monotonic() + AWAY_SECONDS
        log.warning("redis does not count requests; this process counts its share", error=type(error).__name__)
