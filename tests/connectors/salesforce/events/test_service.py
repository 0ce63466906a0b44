"""The twin's Pub/Sub service as any client meets it: who may come in, how much comes, and what is refused how."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from fastavro import parse_schema

from connectors.salesforce.events.headers import Header
from connectors.salesforce.events.pubsub_pb2 import (
    CUSTOM,
    EARLIEST,
    FetchRequest,
    FetchResponse,
    SchemaInfo,
    SchemaRequest,
    TopicInfo,
    TopicRequest,
)
from connectors.salesforce.twin.events.bus import replay_id
from tests.connectors.salesforce.events.conftest import Site

LEADS = "/data/LeadChangeEvent"
CODE = "sfdc.platform.eventbus.grpc."


class Caller:
    """A plain client of the service."""

    def __init__(self, site: Site, **metadata: str) -> None:
        twin = site.twin
        known = {
            "accesstoken": twin.site.sessions.give("integration"),
            "instanceurl": twin.url,
            "tenantid": twin.site.org.id,
        }
        self._metadata = tuple({**known, **metadata}.items())
        trust = grpc.ssl_channel_credentials(twin.authority.read_bytes())
        self.channel = grpc.secure_channel(twin.pubsub, trust)

    def topic(self, name: str) -> TopicInfo:
        """GetTopic."""
        return self._unary("GetTopic", TopicInfo)(TopicRequest(topic_name=name), metadata=self._metadata, timeout=10)

    def schema(self, name: str) -> SchemaInfo:
        """GetSchema."""
        return self._unary("GetSchema", SchemaInfo)(SchemaRequest(schema_id=name), metadata=self._metadata, timeout=10)

    def subscribe(self, requests: Iterator[FetchRequest]) -> Any:
        """Subscribe, for at most ten seconds."""
        method = self.channel.stream_stream(
            "/eventbus.v1.PubSub/Subscribe",
            request_serializer=FetchRequest.SerializeToString,
            response_deserializer=FetchResponse.FromString,
        )
        return method(requests, metadata=self._metadata, timeout=10)

    def _unary(self, name: str, told: Any) -> Any:
        return self.channel.unary_unary(
            f"/eventbus.v1.PubSub/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=told.FromString,
        )


@contextmanager
def calling(site: Site, **metadata: str) -> Iterator[Caller]:
    made = Caller(site, **metadata)
    with made.channel:
        yield made


def refused(error: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[str, str]:
    """The status and Salesforce's own code."""
    raised: Any = error.value
    return raised.code().name, dict(raised.trailing_metadata() or ()).get("error-code", "")


def asks(*requests: FetchRequest) -> tuple[SimpleQueue[FetchRequest | None], Iterator[FetchRequest]]:
    """A stream of requests that stays open, and where more are put."""
    queue: SimpleQueue[FetchRequest | None] = SimpleQueue()
    for each in requests:
        queue.put(each)
    return queue, iter(queue.get, None)


def first_refusal(caller: Caller, request: FetchRequest) -> tuple[str, str]:
    queue, requests = asks(request)
    with pytest.raises(grpc.RpcError) as error:
        next(caller.subscribe(requests))
    queue.put(None)
    return refused(error)


@pytest.mark.parametrize("wrong", ["accesstoken", "instanceurl", "tenantid"])
def test_nobody_comes_in_without_a_session_of_this_org(site: Site, wrong: str) -> None:
    with calling(site, **{wrong: "https://elsewhere.example"}) as caller, pytest.raises(grpc.RpcError) as error:
        caller.topic(LEADS)
    assert refused(error) == ("UNAUTHENTICATED", f"{CODE}service.auth.error")


