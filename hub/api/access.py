"""Who calls and whether it may: a route names the scope it needs in its signature, and gets the caller.

Policy: 401 for a key that does not open the door; 403 where the caller lacks the scope; 404 where it holds the scope,
but not for what it named, with the same answer and the same work whether that exists or not.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.security.http import HTTPBase
from fastapi.security.utils import get_authorization_scheme_param

from hub.access import Caller, Resource, Scope, Shown, UnauthenticatedError, decide
from hub.api.metrics import Metrics
from hub.api.problems import ProblemError
from hub.api.rates import MOST_KNOWN, SharedRates
from hub.runs import Asking, Gathering, Installation, Scoring

BURST_SECONDS = 2.0
"""What a caller may use at once of its rate, in seconds of it."""
NEIGHBOURS = 10
"""What an address may ask for callers not met before, in rates of one caller."""
FAILURES_RATE, FAILURES_BURST = 0.5, 20.0
"""Wrong keys that one address may show, a second and at once: each leaves an event, and the trail is not a target."""
LOGINS_RATE, LOGINS_BURST = 1.0, 60.0
"""Logins that one address may begin, a second and at once: each is a row until it is finished or runs out."""

PROOF = "An API key (`hub access token create` shows it once), or an access token of `/oauth/token`."


class Gate:
    """What a request passes before it reaches a room; one per application, shared between threads."""

    def __init__(self, hub: Installation, metrics: Metrics) -> None:
        self.hub = hub
        self.metrics = metrics
        self.scoring = Scoring(hub)
        told = hub.settings
        shared: dict[str, Any] = {"url": told.broker_url, "replicas": told.api_replicas}
        burst = max(1.0, told.api_rate * BURST_SECONDS)
        self._rates = SharedRates(f"{told.environment}/caller", told.api_rate, burst, **shared)
        rate = told.api_rate * NEIGHBOURS
        self._addresses = SharedRates(f"{told.environment}/address", rate, burst * NEIGHBOURS, **shared)
        self._failures = SharedRates(f"{told.environment}/failures", FAILURES_RATE, FAILURES_BURST, **shared)
        self._logins = SharedRates(f"{told.environment}/logins", LOGINS_RATE, LOGINS_BURST, **shared)
        self._proven: dict[bytes, None] = {}
        self._familiar = hub.access.familiar()
        self._doors = Gathering(self._open, threads=1, name="keys")

    async def admit(self, request: Request) -> Caller:
        """The caller of a request, within its rate."""
        caller = await self._authenticate(request)
        wait = await self._rates.take(caller.credential or str(caller.actor))
        if wait:
            raise _too_often(wait, "this API key is used too often")
        return caller

    async def require(self, caller: Caller, scope: Scope, resource: Resource | None) -> None:
        """DeniedError, with its event, unless the caller may."""
        if not decide(caller, scope, resource).allowed:
            await run_in_threadpool(self.hub.access.require, caller, scope, resource)

    async def hold_back(self, request: Request) -> None:
        """Refuses for a while an address that sends too many wrong proofs, or too many by callers not met before."""
        address = _address(request)
        if wait := await self._failures.left(address):
            raise _too_often(wait, "too many wrong API keys or proofs from this address")
        if wait := await self._addresses.take(address):
            raise _too_often(wait, "too many requests from this address")

    async def failed(self, request: Request) -> None:
        """Notes that a wrong proof came from the request's address."""
        await self._failures.take(_address(request))

    async def hold_logins_back(self, request: Request) -> None:
        """Refuses for a while an address that begins too many logins."""
        if wait := await self._logins.take(_address(request)):
            raise _too_often(wait, "too many logins were begun from this address")

    async def close(self) -> None:
        """Gives back what the gate holds outside of this process."""
        for each in (self._rates, self._addresses, self._failures, self._logins):
            await each.close()

    async def _authenticate(self, request: Request) -> Caller:
        kind, text = get_authorization_scheme_param(request.headers.get("authorization"))
        if kind.lower() != "bearer" or not text:
            raise UnauthenticatedError("send an API key or an access token as `Authorization: Bearer …`")
        shown = Shown(text, _address(request), request.scope.get("hub.certificate"))
        return await self._familiar(shown) or await self._look(request, shown)

    async def _look(self, request: Request, shown: Shown) -> Caller:
        fingerprint = sha256(shown.text.encode()).digest()
        # Behind a proxy all callers share one address: keys that have opened the door are not held up by wrong ones.
        if fingerprint not in self._proven:
            await self.hold_back(request)
        try:
            caller = await asyncio.wrap_future(self._doors.ask("", _Knock(shown)).answer)
        except UnauthenticatedError:
            self._proven.pop(fingerprint, None)
            await self.failed(request)
            raise
        self._proven[fingerprint] = None
        while len(self._proven) > MOST_KNOWN:
            self._proven.pop(next(iter(self._proven)), None)
        return caller

    def _open(self, knocks: Sequence[_Knock]) -> Sequence[_Knock]:
        """Every key is looked up anew, those that wait together in one look: one that was revoked opens nothing."""
        found = self.hub.access.authenticate_all([each.shown for each in knocks])
        for each, caller in zip(knocks, found, strict=True):
            if isinstance(caller, Caller):
                each.settle(caller)
            else:
                each.fail(caller)
        return ()


