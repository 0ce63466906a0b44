"""`/approvals`: what waits for a second person, and that person's decision, right after they proved who they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from hub.access import DeniedError, Scope, decide
from hub.access.approvals import Approval, Approvals, ApprovalState, as_json
from hub.access.people import Guest, StaleLoginError
from hub.api.problems import ProblemError
from hub.api.routes.answers import answer
from hub.console.pages import Page, render
from hub.console.visits import Approver, Breaker, Decider, OwnCall, hub_of

router = APIRouter()
pages = APIRouter(route_class=Page)

ApprovalId = Annotated[str, Path(max_length=64, pattern=r"^[0-9a-f]+$")]


class Reasoned(BaseModel):
    """Why somebody decides so; it stands in the audit trail."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    reason: str = Field("", max_length=2000)


@pages.get("/approvals")
def listed(request: Request, guest: Decider) -> Response:
    """What is open or unconfirmed and theirs to look at, newest first."""
    found = [each for each in hub_of(request).approvals.list() if _may(guest, each, Scope.APPROVE, Scope.GLASS)]
    return render("approvals.html", guest, approvals=found)


@pages.get("/approvals/{approval}")
def shown(request: Request, guest: Decider, approval: ApprovalId) -> Response:
    """The very content that the digest freezes."""
    found = _allowed(request, guest, approval, Scope.APPROVE, Scope.GLASS)
    provider = hub_of(request).people.signin and guest.visit.person.issuer
    return render("approval.html", guest, approval=as_json(found), verbs=_verbs(guest, found), provider=provider)


@router.post("/approvals/{approval}/approve", dependencies=[OwnCall])
def approve(request: Request, guest: Approver, approval: ApprovalId, asked: Reasoned) -> Response:
    """409 for whoever had a part in it, 403 `stale_login` for whoever must prove anew who they are."""
    return _decided(request, guest, approval, lambda approvals: approvals.approve(approval, guest.caller, asked.reason))


@router.post("/approvals/{approval}/refuse", dependencies=[OwnCall])
def refuse(request: Request, guest: Approver, approval: ApprovalId, asked: Reasoned) -> Response:
    """As `approve`; whoever asked takes it back by the same."""
    return _decided(request, guest, approval, lambda approvals: approvals.refuse(approval, guest.caller, asked.reason))


@router.post("/approvals/{approval}/break-glass", dependencies=[OwnCall])
def break_glass(request: Request, guest: Breaker, approval: ApprovalId, asked: Reasoned) -> Response:
    """As `approve`, and alone; 409 without a reason."""
    return _decided(
        request,
        guest,
        approval,
        lambda approvals: approvals.break_glass(approval, guest.caller, asked.reason),
        Scope.GLASS,
    )


def _decided(
    request: Request,
    guest: Guest,
    approval: str,
    how: Callable[[Approvals], Approval],
    scope: Scope = Scope.APPROVE,
) -> Response:
    hub = hub_of(request)
    _allowed(request, guest, approval, scope)
    try:
        hub.people.require_fresh(guest)
    except StaleLoginError as error:
        raise ProblemError(403, "stale_login", str(error)) from None
    how(hub.approvals)
    return answer({"next": f"/approvals/{approval}"})


def _may(guest: Guest, approval: Approval, *scopes: Scope) -> bool:
    return any(decide(guest.caller, each, approval.about).allowed for each in scopes)


def _verbs(guest: Guest, approval: Approval) -> list[str]:
    """What they may do about it now."""
    pending = approval.state is ApprovalState.PENDING
    decides = (pending or approval.unconfirmed) and _may(guest, approval, Scope.APPROVE)
    breaks = pending and _may(guest, approval, Scope.GLASS)
    return [*(("approve", "refuse") if decides else ()), *(("break-glass",) if breaks else ())]


def _allowed(request: Request, guest: Guest, approval: str, *scopes: Scope) -> Approval:
    """The approval, where one of the scopes opens it; one that none does is answered as one that there is not."""
    hub = hub_of(request)
    found = hub.approvals.get(approval)
    if _may(guest, found, *scopes):
        return found
    try:
        hub.access.require(guest.caller, scopes[0], found.about)
    except DeniedError:
        raise ProblemError(404, "unknown_approval", "there is no approval of this id") from None
    return found


router.include_router(pages)