def test_a_topic_tells_its_schema_and_one_that_is_none_is_not_found(site: Site) -> None:
    with calling(site) as caller:
        told = caller.topic(LEADS)
        assert (told.topic_name, told.can_subscribe, told.can_publish) == (LEADS, True, False)
        schema = json.loads(caller.schema(told.schema_id).schema_json)
        assert (schema["name"], schema["fields"][0]["name"]) == ("LeadChangeEvent", "ChangeEventHeader")
        assert {"Id", "SystemModstamp"}.isdisjoint(each["name"] for each in schema["fields"])
        with pytest.raises(grpc.RpcError) as error:
            caller.topic("/data/NothingChangeEvent")
    assert refused(error)[0] == "NOT_FOUND"


def test_no_more_events_come_than_were_asked_for(alone: Site) -> None:
    with calling(alone) as caller:
        queue, requests = asks(FetchRequest(topic_name=LEADS, replay_preset=EARLIEST, num_requested=3))
        for _ in range(5):
            alone.lead()
        stream = caller.subscribe(requests)
        come = next(stream)
        assert (len(come.events), come.pending_num_requested) == (3, 0)
        queue.put(FetchRequest(num_requested=5))
        come = next(stream)
        assert (len(come.events), come.pending_num_requested) == (2, 3)
        queue.put(None)


@pytest.mark.parametrize("count", [0, -1, 101])
def test_at_most_a_hundred_events_are_asked_for_at_once(site: Site, count: int) -> None:
    with calling(site) as caller:
        found = first_refusal(caller, FetchRequest(topic_name=LEADS, num_requested=count))
    assert found == ("INVALID_ARGUMENT", f"{CODE}subscription.fetch.requested.events.invalid")


@pytest.mark.parametrize(
    ("replay", "code"),
    [
        (b"", "subscription.fetch.replayid.validation.failed"),
        (b"0123456789", "subscription.fetch.replayid.corrupted"),
        (b"short", "subscription.fetch.replayid.corrupted"),
    ],
)
def test_a_place_that_is_none_is_refused_with_its_code(site: Site, replay: bytes, code: str) -> None:
    request = FetchRequest(topic_name=LEADS, replay_preset=CUSTOM, replay_id=replay, num_requested=1)
    with calling(site) as caller:
        assert first_refusal(caller, request) == ("INVALID_ARGUMENT", f"{CODE}{code}")


def test_events_are_kept_for_72_hours_and_no_longer(alone: Site) -> None:
    alone.lead()
    request = FetchRequest(topic_name=LEADS, replay_preset=EARLIEST, num_requested=10)
    with calling(alone) as caller:
        queue, requests = asks(request)
        replay = next(caller.subscribe(requests)).events[0].replay_id
        queue.put(None)
        alone.lead()
        custom = FetchRequest(topic_name=LEADS, replay_preset=CUSTOM, replay_id=replay, num_requested=10)
        alone.control.advance(71 * 3600)
        alone.twin.site.sessions.seconds = 1e9
        queue, requests = asks(custom)
        assert len(next(caller.subscribe(requests)).events) == 1
        queue.put(None)
        alone.control.advance(2 * 3600)
        assert first_refusal(caller, custom) == ("INVALID_ARGUMENT", f"{CODE}subscription.fetch.replayid.corrupted")


def test_the_topic_of_a_subscription_cannot_change(site: Site) -> None:
    with calling(site) as caller:
        queue, requests = asks(
            FetchRequest(topic_name=LEADS, num_requested=1), FetchRequest(topic_name="/data/other", num_requested=1)
        )
        with pytest.raises(grpc.RpcError) as error:
            next(caller.subscribe(requests))
        queue.put(None)
    assert refused(error)[0] == "INVALID_ARGUMENT"


def test_a_stream_without_events_says_that_it_is_alive(alone: Site) -> None:
    alone.twin.site.sessions.seconds = 1e9
    with calling(alone) as caller:
        queue, requests = asks(FetchRequest(topic_name=LEADS, num_requested=7))
        stream = caller.subscribe(requests)
        stream.initial_metadata()
        alone.control.advance(271)
        come = next(stream)
        assert (len(come.events), come.pending_num_requested) == (0, 7)
        assert come.latest_replay_id
        queue.put(None)


