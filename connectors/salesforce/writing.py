"""Writing: collections that ride together in composite calls, or a bulk job; each change gets one answer."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import polars as pl

from connectors.salesforce.client import Client
from connectors.salesforce.ingest import NOT_AVAILABLE, Ingest
from connectors.salesforce.naming import Naming, whole_id
from connectors.salesforce.problems import LOCKED, asks_to_wait, code_of, explained
from connectors.salesforce.reading import SalesforceSource
from connectors.salesforce.records import text_of
from connectors.salesforce.schema import KEY_FIELD
from connectors.salesforce.standing import Answer, Row, found_by_id, landed, made_before
from hub.sdk import Changes, Happening, Journal, Mode, Results, UnavailableError
from hub.sdk.http import LostAnswerError
from hub.sdk.types import APPLIED, CLEAR, REJECTED, RESULT_SCHEMA, UNCHANGED, UNKNOWN

COLLECTION = 200
"""Records of one collection."""
TOGETHER = 5
"""Collections of one composite call; it takes 25 parts, and five of them may be collections."""
BULK_FIELDS, BULK_CHARACTERS, BULK_TEXT = 5_000, 400_000, 32_000
"""Of one record of a bulk job, and of one text in it; a record with more goes by itself."""
MOST_CHARACTERS = 4_000_000
"""Of texts in one composite call: a body may have 50 MB, and JSON writes some letters in twelve bytes."""
BULK_FROM = 2_001
"""Changes from which a bulk job is Salesforce's own advice."""
LOCK_TRIES = 5
LOCK_SECONDS = 0.5
ALERTED = "DUPLICATES_DETECTED"
ALERTS_PASS = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
NO_ANSWER: Answer = (UNKNOWN, None, "Salesforce gave no answer to this change")
EMPTY = "Salesforce keeps no empty text; give null to leave the field alone"
BLANKS = "Salesforce cuts blanks at both ends of a text, so that no record can be named by this one; trim it"


class SalesforceDestination:
    """The destination role over one client. It describes nothing: that costs a call, and the org refuses anyway."""

    def __init__(self, client: Client, source: SalesforceSource) -> None:
        self._client = client
        self._source = source

    def write(self, changes: Changes, *, journal: Journal) -> Results:
        """One result per change. What no answer was heard of is unknown; the far side refuses row by row."""
        naming = Naming.of(changes)
        answers: dict[int, Answer] = {}
        rows = _rows(changes, naming, answers)
        if naming.mode is Mode.UPDATE and not naming.by_id:
            # An upsert would make what is not there; so the records are found first, and written by their ids.
            rows = found_by_id(self._source, naming, rows, answers)
            naming = replace(naming, key=KEY_FIELD)
        for turn, part in enumerate(_rounds(rows, naming)):
            alone = part
            if self._in_bulk(part, journal):
                alone = [each for each in part if not fits_bulk(each.record)]
                fit = part if not alone else [each for each in part if fits_bulk(each.record)]
                ingest = Ingest(self._client, naming, changes.fields, journal, turn=turn)
                self._bulk(ingest, naming, changes, fit, answers, before=journal.last() is not None)
            self._collections(naming, alone, answers)
        if naming.mode is Mode.CREATE:
            answers |= made_before(self._source, naming, changes, rows, answers)
        return _results(len(changes), answers)

    def _in_bulk(self, rows: Sequence[Row], journal: Journal) -> bool:
        wanted = self._client.config.writes
        if wanted == "auto":
            return len(rows) >= BULK_FROM or journal.last() is not None
        return wanted == "bulk"

    def _bulk(
        self,
        ingest: Ingest,
        naming: Naming,
        changes: Changes,
        rows: Sequence[Row],
        answers: dict[int, Answer],
        *,
        before: bool,
    ) -> None:
        """`before` says that what a job leaves may have been sent by another try: what stands is not sent again."""
        by_key = {each.key: each for each in rows}
        told = ingest.send([each.record for each in _by_parent(rows)])
        again, why = [], dict[int, str]()
        for key, code in told.items():
            row = by_key[key]
            if code is None:
                answers[row.number] = (APPLIED, None, None)
            elif code in {LOCKED, ""} or self._passes(code):
                again.append(row)
                why[row.number] = code
            else:
                answers[row.number] = (REJECTED, _field_in(code, changes.fields), explained(code.partition(":")[0]))
        if before:
            answers |= landed(self._source, naming, changes, again)
            again = [each for each in again if each.number not in answers]
        for happening, cause in ((Happening.LEFT, ""), (Happening.LOCKED, LOCKED)):
            met = sum(why[each.number] == cause for each in again)
            if met:
                self._client.context.tally.add(happening, met)
        self._collections(naming, again, answers)

    def _passes(self, code: str) -> bool:
        """Whether a duplicate rule refused what collections are let through: bulk jobs know no header for it."""
        return self._client.config.pass_alerts and code.partition(":")[0] == ALERTED

    def _collections(self, naming: Naming, rows: Sequence[Row], answers: dict[int, Answer]) -> None:
        """Waits and repeats locked rows alone; whoever stays locked is refused. Errors only before anything is sent."""
        left = list(_by_parent(rows))
        for attempt in range(1, LOCK_TRIES + 1):
            left = self._sent(naming, left, answers)
            if not left:
                return
            pause = random.uniform(0.5, 1.5) * LOCK_SECONDS * 2.0**attempt  # noqa: S311  (jitter)
            if attempt == LOCK_TRIES or self._client.context.seconds_left(pause) < pause:
                break
            self._client.context.pause(pause)
            self._client.context.tally.add(Happening.LOCKED, len(left))
        for each in left:
            answers[each.number] = (REJECTED, None, explained(LOCKED))

    def _sent(self, naming: Naming, rows: Sequence[Row], answers: dict[int, Answer]) -> list[Row]:
        """Sends the rows, composite call by composite call; those that were locked."""
        locked: list[Row] = []
        for part in _within(rows, COLLECTION * TOGETHER):
            if self._client.context.cancelled():
                break
            try:
                told = self._composite(naming, part)
            except LostAnswerError:
                # These may have been written: they are looked up by whoever asked, and no error may hide that.
                answers |= dict.fromkeys((each.number for each in part), NO_ANSWER)
                continue
            except UnavailableError:
                if not answers:
                    raise
                break
            for row, answer in zip(part, told, strict=True):
                if answer is None:
                    locked.append(row)
                else:
                    answers[row.number] = answer
        return locked

    def _composite(self, naming: Naming, rows: Sequence[Row]) -> list[Answer | None]:
        """The answer to each row, in order, of one composite call; None where it was locked."""
        method, url = naming.collection(f"/services/data/v{self._client.config.api_version}")
        headers = ALERTS_PASS if self._client.config.pass_alerts else {}
        parts = [{"attributes": {"type": naming.entity}, **each.record} for each in rows]
        asked = [
            {
                "method": method,
                "url": url,
                "referenceId": f"part{number}",
                "httpHeaders": headers,
                "body": {"allOrNone": False, "records": list(part)},
            }
            for number, part in enumerate(_chunks(parts, COLLECTION))
        ]
        body = {"allOrNone": False, "compositeRequest": asked}
        told = self._client.call("POST", "composite", "write records", body=body, repeatable=False)
        found: list[Answer | None] = []
        for request, each in zip(asked, told["compositeResponse"], strict=True):
            count = len(request["body"]["records"])  # type: ignore[index]
            if (seconds := asks_to_wait(each["httpStatusCode"], each["body"])) is not None:
                self._client.context.shared.hold_off(seconds)
            found += _answers(each, count)
        return found


