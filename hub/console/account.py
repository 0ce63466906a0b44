"""`/account`: who one is here, by which login, with which roles, in which sessions; and the way out."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from hub.access import Scope
from hub.api.problems import ProblemError
from hub.api.routes.answers import answer
from hub.console import cookies
from hub.console.pages import Page, render
from hub.console.visits import OwnCall, Someone, hub_of

router = APIRouter()
pages = APIRouter(route_class=Page)


class Nothing(BaseModel):
    """A call that says nothing but that it is one."""

    model_config = ConfigDict(extra="forbid")


class Chosen(BaseModel):
    """One of one's own sessions."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    session: str = Field(max_length=40)


@pages.get("/")
def home() -> Response:
    """Leads to the account."""
    return Response(status_code=303, headers={"Location": "/account"})


@pages.get("/account")
def account(request: Request, guest: Someone) -> Response:
    """The person's own page."""
    hub = hub_of(request)
    person = guest.visit.person
    granted = hub.access.roles.list_grants(person.name)
    return render(
        "account.html",
        guest,
        sessions=hub.people.sessions.list_of(person),
        roles=[*person.claimed, *(f"{each.role} {each.resource or ''}".strip() for each in granted)],
        provider=hub.people.signin is not None and bool(person.issuer),
        decides=any(guest.caller.rights.anywhere(each) for each in (Scope.APPROVE, Scope.GLASS)),
    )


@router.post("/logout", dependencies=[OwnCall])
def logout(request: Request, guest: Someone, _asked: Nothing) -> Response:
    """Ends this session."""
    hub_of(request).people.sessions.close(guest.visit, actor=str(guest.caller.actor))
    told = answer({"next": "/login"})
    cookies.drop(told, cookies.SESSION)
    return told


@router.post("/account/end-session", dependencies=[OwnCall])
def end_session(request: Request, guest: Someone, asked: Chosen) -> Response:
    """Ends another session of one's own."""
    sessions = hub_of(request).people.sessions
    for each in sessions.list_of(guest.visit.person):
        if each.id == asked.session:
            sessions.close(each, actor=str(guest.caller.actor))
            return answer({"next": "/account"})
    raise ProblemError(404, "unknown_session", "you have no session of this id")


router.include_router(pages)
