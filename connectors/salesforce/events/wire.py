"""The wire of the Pub/Sub API: one channel, its calls, and a subscription that can be waited on with a limit."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import grpc
from fastavro import parse_schema

from connectors.salesforce.client import RENEWALS, Client
from connectors.salesforce.config import SalesforceConfig
from connectors.salesforce.events.pubsub_pb2 import (
    CUSTOM,
    LATEST,
    FetchRequest,
    FetchResponse,
    SchemaInfo,
    SchemaRequest,
    TopicInfo,
    TopicRequest,
)
from connectors.salesforce.login import HOST
from connectors.salesforce.problems import BUSY_SECONDS, LIMIT_SECONDS, SessionEndedError
from hub.sdk import UnauthorizedError, UnavailableError, UnexpectedError

SERVICE = "/eventbus.v1.PubSub/"
ERROR_CODE = "error-code"
"""The trailer with Salesforce's own code: the status alone tells too little."""
ASKED = 100
"""Events that are under way at once, which is the most that the service gives."""
MOST_BYTES = 16 * 1024 * 1024
T = TypeVar("T")

_AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


class ReplayGoneError(Exception):
    """The place in the stream is no longer kept, or is none: the subscription has to begin at its end."""


class Wire:
    """The Pub/Sub API for one org and one thread; connects when it is first called."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._channel: grpc.Channel | None = None
        self._schemas: dict[str, Any] = {}
        self._who: tuple[str, str] | None = None

    def who(self) -> tuple[str, str]:
        """The org, and the user that this login is."""
        if self._who is None:
            told = self._client.identity()
            self._who = str(told.get("organization_id") or ""), str(told.get("user_id") or "")
            if not all(self._who):
                raise UnexpectedError("the login does not say which org and which user it is")
        return self._who

    def offers(self, topic: str) -> bool:
        """Whether the org has this topic and the login may follow it."""
        send = self._method("GetTopic", TopicRequest, TopicInfo)
        try:
            told: TopicInfo = self._calling(lambda given: send(TopicRequest(topic_name=topic), **given))
        except UnauthorizedError as error:
            if error.missing:
                return False
            raise
        return told.can_subscribe

    def schema(self, name: str) -> Any:
        """The Avro schema with that id, parsed; it never changes."""
        if name not in self._schemas:
            send = self._method("GetSchema", SchemaRequest, SchemaInfo)
            told: SchemaInfo = self._calling(lambda given: send(SchemaRequest(schema_id=name), **given))
            self._schemas[name] = parse_schema(json.loads(told.schema_json))
        return self._schemas[name]

    def subscribe(self, topic: str, replay: bytes | None) -> Subscription:
        """A stream of events after a place, or from now on. What is wrong with it is told when it is waited on."""
        stream = self._opened().stream_stream(
            f"{SERVICE}Subscribe",
            request_serializer=FetchRequest.SerializeToString,
            response_deserializer=FetchResponse.FromString,
        )
        first = FetchRequest(
            topic_name=topic, replay_preset=CUSTOM if replay else LATEST, replay_id=replay or b"", num_requested=ASKED
        )
        return Subscription(stream, first, self._metadata())

    def renew(self, *, last: bool) -> None:
        """As `Client.renew`."""
        self._client.renew(last=last)

    def close(self) -> None:
        """Gives the sockets back; harmless when repeated."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _calling(self, do: Callable[[Any], T]) -> T:
        """One short call, made again with a new session where it met the end of the old one."""
        for number in range(RENEWALS + 1):
            try:
                seconds = self._client.context.seconds_left(self._client.config.call_seconds)
                return do({"metadata": self._metadata(), "timeout": seconds})
            except grpc.RpcError as error:
                try:
                    raise problem(error) from None
                except SessionEndedError:
                    self.renew(last=number == RENEWALS)
        raise AssertionError("unreachable")

    def _method(self, name: str, asked: Any, told: Any) -> Any:
        return self._opened().unary_unary(
            f"{SERVICE}{name}", request_serializer=asked.SerializeToString, response_deserializer=told.FromString
        )

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        org, _ = self.who()
        token = self._client.session()
        return (
            ("accesstoken", token.value.reveal()),
            ("instanceurl", f"https://{token.facts[HOST]}"),
            ("tenantid", org),
        )

    def _opened(self) -> grpc.Channel:
        if self._channel is None:
            config = self._client.config
            # No pings: servers end connections that ping more often than every few minutes; silence is noticed above.
            options = [
                ("grpc.enable_http_proxy", 0),  # nothing is taken from the environment
                ("grpc.enable_retries", 0),
                ("grpc.max_receive_message_length", MOST_BYTES),
            ]
            trust = grpc.ssl_channel_credentials(root_certificates=_authorities(config))
            self._channel = grpc.secure_channel(config.pubsub, trust, options=options)
        return self._channel


