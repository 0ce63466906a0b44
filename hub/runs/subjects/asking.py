"""Who dealt with a record: the events that name it, and the reads of the pages that its decisions were made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.audit import Action, Recorded
from hub.runs.installation import Installation
from hub.runs.subjects.erasing import decided_in, subject_of
from hub.sdk import Json

MOST_DECISIONS = 1000


@dataclass(frozen=True, slots=True)
class Touch:
    """One time that somebody dealt with the record: who, what, which fields, and for what."""

    at: datetime
    actor: str
    action: str
    run: str | None
    fields: tuple[str, ...]
    purpose: str | None
    about: Mapping[str, Json] | None


def touches(hub: Installation, mapping: str, key: Mapping[str, str], actor: str, limit: int = 1000) -> list[Touch]:
    """Everybody who dealt with the record, the newest first. The question itself is recorded.

    A run that read the record and found it as before has no decision on it, and is told by its page reads alone.
    """
    subject, keys = subject_of(hub, mapping, key)
    found = [*hub.audit.about(subject, limit), *_page_reads(hub, mapping, keys)]
    with hub.database.begin() as session:
        hub.record(session, actor, Action.AUDIT_SUBJECT, subject, mapping=mapping, events=len(found))
    told = [_touch(each) for each in found]
    return sorted(told, key=lambda each: each.at, reverse=True)[:limit]


def _page_reads(hub: Installation, mapping: str, keys: Any) -> list[Recorded]:
    """The reads of the pages from which the record was decided."""
    reads: list[Recorded] = []
    for run, segments in decided_in(hub, mapping, keys, MOST_DECISIONS).items():
        found = hub.audit.events(action=Action.PAGE_READ, run=run, limit=100_000)
        reads += [each for each in found if each.event.detail.get("segment") in segments]
    return reads


def _touch(recorded: Recorded) -> Touch:
    event = recorded.event
    fields, purpose = event.detail.get("fields"), event.detail.get("purpose")
    return Touch(
        recorded.at,
        event.actor,
        event.action.value,
        event.run,
        tuple(str(each) for each in fields) if isinstance(fields, list) else (),
        str(purpose) if purpose is not None else None,
        event.about or None,
    )
