"""The leases that this process holds: opened when a connection is, watched every second, over when they are over."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256

from hub.access.leases.types import Broker, Credential, Ending, Handed, Holder
from hub.logs import Log
from hub.sdk import Grant, Token

LOOK_SECONDS = 1.0
"""How often it is looked whether somebody took a lease back."""
IDLE_SECONDS = 30.0
"""How long a lease for requests is kept with nobody using it: the next request is not to wait for a new one."""
LET_GO_SECONDS = 2.0
"""How long the user of a lease that was taken back may go on with the call at hand."""
STOP_SECONDS = 10.0
RENEWED = 0.5
"""Share of a request's lease that is left when it is renewed."""

log = Log(__name__)


class Held:
    """One lease in use. Its secrets are forgotten when it is over; every call under it asks `check` first."""

    def __init__(self, connection: str, grant: Grant, holder: Holder, handed: Handed, asked: float) -> None:
        self.connection = connection
        self.grant = grant
        self.holder = holder
        self.id = handed.id
        self.ending: Ending | None = None
        self.ended_at = 0.0
        self.users = 0
        self.used_at = asked
        self.seconds = handed.seconds
        self.until = asked + handed.seconds
        self.counts: Counter[str] = Counter()
        self._credential = handed.credential

    def check(self, what: str | None = None) -> None:
        """LeaseError where the lease is over; counts what is done under it."""
        if self.ending is None and time.monotonic() >= self.until:
            self.end(Ending.EXPIRED)
        if self.ending is not None:
            raise self.ending.error(self.connection)
        if what is not None:
            self.counts[what] += 1

    @property
    def credential(self) -> Credential:
        """What the connection is opened with. LeaseError where the lease is over."""
        self.check()
        return self._credential

    def extend(self, asked: float, seconds: float) -> None:
        """It holds for so long from when that was asked for."""
        self.seconds, self.until = seconds, asked + seconds

    def end(self, ending: Ending) -> None:
        """It is over, and what it gave is forgotten."""
        if self.ending is None:
            self.ending, self.ended_at = ending, time.monotonic()
        for each in self._credential.secrets.values():
            each.forget()


class Leases:
    """The leases of one process; safe to share between threads.

    `overdue` is called, from a thread of its own, where the user of a lease that was taken back does not let go.
    """

    def __init__(self, broker: Broker, overdue: Callable[[Held], None] = lambda _held: None) -> None:
        self.broker = broker
        self.overdue = overdue
        self._held: dict[tuple[object, ...], Held] = {}
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def hold(self, connection: str, grant: Grant, holder: Holder | None = None) -> Iterator[Held]:
        """A lease on the connection, shared by whoever holds the same work for the same grant in this process."""
        key, held = self._taken(connection, grant, holder or Holder(process_name()))
        try:
            yield held
        finally:
            with self._lock:
                held.users -= 1
                held.used_at = time.monotonic()
                done = held.users == 0 and (held.holder.run is not None or held.ending is not None)
                if done and self._held.get(key) is held:
                    del self._held[key]
            if done:
                self._give_back(held)

    def turn(self, connections: Collection[str], holder: Holder) -> None:
        """Puts the leases that a worker holds for a run on its next slice. LeaseError where one is over."""
        with self._lock:
            mine = [each for each in self._held.values() if _work(each.holder) == _work(holder)]
        for held in mine:
            if held.connection in connections and held.holder != holder:
                held.check()
                asked = time.monotonic()
                held.id, seconds = self.broker.turn(held.id, holder, held.counts)
                held.holder = holder
                held.counts = Counter()
                held.extend(asked, seconds)

    def renew(self, holder: Holder) -> None:
        """Puts off the end of what is held for a slice, as that of the ledger's own lease was."""
        with self._lock:
            mine = [each for each in self._held.values() if each.holder == holder]
        self._renew(mine)

    def drop(self, connection: str) -> None:
        """Ends what this process holds for requests on a connection whose credentials changed."""
        with self._lock:
            for held in self._held.values():
                if held.connection == connection and held.holder.run is None:
                    held.end(Ending.CHANGED)

    def close(self) -> None:
        """Gives everything back."""
        self._over.set()
        self._some.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        with self._lock:
            left = [*self._held.values()]
            self._held.clear()
        for held in left:
            self._give_back(held)

    def _taken(self, connection: str, grant: Grant, holder: Holder) -> tuple[tuple[object, ...], Held]:
        key = (connection, grant.digest(), *_work(holder))
        with self._opening:
            with self._lock:
                held = self._held.get(key)
                if held is not None and held.ending is None and time.monotonic() < held.until:
                    held.users += 1
                    return key, held
            asked = time.monotonic()
            made = Held(connection, grant, holder, self.broker.open(holder, connection, grant), asked)
            made.users = 1
            with self._lock:
                self._held[key] = made
            self._watch()
            return key, made

    def _give_back(self, held: Held) -> None:
        over = held.ending is not None
        held.end(Ending.DONE)
        if over:
            return
        try:
            self.broker.close(held.id, held.counts)
        except Exception as error:  # noqa: BLE001  (it runs out by itself, and whoever used it is done)
            log.warning("a lease runs out by itself", lease=held.id, why=type(error).__name__)

    def _watch(self) -> None:
        with self._lock:
            self._some.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._look_on, name="leases", daemon=True)
                self._thread.start()

    def _look_on(self) -> None:
        while self._some.wait() and not self._over.wait(LOOK_SECONDS):
            with self._lock:
                watched = dict(self._held)
                if not watched:
                    self._some.clear()
                    continue
            try:
                self._look(watched)
            except Exception as error:  # noqa: BLE001  (what nobody looks after runs out)
                log.warning("leases are not looked after", why=type(error).__name__)

    def _look(self, watched: dict[tuple[object, ...], Held]) -> None:
        now = time.monotonic()
        for held in watched.values():
            if held.ending in (Ending.REVOKED, Ending.WORKER) and now - held.ended_at >= LET_GO_SECONDS and held.users:
                self.overdue(held)
        idle = {key: each for key, each in watched.items() if not each.users and now - each.used_at >= IDLE_SECONDS}
        for key, held in idle.items():
            with self._lock:
                gone = not held.users and self._held.get(key) is held
                if gone:
                    del self._held[key]
            if gone:
                self._give_back(held)
        going = {each.id: each for each in watched.values() if each.ending is None}
        if not going:
            return
        for id_, ending in self.broker.look([*going]).items():
            if going[id_].id == id_:  # it may have turned to another slice meanwhile
                going[id_].end(ending)
        self._renew([each for each in going.values() if each.holder.run is None and each.ending is None])

    def _renew(self, some: Collection[Held]) -> None:
        now = time.monotonic()
        due = {
            each.id: each
            for each in some
            if each.ending is None and (each.holder.run is not None or each.until - now < RENEWED * each.seconds)
        }
        if not due:
            return
        left = self.broker.renew([*due])
        for id_, held in due.items():
            if id_ in left:
                held.extend(now, left[id_])

    def token(self, held: Held, refused: Token | None, seconds: float | None) -> Token:
        """A token of the far side under a lease. LeaseError where it is over."""
        held.check("token")
        was = None if refused is None else sha256(refused.value.reveal().encode()).hexdigest()
        return self.broker.token(held.id, was, seconds)


def process_name() -> str:
    """What a process is called that holds a lease for requests: machine and process."""
    return f"{socket.gethostname()}/{os.getpid()}/requests"


def _work(holder: Holder) -> tuple[str, str | None]:
    return holder.worker, holder.run
