"""What every face shows of runs, scores and records: JSON-ready, and the looks at a record recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from hub.access import Caller, HiddenError, Resource, Scope
from hub.audit import Action
from hub.decisions import Receipt, key_text
from hub.decisions.receipts import LIMIT, key_series, receipt
from hub.runs.installation import Installation
from hub.runs.planning.describing import describe
from hub.runs.types import RunState, no_such_run

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from hub.runs.requests.answering import Answer

MOST_NAMED = 1_000
"""Records that one event names; a look at more of them leaves several."""
NOT_SELECTED = "not selected"
"""What is said of a record that the mapping's `where` leaves out; it has no decision."""


def progress(hub: Installation, run: str) -> dict[str, Any]:
    """A run with its rate (records a second), slices done and seconds left (None: not known yet)."""
    with hub.database.read() as session:
        found = hub.ledger.run(session, run)
        done, slices = hub.ledger.slices(session, run)
        now = hub.database.now(session)
    answer = dict(describe(found))
    since = found.started_at
    seconds = ((found.finished_at or now) - since).total_seconds() if since is not None else 0.0
    read = found.counts.read
    rate = read / seconds if seconds > 0 else 0.0
    going = found.state is RunState.RUNNING and found.expected and rate and read < found.expected
    left = (found.expected - read) / rate if going and found.expected else None
    return {**answer, "slices": f"{done}/{slices}", "rate": round(rate, 1), "seconds_left": left}


def require_run(hub: Installation, caller: Caller, scope: Scope, run: str) -> None:
    """Passes whom the mapping of a run is open to. UnknownRunError for a run that is not there or out of sight.

    DeniedError where the caller holds the scope for nothing.
    """
    with hub.database.read() as session:
        mapping = hub.ledger.mapping_of(session, run)
    try:
        # Without the run no mapping of this name is held: the refusal costs the same work, and leaves the same event.
        hub.access.require(caller, scope, Resource.mapping(mapping or ""), subject=f"run:{run}")
    except HiddenError:
        raise no_such_run(run) from None


def left_alone(hub: Installation, run: str, actor: str, limit: int = 1_000) -> list[dict[str, Any]]:
    """The records that an undo did not put back, each with the reason: somebody edited them since. Recorded."""
    found: list[dict[str, Any]] = []
    texts: list[str] = []
    with hub.database.read() as session:
        segments = hub.log.segments(session, run=run)
        mapping = hub.ledger.mapping_of(session, run) or ""
    for segment in segments:
        told = hub.log.results(segment.id).filter(pl.col("state") != "applied").head(limit - len(found))
        keys = hub.log.frame(segment.id, ["_key"])["_key"].gather(told["row"])
        rows = zip(keys.to_list(), told["state"], told["reason"], strict=True)
        found += [{"key": key, "state": state, "reason": reason} for key, state, reason in rows]
        texts.extend(key_text(keys))
    fields = sorted(found[0]["key"]) if found else []
    with hub.database.begin() as session:
        note_look(hub, session, actor, run, mapping, texts, run=run, purpose="undo", fields=fields)
    return found


def note_look(
    hub: Installation,
    session: Session,
    actor: str,
    subject: str,
    mapping: str,
    texts: Sequence[str],
    *,
    purpose: str,
    fields: Sequence[str],
    run: str | None = None,
) -> None:
    """Records that somebody looked at these records of a mapping, by the texts of their keys: each is named."""
    names = [hub.subjects.name(mapping, each) for each in texts]
    for at in range(0, max(1, len(names)), MOST_NAMED):
        named = names[at : at + MOST_NAMED]
        told = {"mapping": mapping, "records": len(named), "subjects": named, "fields": list(fields)}
        hub.record(session, actor, Action.DECISION_SHOW, subject, run=run, purpose=purpose, **told)


def look_up(hub: Installation, mapping: str, key: Mapping[str, str], actor: str, limit: int = LIMIT) -> Receipt | None:
    """A record's receipt, the look itself an audit event; None where the mapping never met the record.

    `key` gives each key field as text. DecisionError names a field that does not fit.
    """
    keys = key_series(hub.standing, mapping, key)
    found = receipt(hub.log, hub.standing, mapping, key, limit=limit) if keys is not None else None
    text = key_text(keys)[0] if keys is not None else "\x1f".join(key.values())
    shown = found.decisions[0] if found is not None and found.decisions else None
    with hub.database.begin() as session:
        hub.record(
            session,
            actor,
            Action.DECISION_SHOW,
            hub.subjects.name(mapping, text),
            mapping=mapping,
            purpose="receipt",
            fields=sorted(shown.features) if shown is not None else [],
            decisions=len(found.decisions) if found is not None else 0,
            about={"state": shown.state, "segment": str(shown.segment), "row": shown.row} if shown is not None else {},
        )
    return found if found is not None and found.standing is not None else None


def answer_json(answer: Answer) -> dict[str, Any]:
    """The decisions on requested records, in the order asked; a decision is found again by segment and row."""
    compiled = answer.compiled
    model = compiled.model
    return {
        "mapping": compiled.document.mapping,
        "mapping_version": compiled.document.digest,
        "model": {"name": model.name, "version": model.number, "digest": model.digest},
        "run": answer.run,
        "decisions": list(_told(answer)),
    }


def _told(answer: Answer) -> Iterator[dict[str, Any]]:
    titles = {each.name: each.title for each in answer.compiled.document.features}
    places = answer.places()
    told: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row, (segment, number) in zip(answer.rows.iter_rows(named=True), places, strict=False):
        pointer = {"segment": str(segment.id), "row": number, "digest": segment.root.hex()}
        told[tuple(row["_key"].values())] = {**_decision(row, titles), "decision": pointer}
    for key in answer.keys:
        yield told.get(tuple(key.values())) or {**_UNDECIDED, "key": key}


_UNDECIDED: Mapping[str, Any] = {
    "key": None,
    "state": NOT_SELECTED,
    "reason": "the mapping does not select this record",
    "because": None,
    "outputs": {},
    "decided": {},
    "reasons": [],
    "set": {},
    "decision": None,
}


def _decision(row: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, Any]:
    reasons = [{**each, "title": titles.get(each["feature"], each["feature"])} for each in row.get("_reasons") or ()]
    return {
        "key": row["_key"],
        "state": row["_state"],
        "reason": row.get("_reason"),
        "because": row.get("_because"),
        "outputs": _group(row, "o."),
        "decided": _group(row, "d."),
        "reasons": reasons,
        "set": {**_group(row, "set."), **_group(row, "with.")},
    }


def _group(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: value for name, value in row.items() if name.startswith(prefix)}
