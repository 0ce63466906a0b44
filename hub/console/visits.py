"""Who looks at a page or calls from one: the session, the scope that a page needs, and where a call came from."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import Depends, Request

from hub.access import DeniedError, Resource, Scope, UnauthenticatedError
from hub.access.people import Guest, TooOftenError
from hub.api.problems import ProblemError
from hub.console import cookies
from hub.runs import Installation

MARK = "x-hub-console"
"""The header of our own script: a form or an image of another site's page cannot send it."""


class NobodyError(UnauthenticatedError):
    """A page is asked for without a session; the browser is sent to log in."""


def hub_of(request: Request) -> Installation:
    """The installation behind the application."""
    hub: Installation = request.app.state.gate.hub
    return hub


def address_of(request: Request) -> str:
    """Where a request came from: by the socket, or by the word of a proxy that HUB_API_PROXIES names."""
    return request.client.host if request.client is not None else ""


def stranger_or_guest(request: Request) -> Guest | None:
    """Whom the session's cookie stands for, if anybody."""
    text = cookies.read(request, cookies.SESSION)
    return hub_of(request).people.enter(text) if text else None


class Visiting:
    """The guest of a page, who must hold one of `scopes`, if any is named, for anything; the page asks for what."""

    def __init__(self, *scopes: Scope) -> None:
        self.scopes = scopes

    def __call__(self, request: Request) -> Guest:
        guest = stranger_or_guest(request)
        if guest is None:
            raise NobodyError("log in first")
        if self.scopes and not any(guest.caller.rights.anywhere(each) for each in self.scopes):
            hub_of(request).access.require(guest.caller, self.scopes[0])
        return guest


def own_call(request: Request) -> None:
    """Refuses whatever our own script did not send from our own page; nothing that changes something is without it."""
    site = request.headers.get("sec-fetch-site")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    why = None
    if site != "same-origin" or request.headers.get(MARK) != "1":
        why = "cross-site"
    elif kind != "application/json":
        why = "media type"
    if why is None:
        return
    guest = stranger_or_guest(request)
    if guest is not None:
        hub_of(request).people.sessions.refused(guest.visit, why)
    if why == "media type":
        raise ProblemError(415, "media_type", "send the body as application/json")
    raise DeniedError("this call did not come from a page of the hub")


async def held_back(request: Request) -> None:
    """Refuses an address for a while from which too many logins were begun."""
    await request.app.state.gate.hold_logins_back(request)


def too_often(error: TooOftenError) -> ProblemError:
    """As it is answered: with the seconds to wait."""
    return ProblemError(429, "too_often", str(error), headers={"Retry-After": str(math.ceil(error.seconds))})


Anyone = Annotated[Guest | None, Depends(stranger_or_guest)]
"""Whoever looks: a page that tells nothing of anybody."""
Someone = Annotated[Guest, Depends(Visiting())]
"""A person who is logged in, whatever they may."""
Approver = Annotated[Guest, Depends(Visiting(Scope.APPROVE))]
"""A person with the scope approve for something."""
Breaker = Annotated[Guest, Depends(Visiting(Scope.GLASS))]
"""A person with the scope glass."""
Decider = Annotated[Guest, Depends(Visiting(Scope.APPROVE, Scope.GLASS))]
"""A person with either."""
RecordGuest = Annotated[Guest, Depends(Visiting(Scope.RECORDS))]
"""A person with the scope records for some mapping."""
OwnCall = Depends(own_call)
HeldBack = Depends(held_back)


def require(request: Request, guest: Guest, scope: Scope, resource: Resource) -> None:
    """DeniedError, with its event, unless the guest may."""
    hub_of(request).access.require(guest.caller, scope, resource)
