"""Reading: REST pages or a bulk query, by what costs fewer calls; both go on from the same cursor."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from connectors.salesforce import soql
from connectors.salesforce.client import Client
from connectors.salesforce.problems import LocatorGoneError
from connectors.salesforce.records import from_csv, from_json, page
from connectors.salesforce.schema import KEY_FIELD, STAMPS, parent_of
from hub.sdk import Cursor, Entity, Page, Selection, UnavailableError, UnexpectedError
from hub.sdk.types import filter_fields

REST_RECORDS = 2_000
"""Records of one REST answer."""
BULK_CALLS = 6
"""Calls of a bulk query: made, looked at twice, fetched, and one to spare."""
BULK_RECORDS = 50_000
"""Records of one part of a bulk query's result."""
FIRST_LOOK, LONGEST_LOOK = 0.5, 30.0

Describe = Callable[[str, bool], Entity]


class SalesforceSource:
    """The source role over one client."""

    def __init__(self, client: Client, describe: Describe) -> None:
        self._client = client
        self._describe = describe

    def read(self, selection: Selection, *, after: Cursor | None = None) -> Iterator[Page]:
        """Pages in the order of the id, or of (stamp, id); with a stamp, records deleted since come as deleted."""
        query = self._query(selection)
        place = Place.of(after)
        while True:
            try:
                yield from query.rest(place)
            except _TooManyError:
                yield from query.bulk(place)
            except LocatorGoneError:
                continue  # what the far side kept of the query is gone; `place` stands behind the last page
            return

    def lookup(self, selection: Selection, match: pl.DataFrame) -> Iterator[Page]:
        """The records whose fields equal some row of `match`, as many keys a query as an address holds."""
        wanted = tuple(dict.fromkeys((*selection.fields, *match.columns)))
        query = self._query(replace(selection, changed_by=None, fields=wanted))
        for part in _parts(query.entity, match):
            for found in replace(query, conditions=(*query.conditions, part)).rest(Place(), bulk=False):
                # The far side compares texts without regard to case; whoever asks means these very values.
                exact = found.frame.join(match, on=match.columns, how="semi", maintain_order="left")
                yield Page(exact.drop(set(match.columns) - {*selection.fields}), found.cursor)

    def split(self, selection: Selection, parts: int) -> Sequence[Selection]:  # noqa: ARG002
        """One: more would cost more calls, and the far side splits a bulk query by itself."""
        return [selection]

    def head(self, selection: Selection) -> Cursor | None:
        """The last stamp that stands, earlier by what a transaction in flight may take."""
        if selection.changed_by is None:
            return None
        entity = self._entity(selection)
        asked = soql.select(entity, [selection.changed_by], order=[selection.changed_by], limit=1, backwards=True)
        found = self._client.query(asked, deleted=True)["records"]
        if not found or found[0][selection.changed_by] is None:
            return None
        stamp = from_json(found, [selection.changed_by], entity)
        last = page_of(entity, stamp, selection.changed_by) - timedelta(seconds=self._client.config.late_seconds)
        return Cursor({"stamp": soql.literal(last)})

    def _query(self, selection: Selection) -> Query:
        entity = self._entity(selection)
        where = () if selection.where is None else (soql.condition(entity, selection.where),)
        return Query(self._client, entity, selection, where)

    def _entity(self, selection: Selection) -> Entity:
        """The object, with its parents' fields only where some are read: they cost a call."""
        paths = any("." in each for each in (*selection.fields, *filter_fields(selection.where)))
        return self._describe(selection.entity, paths)


def page_of(entity: Entity, texts: pl.DataFrame, name: str) -> Any:
    """The one value of a frame of texts, typed."""
    return page(entity, [name], texts.with_columns(pl.lit(None, pl.String).alias(KEY_FIELD)), None, None)[name][0]


class _TooManyError(Exception):
    """There are so many records that a bulk query costs fewer calls."""


@dataclass
class Place:
    """Where a read stands: behind a record, or at a stamp from which on all is read."""

    stamp: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, cursor: Cursor | None) -> Place:
        """The place that a cursor names."""
        state = cursor.state if cursor is not None else {}
        stamp, key = state.get("stamp"), state.get("id")
        return cls(None if stamp is None else str(stamp), None if key is None else str(key))

    def cursor(self) -> Cursor:
        """The inverse of `of`."""
        return Cursor({name: value for name, value in (("stamp", self.stamp), ("id", self.key)) if value is not None})


