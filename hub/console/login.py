"""Logging in: by the identity provider, with the password of the first administrator, and making that account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from hub.access import AccessError, DeniedError, UnauthenticatedError
from hub.access.people import Opened, ProviderError, SignInError, TooOftenError, Visit
from hub.api.problems import ProblemError
from hub.api.routes.answers import answer
from hub.console import cookies
from hub.console.pages import MOST_PLACE, Page, failed, render
from hub.console.visits import Anyone, HeldBack, OwnCall, Someone, address_of, hub_of, too_often
from hub.logs import Log

router = APIRouter()
pages = APIRouter(route_class=Page)

AGAIN = {"Retry-After": "5"}

log = Log(__name__)

Text = Annotated[str, Field(max_length=300)]


class Asked(BaseModel):
    """What a page of the hub sends: text by name, nothing besides."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Place(Asked):
    """Where to go on after a login."""

    next: str = Field("/account", max_length=MOST_PLACE)


class Password(Asked):
    """The login of the local account."""

    name: Text
    password: Text
    code: Text


class SetupSecret(Asked):
    """The setup secret, and what the administrator will be called."""

    setup: Text
    name: Text = ""


class Account(SetupSecret):
    """The account to make."""

    password: Text
    code: Text


@pages.get("/login")
def login(
    request: Request, guest: Anyone, place: Annotated[str, Query(alias="next", max_length=MOST_PLACE)] = ""
) -> Response:
    """Offers what this installation knows."""
    people = hub_of(request).people
    return render("login.html", guest, provider=people.signin is not None, place=place or "/account")


@pages.get("/setup")
def setup(guest: Anyone) -> Response:
    """Where the setup secret is taken."""
    return render("setup.html", guest)


@router.post("/login", dependencies=[OwnCall, HeldBack])
def begin(request: Request, asked: Place) -> Response:
    """Begins a login at the provider; the browser goes where the answer says."""
    return _begun(request, asked.next)


@router.post("/account/step-up", dependencies=[OwnCall, HeldBack])
def step_up(request: Request, guest: Someone, asked: Place) -> Response:
    """Has the person prove anew who they are."""
    return _begun(request, asked.next, guest.visit)


@pages.get("/login/callback")
def callback(request: Request) -> Response:
    """Takes the provider's answer: a session, or a page that says no more than that it failed."""
    signin = hub_of(request).people.signin
    if signin is None:
        raise ProblemError(404, "not_found", "no identity provider is configured")
    text, before = cookies.read(request, cookies.LOGIN), cookies.read(request, cookies.SESSION)
    given = {name: value for name, value in request.query_params.multi_items() if len(value) <= 4096}
    try:
        with _told():
            opened = signin.finish(text, given, address_of(request), before)
    except (UnauthenticatedError, ProblemError) as error:
        told = failed(error)
    else:
        told = Response(status_code=303, headers={"Location": opened.next})
        cookies.put(told, cookies.SESSION, opened.text)
    cookies.drop(told, cookies.LOGIN)
    return told


@router.post("/login/password", dependencies=[OwnCall])
def password(request: Request, asked: Password) -> Response:
    """Logs the local account in."""
    before = cookies.read(request, cookies.SESSION)
    people = hub_of(request).people
    return _entered(lambda: people.local.log_in(asked.name, asked.password, asked.code, address_of(request), before))


@router.post("/setup/enrol", dependencies=[OwnCall])
def enrol(request: Request, asked: SetupSecret) -> Response:
    """What the authenticator takes, for whoever holds the setup secret."""
    with _told():
        made = hub_of(request).people.local.enrol(asked.setup, asked.name, address_of(request))
    return answer({"secret": made.secret, "uri": made.uri})


@router.post("/setup", dependencies=[OwnCall])
def set_up(request: Request, asked: Account) -> Response:
    """Makes the first administrator and logs them in."""
    local = hub_of(request).people.local
    return _entered(lambda: local.set_up(asked.setup, asked.name, asked.password, asked.code, address_of(request)))


def _begun(request: Request, place: str, visit: Visit | None = None) -> Response:
    signin = hub_of(request).people.signin
    if signin is None:
        raise ProblemError(409, "refused", "no identity provider is configured")
    with _told():
        started = signin.begin(place, visit)
    told = answer({"next": started.url})
    cookies.put(told, cookies.LOGIN, started.text)
    return told


@contextmanager
def _told() -> Iterator[None]:
    """How a login ends badly, as it is answered. What the provider did wrong is for the log alone."""
    try:
        yield
    except SignInError as error:
        raise UnauthenticatedError(str(error)) from None
    except TooOftenError as error:
        raise too_often(error) from None
    except ProviderError as error:
        log.warning("identity provider failed", message=str(error))
        raise ProblemError(503, "provider", "the identity provider does not answer", headers=AGAIN) from None
    except (UnauthenticatedError, DeniedError):
        raise
    except AccessError as error:
        raise ProblemError(422, "invalid", str(error)) from None


def _entered(enter: Callable[[], Opened]) -> Response:
    with _told():
        opened = enter()
    told = answer({"next": opened.next})
    cookies.put(told, cookies.SESSION, opened.text)
    return told


router.include_router(pages)