class Subscription:
    """One stream. A thread of its own takes what comes, so that the wait for it can have an end."""

    def __init__(self, stream: Any, first: FetchRequest, metadata: Any) -> None:
        self._asked: SimpleQueue[FetchRequest | None] = SimpleQueue()
        self._asked.put(first)
        self._come: SimpleQueue[FetchResponse | Exception | None] = SimpleQueue()
        self._call = stream(iter(self._asked.get, None), metadata=metadata)
        self.begun = False
        """Whether the far side has let the subscription begin."""
        self._thread = threading.Thread(target=self._take, name="pubsub", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> list[FetchResponse]:
        """What has come, after at most so many seconds; the four errors, SessionEndedError or ReplayGoneError."""
        found: list[FetchResponse] = []
        try:
            come = self._come.get(timeout=seconds)
            while True:
                if isinstance(come, Exception):
                    if not found:
                        raise come
                    self._come.put(come)  # nothing comes after it
                    return found
                if come is None:
                    self.begun = True
                else:
                    found.append(come)
                come = self._come.get_nowait()
        except Empty:
            return found

    def ask(self, count: int) -> None:
        """Lets so many more events come."""
        if count:
            self._asked.put(FetchRequest(num_requested=count))

    def close(self) -> None:
        """Ends the stream."""
        self._asked.put(None)
        self._call.cancel()
        self._thread.join()

    def _take(self) -> None:
        try:
            self._call.initial_metadata()
            self._come.put(None)
            for each in self._call:
                self._come.put(each)
            self._come.put(UnavailableError("Salesforce ended the event stream"))
        except grpc.RpcError as error:
            try:
                self._come.put(problem(error))
            except (SessionEndedError, ReplayGoneError) as ended:
                self._come.put(ended)


def problem(error: grpc.RpcError) -> Exception:
    """The error of a refused call. SessionEndedError and ReplayGoneError are raised instead of returned."""
    status = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    trailers = (error.trailing_metadata() if isinstance(error, grpc.Call) else None) or ()
    code = next((str(value) for name, value in trailers if name == ERROR_CODE), "")
    detail = f"{status.name} {code}".strip()
    if status is grpc.StatusCode.UNAUTHENTICATED:
        raise SessionEndedError
    if ".replayid." in code:
        raise ReplayGoneError
    if status in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED}:
        words = "the org sends no such change events, or the login may not follow them"
        return UnauthorizedError(words, missing=("change data capture",), detail=detail)
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        wait = LIMIT_SECONDS if code.endswith("limit.exceeded") else BUSY_SECONDS
        return UnavailableError(
            "the org's allowance of events or of streams is used up", retry_after=wait, detail=detail
        )
    if status in _AWAY:
        return UnavailableError("the event service of Salesforce does not answer", detail=detail)
    return UnexpectedError("Salesforce refused the event stream", detail=detail)


def _authorities(config: SalesforceConfig) -> bytes:
    """Whom to trust, as PEM: the same as the HTTP client does."""
    if config.authority:
        return Path(config.authority).read_bytes()
    known = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(ssl.DER_cert_to_PEM_cert(each) for each in known).encode()
