"""One worker: claims slices, carries each as far as it goes, and says what becomes of one that cannot go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from polars.exceptions import PanicException
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hub.access.leases import (
    BrokerAwayError,
    LeaseEndedError,
    LeaseRevokedError,
    WorkerRevokedError,
    abandon_leases,
)
from hub.connections import ConnectionsError, PausedConnectionError
from hub.database import Database, DatabaseError, is_transient
from hub.logs import Log
from hub.mappings import MappingError, MappingsError, PausedMappingError
from hub.models import ModelError
from hub.runs.execution.carriage import Carriage
from hub.runs.execution.flow import UNDER_WAY
from hub.runs.execution.following import Following
from hub.runs.execution.heartbeat import Heartbeat, Looks
from hub.runs.execution.lanes import Lanes
from hub.runs.execution.staged import Scoring
from hub.runs.execution.starving import MEMORY, lacking
from hub.runs.installation import Installation
from hub.runs.pages import LimitError, Trip, open_trip
from hub.runs.planning.preflight import differences
from hub.runs.store import abandon_worker
from hub.runs.types import (
    FOLLOWERS,
    MOST_TRIES,
    SHRINK,
    Claim,
    LostLeaseError,
    RunError,
    RunKind,
    RunState,
    SliceKind,
    Stage,
)
from hub.sdk import Happening, UnauthorizedError, UnavailableError, UnexpectedError
from hub.sdk.shared import Told, together

MOST_WAITS = 20
"""How often in a row a far side may be unavailable before a person is asked."""
LONGEST_WAIT = 300.0
LONGEST_WAIT_OF_FOLLOWER = 60.0
PAUSED_SECONDS = 5.0
MOST_TURNS = 100
"""How often a slice may be claimed and given back without a step forward before a person is asked."""

log = Log(__name__)


class Worker:
    """Works for one pool; belongs to one process. `name` tells workers apart in the ledger."""

    def __init__(
        self,
        hub: Installation,
        pool: str,
        name: str,
        *,
        progress: Callable[[], None] = lambda: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`progress` is called once a page; `stopping` is asked then, and the slice given back where it says so.

        `starved` says afterwards that this process ran out of memory: another one has it all to itself again;
        `dismissed` that somebody took its credentials away.
        """
        self._hub = hub
        self._pool = pool
        self._name = name
        self._progress = progress
        self._stopping = stopping
        self._trip: Trip | None = None
        self._lanes: Lanes | None = None
        self._open = ExitStack()
        self._cut_off = False
        self._looked: Looks | None = None
        self._excused: dict[tuple[str, int], int] = {}
        self.starved = False
        self.dismissed = False

    def work(self, run: str | None = None) -> bool:
        """Carries one slice (of `run`, where named) as far as it goes; False where there was nothing to claim.

        DBAPIError or DatabaseError where the hub's database stays away; the next call goes on with what was in hand.
        """
        hub, lease = self._hub, self._hub.settings.lease_seconds
        with self._coming_back():
            claim = hub.database.retrying(
                lambda s: hub.ledger.claim(s, self._pool, self._name, lease, run),
                stored=lambda s, made: made is None or hub.ledger.holds(s, made),
            )
            if claim is not None:
                self._take_up(claim)
                return True
        self.rest()
        return False

    @contextmanager
    def _coming_back(self) -> Iterator[None]:
        """First gives back what this worker still holds since the database went away under it, which did no harm."""
        try:
            if self._cut_off:
                self._hub.database.retrying(lambda s: self._hub.ledger.put_back(s, self._name), repeatable=True)
                self._cut_off = False
            yield
        except (DBAPIError, DatabaseError):
            self._cut_off = True
            raise

    def _take_up(self, claim: Claim) -> None:
        self._wake_others()
        told = {"run": claim.run, "slice": claim.number, "stage": claim.stage, "attempt": claim.attempt}
        log.info("slice claimed", worker=self._name, **told)
        try:
            with Heartbeat(self._hub, claim, self._progress) as heartbeat:
                self._carry(claim, heartbeat)
        except LostLeaseError as lost:
            log.warning("slice lost", run=claim.run, slice=claim.number, why=str(lost))
            self._give_up(claim)

    def _wake_others(self) -> None:
        """One ring wakes one worker; whoever finds more than it can carry passes it on."""
        if self._hub.celery is None:
            return
        with self._hub.database.read() as session:
            more = self._hub.ledger.more(session, self._pool)
        if more:
            self._hub.ring([self._pool])

    def _carry(self, claim: Claim, heartbeat: Heartbeat) -> None:
        try:
            if claim.turns > MOST_TURNS and claim.kind is not SliceKind.FOLLOW:
                raise LimitError(
                    f"slice {claim.number} was taken up {MOST_TURNS} times and did not come one page further; see the"
                    f" log, then `hub runs resume {claim.run}` goes on"
                )
            if claim.stage is Stage.SCORE:
                Scoring(self._hub, claim, heartbeat).carry()
                return
            with self._travelling(claim) as (trip, lanes):
                claim = self._shrunk(claim)
                self._carriage(claim, trip, heartbeat, lanes).carry()
        except UnavailableError as error:
            self._wait(claim, error.message, error.retry_after)
        except PausedConnectionError as error:
            if claim.kind is SliceKind.FOLLOW:  # it goes on by itself when the connection does
                self._wait(claim, str(error), PAUSED_SECONDS)
            else:
                self._hold(claim, str(error))
        except WorkerRevokedError as error:
            self.dismissed = True
            raise LostLeaseError(str(error)) from error
        except LeaseEndedError as error:
            raise LostLeaseError(str(error)) from error
        except BrokerAwayError as error:
            self._wait(claim, str(error), None, far=False)
        except (UnauthorizedError, LimitError, MappingsError, ConnectionsError, ModelError, RunError) as error:
            self._hold(claim, str(error))
        except LeaseRevokedError as error:
            self._hold(claim, str(error))
        except (MappingError, UnexpectedError) as error:
            self._hold(claim, differences(self._hub, claim.run) or str(error))
        except (LostLeaseError, DatabaseError):
            raise
        except (Exception, PanicException) as error:  # noqa: BLE001  (tried again in parts; what fails alone is parked)
            self._failed(claim, error)

    def _carriage(self, claim: Claim, trip: Trip, heartbeat: Heartbeat, lanes: Lanes) -> Carriage:
        watch = (heartbeat, self._looks(claim))
        if claim.kind is SliceKind.FOLLOW:
            return Following(self._hub, trip, claim, watch, lanes, self._stopping, stays=self._pool == FOLLOWERS)
        return Carriage(self._hub, trip, claim, watch, lanes, self._stopping)

    def _failed(self, claim: Claim, error: BaseException) -> None:
        if is_transient(error):
            raise error
        if (resource := lacking(error)) is not None:
            self._starve(claim, resource)
            return
        if (changed := self._looks(claim).after_failure()) is not None:
            self._hold(claim, changed)
            return
        log.error("page failed", run=claim.run, slice=claim.number, attempt=claim.attempt, exc_info=error)
        if claim.attempt > MOST_TRIES + 1:
            self._hold(claim, f"a page failed {claim.attempt} times ({type(error).__name__}); see the log")
            return
        self._hub.database.retrying(lambda s: self._hub.ledger.forgive(s, claim), repeatable=True)

    def _starve(self, claim: Claim, resource: str) -> None:
        """Waits for room, and with less memory tries fewer records at once; no record is to blame for it."""
        self._excused[claim.run, claim.number] = claim.epoch
        self.starved = self.starved or resource == MEMORY
        smaller: dict[str, object] = {}
        if resource == MEMORY and claim.page_rows > 1 and claim.kind is not SliceKind.UNDO:
            smaller = {"page_rows": max(1, claim.page_rows // SHRINK), "fragile": UNDER_WAY * claim.page_rows}
        self._wait(claim, f"this machine is out of {resource}", None, far=False, **smaller)

    def _looks(self, claim: Claim) -> Looks:
        if self._looked is None or self._looked.run != claim.run:
            with self._hub.database.read() as session:
                created = self._hub.ledger.run(session, claim.run).created_at
                age = (self._hub.database.now(session) - created).total_seconds()
            self._looked = Looks(self._hub, claim.run, looked=time.monotonic() - age)
        return self._looked

    @contextmanager
    def _travelling(self, claim: Claim) -> Iterator[tuple[Trip, Lanes]]:
        """The run's trip and the threads it goes on; both stay open for its next slice, unless this one fails."""
        try:
            trip = self._trip_of(claim)
            if self._lanes is None:
                self._lanes = Lanes()
                self._open.callback(self._lanes.close)
                self._open.enter_context(trip.travelling())
            trip.turn(claim)
            trip.look_for_pause()
            yield trip, self._lanes
        except BaseException:
            self.rest()
            raise

    def _trip_of(self, claim: Claim) -> Trip:
        """The run's trip, made anew where it was resumed under another version. PausedMappingError."""
        trip = self._trip
        with self._hub.database.read() as session:
            wanted = self._hub.ledger.version(session, claim.run)
        if trip is None or (trip.run.id, trip.run.version, trip.run.model) != (claim.run, *wanted):
            self._forget()
            trip = self._trip = open_trip(self._hub, claim.run)
        if trip.run.kind not in (RunKind.UNDO, RunKind.FOLLOW) and self._hub.mappings.get(trip.run.mapping).paused:
            raise PausedMappingError(
                f"mapping {trip.run.mapping} is paused; `hub mappings resume {trip.run.mapping}` lifts it,"
                f" then `hub runs resume {claim.run}` goes on"
            )
        return trip

    def rest(self) -> None:
        """Closes what is open towards the far sides; the next slice opens it again."""
        self._lanes = None
        self._open.close()

    def _forget(self) -> None:
        self.rest()
        self._trip = None

    def _shrunk(self, claim: Claim) -> Claim:
        """The claim with smaller pages, where whoever held the slice before failed on its page.

        A write that was under way is blamed first: it is taken up in parts before anything else is read.
        """
        excused = self._excused.pop((claim.run, claim.number), None)
        if claim.attempt == 1 or excused == claim.epoch - 1:
            return replace(claim, attempt=1)
        with self._hub.database.read() as session:
            if self._hub.ledger.writing(session, claim):
                return replace(claim, attempt=1)
        if claim.page_rows == 1 or claim.kind is SliceKind.UNDO or claim.stage is not Stage.READ:
            return claim
        # The page that failed may have been judged while those before it were not stored yet.
        rows, fragile = max(1, claim.page_rows // SHRINK), UNDER_WAY * claim.page_rows
        self._hub.database.retrying(lambda s: self._hub.ledger.shrink(s, claim, rows, fragile), repeatable=True)
        return replace(claim, page_rows=rows, fragile=fragile, attempt=1)

    def _wait(self, claim: Claim, why: str, seconds: float | None, *, far: bool = True, **moved: object) -> None:
        ledger, told, follows = self._hub.ledger, self._happened(), claim.kind is SliceKind.FOLLOW
        longest = LONGEST_WAIT_OF_FOLLOWER if follows else LONGEST_WAIT

        def wait(session: Session) -> int:
            pause, waits = ledger.wait(session, claim, seconds, longest, why, **moved)
            ledger.put_up_with(session, claim.run, together(told, {Happening.WAITED.value: (1, pause)} if far else {}))
            return waits

        waits = self._hub.database.retrying(wait, repeatable=True)
        log.warning("slice waits", run=claim.run, slice=claim.number, why=why, waits=waits)
        if waits >= MOST_WAITS and not follows:  # what follows has no end to be late for
            self._hold(claim, f"{why}; given up after {waits} tries, `hub runs resume {claim.run}` tries again")

    def _hold(self, claim: Claim, why: str) -> None:
        log.warning("run held", run=claim.run, why=why)
        told = self._happened()
        self._forget()

        def hold(session: Session) -> bool:
            self._hub.ledger.put_up_with(session, claim.run, told)
            return self._hub.end(session, claim.run, RunState.HELD, why)

        self._hub.database.retrying(hold, repeatable=True)
        self._give_up(claim)

    def _happened(self) -> Told:
        return self._trip.drain() if self._trip is not None else {}

    def _give_up(self, claim: Claim) -> None:
        self._forget()
        try:
            with self._hub.database.begin() as session:
                self._hub.ledger.release(session, claim)
        except LostLeaseError:
            log.info("slice already held by another", run=claim.run, slice=claim.number)


def abandon(database: Database, worker: str) -> int:
    """Ends the leases of a worker whose process is known to be dead; how many slices it held."""
    held = database.retrying(lambda session: abandon_worker(session, worker), repeatable=True)
    abandon_leases(database, worker)
    return held
