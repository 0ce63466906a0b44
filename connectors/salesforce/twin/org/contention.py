"""Batches of one bulk job that are worked off side by side, and take each other's masters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors.salesforce.twin.org.problems import Problem

LOCKED = "unable to obtain exclusive access to this record or 1 records: {}"


@dataclass(slots=True)
class Contention:
    """Which masters the batch before this one holds: a row that needs one of them does not get its lock.

    Whoever sorts by master has the children of one in one batch, and meets at most its first and last.
    """

    held: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)

    def next_batch(self) -> None:
        """Another batch begins."""
        self.held, self.seen = self.seen, set()

    def problem(self, masters: Sequence[str]) -> Problem | None:
        """UNABLE_TO_LOCK_ROW where a master is held."""
        self.seen.update(masters)
        taken = next((each for each in masters if each in self.held), None)
        return Problem("UNABLE_TO_LOCK_ROW", LOCKED.format(taken)) if taken else None