def fits_bulk(record: Mapping[str, Any]) -> bool:
    """Whether a bulk job takes the record, and as it is meant: one text means there that a field is to be cleared."""
    texts = [each for each in record.values() if isinstance(each, str)]
    sizes = [len(each) for each in texts]
    fits = len(record) <= BULK_FIELDS and sum(sizes) <= BULK_CHARACTERS and max(sizes, default=0) <= BULK_TEXT
    return fits and NOT_AVAILABLE not in texts


def _rows(changes: Changes, naming: Naming, answers: dict[int, Answer]) -> list[Row]:
    """The changes as records; those that can be judged here are answered."""
    frame = changes.frame
    keys = frame["_key"].struct.field(naming.key)
    versions, cleared = frame["_version"], frame[CLEAR]
    columns = [frame[name] for name in changes.fields]
    found = []
    for number, (key, version, clear, *values) in enumerate(zip(keys, versions, cleared, *columns, strict=True)):
        name_of_it = whole_id(key) if naming.by_id else key
        record: dict[str, Any] = {naming.key: name_of_it}
        if name_of_it != name_of_it.strip() or not name_of_it:
            answers[number] = (REJECTED, naming.key, BLANKS)
        for name, value in zip(changes.fields, values, strict=True):
            if value == "":
                answers[number] = (REJECTED, name, EMPTY)
            elif value is not None:
                record[name] = _value(value)
        record |= dict.fromkeys(clear if clear is not None else ())
        if len(record) == 1 and naming.mode is Mode.UPDATE:
            answers.setdefault(number, (UNCHANGED, None, None))
        if number not in answers:
            found.append(Row(number, name_of_it, parent_in(version), record))
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


def _rounds(rows: Sequence[Row], naming: Naming) -> list[list[Row]]:
    """The rows such that no call holds a key twice, which the far side refuses."""
    rounds: list[list[Row]] = []
    seen: dict[str, int] = {}
    for each in rows:
        key = naming.same(each.key)
        at = seen[key] = seen.get(key, -1) + 1
        if at == len(rounds):
            rounds.append([])
        rounds[at].append(each)
    return rounds


def _within(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """The rows in parts of so many at most, each of which fits into the body of a call."""
    for part in _chunks(rows, size):
        start = characters = 0
        for at, each in enumerate(part):
            more = sum(len(value) for value in each.record.values() if isinstance(value, str))
            if at > start and characters + more > MOST_CHARACTERS:
                yield part[start:at]
                start, characters = at, 0
            characters += more
        yield part[start:]


def _chunks(rows: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _answers(told: Mapping[str, Any], count: int) -> list[Answer | None]:
    """The answers to one collection of a composite call."""
    body, status = told["body"], int(told["httpStatusCode"])
    if status == httpx.codes.OK and len(body) == count:
        return [_answer(each) for each in body]
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or asks_to_wait(status, body) is not None:
        return [NO_ANSWER] * count  # it failed over there, and may have acted: whoever asked looks it up
    # The whole collection was refused, so none of it was written.
    return [_answer({"success": False, "errors": [{"statusCode": code_of(body) or str(status)}]})] * count


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
    told = [answers.get(number, NO_ANSWER) for number in range(count)]
    columns = {name: [each[at] for each in told] for at, name in enumerate(("state", "field", "reason"))}
    return Results(pl.DataFrame({**columns, "version": [None] * count}, schema=dict(RESULT_SCHEMA)))