class _Knock(Asking[Caller]):
    def __init__(self, shown: Shown) -> None:
        super().__init__()
        self.shown = shown


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _too_often(wait: float, detail: str) -> ProblemError:
    return ProblemError(429, "too_often", f"{detail}; wait and repeat", headers={"Retry-After": str(math.ceil(wait))})


async def gate_of(request: Request) -> Gate:
    """The application's gate."""
    gate: Gate = request.app.state.gate
    return gate


class Holding(HTTPBase):
    """The caller of a route, which must hold `scope`: for the mapping in its path, or else for the whole hub.

    `named` says that the request names the resource elsewhere: here the caller must hold the scope for any, and the
    route asks `require` about the one.
    """

    def __init__(self, scope: Scope, *, named: bool = False) -> None:
        super().__init__(scheme="bearer", scheme_name="HTTPBearer", description=PROOF, auto_error=False)
        self.scope = scope
        self.named = named

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        gate = await gate_of(request)
        caller = await gate.admit(request)
        if not (self.named and caller.rights.anywhere(self.scope)):
            mapping = request.path_params.get("mapping")
            await gate.require(caller, self.scope, None if mapping is None else Resource.mapping(mapping))
        return caller


def routes() -> Iterator[tuple[str, str, Holding | str]]:
    """Method, path, and what each route of the API asks of its caller, or why it asks nobody; LookupError for none."""
    from hub.api.app import ROUTERS

    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for method in sorted(route.methods or ()):
                yield method, route.path, _declared(route)


def _declared(route: APIRoute) -> Holding | str:
    for each in route.dependant.dependencies:
        if isinstance(each.call, Holding):
            return each.call
        if isinstance(each.call, Anybody):
            return each.call.why
    raise LookupError(f"{route.path} declares no scope in its signature")


class Anybody:
    """A route that asks nobody who they are, with the reason why it need not."""

    def __init__(self, why: str) -> None:
        self.why = why

    async def __call__(self) -> None:
        """Lets pass."""


Hub = Annotated[Gate, Depends(gate_of)]
"""What the routes call."""
Scorer = Annotated[Caller, Depends(Holding(Scope.SCORE))]
"""A caller with the scope score for the mapping in the path."""
Runner = Annotated[Caller, Depends(Holding(Scope.RUN, named=True))]
"""A caller with the scope run for some mapping."""
Reader = Annotated[Caller, Depends(Holding(Scope.READ, named=True))]
"""A caller with the scope read for some mapping."""
RecordReader = Annotated[Caller, Depends(Holding(Scope.RECORDS, named=True))]
"""A caller with the scope records for some mapping."""
Connector = Annotated[Caller, Depends(Holding(Scope.CONNECTIONS, named=True))]
"""A caller with the scope connections for some connection."""
Watcher = Annotated[Caller, Depends(Holding(Scope.READ))]
"""A caller with the scope read for the whole hub."""
Writer = Annotated[Caller, Depends(Holding(Scope.MAPPINGS, named=True))]
"""A caller with the scope mappings for some mapping."""
MappingApprover = Annotated[Caller, Depends(Holding(Scope.APPROVE))]
"""A person with the scope approve for the mapping in the path."""
Approver = Annotated[Caller, Depends(Holding(Scope.APPROVE, named=True))]
"""A person with the scope approve for something."""
Breaker = Annotated[Caller, Depends(Holding(Scope.GLASS))]
"""A person with the scope glass."""
Prober = Annotated[None, Depends(Anybody("a probe of the machine's supervisor; tells nothing but yes or no"))]
"""Whoever asks whether the process lives."""
