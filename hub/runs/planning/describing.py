"""A run in plain words and as JSON, as every face shows it."""

from __future__ import annotations

from collections.abc import Mapping

from hub.runs.types import Run
from hub.sdk import Happening
from hub.sdk.shared import Told

SENTENCES: Mapping[Happening, str] = {
    Happening.WAITED: "waited {times} for the far side, {amount:.0f} s in all",
    Happening.LOGGED_IN: "logged in anew {times}, since the session had ended",
    Happening.REPEATED: "made a call again {times}, since it was not answered or the far side was busy",
    Happening.LOCKED: "sent {records} again that somebody else had locked",
    Happening.LEFT: "sent {records} again that a job of the far side had left unprocessed",
    Happening.FOUND: "took up a job {times} that had been begun before, without sending it again",
    Happening.MISSED: "heard {times} that changes may never be told, and had a run look for them",
}


def sentences(told: Told) -> list[str]:
    """What a run had to put up with at its far sides, in plain words; nothing where all went smoothly."""
    found = []
    for what, sentence in SENTENCES.items():
        times, amount = told.get(what.value, (0, 0.0))
        if times:
            words = "once" if times == 1 else f"{times} times"
            records = "1 record" if amount == 1 else f"{amount:.0f} records"
            found.append(sentence.format(times=words, amount=amount, records=records))
    return found


def describe(run: Run) -> dict[str, object]:
    """A run as every face shows it: JSON-ready, the counts flat."""
    took = ((run.finished_at or run.started_at) - run.started_at) if run.started_at and run.finished_at else None
    return {
        "run": run.id,
        "mapping": run.mapping,
        "version": run.version,
        "kind": run.kind.value,
        "state": run.state.value,
        "dry": run.dry,
        "actor": run.actor,
        "created_at": run.created_at.isoformat(),
        "started_at": run.started_at.isoformat() if run.started_at else None,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "seconds": took.total_seconds() if took is not None else None,
        "reason": run.reason,
        "undoes": run.subject,
        "expected": run.expected,
        "changed": run.changed,
        "counts": dict(run.counts.to_json()),
        "adds_up": run.counts.balanced,
        "happened": sentences(run.happened),
    }
