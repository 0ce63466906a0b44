"""`/v1/approvals`: what waits for a second person, and what that person decides."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from hub.access import Caller, Scope
from hub.access.approvals import Approval, as_json
from hub.api.access import Approver, Breaker, Gate, Hub, Watcher
from hub.api.routes.answers import answer, problems

router = APIRouter(prefix="/v1/approvals", tags=["approvals"])

ApprovalId = Annotated[str, Path(max_length=64, pattern=r"^[0-9a-f]+$", description="An approval's id.")]


class Reasoned(BaseModel):
    """Why somebody decides so; it stands in the audit trail."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    reason: str = Field("", max_length=2000, description="In one line.")


class Emergency(BaseModel):
    """Why nobody else could be asked; it stands in the audit trail."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    reason: str = Field(min_length=1, max_length=2000, description="In one line.")


class ApprovalAnswer(BaseModel):
    """What is asked for, frozen: `digest` is the hash of the canonical JSON of kind, subject and content.

    `authors` are the people who may not decide it; `next_step` says what has to happen now. `broken_…` tell who let it
    through alone; `unconfirmed` is true until another person decides about that.
    """

    id: str
    kind: str
    subject: str
    state: str
    digest: str
    content: dict[str, Any]
    reason: str
    requested_by: str
    authors: list[str]
    requested_at: str
    expires_at: str
    decided_by: str | None
    decided_at: str | None
    why: str | None
    broken_by: str | None
    broken_at: str | None
    broken_why: str | None
    unconfirmed: bool
    next_step: str


@router.get(
    "", summary="List what waits for a second person", response_model=list[ApprovalAnswer], responses=problems(403, 422)
)
def list_approvals(hub: Hub, caller: Watcher, closed: Annotated[bool, Query()] = False) -> Response:  # noqa: ARG001
    """Newest first, unconfirmed ones too; with `closed` also what was decided, used, void or has run out."""
    return answer([as_json(each) for each in hub.hub.approvals.list(closed=closed)])


@router.get(
    "/{approval}",
    summary="Show what exactly is asked for",
    response_model=ApprovalAnswer,
    responses=problems(403, 404, 422),
)
def show(hub: Hub, caller: Watcher, approval: ApprovalId) -> Response:  # noqa: ARG001
    """The content that the digest freezes."""
    return answer(as_json(hub.hub.approvals.get(approval)))


@router.post(
    "/{approval}/approve",
    summary="Approve what somebody else asked for",
    response_model=ApprovalAnswer,
    responses=problems(400, 403, 404, 409, 422),
)
def approve(hub: Hub, caller: Approver, approval: ApprovalId, given: Reasoned | None = None) -> Response:
    """409 for whoever had a part in it, by the person who answers for a caller, and for what is no longer open."""
    _allow(hub, caller, hub.hub.approvals.get(approval))
    return answer(as_json(hub.hub.approvals.approve(approval, caller, (given or Reasoned()).reason)))


@router.post(
    "/{approval}/refuse",
    summary="Refuse it, or take it back",
    response_model=ApprovalAnswer,
    responses=problems(400, 403, 404, 409, 422),
)
def refuse(hub: Hub, caller: Approver, approval: ApprovalId, given: Reasoned | None = None) -> Response:
    """Whoever asked takes it back by the same."""
    _allow(hub, caller, hub.hub.approvals.get(approval))
    return answer(as_json(hub.hub.approvals.refuse(approval, caller, (given or Reasoned()).reason)))


@router.post(
    "/{approval}/break-glass",
    summary="Let it through alone, in an emergency",
    response_model=ApprovalAnswer,
    responses=problems(400, 403, 404, 409, 422),
)
def break_glass(hub: Hub, caller: Breaker, approval: ApprovalId, given: Emergency) -> Response:
    """For an hour and once; another person has to confirm it within a day, by approving it."""
    return answer(as_json(hub.hub.approvals.break_glass(approval, caller, given.reason)))


def _allow(hub: Gate, caller: Caller, approval: Approval) -> None:
    """The scope for the mapping or model that it is about; for everything, where it is about the hub itself."""
    hub.hub.access.require(caller, Scope.APPROVE, approval.about)
