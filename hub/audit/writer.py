"""A writer: one chain of events, used by one transaction at a time, opened with an event of its own."""

from __future__ import annotations

import os
import pwd
import socket
import time
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from hub.audit import store
from hub.audit.leaf import NOTHING, make_row, tell
from hub.audit.types import Action, AuditError, Event
from hub.sdk import Clock, Json

IDLE_SECONDS = 30 * 60.0
"""A writer unused for so long is given up, so that whoever seals need not look at every chain there ever was."""


@dataclass
class Writer:
    """The head of a chain: the last place and the hash there."""

    number: int
    seq: int
    previous: bytes
    used: float = field(default_factory=time.monotonic)

    @property
    def fresh(self) -> bool:
        """Whether it may still be used."""
        return time.monotonic() - self.used < IDLE_SECONDS


def open_writer(session: Session, clock: Clock) -> Writer:
    """Opens the next writer in the given transaction.

    Its opening event follows the opening of the writer before it and tells how far that one had come, so that a chain
    that is missing as a whole, or was cut by then, shows as well.
    """
    store.lock_writers(session)
    last = store.last_writer(session)
    number = 1 if last is None else last + 1
    previous = NOTHING
    detail: dict[str, Json] = {"process": os.getpid(), "host": socket.gethostname(), "account": _account()}
    if last is not None:
        opening = store.opening_hash(session, last)
        if opening is None:
            raise AuditError(f"the opening event of audit writer {last} is missing; run hub audit verify")
        previous = opening
        seq, reached = store.head(session, last)
        detail |= {"before": seq, "before_hash": reached.hex()}
    event = Event(f"service:process-{os.getpid()}", Action.WRITER_OPEN, f"writer:{number}", detail=detail)
    row = make_row(tell(event, clock.now()), number, 0, previous)
    store.add_events(session, [row])
    return Writer(number, 0, row["leaf_hash"])


def _account() -> str:
    """The user of this process by the kernel's word; who types is told by the environment, which anybody sets."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
