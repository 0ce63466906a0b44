"""The live role: change events as pages of the records that they are about, read as they stand now."""

from __future__ import annotations

import base64
import binascii
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import polars as pl

from connectors.salesforce.client import RENEWALS, Client
from connectors.salesforce.events.headers import OVERFLOW, Header
from connectors.salesforce.events.pubsub_pb2 import ConsumerEvent, FetchResponse
from connectors.salesforce.events.wire import ReplayGoneError, Subscription, Wire
from connectors.salesforce.problems import SessionEndedError
from connectors.salesforce.reading import Describe, SalesforceSource
from connectors.salesforce.schema import KEY_FIELD
from hub.sdk import Cursor, Entity, Page, Selection, UnauthorizedError, UnavailableError, UnexpectedError
from hub.sdk.types import DELETED, KEY, filter_fields

BEAT = 1.0
"""Seconds after which a stream without news yields an empty page."""
SETTLED = 10.0
"""Seconds after which a subscription that nobody refused has begun, although the far side has not said so yet."""
FAILURES = 5
"""Failures in a row, of whatever kind, after which whoever follows is told."""
LONGEST_REST = 60.0
REMEMBERED, KEPT = 1_000, 20
"""Events known again by their own ids: in this process, and in a cursor. Replay ids are not unique for ever."""
ALL = "/data/ChangeEvents"


class SalesforceLive:
    """The live role over one client."""

    def __init__(self, client: Client, source: SalesforceSource, describe: Describe) -> None:
        self._client = client
        self._source = source
        self._describe = describe
        self._wire = Wire(client)

    def offered(self) -> bool:
        """Whether the org sends change events at all, and the login may have them."""
        return self._wire.offers(ALL)

    def follow(self, selection: Selection, *, after: Cursor | None) -> Iterator[Page]:
        """As `Live.follow`. UnauthorizedError where the object is not selected for change data capture."""
        paths = any("." in each for each in (*selection.fields, *filter_fields(selection.where)))
        entity = self._describe(selection.entity, paths)
        topic = topic_of(entity.name)
        if not self._wire.offers(topic):
            raise UnauthorizedError(
                f"{entity.name} is not selected for change data capture",
                missing=(f"change data capture of {entity.name}",),
            )
        plain = replace(selection, changed_by=None, part=None)
        yield from _Follower(self._client, self._wire, self._source, entity, plain, Place.of(after)).pages(topic)

    def acknowledge(self, cursor: Cursor) -> None:
        """Nothing: Salesforce keeps no position for us, the cursor is all there is."""

    def close(self) -> None:
        """Gives the sockets back."""
        self._wire.close()


def topic_of(entity: str) -> str:
    """The channel of an object's change events."""
    custom = entity.endswith("__c")
    return f"/data/{entity.removesuffix('__c')}__ChangeEvent" if custom else f"/data/{entity}ChangeEvent"


@dataclass(frozen=True)
class Place:
    """Where a subscription stands: behind an event, or nowhere yet; `seen` are the last events before it."""

    replay: bytes | None = None
    seen: tuple[str, ...] = ()

    @classmethod
    def of(cls, cursor: Cursor | None) -> Place:
        """The place that a cursor names; nowhere where it is not one of ours."""
        state = cursor.state if cursor is not None else {}
        replay, seen = state.get("replay"), state.get("seen")
        if not isinstance(replay, str):
            return cls()
        try:
            known = base64.b64decode(replay, validate=True)
        except binascii.Error:
            return cls()
        listed = seen if isinstance(seen, Sequence) and not isinstance(seen, str) else ()
        return cls(known or None, tuple(str(each) for each in listed))

    def cursor(self) -> Cursor:
        """The inverse of `of`."""
        if self.replay is None:
            return Cursor({})
        return Cursor({"replay": base64.b64encode(self.replay).decode(), "seen": list(self.seen)})

    def behind(self, response: FetchResponse) -> Place:
        """The place behind everything that a response tells of."""
        if not response.events:
            return replace(self, replay=response.latest_replay_id or self.replay)
        named = [each.event.id for each in response.events]
        return Place(response.events[-1].replay_id, (*self.seen, *named)[-KEPT:])


@dataclass
class _News:
    """What some events amount to: record → whether it is gone, and whether there was more than they tell.

    `since` is when the oldest change of these records was committed.
    """

    records: dict[str, bool]
    more: bool = False
    since: datetime | None = None


