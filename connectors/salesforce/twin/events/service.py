"""The gRPC service eventbus.v1.PubSub on loopback: subscriptions with flow control and keepalives, topics, schemas."""

from __future__ import annotations

import errno
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from connectors.salesforce.events.pubsub_pb2 import (
    FetchRequest,
    FetchResponse,
    SchemaInfo,
    SchemaRequest,
    TopicInfo,
    TopicRequest,
)
from connectors.salesforce.twin.events.bus import Bus, RefusalError, Topic, replay_id
from connectors.salesforce.twin.faults import Fault
from connectors.salesforce.twin.org.problems import RefusedError
from connectors.salesforce.twin.org.store import Change
from connectors.salesforce.twin.site import Site

SERVICE = "eventbus.v1.PubSub"
KEEPALIVE_SECONDS = 270.0
MOST_REQUESTED = 100
TICK = 0.2
"""Seconds between two looks at the clock, the session and the faults."""
_CODE = "sfdc.platform.eventbus.grpc."
_BUSY = (grpc.StatusCode.UNAVAILABLE, f"{_CODE}service.unavailable", "The service is unavailable")
_LIMIT = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    f"{_CODE}subscription.limit.exceeded",
    "You have exceeded the event delivery limit for your org.",
)


class PubSub:
    """The service over one site; listens on `port` of loopback, with the certificate of the HTTPS face."""

    def __init__(self, site: Site, port: int, *, certificate: Path, key: Path, address: str) -> None:
        self._site = site
        self._bus = Bus(site.org)
        self._news = threading.Condition()
        self._streams = 0
        self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="pubsub")
        self._server = grpc.server(self._threads, options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self._routes(),))
        credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
        self.port: int = self._bound(address, port, credentials)
        site.org.store.listeners.append(self._told)

    def _bound(self, address: str, port: int, credentials: Any) -> int:
        """The port that it listens on: the one asked for, else the one it had before, else a free one."""
        store = self._site.org.store
        for wanted in dict.fromkeys((port or store.get("port", "pubsub") or 0, port)):
            try:
                bound: int = self._server.add_secure_port(f"{address}:{wanted}", credentials)
            except RuntimeError:
                continue
            store.put("port", "pubsub", bound)
            return bound
        raise OSError(errno.EADDRINUSE, f"port {port} is taken")

    def start(self) -> None:
        """Answers from now on."""
        self._server.start()

    def stop(self) -> None:
        """Ends every stream and gives the port back."""
        self._site.org.store.listeners.remove(self._told)
        self._server.stop(None).wait()
        self._threads.shutdown()

    def _routes(self) -> Any:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Subscribe": stream(self._subscribe, FetchRequest.FromString, FetchResponse.SerializeToString),
                "GetTopic": unary(self._get_topic, TopicRequest.FromString, TopicInfo.SerializeToString),
                "GetSchema": unary(self._get_schema, SchemaRequest.FromString, SchemaInfo.SerializeToString),
            },
        )

    def _get_topic(self, request: TopicRequest, context: grpc.ServicerContext) -> TopicInfo:
        with _Refusing(context):
            self._enter(context, "topic")
            topic = self._bus.topic(request.topic_name)
            return TopicInfo(
                topic_name=topic.name,
                tenant_guid=str(uuid.uuid5(uuid.NAMESPACE_URL, self._site.org.id)),
                can_publish=False,
                can_subscribe=True,
                schema_id=self._bus.schema(topic.entities[0]).id,
                rpc_id=str(uuid.uuid4()),
            )
        raise AssertionError("unreachable")

    def _get_schema(self, request: SchemaRequest, context: grpc.ServicerContext) -> SchemaInfo:
        with _Refusing(context):
            self._enter(context, "schema")
            found = self._bus.schema_of(request.schema_id)
            return SchemaInfo(schema_json=found.text, schema_id=found.id, rpc_id=str(uuid.uuid4()))
        raise AssertionError("unreachable")

    def _subscribe(self, requests: Iterator[FetchRequest], context: grpc.ServicerContext) -> Iterator[FetchResponse]:
        with _Refusing(context):
            token, user = self._enter(context, "subscribe")
            with self._news:
                if self._streams >= self._site.faults.most_streams:
                    words = "Too many concurrent streams"
                    raise RefusalError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_CODE}service.streams.exceeded", words)
                self._streams += 1
            try:
                stream = _Stream(self._site, self._bus, self._news, token, user)
                yield from stream.told(requests, context)
            finally:
                with self._news:
                    self._streams -= 1

    def _enter(self, context: grpc.ServicerContext, kind: str) -> tuple[str, str]:
        """The session of a call and its user, unless a fault meets it."""
        fault = self._site.faults.strike(f"pubsub.{kind}")
        given = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
        status = "OK"
        try:
            self._struck(fault)
            return self._session(given)
        except RefusalError as error:
            status = error.status.name
            raise
        finally:
            self._note(kind, status, fault)

    def _struck(self, fault: Fault | None) -> None:
        if fault is None:
            return
        if fault.what == "401":
            self._site.sessions.revoke_all()
        else:
            raise RefusalError(*(_LIMIT if fault.what in {"429", "limit"} else _BUSY))

    def _session(self, given: dict[str, str]) -> tuple[str, str]:
        site = self._site
        token = given.get("accesstoken", "")
        # An organization is named by 15 or 18 characters.
        known = given.get("tenantid", "")[:15] == site.org.id[:15] and given.get("instanceurl") == site.url
        if not token or not known or not site.sessions.lives(token):
            raise _unauthenticated()
        return token, site.sessions.user_of(token)

    def _note(self, kind: str, status: str, fault: Fault | None) -> None:
        self._site.journal.note(
            {
                "kind": f"pubsub.{kind}",
                "method": "RPC",
                "path": f"{SERVICE}/{kind}",
                "status": 200 if status == "OK" else 0,
                "counted": 0,
                "user": None,
                "seconds": 0.0,
                "fault": fault.what if fault else None,
                "inside_wait": 0,
                "detail": {"status": status},
            }
        )

    def _told(self, _: Sequence[Change]) -> None:
        with self._news:
            self._news.notify_all()


