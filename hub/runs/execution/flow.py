"""Judged pages on their way: each is stored, written and settled, in order, while the next ones are read and judged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Self

from hub.decisions.keyhash import among
from hub.process import give_back_memory
from hub.runs.execution.lanes import Lane, Lanes, SkippedError
from hub.runs.pages import Hashes, Intent, Judged, Load, Ready, Trip, refused
from hub.runs.types import Claim

UNDER_WAY = 3
"""Judged pages that may be under way at once: one being stored, one being written, one being settled."""


@dataclass(frozen=True, slots=True)
class _Page:
    hashes: Hashes
    stored: Future[Future[Future[None]] | None]

    def done(self) -> None:
        """Waits until the page is settled, or stored where it is not to be written; raises what went wrong."""
        written = self.stored.result()
        if written is not None:
            written.result().result()


class Flow:
    """The pages of one claim between being judged and being done with.

    The first commit of a page follows that of the page before, so does its write, and so does its second commit; a page
    that fails keeps those after it from being written, save the one on its way by then. What is found after a crash is
    a row of stored pages, of which the first two at most were written.
    """

    def __init__(self, trip: Trip, claim: Claim, lanes: Lanes, check: Callable[[], None], *, lands: bool) -> None:
        self._trip = trip
        self._claim = claim
        self._check = check
        self._lands = lands
        self._store = Lane(lanes.storing)
        self._write = Lane(lanes.writing)
        self._settle = Lane(lanes.settling)
        self._pages: deque[_Page] = deque()
        self._failed = False

    def meet(self, hashes: Hashes) -> None:
        """Waits for the pages that hold one of these records: a later decision sees where the earlier left it."""
        last = max((at for at, page in enumerate(self._pages) if among(hashes, page.hashes).any()), default=-1)
        for _ in range(last + 1):
            self._finish()

    def put(self, number: int, page: Ready, judged: Judged) -> None:
        """Sends a judged page on its way, as soon as there is room."""
        while len(self._pages) >= UNDER_WAY:
            self._finish()
        stored = self._store.give(self._stored, number, page.load, judged, page.hashes)
        self._pages.append(_Page(page.hashes, stored))

    def settle(self) -> None:
        """Waits for all pages that are under way."""
        while self._pages:
            self._finish()

    def _finish(self) -> None:
        try:
            self._pages.popleft().done()
            give_back_memory()  # without it a long run ends with a tenth more than it had after its first pages
        except BaseException:
            self._failed = True
            raise

    def _stored(self, number: int, load: Load, judged: Judged, hashes: Hashes) -> Future[Future[None]] | None:
        intent = self._trip.store(self._claim, number, load, judged, hashes)
        return self._write.give(self._written, intent) if self._lands else None

    def _written(self, intent: Intent) -> Future[None]:
        results = self._trip.send(self._claim, intent, self._check)
        settled = self._settle.give(self._trip.settle, self._claim, intent, results)
        if results is not None and refused(results):
            settled.result()  # a limit on what is rejected is judged before the next page is written
        return settled

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves nothing under way. Of several errors, that of the earliest page is the one to act on."""
        first: BaseException | None = None
        for page in self._pages:
            try:
                page.done()
            except SkippedError:
                continue
            except BaseException as failed:  # noqa: BLE001  (raised below)
                first = first or failed
        self._pages.clear()
        if first is not None and not self._failed:
            raise first
