"""Reading: REST pages or a bulk query, by what costs fewer calls; both go on from the same cursor."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from connectors.salesforce import soql
from connectors.salesforce.client import Client
from connectors.salesforce.naming import whole_id
from connectors.salesforce.problems import LocatorGoneError
from connectors.salesforce.records import from_csv, from_json, page
from connectors.salesforce.schema import KEY_FIELD, STAMPS, is_id, parent_of
from hub.sdk import Cursor, Entity, Page, Selection, UnavailableError, UnexpectedError
from hub.sdk.types import RESERVED, filter_fields

REST_RECORDS = 2_000
"""Records of one REST answer."""
BULK_CALLS = 6
"""Calls of a bulk query: made, looked at twice, fetched, and one to spare."""
BULK_RECORDS = 20_000
"""Records of one part of a bulk query's result, which is parsed anew for each page: and a worker's peak of memory."""
FIRST_LOOK, LONGEST_LOOK = 0.5, 30.0
ASKED = "asked."
MOST_COLUMNS = 7_000
"""Characters of the fields of one lookup, half of what an address holds: the other half is for its keys."""

BETWEEN_KEYS = ","
"""Without a blank, so that an address holds as many keys as it can: about five hundred ids."""

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
        try:
            yield from query.rest(place)
        except _TooManyError:
            yield from query.bulk(place)

    def lookup(self, selection: Selection, match: pl.DataFrame) -> Iterator[Page]:
        """The records whose fields equal some row of `match`, as many keys a query as an address holds."""
        always = tuple(dict.fromkeys((KEY_FIELD, *match.columns)))
        groups = [
            self._query(replace(selection, changed_by=None, fields=(*always, *each)))
            for each in _columns([each for each in selection.fields if each not in always])
        ]
        asked = _whole(groups[0].entity, match)
        room = min(soql.room(query.text(Place())) for query in groups)
        for part in _parts(groups[0].entity, asked.select(match.columns), room):
            for found in _side_by_side([replace(each, conditions=(*each.conditions, part)) for each in groups]):
                # The far side compares texts without regard to case; whoever asks means these very values.
                exact = found.frame.join(asked, on=match.columns, how="inner", maintain_order="left")
                yield Page(_as_asked(exact, selection.fields), found.cursor)

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


def _whole(entity: Entity, match: pl.DataFrame) -> pl.DataFrame:
    """The match with its ids in the form of 18 characters, and in `asked.…` as they were asked for."""
    names = [each for each in match.columns if each in entity.by_name and is_id(entity.by_name[each])]
    long = [pl.col(each).map_elements(whole_id, pl.String) for each in names]
    return match.with_columns(*long, *(pl.col(each).alias(ASKED + each) for each in names))


def _columns(fields: Sequence[str]) -> list[list[str]]:
    """The fields in as few groups as leave room for conditions in an address; at least one group."""
    groups: list[list[str]] = [[]]
    size = 0
    for each in fields:
        more = soql.size(f"{each}, ")
        if size + more > MOST_COLUMNS:
            groups.append([])
            size = 0
        groups[-1].append(each)
        size += more
    return groups


def _side_by_side(queries: Sequence[Query]) -> Iterator[Page]:
    """The records of several queries that differ in their fields alone, as one; who is gone meanwhile is left out."""
    first, *others = queries
    if not others:
        yield from first.rest(Place(), bulk=False)
        return
    more = [_all(each) for each in others]
    for found in first.rest(Place(), bulk=False):
        frame = found.frame
        for each in more:
            new = each.select(KEY_FIELD, *(name for name in each.columns if name not in frame.columns))
            frame = frame.join(new, on=KEY_FIELD, how="inner", maintain_order="left")
        yield Page(frame, found.cursor)


def _all(query: Query) -> pl.DataFrame:
    empty = pl.DataFrame(schema=query.entity.page_schema(query.selection.fields))
    return pl.concat([empty, *(each.frame for each in query.rest(Place(), bulk=False))])


def _as_asked(found: pl.DataFrame, wanted: Sequence[str]) -> pl.DataFrame:
    """A page whose ids are in the form that they were asked in: whoever asked finds by it which record is whose."""
    given = {each.removeprefix(ASKED) for each in found.columns if each.startswith(ASKED)}
    shown = [pl.col(ASKED + each).alias(each) if each in given else pl.col(each) for each in wanted]
    return found.select(*shown, *RESERVED)


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
        """Pages by REST; moves `place` on. _TooManyError, before a page, where bulk costs fewer calls.

        UnavailableError where the far side lets go of what it kept of the query before a single page was whole.
        """
        lost: Place | None = None
        while True:
            try:
                yield from self._asked(place, bulk=bulk)
            except LocatorGoneError:
                if place == lost:
                    raise UnavailableError("Salesforce does not keep a query until it is read") from None
                lost = replace(place)  # asked anew behind the last page
            else:
                return

    def _asked(self, place: Place, *, bulk: bool) -> Iterator[Page]:
        wanted = self.client.config.reads if bulk else "rest"
        # An object so wide that its fields do not fit into an address is asked for in the body of a job.
        if wanted == "bulk" or (bulk and soql.room(self.text(place)) < 0):
            raise _TooManyError
        told = self.client.query(self.text(place), deleted=self._stamp is not None)
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
            "POST", "jobs/query", "read in bulk", body={"operation": operation, "query": self.text(place)}
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

    def text(self, place: Place) -> str:
        """The query that goes on behind a place."""
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


def _parts(entity: Entity, match: pl.DataFrame, room: int) -> Iterator[str]:
    """Conditions that together ask for every row of `match`, each of so many characters in an address at most."""
    known: list[str] = []
    size = 0
    single = match.columns[0] if match.width == 1 else None
    between = soql.size(BETWEEN_KEYS if single is not None else "() OR ")
    for row in match.unique(maintain_order=True).iter_rows(named=True):
        if single is not None:
            text = soql.literal(row[single])
        else:
            text = " AND ".join(f"{soql.name_of(entity, name)} = {soql.literal(value)}" for name, value in row.items())
        more = soql.size(text) + between
        if known and size + more > room - 100:
            yield _either(entity, single, known)
            known, size = [], 0
        known.append(text)
        size += more
    if known:
        yield _either(entity, single, known)


def _either(entity: Entity, single: str | None, known: list[str]) -> str:
    if single is not None:
        return f"{soql.name_of(entity, single)} IN ({BETWEEN_KEYS.join(known)})"
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
