"""The threads of one worker: one each to read, store, write and settle, doing its jobs in order.

They stay from slice to slice, since a connection belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar, cast

T = TypeVar("T")
P = ParamSpec("P")

_END: Final = object()


class SkippedError(Exception):
    """A job was not done, because one before it failed."""


class Lanes:
    """The threads, started when they are first needed."""

    def __init__(self) -> None:
        self.reading = ThreadPoolExecutor(1, "read")
        self.storing = ThreadPoolExecutor(1, "store")
        self.writing = ThreadPoolExecutor(1, "write")
        self.settling = ThreadPoolExecutor(1, "settle")

    def close(self) -> None:
        """Ends the threads once they have done what they were given."""
        for each in (self.reading, self.storing, self.writing, self.settling):
            each.shutdown()


class Lane:
    """Jobs for one thread; after one that failed, no other is done."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self._failed = False

    def give(self, job: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> Future[T]:
        """The job's answer, or its error; SkippedError where one before it failed."""
        return self._thread.submit(self._do, lambda: job(*arguments, **named))

    def _do(self, job: Callable[[], T]) -> T:
        if self._failed:
            raise SkippedError
        try:
            return job()
        except BaseException:
            self._failed = True
            raise


def made_by(thread: ThreadPoolExecutor, items: Generator[T], *, ahead: bool) -> Generator[T]:
    """The same items, made by that thread; with `ahead`, each while the one before it is at work."""
    coming: Future[T | object] | None = None
    try:
        while True:
            item = (coming or thread.submit(next, items, _END)).result()
            coming = None
            if item is _END:
                return
            if ahead:
                coming = thread.submit(next, items, _END)
            yield cast("T", item)
    finally:
        if coming is not None:
            coming.exception()
        thread.submit(items.close).result()
