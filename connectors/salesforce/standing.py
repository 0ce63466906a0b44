"""What stands in the org already under the external ids that changes name their records by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import polars as pl

from connectors.salesforce.naming import Naming
from connectors.salesforce.reading import SalesforceSource
from connectors.salesforce.schema import KEY_FIELD
from hub.sdk import CLEAR, Changes, Selection
from hub.sdk.types import APPLIED, CONFLICT, REJECTED

GONE = "there is no record with this key"
STANDS = "a record with this key exists already"

Answer = tuple[str, str | None, str | None]
"""State, field, reason."""


@dataclass(frozen=True, slots=True)
class Row:
    """One change: its place, its key, its parent, and the record as JSON takes it."""

    number: int
    key: str
    parent: str
    record: Mapping[str, Any]


def found_by_id(source: SalesforceSource, naming: Naming, rows: Sequence[Row], answers: dict[int, Answer]) -> list[Row]:
    """The rows as changes by id, a query for some five hundred; those that no record has are answered."""
    ids = {str(key): record[KEY_FIELD] for key, record in _standing(source, naming, rows, (KEY_FIELD,)).items()}
    found = []
    for each in rows:
        if each.key not in ids:
            answers[each.number] = (REJECTED, None, GONE)
            continue
        rest = {name: value for name, value in each.record.items() if name != naming.key}
        found.append(replace(each, key=ids[each.key], record={KEY_FIELD: ids[each.key], **rest}))
    return found


def made_before(
    source: SalesforceSource,
    naming: Naming,
    changes: Changes,
    rows: Sequence[Row],
    answers: Mapping[int, Answer],
) -> dict[int, Answer]:
    """What became of refused creations whose record stands: applied where it holds all of it, else a conflict."""
    refused = [each for each in rows if answers.get(each.number, ("",))[0] == REJECTED]
    held = _standing(source, naming, refused, changes.fields)
    wanted = changes.frame
    found: dict[int, Answer] = {}
    for each in refused:
        if each.key in held:
            same = _holds(held[each.key], wanted.row(each.number, named=True), changes.fields)
            found[each.number] = (APPLIED, None, None) if same else (CONFLICT, None, STANDS)
    return found


def landed(source: SalesforceSource, naming: Naming, changes: Changes, rows: Sequence[Row]) -> dict[int, Answer]:
    """Those of the rows whose records hold what is to be written."""
    held = _standing(source, naming, rows, changes.fields)
    return {
        each.number: (APPLIED, None, None)
        for each in rows
        if each.key in held and _holds(held[each.key], changes.frame.row(each.number, named=True), changes.fields)
    }


def _standing(
    source: SalesforceSource, naming: Naming, rows: Sequence[Row], fields: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """External id → the fields of its record."""
    if not rows:
        return {}
    match = pl.DataFrame({naming.key: [each.key for each in rows]}, schema={naming.key: pl.String()}).unique()
    wanted = Selection(naming.entity, tuple(dict.fromkeys((naming.key, *fields))))
    return {
        str(record[naming.key]): record
        for page in source.lookup(wanted, match)
        for record in page.frame.iter_rows(named=True)
    }


def _holds(record: Mapping[str, Any], wanted: Mapping[str, Any], fields: Sequence[str]) -> bool:
    cleared = wanted[CLEAR] or ()
    return all(
        record[name] is None
        if name in cleared
        else wanted[name] is None or _as_kept(wanted[name]) == _as_kept(record[name])
        for name in fields
    )


def _as_kept(value: Any) -> Any:
    """A value as the org keeps it: instants have whole seconds, texts no blanks at their ends."""
    if isinstance(value, datetime):
        return value.replace(microsecond=0)
    return value.strip() if isinstance(value, str) else value
