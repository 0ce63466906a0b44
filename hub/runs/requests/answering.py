"""One page of requests: their records judged together, remembered together, and each caller told of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy.exc import SQLAlchemyError

from hub.database import DatabaseError
from hub.decisions import Segment
from hub.mappings import Compiled
from hub.runs.pages import Askers, Columns, Concluded, Featured, Load, Trip, checked, framed, keys_of
from hub.runs.requests.gathering import Asking
from hub.runs.types import BadRequestError
from hub.sdk import UnauthorizedError, UnavailableError, Value

MOST_RECORDS = 1_000
"""Records in one request, and in a page of several."""

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Decisions on some records, one row each (columns of the decision log), and where they are stored.

    `rows` are those of the `segments`, one after the other, from row `first` of the first; `keys` are the records asked
    for, in that order, and may hold some that the mapping does not select.
    """

    rows: pl.DataFrame
    compiled: Compiled
    keys: pl.Series
    segments: tuple[Segment, ...] = ()
    run: str | None = None
    first: int = 0

    def places(self) -> Iterator[tuple[Segment, int]]:
        """Segment and row of each of `rows`."""
        first = self.first
        for each in self.segments:
            yield from ((each, row) for row in range(first, each.rows))
            first = 0


class Request(Asking[Answer]):
    """One caller's records to score, given whole or, where `what` is "keys", named by their key."""

    def __init__(self, mapping: str, what: str, records: Sequence[Mapping[str, Any]], actor: str) -> None:
        super().__init__()
        self.mapping = mapping
        self.what = what
        self.records = records
        self.actor = actor
        self.columns: Columns = {}
        self.keys: list[tuple[Value, ...]] = []
        self.featured: Featured | None = None
        self.held = False
        self.since = time.monotonic()
        self.bound = False

    def check(self, compiled: Compiled) -> bool:
        """Whether the records fit the mapping as it is now; the caller is told of the first that does not."""
        source = compiled.source
        try:
            if not 1 <= len(self.records) <= MOST_RECORDS:
                raise BadRequestError(f"{self.what}: expected 1 to {MOST_RECORDS}; start a run for more")
            self.columns = checked(source, self.fields(compiled), self.records, self.what)
        except BadRequestError as error:
            self.fail(error)
            return False
        self.keys = keys_of(source, self.columns)
        return True

    def fields(self, compiled: Compiled) -> Sequence[str]:
        """What is given of each record."""
        return compiled.fields if self.what == "records" else compiled.source.key

    def overdue(self, compiled: Compiled) -> bool:
        """Whether the mapping's deadline has passed."""
        deadline = compiled.document.run.deadline
        return deadline is not None and time.monotonic() >= self.since + deadline.total_seconds()

    def hold(self) -> bool:
        """Whether the page may answer: the caller has not been given the fallback's answer in the meantime."""
        self.held = self.held or self.take()
        return self.held


def gathered(requests: Sequence[Request]) -> tuple[list[Request], list[Request]]:
    """The requests whose records make one page, and those left for the next: a page holds no record twice.

    Two requests for one record are answered in the order they came.
    """
    chosen: list[Request] = []
    left: list[Request] = []
    seen: set[Key] = set()
    records = 0
    for each in requests:
        fits = not chosen or records + len(each.keys) <= MOST_RECORDS
        if fits and seen.isdisjoint(each.keys):
            chosen.append(each)
            records += len(each.keys)
        else:
            left.append(each)
        seen.update(each.keys)
    return chosen, left


def answer(trip: Trip, requests: Sequence[Request]) -> None:
    """Answers requests that make one page, each with its own rows.

    Where the page fails because of what is in it, its halves are tried, so that a request fails by itself alone.
    """
    try:
        page = framed(trip.compiled.source, requests[0].fields(trip.compiled), [each.columns for each in requests])
        with trip.travelling():
            told = _told(requests, page["_key"])
            featured = trip.online.feature(_load(trip, told, page))
            for each, _ in told:
                each.featured = featured
            concluded = trip.online.decide(featured)
            store(trip, concluded, [(each, keys) for each, keys in told if each.hold()])
    except (UnavailableError, UnauthorizedError, DatabaseError, SQLAlchemyError) as error:
        _fail(requests, error)
    except Exception as error:  # noqa: BLE001  (told to the caller whose records it is about)
        if len(requests) == 1:
            _fail(requests, error)
            return
        half = len(requests) // 2
        for part in (requests[:half], requests[half:]):
            answer(trip, part)


def answer_late(trip: Trip, request: Request) -> None:
    """The fallback's answer, of the features where they were known in time."""
    page = framed(trip.compiled.source, request.fields(trip.compiled), [request.columns])
    known: Featured | pl.Series = page["_key"]
    if request.featured is not None:
        known = request.featured.only(page["_key"])
    store(trip, trip.online.decide_late(known), [(request, page["_key"])])


Asked = tuple[Request, pl.Series]
"""A request and its keys."""


def _told(requests: Sequence[Request], keys: pl.Series) -> list[Asked]:
    told, at = [], 0
    for each in requests:
        told.append((each, keys.slice(at, len(each.keys))))
        at += len(each.keys)
    return told


def _load(trip: Trip, told: list[Asked], page: pl.DataFrame) -> Load:
    """The page, records named by key fetched; callers who named one that is not there are told, and `told` no more."""
    if told[0][0].what == "records":
        return Load(page, trip.no_keys)
    fetched = trip.fetch(page["_key"].struct.unnest())
    gone = set(fetched.gone.rows())
    for each, keys in list(told):
        missing = sum(key in gone for key in each.keys)
        if missing:
            source = trip.compiled.source.name
            each.fail(BadRequestError(f"keys: {missing} of {len(keys)} name no record of {source}"))
            told.remove((each, keys))
    return fetched


def store(trip: Trip, concluded: Concluded, told: Sequence[Asked]) -> None:
    """Remembers what was concluded on the records of some requests, in the order asked, and answers them."""
    decided = set(concluded.decisions["_key"].struct.unnest().rows())
    due = [[key for key in keys.struct.unnest().rows() if key in decided] for _, keys in told]
    concluded = concluded.only([key for each in due for key in each])
    made = trip.online.remembering(concluded) if concluded.decisions.height else None
    segments = () if made is None else (made.segment,)
    first = 0
    events: list[Askers] = []
    answers = []
    for (each, keys), found in zip(told, due, strict=True):
        rows = concluded.decisions.slice(first, len(found))
        answers.append(Answer(rows, trip.compiled, keys, segments, first=first))
        if found:
            events.append((each.actor, first, len(found)))
        first += len(found)
    if made is not None:
        trip.online.remember(made, events)
    for (each, _), given in zip(told, answers, strict=True):
        each.settle(given)


def _fail(requests: Sequence[Request], error: Exception) -> None:
    for each in requests:
        if each.hold():
            each.fail(error)
