"""Writing: collections that ride together in composite calls, or a bulk job; each change gets one answer."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import polars as pl

from connectors.salesforce.client import Client
from connectors.salesforce.ingest import NOT_AVAILABLE, Ingest
from connectors.salesforce.problems import LOCKED, explained
from connectors.salesforce.records import text_of
from connectors.salesforce.schema import KEY_FIELD
from hub.sdk import Changes, Happening, Journal, Mode, Results, UnavailableError, UnexpectedError
from hub.sdk.http import LostAnswerError
from hub.sdk.types import APPLIED, CLEAR, REJECTED, RESULT_SCHEMA, UNCHANGED, UNKNOWN

COLLECTION = 200
"""Records of one collection."""
TOGETHER = 5
"""Collections of one composite call; it takes 25 parts, and five of them may be collections."""
BULK_FROM = 2_001
"""Changes from which a bulk job is Salesforce's own advice."""
LOCK_TRIES = 5
LOCK_SECONDS = 0.5
ALERTS_PASS = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
EMPTY = "Salesforce keeps no empty text; give null to leave the field alone"

Answer = tuple[str, str | None, str | None]
"""State, field, reason."""


class SalesforceDestination:
    """The destination role over one client. It describes nothing: that costs a call, and the org refuses anyway."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def write(self, changes: Changes, *, journal: Journal) -> Results:
        """One result per change. What no answer was heard of is unknown; the far side refuses row by row."""
        if changes.mode is not Mode.UPDATE:
            raise UnexpectedError(f"{changes.entity} takes no {changes.mode.value} by this connection")
        answers: dict[int, Answer] = {}
        rows = _rows(changes, answers)
        for part in _rounds(rows):
            if self._in_bulk(part, journal):
                self._bulk(changes, part, answers, journal)
            else:
                self._collections(changes.entity, part, answers)
        return _results(len(changes), answers)

    def _in_bulk(self, rows: Sequence[Row], journal: Journal) -> bool:
        wanted = self._client.config.writes
        if any(NOT_AVAILABLE in each.record.values() for each in rows):
            return False  # a text that bulk would take for the order to clear the field
        if wanted == "auto":
            return len(rows) >= BULK_FROM or journal.last() is not None
        return wanted == "bulk"

    def _bulk(self, changes: Changes, rows: Sequence[Row], answers: dict[int, Answer], journal: Journal) -> None:
        by_key = {each.key: each for each in rows}
        ingest = Ingest(self._client, changes.entity, changes.fields, journal)
        told = ingest.send([each.record for each in _by_parent(rows)])
        again, left = [], 0
        for key, code in told.items():
            row = by_key[key]
            if code is None:
                answers[row.number] = (APPLIED, None, None)
            elif code in {LOCKED, ""}:
                again.append(row)
                left += code == ""
            else:
                answers[row.number] = (REJECTED, _field_in(code, changes.fields), explained(code.partition(":")[0]))
        if left:
            self._client.context.tally.add(Happening.LEFT, left)
        if len(again) > left:
            self._client.context.tally.add(Happening.LOCKED, len(again) - left)
        self._collections(changes.entity, again, answers)

    def _collections(self, entity: str, rows: Sequence[Row], answers: dict[int, Answer]) -> None:
        """Waits and repeats locked rows alone; whoever stays locked is refused. Errors only before anything is sent."""
        left = list(_by_parent(rows))
        for attempt in range(1, LOCK_TRIES + 1):
            left = self._sent(entity, left, answers)
            if not left:
                return
            pause = random.uniform(0.5, 1.5) * LOCK_SECONDS * 2.0**attempt  # noqa: S311  (jitter)
            if attempt == LOCK_TRIES or self._client.context.seconds_left(pause) < pause:
                break
            self._client.context.pause(pause)
            self._client.context.tally.add(Happening.LOCKED, len(left))
        for each in left:
            answers[each.number] = (REJECTED, None, explained(LOCKED))

    def _sent(self, entity: str, rows: Sequence[Row], answers: dict[int, Answer]) -> list[Row]:
        """Sends the rows, composite call by composite call; those that were locked."""
        locked: list[Row] = []
        for part in _chunks(rows, COLLECTION * TOGETHER):
            if self._client.context.cancelled():
                break
            try:
                told = self._composite(entity, part)
            except LostAnswerError:
                continue  # these may have been written: unknown, and looked up by whoever asked
            except UnavailableError:
                if not answers:
                    raise
                break
            for row, each in zip(part, told, strict=True):
                answer = _answer(each)
                if answer is None:
                    locked.append(row)
                else:
                    answers[row.number] = answer
        return locked

    def _composite(self, entity: str, rows: Sequence[Row]) -> list[Mapping[str, Any]]:
        """The result of each row, in order; of one composite call."""
        version = self._client.config.api_version
        url = f"/services/data/v{version}/composite/sobjects"
        headers = ALERTS_PASS if self._client.config.pass_alerts else {}
        parts = [{"attributes": {"type": entity}, **each.record} for each in rows]
        asked = [
            {
                "method": "PATCH",
                "url": url,
                "referenceId": f"part{number}",
                "httpHeaders": headers,
                "body": {"allOrNone": False, "records": list(part)},
            }
            for number, part in enumerate(_chunks(parts, COLLECTION))
        ]
        body = {"allOrNone": False, "compositeRequest": asked}
        told = self._client.call("POST", "composite", "write records", body=body, repeatable=False)
        found: list[Mapping[str, Any]] = []
        for request, each in zip(asked, told["compositeResponse"], strict=True):
            count = len(request["body"]["records"])  # type: ignore[index]
            found += _results_of(each, count)
        return found


@dataclass(frozen=True, slots=True)
class Row:
    """One change: its place, its key, its parent, and the record as JSON takes it."""

    number: int
    key: str
    parent: str
    record: Mapping[str, Any]


def _rows(changes: Changes, answers: dict[int, Answer]) -> list[Row]:
    """The changes as records; those that can be judged here are answered."""
    frame = changes.frame
    keys = frame["_key"].struct.field(KEY_FIELD)
    versions, cleared = frame["_version"], frame[CLEAR]
    columns = [frame[name] for name in changes.fields]
    found = []
    for number, (key, version, clear, *values) in enumerate(zip(keys, versions, cleared, *columns, strict=True)):
        record: dict[str, Any] = {KEY_FIELD: key}
        for name, value in zip(changes.fields, values, strict=True):
            if value == "":
                answers[number] = (REJECTED, name, EMPTY)
            elif value is not None:
                record[name] = _value(value)
        record |= dict.fromkeys(clear if clear is not None else ())
        if len(record) == 1:
            answers.setdefault(number, (UNCHANGED, None, None))
        if number not in answers:
            found.append(Row(number, key, parent_in(version), record))
    return found


def parent_in(version: str | None) -> str:
    """The parent that a record's version carries behind its stamp; empty where it has none."""
    return "" if version is None else version.partition(" ")[2]


