"""Askings of many callers carried out in batches: nobody waits for a clock, and each gets its own answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

R = TypeVar("R")
Each = TypeVar("Each", bound="Asking")  # type: ignore[type-arg]


class Asking(Generic[R]):
    """What one caller wants; `answer` is to come. Of those who could give it, the one who `take`s it does."""

    def __init__(self) -> None:
        self.answer: Future[R] = Future()
        self._free = threading.Lock()
        self._open = threading.Lock()

    def take(self) -> bool:
        """True for the first who asks."""
        return self._free.acquire(blocking=False)

    @property
    def taken(self) -> bool:
        """Whether somebody has taken it."""
        return self._free.locked()

    def settle(self, answer: R) -> None:
        """Gives the answer, unless there is one."""
        if self._open.acquire(blocking=False):
            self.answer.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Tells that there will be no answer, and why, unless there is one."""
        if self._open.acquire(blocking=False):
            self.answer.set_exception(error)


class Gathering(Generic[Each]):
    """Carries out the askings of each lane one batch after the other. While one is at work, the next one gathers.

    A caller alone is served at once. `carry` gets all that wait, in order, and answers those it leaves for the next
    batch; what it raises is told to everybody in the batch who has no answer yet.
    """

    def __init__(self, carry: Callable[[Sequence[Each]], Sequence[Each]], *, threads: int, name: str) -> None:
        self._carry = carry
        self._pool = ThreadPoolExecutor(threads, name)
        self._waiting: dict[str, list[Each]] = {}
        self._lock = threading.Lock()

    def ask(self, lane: str, asking: Each) -> Each:
        """Puts an asking in its lane; at once."""
        with self._lock:
            waiting = self._waiting.get(lane)
            if waiting is not None:
                waiting.append(asking)
                return asking
            self._waiting[lane] = [asking]
        self._pool.submit(self._work, lane)
        return asking

    def waiting(self, lane: str) -> int:
        """How many wait for the batch after the one at work."""
        with self._lock:
            return len(self._waiting.get(lane, ()))

    def _work(self, lane: str) -> None:
        while True:
            with self._lock:
                batch = self._waiting[lane]
                if not batch:
                    del self._waiting[lane]
                    return
                self._waiting[lane] = []
            left = self._carried(batch)
            with self._lock:
                self._waiting[lane][:0] = left

    def _carried(self, batch: Sequence[Each]) -> Sequence[Each]:
        try:
            return self._carry(batch)
        except BaseException as error:  # noqa: BLE001  (told to those who wait, in their own threads)
            for each in batch:
                each.fail(error)
            return ()
