"""A twin with its event service, and whoever follows it in a thread of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from connectors.salesforce.config import SalesforceConfig
from connectors.salesforce.connector import SalesforceConnector
from connectors.salesforce.twin import Twin
from hub.sdk import Context, Cursor, LocalShared, Page, Secret, Selection

LEAD = Selection("Lead", ("Id", "City", "Company", "Industry"))
SECONDS = 20.0
"""The longest that a test waits for what must come at once."""


class Following:
    """One connection that follows in a thread, as the hub does; `pauses` are the waits it asked for and did not get."""

    def __init__(self, config: SalesforceConfig, selection: Selection, after: Cursor | None, shared: Any) -> None:
        self.pauses: list[float] = []
        self._stop = threading.Event()
        self._pages: SimpleQueue[Page | BaseException] = SimpleQueue()
        context = Context(cancelled=self._stop.is_set, pause=self.pauses.append, shared=shared)
        self._thread = threading.Thread(target=self._follow, args=(config, context, selection, after))
        self._thread.start()

    def _follow(self, config: SalesforceConfig, context: Context, selection: Selection, after: Cursor | None) -> None:
        try:
            with SalesforceConnector(config, context) as connector:
                live = connector.live()
                assert live is not None, "this connection tells of no changes"
                for page in live.follow(selection, after=after):
                    self._pages.put(page)
        except BaseException as error:  # noqa: BLE001  (raised again in the test's own thread)
            self._pages.put(error)

    def until(self, wanted: Callable[[Page], bool], seconds: float = SECONDS) -> Page:
        """The next page that is wanted; the error that ended the stream."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            page = self._pages.get(timeout=left)
            if isinstance(page, BaseException):
                raise page
            if wanted(page):
                return page
        raise AssertionError(f"no such page came within {seconds:g} seconds")

    def gap(self) -> Page:
        """The next page that says it cannot tell what moved."""
        return self.until(lambda page: page.gap)

    def rows(self, count: int = 1) -> list[dict[str, Any]]:
        """The next so many rows, from as many pages as they come in; `last` is the page of the last."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            self.last = self.until(lambda page: page.gap or page.frame.height > 0)
            assert not self.last.gap, "a gap came instead of a record"
            found += self.last.frame.rows(named=True)
        return found

    def stop(self) -> list[Page]:
        """Ends it; the pages that nobody asked for."""
        self._stop.set()
        self._thread.join()
        left: list[Page] = []
        while True:
            try:
                page = self._pages.get_nowait()
            except Empty:
                return left
            if isinstance(page, BaseException):
                raise page
            left.append(page)


class Site:
    """A twin, a configuration that leads to it, and followers that are ended with the test."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.control = twin.control
        self._followers: list[Following] = []
        self.shared = LocalShared()

    def config(self, **settings: Any) -> SalesforceConfig:
        """A connection as the integration user."""
        told = self.twin.described()
        made = {
            "host": told["host"],
            "pubsub": told["pubsub"],
            "login": "client_credentials",
            "client_id": told["consumer_key"],
            "client_secret": Secret(told["consumer_secret"]),
            "objects": ("Lead",),
            "authority": told["authority"],
            "private": True,
            "events": True,
            "late_seconds": 0,
        }
        return SalesforceConfig(**{**made, **settings})

    def follow(
        self, selection: Selection = LEAD, *, after: Cursor | None = None, begun: bool = True, **settings: Any
    ) -> Following:
        """Somebody who follows; without a cursor, past the gap that each new stream begins with."""
        made = Following(self.config(**settings), selection, after, self.shared)
        self._followers.append(made)
        if after is None and begun:
            made.gap()
        return made

    def lead(self, **values: Any) -> str:
        """A lead that the salesperson makes."""
        return self.control.create("Lead", [{"LastName": "Own", "Company": "Test", **values}])[0]

    def close(self) -> None:
        """Ends whoever follows still."""
        for each in self._followers:
            each._stop.set()
        for each in self._followers:
            each._thread.join()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    """One twin for the tests of a module."""
    with Twin(tmp_path_factory.mktemp("twin")) as made:
        made.control.add_field("Lead", "Score__c double 3,0")
        yield made


@pytest.fixture
def site(standing: Twin) -> Iterator[Site]:
    """The module's twin with nothing wrong."""
    made = Site(standing)
    yield made
    made.close()
    standing.control.calm()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Site]:
    """A twin of the test's own."""
    with Twin(tmp_path / "twin") as twin:
        made = Site(twin)
        yield made
        made.close()
