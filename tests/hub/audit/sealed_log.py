"""A log of some hundred events, sealed now and then, in a database of a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from hub.audit import Action, AuditLog, Checkpoint, Event, SealedLog
from hub.database import Database
from hub.keys import KeyRing
from hub.keys.providers.file import FileKek
from tests.clocks import SetClock

READ = Event("service:nightly", Action.PAGE_READ, "mapping:lead_score", run="r1", digest="ab" * 32, detail={"rows": 7})


@dataclass
class Log:
    """The log, and the checkpoints that somebody else kept."""

    database: Database
    sealed: SealedLog
    clock: SetClock = field(default_factory=SetClock)
    kept: list[Checkpoint] = field(default_factory=list)

    def write(self, *counts: int) -> None:
        """One writer's transactions of so many events each, then a seal."""
        audit = AuditLog(self.database, clock=self.clock)
        for count in counts:
            self.clock.moment += timedelta(seconds=1)
            with self.database.begin() as session:
                for _ in range(count):
                    audit.record(session, READ)
        made = self.sealed.seal()
        assert made is not None
        self.kept.append(made)

    def fault(self, *kept: Checkpoint) -> str | None:
        """What verifying names."""
        return self.sealed.verify([each.note for each in kept]).fault

    def tamper(self, *statements: str, **given: object) -> None:
        """What somebody does who owns the database: the triggers are no hindrance to him."""
        with self.database.engine.begin() as connection:
            on = "" if self.database.sqlite else " on audit_event"
            for name in ("no_delete", "no_update"):
                connection.execute(text(f"drop trigger if exists audit_event_{name}{on}"))
            for each in statements:
                assert connection.execute(text(each), given).rowcount > 0, each


def make_keys(folder: Path) -> KeyRing:
    """A key ring of a test's own."""
    return KeyRing(FileKek.create(folder / "kek.json"), bytes(32))


def make_log(database: Database, folder: Path) -> Log:
    """Three writers, sealed four times: 1 + 8, 1 + 300, 1 + 5 events, and 4 more that two of them wrote since."""
    log = Log(database, SealedLog(database, make_keys(folder)))
    log.write(2, 5, 1)
    log.write(*[10] * 30)
    log.write(5)
    log.write(1, 2)
    return log
