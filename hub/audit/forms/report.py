"""A report about one mapping, made from the sealed log alone: what the EU AI Act has kept, or HIPAA has looked at.

`ai-act`: Regulation (EU) 2024/1689, Art. 12, 19 and 26: when it was used, with which versions, who stepped in, what
changed, what failed. `hipaa`: 45 CFR 164.312(b), 164.308(a)(1)(ii)(D): who read or wrote what, for which purpose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import Any

from hub.audit.types import Action, Event, Outcome, Recorded
from hub.keys import canonical

KINDS = ("ai-act", "hipaa")

_OVERSIGHT = {
    Action.DECISION_RELEASE,
    Action.DECISION_DROP,
    Action.RUN_RELEASE,
    Action.RUN_CANCEL,
    Action.RUN_UNDO,
    Action.RECORD_REPLAY,
    Action.MAPPING_PAUSE,
    Action.MAPPING_RESUME,
}
_FAILURES = {Action.RUN_HOLD, Action.RECORD_PARK, Action.RUN_SKIP}
_CHANGING = {"models", "mappings", "connections", "access", "keys"}
_LOOKING = {Action.MAPPING_PREVIEW, Action.MAPPING_CHECK, Action.CONNECTION_CHECK, Action.ACCESS_DENIED}
_WRITTEN = {"applied", "unchanged"}


class Report:
    """Takes the events of the log one by one; those of other mappings are left aside."""

    def __init__(self, mapping: str, kind: str, since: datetime | None, until: datetime | None) -> None:
        self._mapping = mapping
        self._kind = kind
        self._since, self._until = since, until
        self._runs: dict[str, dict[str, Any]] = {}
        self._concerned: set[str] = set()
        self._versions: dict[tuple[str, ...], dict[str, Any]] = {}
        self._lists: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._reads: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        self._fields: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        self._writes: Counter[tuple[str, str]] = Counter()
        self._denied: Counter[tuple[str, str]] = Counter()
        self._events = 0
        self._first: datetime | None = None
        self._last: datetime | None = None

    def take(self, recorded: Recorded) -> None:
        """One event, in the order of the log."""
        event = recorded.event
        if event.run is not None and event.action in (Action.RUN_START, Action.RUN_UNDO) and self._ours(event):
            self._concerned.add(event.run)
        outside = (self._since is not None and recorded.at < self._since) or (
            self._until is not None and recorded.at >= self._until
        )
        if outside or not self._concerns(event):
            return
        self._events += 1
        self._first, self._last = self._first or recorded.at, recorded.at
        self._note_run(recorded)
        if event.action in (Action.PAGE_READ, Action.SCORE_REQUEST, Action.DECISION_SHOW, Action.MAPPING_PREVIEW):
            self._note_read(recorded)
        elif event.action is Action.WRITE_OUTCOME:
            self._note_write(event)
        elif event.action is Action.ACCESS_DENIED:
            self._denied[event.actor, event.subject] += 1
        self._note_line(recorded)

    def answer(self) -> dict[str, Any]:
        """The report, JSON-ready. Nothing in it names a record but by its pseudonym."""
        parts = self._ai_act() if self._kind == "ai-act" else self._hipaa()
        period = {"from": _moment(self._since or self._first), "to": _moment(self._until or self._last)}
        return {"report": self._kind, "mapping": self._mapping, "period": period, "events": self._events, **parts}

    def _ai_act(self) -> dict[str, Any]:
        versions = sorted(self._versions.values(), key=lambda each: each["first"])
        return {
            "use": list(self._runs.values()),
            "versions": versions,
            "requests": [each for each in self._told_reads() if each["action"] == Action.SCORE_REQUEST.value],
            "human_oversight": self._lists["oversight"],
            "changes": self._lists["changes"],
            "failures": self._lists["failures"],
            "integrity": self._lists["integrity"],
        }

    def _hipaa(self) -> dict[str, Any]:
        writes = [{"actor": actor, "target": to, "records": n} for (actor, to), n in sorted(self._writes.items())]
        denied = [{"actor": actor, "of": of, "times": n} for (actor, of), n in sorted(self._denied.items())]
        return {
            "reads": self._told_reads(),
            "receipts": self._lists["receipts"],
            "writes": writes,
            "denied": denied,
            "overrides": self._lists["oversight"],
            "erasures": self._lists["erasures"],
            "access_changes": [each for each in self._lists["changes"] if each["action"].startswith("access.")],
            "reviews": self._lists["reviews"],
            "integrity": self._lists["integrity"],
        }

    def _told_reads(self) -> list[dict[str, Any]]:
        return [
            {"actor": actor, "action": action, "purpose": purpose, **counts, "fields": sorted(self._fields[key])}
            for key, counts in sorted(self._reads.items())
            for actor, action, purpose in [key]
        ]

    def _ours(self, event: Event) -> bool:
        named = (event.subject, f"{event.detail.get('mapping')}", f"{event.detail.get('purpose')}")
        return f"mapping:{self._mapping}" in named or self._mapping in named

    def _concerns(self, event: Event) -> bool:
        """Of this mapping, or of what all mappings hang on: models, connections, access, and the log itself."""
        if event.run is not None:
            return event.run in self._concerned or self._ours(event)
        shared = event.action.room in ("models", "connections", "access", "keys", "audit")
        return self._ours(event) or (shared and "mapping" not in event.detail)

    def _note_run(self, recorded: Recorded) -> None:
        event = recorded.event
        if event.run is None:
            return
        run = self._runs.setdefault(event.run, {"run": event.run, "actor": event.actor, "from": _moment(recorded.at)})
        run["to"] = _moment(recorded.at)
        if event.action in (Action.RUN_FINISH, Action.RUN_HOLD, Action.RUN_CANCEL):
            run |= {"state": event.detail.get("state"), "counts": event.detail.get("counts")}
        if event.action is Action.RUN_FINISH and event.detail.get("state") in ("failed", "stopped"):
            self._lists["failures"].append(_line(recorded))

    def _note_read(self, recorded: Recorded) -> None:
        event, detail = recorded.event, recorded.event.detail
        key = event.actor, event.action.value, str(detail.get("purpose") or f"mapping:{self._mapping}")
        records = detail.get("records")
        self._reads[key] += Counter(events=1, records=records if isinstance(records, int) else 1)
        fields = detail.get("fields")
        self._fields[key] |= set(map(str, fields)) if isinstance(fields, list) else set()
        model = detail.get("model")
        if isinstance(model, dict):
            names = tuple(
                str(each) for each in (detail.get("version"), model["name"], model["version"], model["digest"])
            )
            told = dict(zip(("mapping_version", "model", "model_version", "model_digest"), names, strict=True))
            known = self._versions.setdefault(
                names, {**told, "first": _moment(recorded.at), "records": 0, "segments": 0}
            )
            known["last"] = _moment(recorded.at)
            known["records"] += records if isinstance(records, int) else 0
            known["segments"] += event.digest is not None

    def _note_write(self, event: Event) -> None:
        counts = event.detail.get("counts")
        if isinstance(counts, dict):
            told = (number for state, number in counts.items() if state in _WRITTEN and isinstance(number, int))
            self._writes[event.actor, event.subject] += sum(told)

    def _note_line(self, recorded: Recorded) -> None:
        action = recorded.event.action
        for name, wanted in (
            ("oversight", action in _OVERSIGHT),
            ("failures", action in _FAILURES or (recorded.event.outcome is Outcome.FAILED and action.room != "audit")),
            ("changes", action.room in _CHANGING and action not in _OVERSIGHT | _LOOKING),
            ("receipts", action in (Action.DECISION_SHOW, Action.AUDIT_SUBJECT)),
            ("erasures", action in (Action.DECISION_ERASE, Action.SUBJECT_SHRED)),
            ("reviews", action is Action.AUDIT_REVIEW),
            ("integrity", action in (Action.AUDIT_VERIFY, Action.AUDIT_RETAIN, Action.AUDIT_PRUNE, Action.AUDIT_KEY)),
        ):
            if wanted:
                self._lists[name].append(_line(recorded))


def digest_of(report: dict[str, Any]) -> str:
    """What the events of a report and of its review bind."""
    return sha256(canonical(report)).hexdigest()


def make(events: Iterable[Recorded], report: Report) -> dict[str, Any]:
    """The report over these events, in the order of the log."""
    for each in events:
        report.take(each)
    return report.answer()


def _line(recorded: Recorded) -> dict[str, Any]:
    event = recorded.event
    told = {"at": _moment(recorded.at), "actor": event.actor, "action": event.action.value, "subject": event.subject}
    kept = {name: event.detail[name] for name in ("reason", "state", "purpose", "finding") if name in event.detail}
    return {**told, "outcome": event.outcome.value, "run": event.run, "digest": event.digest, **kept}


def _moment(at: datetime | None) -> str | None:
    return at.isoformat(timespec="microseconds") if at is not None else None
