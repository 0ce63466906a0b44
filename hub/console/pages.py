"""Pages as they are rendered: Jinja templates from files, escaped by themselves, and errors as pages too."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from hub.access.people import Guest, TooOftenError
from hub.api.problems import ProblemError, problem_of
from hub.console.visits import NobodyError, too_often

HTML = "text/html; charset=utf-8"
MOST_PLACE = 2_000
"""Characters of the address at which a login goes on."""
_PLAIN = "/?:@!$&'()*+,;=._~-"
"""What may stand in a path and a query as it is (RFC 3986)."""

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("hub.console"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def add_to(app: FastAPI) -> None:
    """Adds the pages to the application of the API."""
    from hub.console import account, approvals, login, receipts, static

    for each in (login, account, approvals, receipts, static):
        app.include_router(each.router, include_in_schema=False)


def render(name: str, guest: Guest | None = None, status: int = 200, **values: Any) -> Response:
    """The page of a template."""
    text = _templates.get_template(name).render(guest=guest, **values)
    return Response(text, status, media_type=HTML)


class Page(APIRoute):
    """A route whose errors are pages: one without a session leads to the login, every other tells one sentence."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route as FastAPI makes it, with its errors caught."""
        inner = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await inner(request)
            except NobodyError:
                return Response(status_code=303, headers={"Location": f"/login?{urlencode({'next': _asked(request)})}"})
            except Exception as error:  # noqa: BLE001  (what nobody foresaw is a page with an id, too)
                return failed(error)

        return answered


def _asked(request: Request) -> str:
    """Where the request wanted to go, as a login takes it; the account where that is too long to be kept."""
    query = quote(request.scope["query_string"], safe=f"%{_PLAIN}")
    place = quote(request.scope["path"], safe=_PLAIN) + (f"?{query}" if query else "")
    return place if len(place) <= MOST_PLACE else "/account"


def failed(error: Exception) -> Response:
    """The page of an error; what it says is what the API would."""
    if isinstance(error, TooOftenError):
        error = too_often(error)
    elif isinstance(error, RequestValidationError):
        error = ProblemError(422, "invalid", "the address is not as it should be")
    elif isinstance(error, HTTPException):
        error = ProblemError(error.status_code, "refused", str(error.detail))
    problem = problem_of(error)
    page = render("error.html", status=problem.status, problem=problem)
    page.headers.update(problem.headers)
    return page


def _moment(value: datetime) -> str:
    return value.strftime("%Y-%m-%d %H:%M UTC")


_templates.filters["moment"] = _moment
