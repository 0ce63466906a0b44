"""The event bus of the twin: topics, opaque replay ids, and 72 hours of events."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

import grpc

from connectors.salesforce.events.pubsub_pb2 import CUSTOM, EARLIEST, ConsumerEvent, FetchRequest, ProducerEvent
from connectors.salesforce.twin.events.schemas import EventSchema
from connectors.salesforce.twin.org.access import HIDDEN
from connectors.salesforce.twin.org.org import Org
from connectors.salesforce.twin.org.store import Change

RETENTION_SECONDS = 72 * 3600.0
ALL = "/data/ChangeEvents"
_CODE = "sfdc.platform.eventbus.grpc."
CORRUPTED = f"{_CODE}subscription.fetch.replayid.corrupted"
NOT_GIVEN = f"{_CODE}subscription.fetch.replayid.validation.failed"
NO_TOPIC = f"{_CODE}topic.notfound"
_STEP = 7
"""Replay ids of one org are not contiguous."""


class RefusalError(Exception):
    """A status, Salesforce's own code for the trailers, and words."""

    def __init__(self, status: grpc.StatusCode, code: str, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Topic:
    """A channel of change events: of one object, or of all that are captured."""

    name: str
    entities: tuple[str, ...]


class Bus:
    """Finds topics, tells where a subscription starts, and makes events of what the store keeps."""

    def __init__(self, org: Org) -> None:
        self._org = org
        self._schemas: dict[str, EventSchema] = {}
        self._current: dict[str, tuple[int, EventSchema]] = {}

    def topic(self, name: str) -> Topic:
        """The topic of that name. RefusalError NOT_FOUND where the object is none, or is not captured."""
        captured = {_channel(each): each for each in sorted(self._org.store.captured)}
        if name == ALL and captured:
            return Topic(name, tuple(captured.values()))
        if name not in captured:
            raise RefusalError(grpc.StatusCode.NOT_FOUND, NO_TOPIC, f"The topic {name} was not found")
        return Topic(name, (captured[name],))

    def schema(self, entity: str) -> EventSchema:
        """The schema of an object's events as the object is now; older ones stay known by their ids."""
        known = self._current.get(entity)
        if known is None or known[0] != self._org.schema.version:
            made = EventSchema.of(self._org.schema.objects[entity.lower()])
            known = self._current[entity] = (self._org.schema.version, made)
            self._schemas[made.id] = made
        return known[1]

    def schema_of(self, name: str) -> EventSchema:
        """The schema with that id."""
        if name not in self._schemas:
            words = f"The schema {name} was not found"
            raise RefusalError(grpc.StatusCode.NOT_FOUND, f"{_CODE}schema.notfound", words)
        return self._schemas[name]

    def start(self, request: FetchRequest) -> int:
        """The number of the last change before those that a subscription is told."""
        self.forget_old()
        gone, last = self._org.store.told_bounds()
        if request.replay_preset == EARLIEST:
            return gone
        if request.replay_preset != CUSTOM:
            return last
        if not request.replay_id:
            words = "The replay ID must be given with the CUSTOM preset"
            raise RefusalError(grpc.StatusCode.INVALID_ARGUMENT, NOT_GIVEN, words)
        number = number_of(request.replay_id)
        if number is None or not gone <= number <= last:
            words = "The Replay ID validation failed. Ensure that the Replay ID is valid."
            raise RefusalError(grpc.StatusCode.INVALID_ARGUMENT, CORRUPTED, words)
        return number

    def after(self, number: int, topic: Topic, limit: int, user: str) -> list[tuple[int, ConsumerEvent]]:
        """The next events of a topic with their numbers."""
        found = self._org.store.changes_after(number, topic.entities, limit)
        return [(each.replay, self._event(each, found, user)) for each in found]

    def last(self) -> int:
        """The number of the newest change."""
        return self._org.store.told_bounds()[1]

    def forget_old(self) -> None:
        """Lets go of what is older than the retention."""
        self._org.store.forget_before(self._org.clock.seconds() - RETENTION_SECONDS)

    def _event(self, change: Change, among: Sequence[Change], user: str) -> ConsumerEvent:
        schema = self.schema(change.entity)
        kind, rights = self._org.schema.objects[change.entity.lower()], self._org.access.of(user)
        hidden = frozenset(each.name for each in kind if rights.to(kind, each) == HIDDEN)
        together = [each.replay for each in among if each.transaction == change.transaction]
        payload = schema.event(change, together.index(change.replay) + 1, hidden)
        made = ProducerEvent(id=self._uuid(change.replay), schema_id=schema.id, payload=payload)
        return ConsumerEvent(event=made, replay_id=replay_id(change.replay))

    def _uuid(self, number: int) -> str:
        return str(uuid5(NAMESPACE_URL, f"{self._org.id}/{number}"))


def replay_id(number: int) -> bytes:
    """Ten bytes that mean nothing to anybody else."""
    body = struct.pack(">Q", number * _STEP)
    return body + struct.pack(">H", zlib.crc32(body) & 0xFFFF)


def number_of(replay: bytes) -> int | None:
    """The inverse of `replay_id`; None for what it never made."""
    if len(replay) != 10 or struct.unpack(">H", replay[8:])[0] != zlib.crc32(replay[:8]) & 0xFFFF:
        return None
    number, rest = divmod(struct.unpack(">Q", replay[:8])[0], _STEP)
    return None if rest else int(number)


def _channel(entity: str) -> str:
    return (
        f"/data/{entity.removesuffix('__c')}__ChangeEvent" if entity.endswith("__c") else f"/data/{entity}ChangeEvent"
    )
