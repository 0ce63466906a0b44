"""What goes wrong on purpose: refusals in a storm, tokens that die, answers that are cut, jobs that end half way."""

from __future__ import annotations

import email.utils
import random
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from connectors.salesforce.twin.faces.call import Answer
from connectors.salesforce.twin.org.clock import Clock

LIMIT = [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]
BUSY = [{"message": "The server is busy. Please try again later.", "errorCode": "SERVER_UNAVAILABLE"}]
FAILED = [{"message": "An unexpected error occurred.", "errorCode": "UNKNOWN_EXCEPTION"}]
PART = "part"
REFUSALS = ("500", "503", "429", "limit")
KINDS = (*REFUSALS, "401", "cut", "cut_after", "half")


@dataclass(slots=True)
class Fault:
    """A fault as it was asked for.

    `what` is one of KINDS: 500 fails; 503 and 429 and `limit` (403 REQUEST_LIMIT_EXCEEDED) refuse, with Retry-After
    where `retry_after` tells seconds (`as_date`: in the other form); 401 ends all sessions; `cut` closes the connection
    before the call is carried out, `cut_after` when it has been and no answer is sent, `half` in the middle
    of the answer.
    """

    what: str
    times: int | None = None
    """How many calls it meets; None: until it is taken away."""
    rate: float = 1.0
    """The share of calls that it meets."""
    only: str | None = None
    """The kind of call, as the journal names it, or its beginning; `part`: a part of a composite, which is refused."""
    skip: int = 0
    """Calls that are let through first."""
    retry_after: float | None = None
    as_date: bool = False


@dataclass(slots=True)
class Faults:
    """The faults that are switched on. Whoever asked to wait remembers until when."""

    clock: Clock
    standing: list[Fault] = field(default_factory=list)
    wait_until: float = 0.0
    silent: bool = False
    """Whether event streams say nothing, not even that they are alive."""
    most_streams: int = 20
    """Event streams that are open at once."""
    cuts: int = 0
    """How often all event streams were cut; a stream that is older than the last time ends."""
    chance: random.Random = field(default_factory=lambda: random.Random(11))  # noqa: S311  (the same luck each time)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, **particulars: Any) -> None:
        """Switches one on."""
        if what not in KINDS:
            raise ValueError(f"no fault is called {what}; there is {', '.join(KINDS)}")
        made = Fault(what, **particulars)
        if made.only == PART and what not in REFUSALS:
            raise ValueError(f"a part of a composite call is refused, by {', '.join(REFUSALS)}")
        with self._lock:
            self.standing.append(made)

    def clear(self) -> None:
        """Switches all off."""
        with self._lock:
            self.standing.clear()
            self.wait_until = 0.0
            self.silent = False
            self.most_streams = 20

    def strike(self, kind: str) -> Fault | None:
        """The fault that meets a call of this kind, if one does."""
        with self._lock:
            for each in self.standing:
                if each.only is None and kind == PART:
                    continue
                if each.only is not None and not f"{kind}.".startswith(f"{each.only}."):
                    continue
                if each.skip > 0:
                    each.skip -= 1
                    continue
                if each.rate < 1 and self.chance.random() >= each.rate:
                    continue
                if each.times is not None:
                    each.times -= 1
                    if each.times <= 0:
                        self.standing.remove(each)
                return each
        return None

    def refusal(self, fault: Fault) -> Answer:
        """The answer of a fault that refuses; remembers the wait that it asks for."""
        status, body = {"500": (500, FAILED), "503": (503, BUSY), "429": (429, LIMIT), "limit": (403, LIMIT)}[
            fault.what
        ]
        headers: dict[str, str] = {}
        if fault.retry_after is not None:
            now = self.clock.now()
            until = now + timedelta(seconds=fault.retry_after)
            headers["Retry-After"] = (
                email.utils.format_datetime(until, usegmt=True) if fault.as_date else f"{fault.retry_after:g}"
            )
            # The date form has whole seconds, so the wait ends at the second that was written.
            end = until.replace(microsecond=0) if fault.as_date else until
            self.wait_until = max(self.wait_until, end.timestamp())
        return Answer(body, status, headers)

    def inside_wait(self) -> bool:
        """Whether the wait that was asked for is still going on."""
        return self.clock.seconds() < self.wait_until