def test_a_keepalive_does_not_wait_anew_where_the_clock_was_moved_on_while_an_event_was_told(
    alone: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever hears an event may act on it before the service's own thread goes on."""
    store, looked = alone.twin.site.org.store, alone.twin.site.org.store.changes_after

    def heard(*asked: Any) -> Any:
        found = looked(*asked)
        if found:
            alone.control.advance(271)
        return found

    with calling(alone) as caller:
        queue, requests = asks(FetchRequest(topic_name=LEADS, num_requested=7))
        stream = caller.subscribe(requests)
        stream.initial_metadata()
        monkeypatch.setattr(store, "changes_after", heard)
        alone.lead()
        assert [len(next(stream).events) for _ in range(2)] == [1, 0]
        queue.put(None)


def test_a_keepalive_names_the_place_of_all_that_was_committed_before_it_was_due(
    alone: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, looked = alone.twin.site.org.store, alone.twin.site.org.store.changes_after

    def meanwhile(*asked: Any) -> Any:
        found = looked(*asked)
        monkeypatch.undo()
        alone.control.create("Account", [{"Name": "Another object"}])
        alone.control.advance(271)
        return found

    with calling(alone) as caller:
        queue, requests = asks(FetchRequest(topic_name=LEADS, num_requested=7))
        stream = caller.subscribe(requests)
        stream.initial_metadata()
        monkeypatch.setattr(store, "changes_after", meanwhile)
        assert next(stream).latest_replay_id == replay_id(store.told_bounds()[1])
        queue.put(None)


def _headers(site: Site, topic: str, edits: Sequence[dict[str, Any]]) -> list[Header]:
    lead = site.lead(City="Bergen", FirstName="Ada", Industry="Banking")
    for each in edits:
        site.control.edit(lead, each)
    with calling(site) as caller:
        queue, requests = asks(FetchRequest(topic_name=topic, replay_preset=EARLIEST, num_requested=100))
        events = next(caller.subscribe(requests)).events[-len(edits) :]
        queue.put(None)
        schemas = {each.event.schema_id: caller.schema(each.event.schema_id) for each in events}
    parsed = {name: parse_schema(json.loads(each.schema_json)) for name, each in schemas.items()}
    return [Header.of(each.event.payload, parsed[each.event.schema_id]) for each in events]


@pytest.mark.parametrize("topic", [LEADS, "/data/ChangeEvents"])
def test_bitmaps_name_exactly_the_fields_that_changed(alone: Site, topic: str) -> None:
    edits = [{"Industry": "Retail"}, {"City": "Oslo"}, {"LastName": "Byron", "Company": "New"}, {"City": None}]
    found = _headers(alone, topic, edits)
    own = [{name for name in each.moved if name in each.told and not name.startswith("Address")} for each in found]
    assert [each.kind for each in found] == ["UPDATE"] * 4
    for told, edit in zip(own, edits, strict=True):
        assert set(edit) <= told
        assert not (told & {"Industry", "City", "LastName", "Company", "FirstName", "Street", "Phone"}) - set(edit)
        assert "LastModifiedDate" in told


def test_a_field_that_is_hidden_from_the_subscriber_is_not_told(alone: Site) -> None:
    alone.control.hide("Lead.Industry")
    (found,) = _headers(alone, LEADS, [{"Industry": "Retail", "City": "Oslo"}])
    assert "City" in found.moved
    assert "Industry" not in found.moved


def test_an_event_names_who_did_it(alone: Site) -> None:
    (found,) = _headers(alone, LEADS, [{"City": "Oslo"}])
    assert found.made_by(alone.twin.site.org.users["sales"])
    assert found.made_by(alone.twin.site.org.users["sales"][:15])
    assert not found.made_by(alone.twin.site.org.users["integration"])
