"""What is counted: requests as they are answered, and the state of runs when it is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.api.problems import problem_of
from hub.runs import Installation

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'"
)
HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", POLICY.encode("ascii")),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
"""On every answer, whatever it is: pages, JSON, errors."""


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

    def collect(self) -> Iterator[Metric]:
        with self._hub.database.read() as session:
            now = self._hub.database.now(session)
            totals = self._hub.ledger.totals(session, now)
            unconfirmed = self._hub.approvals.unconfirmed(session)
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
        followed = GaugeMetricFamily("hub_followed", "1 while a worker follows the live source.", labels=["mapping"])
        edits = GaugeMetricFamily(
            "hub_followed_records", "Records that a live source told of in the run under way.", labels=["mapping"]
        )
        lags = HistogramMetricFamily(
            "hub_followed_lag_seconds",
            "From a change at the far side, by its clock, to its score written there, in the run under way: of the"
            " oldest change in each page.",
            labels=["mapping"],
        )
        for mapping, each in totals.followed.items():
            followed.add_metric([mapping], each.held)
            edits.add_metric([mapping], each.read)
            lags.add_metric([mapping], each.lags.cumulative(), each.lags.seconds)
        yield from (followed, edits, lags)
        waiting = (now - totals.oldest).total_seconds() if totals.oldest is not None else 0.0
        yield GaugeMetricFamily("hub_oldest_waiting_run_seconds", "Age of the oldest queued run; 0: none.", waiting)

        yield GaugeMetricFamily(
            "hub_approvals_unconfirmed", "Approvals that somebody let through alone and nobody confirmed.", unconfirmed
        )

    def describe(self) -> Iterator[Metric]:
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