@dataclass(frozen=True)
class Query:
    """One selection as queries, which go on behind whatever place was reached."""

    client: Client
    entity: Entity
    selection: Selection
    conditions: tuple[str, ...]

    def rest(self, place: Place, *, bulk: bool = True) -> Iterator[Page]:
        """Pages by REST; moves `place` on. _TooManyError, before the first page, where bulk costs fewer calls."""
        wanted = self.client.config.reads if bulk else "rest"
        if wanted == "bulk":
            raise _TooManyError
        told = self.client.query(self._text(place), deleted=self._stamp is not None)
        if wanted == "auto" and _calls(told["totalSize"]) > BULK_CALLS:
            raise _TooManyError
        held: list[Any] = []
        while True:
            held += told["records"]
            last = told["done"]
            while len(held) >= self.selection.page_rows or (last and held):
                part, held = held[: self.selection.page_rows], held[self.selection.page_rows :]
                yield self._page(from_json(part, self._names, self.entity), place)
            if last:
                return
            told = self.client.query_more(told["nextRecordsUrl"])

    def bulk(self, place: Place) -> Iterator[Page]:
        """Pages by a bulk query, its result on disk one part at a time; moves `place` on."""
        operation = "queryAll" if self._stamp is not None else "query"
        job = self.client.call(
            "POST", "jobs/query", "read in bulk", body={"operation": operation, "query": self._text(place)}
        )["id"]
        finished(self.client, f"jobs/query/{job}", "read in bulk")
        locator: str | None = None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "part.csv"
            while True:
                locator = self._fetch(job, locator, file)
                for start in range(0, BULK_RECORDS, self.selection.page_rows):
                    part = from_csv(file, self._names, start, self.selection.page_rows)
                    if part.height:
                        yield self._page(part, place)
                    if part.height < self.selection.page_rows:
                        break
                if locator is None:
                    break

    def _fetch(self, job: str, locator: str | None, file: Path) -> str | None:
        params = {"maxRecords": str(BULK_RECORDS), **({"locator": locator} if locator else {})}
        with self.client.download(f"jobs/query/{job}/results", params) as (headers, pieces), file.open("wb") as out:
            for piece in pieces:
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        following = headers.get("Sforce-Locator", "null")
        return None if following == "null" else following

    @property
    def _stamp(self) -> str | None:
        return self.selection.changed_by

    @property
    def _version(self) -> str | None:
        return next((each for each in STAMPS if each in self.entity.by_name), None)

    @property
    def _names(self) -> list[str]:
        extra = [each for each in (self._version, parent_of(self.entity)) if each is not None]
        extra += [self._stamp, *(["IsDeleted"] if "IsDeleted" in self.entity.by_name else [])] if self._stamp else []
        return list(dict.fromkeys([*self.selection.fields, *self.entity.key, *extra]))

    def _text(self, place: Place) -> str:
        return soql.select(self.entity, self._names, (*self.conditions, *self._behind(place)), order=self._order)

    @property
    def _order(self) -> list[str]:
        return [KEY_FIELD] if self._stamp is None else [self._stamp, KEY_FIELD]

    def _behind(self, place: Place) -> list[str]:
        """Stamps are not unique: what has the same stamp and a higher id is still to come."""
        key = None if place.key is None else soql.literal(place.key)
        if self._stamp is None:
            return [] if key is None else [f"{KEY_FIELD} > {key}"]
        if place.stamp is None:
            return []
        if key is None:
            return [f"{self._stamp} >= {place.stamp}"]
        return [f"{self._stamp} > {place.stamp} OR ({self._stamp} = {place.stamp} AND {KEY_FIELD} > {key})"]

    def _page(self, texts: pl.DataFrame, place: Place) -> Page:
        frame = page(self.entity, self.selection.fields, texts, self._version, parent_of(self.entity))
        place.key = str(texts[KEY_FIELD][-1])
        if self._stamp is not None:
            place.stamp = soql.literal(page_of(self.entity, texts.tail(1), self._stamp))
        return Page(frame, place.cursor())


def _calls(records: int) -> int:
    return -(-records // REST_RECORDS)


def _parts(entity: Entity, match: pl.DataFrame) -> Iterator[str]:
    """Conditions that together ask for every row of `match`, each short enough for an address."""
    known: list[str] = []
    size = 0
    single = match.columns[0] if match.width == 1 else None
    for row in match.unique(maintain_order=True).iter_rows(named=True):
        if single is not None:
            text = soql.literal(row[single])
        else:
            text = " AND ".join(f"{soql.name_of(entity, name)} = {soql.literal(value)}" for name, value in row.items())
        more = len(quote(text)) + 12
        if known and size + more > soql.MOST_CHARACTERS - 2_000:
            yield _either(entity, single, known)
            known, size = [], 0
        known.append(text)
        size += more
    if known:
        yield _either(entity, single, known)


def _either(entity: Entity, single: str | None, known: list[str]) -> str:
    if single is not None:
        return f"{soql.name_of(entity, single)} IN ({', '.join(known)})"
    return " OR ".join(f"({each})" for each in known)


def finished(client: Client, path: str, what: str) -> Mapping[str, Any]:
    """The job once it has ended. UnexpectedError where it failed or was aborted, UnavailableError past the deadline."""
    pause = FIRST_LOOK
    while True:
        told: Mapping[str, Any] = client.call("GET", path, what)
        if told["state"] == "JobComplete":
            return told
        if told["state"] in {"Failed", "Aborted"}:
            raise UnexpectedError(f"Salesforce ended a job to {what}: {told['state']}", detail=_reason(told))
        if client.context.seconds_left(pause) < pause or client.context.cancelled():
            raise UnavailableError(f"a job to {what} is still {told['state']}", retry_after=pause)
        client.context.pause(pause)
        pause = min(LONGEST_LOOK, pause * 1.6)


def _reason(told: Mapping[str, Any]) -> str:
    return str(told.get("errorMessage") or "").partition(":")[0][:80]