def _value(value: Any) -> Any:
    if isinstance(value, Decimal | float):
        return int(value) if value == int(value) else float(value)
    return text_of(value)


def _by_parent(rows: Iterable[Row]) -> list[Row]:
    """Children of one parent side by side: in two batches at once they would lock it against each other."""
    return sorted(rows, key=lambda each: (each.parent, each.key))


def _rounds(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows such that no call holds a key twice, which the far side refuses."""
    rounds: list[list[Row]] = []
    seen: dict[str, int] = {}
    for each in rows:
        at = seen[each.key] = seen.get(each.key, -1) + 1
        if at == len(rounds):
            rounds.append([])
        rounds[at].append(each)
    return rounds


def _chunks(rows: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _results_of(told: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    body = told["body"]
    if told["httpStatusCode"] == 200 and len(body) == count:
        return list(body)
    # The whole collection was refused, so none of it was written.
    code = body[0].get("errorCode", "") if isinstance(body, list) and body else str(told["httpStatusCode"])
    return [{"success": False, "errors": [{"statusCode": code, "fields": []}]}] * count


def _answer(told: Mapping[str, Any]) -> Answer | None:
    """State, field and reason of one result; None where the record was locked."""
    if told["success"]:
        return (APPLIED, None, None)
    error = told["errors"][0] if told["errors"] else {}
    code, fields = str(error.get("statusCode", "")), [str(each) for each in error.get("fields") or ()]
    if code == LOCKED:
        return None
    return (REJECTED, fields[0] if fields else None, explained(code, fields))


def _field_in(code: str, fields: Sequence[str]) -> str | None:
    """The field that a bulk error names: `CODE:text:Field --`."""
    named = code.rpartition(":")[2].strip().removesuffix("--").strip()
    return named if named in fields else None


def _results(count: int, answers: Mapping[int, Answer]) -> Results:
    missing: Answer = (UNKNOWN, None, "Salesforce gave no answer to this change")
    told = [answers.get(number, missing) for number in range(count)]
    columns = {name: [each[at] for each in told] for at, name in enumerate(("state", "field", "reason"))}
    return Results(pl.DataFrame({**columns, "version": [None] * count}, schema=dict(RESULT_SCHEMA)))
