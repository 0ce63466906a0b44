"""Erasure of a record: its decisions, where it stands, and the key of what the trail tells of it. Every proof holds on.

What was written to the far side is not touched, and a record that is still there is met anew by the next run. Copies of
the database and of the segments hold what was erased until they are gone as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import polars as pl

from hub.audit import Action
from hub.decisions import DecisionError, key_text
from hub.decisions.receipts import history, key_series
from hub.runs.installation import Installation


@dataclass(frozen=True, slots=True)
class Erased:
    """What is gone: the subject, how many decisions, and whether events had told anything under its key."""

    subject: str
    decisions: int
    key_destroyed: bool


def subject_of(hub: Installation, mapping: str, key: Mapping[str, str]) -> tuple[str, pl.Series]:
    """The name by which a record is known in the trail, and its key. DecisionError: the mapping met no record yet."""
    keys = key_series(hub.standing, mapping, key)
    if keys is None:
        raise DecisionError(f"mapping {mapping} has not met any record yet")
    return hub.subjects.name(mapping, key_text(keys)[0]), keys


def decided_in(hub: Installation, mapping: str, keys: pl.Series, most: int | None = None) -> dict[str, set[str]]:
    """The runs that decided about a record, the newest `most` decisions or all, with the segments they stand in."""
    row = hub.standing.view(mapping, keys).frame.row(0, named=True)
    pointer = None if row["segment"] is None else (row["segment"], row["row"])
    runs: dict[str, set[str]] = {}
    for decision in islice(history(hub.log, pointer, keys), most):
        runs.setdefault(decision.facts.run, set()).add(str(decision.segment))
    return runs


def erase(hub: Installation, mapping: str, key: Mapping[str, str], actor: str, because: str) -> Erased:
    """Erases a record. Doing it again is harmless, and finishes what was cut off. AuditError: under a legal hold."""
    subject, keys = subject_of(hub, mapping, key)
    with hub.database.read() as held:  # open until all is gone: no hold is laid meanwhile
        hub.retention.check_erasable(held, subject, lambda: decided_in(hub, mapping, keys))
        decisions = hub.log.erase(mapping, keys)
        with hub.database.begin() as session:
            hub.standing.remove(session, mapping, keys)
            hub.record(
                session, actor, Action.DECISION_ERASE, subject, mapping=mapping, decisions=decisions, reason=because
            )
            destroyed = hub.subjects.destroy(session, subject)
            hub.record(session, actor, Action.SUBJECT_SHRED, subject, mapping=mapping, reason=because)
    return Erased(subject, decisions, destroyed)