class _Follower:
    """One selection followed through streams that break, sessions that end and places that are forgotten."""

    def __init__(
        self, client: Client, wire: Wire, source: SalesforceSource, entity: Entity, selection: Selection, place: Place
    ) -> None:
        self._context = client.context
        self._quiet = client.config.quiet_seconds
        self._wire = wire
        self._source = source
        self._entity = entity
        self._selection = selection
        self._wanted = {*selection.fields, *filter_fields(selection.where)} - {KEY_FIELD}
        self._place = place
        self._seen = deque(place.seen, REMEMBERED)
        self._failures = 0
        self._refusals = 0

    def pages(self, topic: str) -> Iterator[Page]:
        """Pages until the context is cancelled. UnavailableError after too many failures in a row."""
        while not self._context.cancelled():
            try:
                yield from self._stream(topic)
            except ReplayGoneError:
                if self._place.replay is None:
                    raise UnexpectedError("Salesforce refuses a place that was not asked for") from None
                self._context.log.warning("the place in the event stream is no longer kept: reconcile")
                self._place = Place()
            except SessionEndedError:
                self._wire.renew(last=self._refusals >= RENEWALS)
                self._refusals += 1
            except UnavailableError as error:
                yield from self._resting(error)

    def _stream(self, topic: str) -> Iterator[Page]:
        stream = self._wire.subscribe(topic, self._place.replay)
        try:
            yield from self._heard(stream)
        finally:
            stream.close()

    def _heard(self, stream: Subscription) -> Iterator[Page]:
        """The pages of one stream. UnavailableError where it has been silent for too long."""
        anew = self._place.replay is None
        began = spoke = self._context.clock.monotonic()
        while not self._context.cancelled():
            stood = stream.begun
            come = stream.wait(BEAT)
            now = self._context.clock.monotonic()
            if anew and (come or stream.begun or now - began >= SETTLED):
                anew = False
                yield self._empty(gap=True)
            if come or stood or now - began >= SETTLED:
                self._refusals = 0  # the session was good for a beat at least: its end is not a refusal of the login
            if come:
                spoke, self._failures = now, 0
                yield from self._told(come)
                stream.ask(sum(len(each.events) for each in come))
            elif now - spoke >= self._quiet:
                raise UnavailableError("the event stream of Salesforce is silent")
            else:
                yield self._empty()

    def _told(self, come: Sequence[FetchResponse]) -> Iterator[Page]:
        """The pages of some responses; only the last has the cursor behind them all."""
        behind = self._place
        for each in come:
            behind = behind.behind(each)
        events = [event for each in come for event in each.events]
        news = self._news(events)
        frames = list(self._frames(news))
        for frame in frames if news.more else frames[:-1]:
            yield Page(frame, self._place.cursor(), since=news.since)
        self._place = behind
        # Not before the pages are made: what a lookup failed on comes again, and must not be taken for known.
        self._seen.extend(each.event.id for each in events)
        if news.more or not frames:
            yield self._empty(gap=news.more)
        else:
            yield Page(frames[-1], behind.cursor(), since=news.since)

    def _news(self, events: Sequence[ConsumerEvent]) -> _News:
        news = _News({})
        for each in events:
            if each.event.id in self._seen:
                continue
            header = self._header(each)
            if header is None or header.kind == OVERFLOW:
                news.more = True
            elif not header.made_by(self._wire.who()[1]) and (header.deleted or header.touches(self._wanted)):
                news.records.update(dict.fromkeys(header.records, header.deleted))
                news.since = min(header.at, news.since or header.at)
        return news

    def _header(self, each: ConsumerEvent) -> Header | None:
        """What an event says; None where it cannot be understood, which must not lose what it was about."""
        schema = self._wire.schema(each.event.schema_id)
        try:
            return Header.of(each.event.payload, schema)
        except (ValueError, LookupError, EOFError, TypeError, OverflowError) as error:
            self._context.log.warning("a change event cannot be read: reconcile", error=type(error).__name__)
            return None

    def _frames(self, news: _News) -> Iterator[pl.DataFrame]:
        """The records as they stand: one row each, at most `page_rows` together."""
        gone = [name for name, deleted in news.records.items() if deleted]
        there = [name for name, deleted in news.records.items() if not deleted]
        found = [self._gone(gone)]
        if there:
            match = pl.DataFrame({KEY_FIELD: there}, schema={KEY_FIELD: pl.String()})
            found += [page.frame for page in self._source.lookup(self._selection, match)]
        whole = pl.concat(found)
        yield from whole.iter_slices(self._selection.page_rows)

    def _gone(self, records: Sequence[str]) -> pl.DataFrame:
        schema = self._entity.page_schema(self._selection.fields)
        known: dict[str, list[Any]] = {
            KEY: [{KEY_FIELD: each} for each in records],
            KEY_FIELD: list(records),
            DELETED: [True] * len(records),
        }
        nothing = [None] * len(records)
        return pl.DataFrame([pl.Series(name, known.get(name, nothing), kind) for name, kind in schema.items()])

    def _empty(self, *, gap: bool = False) -> Page:
        return Page(self._gone([]), self._place.cursor(), gap)

    def _resting(self, error: UnavailableError) -> Iterator[Page]:
        """The pause before the next try, empty pages in it. The error itself where that is for others to wait out."""
        self._failures += 1
        asked = max(error.retry_after or 0.0, self._context.shared.wait())
        tired = self._failures >= FAILURES or not self._context.shared.may_retry(1)
        if tired or asked > LONGEST_REST:
            raise error
        left = max(asked, random.uniform(0.5, 1.0) * 2.0 ** (self._failures - 1))  # noqa: S311  (jitter)
        self._context.log.info("the event stream is opened anew", failures=self._failures, detail=error.detail)
        while left > 0 and not self._context.cancelled():
            self._context.pause(min(left, BEAT))
            left -= BEAT
            yield self._empty()
