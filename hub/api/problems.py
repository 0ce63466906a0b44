"""Every error of the API as problem details (RFC 9457), without what was sent, secrets, SQL or paths."""

from __future__ import annotations

import json
import secrets
import traceback
from collections.abc import Mapping, Sequence
from functools import singledispatch
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from hub.access import DeniedError, HiddenError, ResourceKind, UnauthenticatedError
from hub.access.approvals import ApprovalError, UnknownApprovalError
from hub.access.leases import BrokerAwayError, LeaseError
from hub.connections import PausedConnectionError
from hub.database import DatabaseError
from hub.decisions import DecisionError, IntegrityError
from hub.logs import Log
from hub.mappings import AlteredMappingError, MappingError, MappingsError, PausedMappingError, UnknownMappingError
from hub.runs import BadRequestError, PreflightError, RunError, UnknownRunError
from hub.sdk import ConnectorError, UnavailableError

MEDIA_TYPE = "application/problem+json"
LONGEST = 600
"""Characters of one sentence that an answer repeats from the hub."""
MOST_FAULTS = 20
"""Faults of one request that are listed."""

log = Log(__name__)


class ProblemError(Exception):
    """A request is refused by the face itself: `code` is for programs, `detail` one sentence for people."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more

    def response(self) -> Response:
        """The problem as it is answered."""
        content = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail[:LONGEST],
            **self.more,
        }
        return Response(json.dumps(content, ensure_ascii=False), self.status, self.headers, MEDIA_TYPE)


@singledispatch
def problem_of(error: Exception) -> ProblemError:
    """What a caller is told of an error; one not foreseen is logged under an id, and told as that id alone."""
    number = secrets.token_hex(8)
    # Where it happened, without the message: that may hold a record's values.
    frames = [f"{each.filename}:{each.lineno} {each.name}" for each in traceback.extract_tb(error.__traceback__)]
    log.error("request failed", id=number, error=type(error).__qualname__, at=frames[-12:])
    return ProblemError(500, "internal", "the hub failed to answer; its log names the cause under this id", id=number)


@problem_of.register
def _(error: ProblemError) -> ProblemError:
    return error


@problem_of.register
def _(error: UnauthenticatedError) -> ProblemError:
    return ProblemError(401, "unauthenticated", str(error), headers={"WWW-Authenticate": 'Bearer realm="hub"'})


@problem_of.register
def _(error: DeniedError) -> ProblemError:
    return ProblemError(403, "denied", str(error))


@problem_of.register
def _(_error: UnknownMappingError) -> ProblemError:
    # Its own message names the nearest mappings, which this caller may not be allowed to know of.
    return UNKNOWN_MAPPING


@problem_of.register
def _(error: HiddenError) -> ProblemError:
    if error.kind is ResourceKind.MAPPING:
        return UNKNOWN_MAPPING
    return ProblemError(404, f"unknown_{error.kind}", f"there is no {error.kind} of this name")


@problem_of.register
def _(error: ApprovalError) -> ProblemError:
    return ProblemError(409, "approval", str(error))


@problem_of.register
def _(_error: UnknownApprovalError) -> ProblemError:
    return ProblemError(404, "unknown_approval", "there is no approval of this id")


@problem_of.register
def _(error: MappingsError) -> ProblemError:
    return ProblemError(409, "refused", str(error))


@problem_of.register
def _(error: AlteredMappingError) -> ProblemError:
    log.error("a stored mapping is damaged", message=str(error))
    return ProblemError(500, "damaged", "the stored mapping is not what was published; publish it anew")


@problem_of.register
def _(_error: UnknownRunError) -> ProblemError:
    return UNKNOWN_RUN


@problem_of.register(PausedMappingError)
@problem_of.register(PausedConnectionError)
def _(error: Exception) -> ProblemError:
    return ProblemError(409, "paused", str(error))


@problem_of.register
def _(error: BadRequestError) -> ProblemError:
    return ProblemError(422, "invalid", str(error))


@problem_of.register
def _(error: PreflightError) -> ProblemError:
    return _listed("the mapping cannot run as things stand", error.problems)


@problem_of.register
def _(error: MappingError) -> ProblemError:
    return _listed("the mapping no longer fits its systems", [str(each) for each in error.problems])


@problem_of.register
def _(error: RunError) -> ProblemError:
    return ProblemError(409, "refused", str(error))


@problem_of.register
def _(error: DecisionError) -> ProblemError:
    return ProblemError(422, "invalid", str(error))


@problem_of.register
def _(error: IntegrityError) -> ProblemError:
    log.error("stored decisions are damaged", message=str(error))
    return ProblemError(500, "damaged", "a stored decision is not what was written; hub decisions verify tells more")


@problem_of.register
def _(error: ConnectorError) -> ProblemError:
    # Its message names a host, which is not for whoever holds a key; the log is for those who run the hub.
    log.warning("far side failed", error=type(error).__name__, message=error.message)
    return ProblemError(502, "far_side", "the far side refused, or did not answer as it must; the hub's log says how")


@problem_of.register
def _(error: UnavailableError) -> ProblemError:
    log.warning("far side unavailable", message=error.message)
    after = str(max(1, round(error.retry_after or 5)))
    detail = "the far side does not answer, or asked to wait; the hub's log says which"
    return ProblemError(503, "far_side_unavailable", detail, headers={"Retry-After": after})


@problem_of.register(DatabaseError)
@problem_of.register(OperationalError)
@problem_of.register(PoolTimeoutError)
def _(error: Exception) -> ProblemError:
    log.error("database unavailable", error=type(error).__name__)
    return ProblemError(503, "unavailable", "the hub's database does not answer", headers={"Retry-After": "5"})


@problem_of.register
def _(error: LeaseError) -> ProblemError:
    log.warning("a credential was not to be had", error=type(error).__name__, message=str(error))
    away = isinstance(error, BrokerAwayError)  # whose message names the place of its socket
    detail = "the lease broker does not answer" if away else str(error)
    return ProblemError(503, "no_credential", detail, headers={"Retry-After": "5"})


def _listed(detail: str, problems: Sequence[str]) -> ProblemError:
    return ProblemError(409, "preflight", detail, problems=[each[:LONGEST] for each in problems[:MOST_FAULTS]])


UNKNOWN_MAPPING = ProblemError(404, "unknown_mapping", "no mapping of this name is published")
UNKNOWN_RUN = ProblemError(404, "unknown_run", "there is no run of this id")


def add_to(app: FastAPI) -> None:
    """Answers every error of the routes as a problem."""

    async def refused(_request: Request, error: Exception) -> Response:
        return problem_of(error).response()

    async def misread(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [{name: each[name] for name in ("loc", "type", "msg")} for each in error.errors()[:MOST_FAULTS]]
        return ProblemError(422, "invalid", "the request is not as described", errors=faults).response()

    async def unrouted(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            error.headers = {"Allow": ", ".join(sorted(_methods(request)))}
        detail = _SAID.get(error.status_code, HTTPStatus(error.status_code).phrase)
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return ProblemError(error.status_code, code, detail, headers=error.headers).response()

    app.add_exception_handler(RequestValidationError, misread)
    app.add_exception_handler(HTTPException, unrouted)
    for kind in problem_of.registry:
        if kind is not object:
            app.add_exception_handler(kind, refused)


def _methods(request: Request) -> set[str]:
    """All that an address answers to: two routes may share one, and the router names those of the first."""
    found: set[str] = set()
    for each in iter_route_contexts(request.app.routes):
        if each.path is not None and compile_path(each.path)[0].match(request.scope["path"]):
            found.update(each.methods or ())
    return found


_SAID = {
    400: "the body cannot be read as JSON",
    404: "there is nothing at this address; /openapi.json describes what there is",
    405: "this address does not answer to that method",
}