class _Stream:
    """One subscription: as many events as were asked for, and a keepalive where there are none."""

    def __init__(self, site: Site, bus: Bus, news: threading.Condition, token: str, user: str) -> None:
        self._site = site
        self._bus = bus
        self._news = news
        self._token = token
        self._user = user
        self._wanted = 0
        self._ended = False
        self._wrong: RefusalError | None = None

    def told(self, requests: Iterator[FetchRequest], context: grpc.ServicerContext) -> Iterator[FetchResponse]:
        """The responses, until the client has gone or something ends the stream."""
        first = next(requests, None)
        if first is None:
            return
        topic = self._bus.topic(first.topic_name)
        self._ask(first)
        at = self._bus.start(first)
        cuts = self._site.faults.cuts
        spoke = self._site.org.clock.seconds()
        context.send_initial_metadata(())
        threading.Thread(target=self._listen, args=(requests, topic), name="pubsub-requests", daemon=True).start()
        while context.is_active():
            self._check(cuts)
            # The clock first: whoever moved it on finds in a keepalive the place of all that was committed before.
            now = self._site.org.clock.seconds()
            due = self._due(spoke, now)
            last = self._bus.last()
            found = [] if self._site.faults.silent else self._bus.after(at, topic, self._wanted, self._user)
            if found or due:
                at = found[-1][0] if found else max(at, last)
                # Not once it was heard: the clock may have been moved on by whoever heard it.
                spoke = now
                yield self._response([event for _, event in found], at)
            elif self._ended and not self._wanted:
                return
            else:
                with self._news:
                    self._news.wait(TICK)

    def _due(self, spoke: float, now: float) -> bool:
        late = now - spoke >= KEEPALIVE_SECONDS
        return late and self._wanted > 0 and not self._site.faults.silent

    def _response(self, events: list[Any], at: int) -> FetchResponse:
        with self._news:
            self._wanted -= len(events)
            left = self._wanted
        return FetchResponse(
            events=events, latest_replay_id=replay_id(at), rpc_id=str(uuid.uuid4()), pending_num_requested=left
        )

    def _check(self, cuts: int) -> None:
        self._bus.forget_old()
        if self._wrong is not None:
            raise self._wrong
        if self._site.faults.cuts != cuts:
            raise RefusalError(grpc.StatusCode.UNAVAILABLE, "", "Stream removed")
        if not self._site.sessions.lives(self._token):
            raise _unauthenticated()

    def _listen(self, requests: Iterator[FetchRequest], topic: Topic) -> None:
        """Takes further requests, in a thread of its own, until the client says no more."""
        try:
            for request in requests:
                if request.topic_name not in {"", topic.name}:
                    words = "The topic of a subscription cannot change"
                    raise RefusalError(grpc.StatusCode.INVALID_ARGUMENT, f"{_CODE}topic.changed", words)
                self._ask(request)
        except RefusalError as error:
            self._wrong = error
        except grpc.RpcError:
            pass  # the client has gone, which the other thread sees too
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()

    def _ask(self, request: FetchRequest) -> None:
        if not 1 <= request.num_requested <= MOST_REQUESTED:
            code = f"{_CODE}subscription.fetch.requested.events.invalid"
            words = f"The number of requested events must be between 1 and {MOST_REQUESTED}"
            raise RefusalError(grpc.StatusCode.INVALID_ARGUMENT, code, words)
        with self._news:
            self._wanted += request.num_requested
            self._news.notify_all()


class _Refusing:
    """Turns a refusal into the status and the trailers of a call."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RefusedError):
            error = _unauthenticated()
        if isinstance(error, RefusalError):
            self._abort(error)

    def _abort(self, error: RefusalError) -> None:
        rpc = str(uuid.uuid4())
        trailers = (("error-code", error.code), ("rpc-id", rpc)) if error.code else (("rpc-id", rpc),)
        self._context.set_trailing_metadata(trailers)
        self._context.abort(error.status, f"{error} rpcId: {rpc}")


def _unauthenticated() -> RefusalError:
    words = "The authentication credentials are invalid"
    return RefusalError(grpc.StatusCode.UNAUTHENTICATED, f"{_CODE}service.auth.error", words)
