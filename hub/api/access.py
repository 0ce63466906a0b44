"""Who calls and whether it may: a route names the scope it needs in its signature, and gets the caller.

Policy: 401 for a key that does not open the door; 403 where the caller lacks the scope, or a mapping is not among
those its key is held to, whether that mapping exists or not; 404 only to those who may see every mapping or that one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from hub.access import Caller, Scope, UnauthenticatedError
from hub.api.limits import MOST_KNOWN, Rates
from hub.api.metrics import Metrics
from hub.api.problems import ProblemError
from hub.runs import Asking, Gathering, Installation, Scoring

BURST_SECONDS = 2.0
"""What a caller may use at once of its rate, in seconds of it."""
FAILURES_RATE, FAILURES_BURST = 0.5, 20.0
"""Wrong keys that one address may show, a second and at once: each leaves an event, and the trail is not a target."""

bearer = HTTPBearer(auto_error=False, description="An API key: `hub access token create` shows it once.")


class Gate:
    """What a request passes before it reaches a room; one per application, shared between threads."""

    def __init__(self, hub: Installation, metrics: Metrics) -> None:
        self.hub = hub
        self.metrics = metrics
        self.scoring = Scoring(hub)
        rate = hub.settings.api_rate
        self._rates = Rates(rate, max(1.0, rate * BURST_SECONDS))
        self._failures = Rates(FAILURES_RATE, FAILURES_BURST)
        self._proven: dict[bytes, None] = {}
        self._doors = Gathering(self._open, threads=1, name="keys")

    async def admit(self, request: Request) -> Caller:
        """The caller of a request, within its rate."""
        caller = await self._authenticate(request)
        wait = self._rates.take(caller.token or str(caller.actor))
        if wait:
            raise _too_often(wait, "this API key is used too often")
        return caller

    async def require(self, caller: Caller, scope: Scope, mapping: str | None) -> None:
        """DeniedError, with its event, unless the caller may."""
        if not caller.may(scope, mapping):
            await run_in_threadpool(self.hub.access.require, caller, scope, mapping)

    async def _authenticate(self, request: Request) -> Caller:
        kind, text = get_authorization_scheme_param(request.headers.get("authorization"))
        if kind.lower() != "bearer" or not text:
            raise UnauthenticatedError("send an API key as `Authorization: Bearer hub_…`")
        fingerprint = sha256(text.encode()).digest()
        address = request.client.host if request.client is not None else ""
        # Behind a proxy all callers share one address: keys that have opened the door are not held up by wrong ones.
        if fingerprint not in self._proven and (wait := self._failures.left(address)):
            raise _too_often(wait, "too many wrong API keys from this address")
        try:
            caller = await asyncio.wrap_future(self._doors.ask("", _Knock(text)).answer)
        except UnauthenticatedError:
            self._proven.pop(fingerprint, None)
            self._failures.take(address)
            raise
        self._proven[fingerprint] = None
        while len(self._proven) > MOST_KNOWN:
            self._proven.pop(next(iter(self._proven)), None)
        return caller

    def _open(self, knocks: Sequence[_Knock]) -> Sequence[_Knock]:
        """Every key is looked up anew, those that wait together in one look: one that was revoked opens nothing."""
        found = self.hub.access.authenticate_all([each.text for each in knocks])
        for each, caller in zip(knocks, found, strict=True):
            if isinstance(caller, Caller):
                each.settle(caller)
            else:
                each.fail(caller)
        return ()


class _Knock(Asking[Caller]):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


def _too_often(wait: float, detail: str) -> ProblemError:
    return ProblemError(429, "too_often", f"{detail}; wait and repeat", headers={"Retry-After": str(math.ceil(wait))})


async def gate_of(request: Request) -> Gate:
    """The application's gate."""
    gate: Gate = request.app.state.gate
    return gate


class Holding:
    """The caller of a route, which must hold `scope`: for the mapping in its path, or else for the whole hub.

    `named` says that the request names the mapping elsewhere; the route then asks `allow` about it.
    """

    def __init__(self, scope: Scope, *, named: bool = False) -> None:
        self.scope = scope
        self.named = named

    async def __call__(self, request: Request, _shown: Annotated[Any, Depends(bearer)] = None) -> Caller:
        gate = await gate_of(request)
        caller = await gate.admit(request)
        mapping = request.path_params.get("mapping")
        if self.named and caller.mappings is not None:
            mapping = min(caller.mappings)
        await gate.require(caller, self.scope, mapping)
        return caller


Hub = Annotated[Gate, Depends(gate_of)]
"""What the routes call."""
Scorer = Annotated[Caller, Depends(Holding(Scope.SCORE))]
"""A caller with the scope score for the mapping in the path."""
Runner = Annotated[Caller, Depends(Holding(Scope.RUN, named=True))]
"""A caller with the scope run for some mapping."""
Reader = Annotated[Caller, Depends(Holding(Scope.READ, named=True))]
"""A caller with the scope read for some mapping."""
Watcher = Annotated[Caller, Depends(Holding(Scope.READ))]
"""A caller with the scope read for the whole hub."""
