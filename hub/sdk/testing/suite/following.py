"""Somebody who follows a live source in a thread of their own, so that a test can wait with a limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from hub.sdk import Context, Cursor, Page
from hub.sdk.testing.harness import Harness
from hub.sdk.testing.suite.steps import lacks, selection


class Following:
    """The pages of one stream, as they come; its connection belongs to its thread."""

    def __init__(self, harness: Harness, after: Cursor | None, rows: int) -> None:
        self._harness = harness
        self._rows = rows
        self._stop = threading.Event()
        self._pages: SimpleQueue[Page | BaseException] = SimpleQueue()
        self._thread = threading.Thread(target=self._follow, args=(after,), name="following", daemon=True)
        self._thread.start()

    def next(self, seconds: float) -> Page:
        """The next page, within so many seconds."""
        try:
            page = self._pages.get(timeout=seconds)
        except Empty:
            raise AssertionError(f"no page came within {seconds:g} seconds") from None
        if isinstance(page, BaseException):
            raise page
        return page

    def until(self, wanted: Callable[[Page], bool], what: str) -> Page:
        """The next page that is wanted; it must be among those of `Harness.arrives` seconds."""
        context = Context()
        end = context.clock.monotonic() + self._harness.arrives
        while (left := end - context.clock.monotonic()) > 0:
            page = self.next(max(left, self._harness.beat))
            if wanted(page):
                return page
        raise AssertionError(f"{what} did not come within {self._harness.arrives:g} seconds")

    def gap(self) -> Page:
        """The next page that says it cannot tell what moved before it; no record may come until then."""

        def told(page: Page) -> bool:
            assert page.frame.height == 0, "a record came before or with the page that tells a gap"
            return page.gap

        return self.until(told, "a page that tells a gap")

    def rows(self) -> tuple[list[dict[str, Any]], Page]:
        """The records of the next page that has some, and the page."""
        page = self.until(lambda page: page.frame.height > 0, "a change")
        assert not page.gap, "a page that tells a gap holds records"
        return page.frame.rows(named=True), page

    def stop(self) -> None:
        """Cancels it; the stream must end by itself."""
        self._stop.set()
        self._thread.join(max(self._harness.arrives, self._harness.beat))
        assert not self._thread.is_alive(), "a cancelled stream does not end"

    def _follow(self, after: Cursor | None) -> None:
        try:
            with self._harness.open(context=Context(cancelled=self._stop.is_set)) as connector:
                live = connector.live()
                assert live is not None, "spec.roles names live, and this connection has none"
                for page in live.follow(selection(self._harness, rows=self._rows), after=after):
                    self._pages.put(page)
                    live.acknowledge(page.cursor)
        except BaseException as error:  # noqa: BLE001  raised again in the thread of the test
            self._pages.put(error)


@contextmanager
def following(harness: Harness, after: Cursor | None = None, *, rows: int = 4) -> Iterator[Following]:
    """A stream from a cursor, or from now on, in pages of so many records at most; ended with the block."""
    if "live" not in harness.spec.roles:
        lacks("the connector's type has no live role")
    made = Following(harness, after, rows)
    try:
        yield made
    finally:
        made.stop()
