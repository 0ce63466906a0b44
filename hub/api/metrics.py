"""What is counted: requests as they are answered, and the state of runs when it is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.api.problems import problem_of
from hub.runs import Installation

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self, hub: Installation) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "hub_request_seconds", "Time to answer.", ["route", "method"], buckets=BUCKETS, registry=self.registry
        )
        self.answers = Counter(
            "hub_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.registry.register(_Runs(hub))


class _Runs(Collector):
    """Read from the ledger at each scrape, so that every process tells the same."""

    def __init__(self, hub: Installation) -> None:
        self._hub = hub

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._hub.database.read() as session:
            now = self._hub.database.now(session)
            totals = self._hub.ledger.totals(session, now)
        states = GaugeMetricFamily("hub_runs", "Runs by state.", labels=["state"])
        for state, number in totals.states.items():
            states.add_metric([state], number)
        yield states
        records = GaugeMetricFamily(
            "hub_records_last_day",
            "Records of runs begun in the last 24 hours by outcome.",
            labels=["mapping", "outcome"],
        )
        for (mapping, outcome), number in totals.records.items():
            records.add_metric([mapping, outcome], number)
        yield records
        waiting = (now - totals.oldest).total_seconds() if totals.oldest is not None else 0.0
        yield GaugeMetricFamily("hub_oldest_waiting_run_seconds", "Age of the oldest queued run; 0: none.", waiting)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is read from the database when the collector is registered."""
        return iter(())


class Outermost:
    """Times each request, adds the headers every answer has, and turns what nobody foresaw into a problem."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:
            if status:
                raise
            await problem_of(error).response()(scope, receive, sent)
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, scope["method"]).observe(time.perf_counter() - began)
        self._metrics.answers.labels(route, scope["method"], str(status)).inc()
