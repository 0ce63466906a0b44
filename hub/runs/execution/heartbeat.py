"""Watches over the slice at hand: keeps its lease alive, and looks whether its far sides are still what they were."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

from sqlalchemy.exc import DBAPIError

from hub.access.leases import BrokerAwayError, LeaseError
from hub.database import DatabaseError
from hub.logs import Log
from hub.mappings import PausedMappingError
from hub.runs.installation import Installation
from hub.runs.pages import changes_since
from hub.runs.types import Claim, LostLeaseError, RunError, RunKind
from hub.sdk import ConnectorError, Tally

log = Log(__name__)


class Heartbeat:
    """Keeps a lease alive from a thread of its own; it stops when the work makes no progress for too long."""

    def __init__(self, hub: Installation, claim: Claim, progress: Callable[[], None]) -> None:
        self._hub = hub
        self._claim = claim
        self._tell = progress
        self._stop = threading.Event()
        self._lost: Exception | None = None
        self._progress = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def check(self) -> None:
        """Tells the heartbeat that the work goes on. LostLeaseError where the slice is no longer ours."""
        self._progress = time.monotonic()
        self._tell()
        if self._lost is not None:
            raise self._lost

    def _beat(self) -> None:
        lease = self._hub.settings.lease_seconds
        while not self._stop.wait(lease / 3):
            if time.monotonic() - self._progress > self._hub.settings.record_seconds:
                return
            try:
                with self._hub.database.begin() as session:
                    self._hub.ledger.beat(session, self._claim, lease)
                self._hub.connections.leases.renew(self._claim.holder)
                self._look_for_pause()
            except (LostLeaseError, PausedMappingError) as lost:
                self._lost = lost
                return
            except (DBAPIError, DatabaseError, BrokerAwayError) as error:
                log.warning("heartbeat failed", run=self._claim.run, slice=self._claim.number, why=type(error).__name__)

    def _look_for_pause(self) -> None:
        with self._hub.database.read() as session:
            run = self._hub.ledger.run(session, self._claim.run)
        if run.kind not in (RunKind.UNDO, RunKind.FOLLOW) and self._hub.mappings.get(run.mapping).paused:
            raise PausedMappingError(
                f"mapping {run.mapping} was paused; `hub mappings resume {run.mapping}` lifts it,"
                f" then `hub runs resume {run.id}` goes on"
            )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


class Looks:
    """Looks after one run; kept for all claims of it in a row."""

    def __init__(self, hub: Installation, run: str, *, looked: float | None = None) -> None:
        """`looked` is when somebody saw that all is as it was, by this process's clock: the preflight did."""
        self.run = run
        self._hub = hub
        self._every = hub.settings.lease_seconds / 3
        self._next = 0.0 if looked is None else looked + self._every

    def look(self, tally: Tally) -> None:
        """RunError says what changed; nothing is asked where that was done a moment ago.

        `tally` is told what asking had to put up with.
        """
        if time.monotonic() < self._next:
            return
        if (changed := changes_since(self._hub, self.run, tally)) is not None:
            raise RunError(changed)
        self._next = time.monotonic() + self._every

    def after_failure(self) -> str | None:
        """What changed, where that may be why a page failed; a far side that is away says so by itself."""
        try:
            return changes_since(self._hub, self.run)
        except (ConnectorError, LeaseError):
            return None
