"""`/v1/runs`: start runs, look at them, cancel, resume and undo them."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hub.access import Resource, Scope
from hub.api.access import Gate, Hub, Reader, Runner
from hub.api.routes.answers import answer, problems
from hub.runs import Order, RunKind, cancel, describe, progress, require_run, resume, start, start_following, undo

router = APIRouter(prefix="/v1/runs", tags=["runs"])

RunId = Annotated[str, Path(description="A run's id.", pattern=r"^[0-9a-f-]{1,40}$")]


class RunRequest(BaseModel):
    """A run to start: incremental where the mapping can and has run before, else full."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    mapping: str = Field(max_length=128, description="A published mapping.")
    full: bool = Field(False, description="Read every record, not only those that moved.")
    dry: bool = Field(False, description="Score and count; write nothing.")
    follow: bool = Field(False, description="Carry each change as the read connection tells of it, from here on.")
    changed: int | None = Field(None, ge=0, description="Hold the run before it writes more records than this.")

    @model_validator(mode="after")
    def _alone(self) -> Self:
        if self.follow and (self.full or self.dry or self.changed is not None):
            raise ValueError("follow goes on until it is ended: leave out full, dry and changed")
        return self


class ResumeRequest(BaseModel):
    """How a held run goes on."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    changed: int | None = Field(None, ge=0, description="A new limit of changes.")
    no_limit: bool = Field(False, description="Without a limit of changes.")


class RunAnswer(BaseModel):
    """A run as it stands. `counts` says what became of the records read; `adds_up`, that none is unexplained.

    `happened` says what the far side had the run put up with: waits, locked records, ended sessions.
    """

    run: str
    mapping: str
    version: str
    kind: str
    state: str
    dry: bool
    actor: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    seconds: float | None
    reason: str | None
    undoes: str | None
    expected: int | None
    changed: int
    counts: dict[str, int]
    adds_up: bool
    happened: list[str]


class ProgressAnswer(RunAnswer):
    """A run with its progress: slices done, records a second, seconds left as far as known."""

    slices: str
    rate: float
    seconds_left: float | None


START: dict[str, Any] = {
    "dry": {"summary": "Try a full run; nothing is written", "value": {"mapping": "patient_risk", "dry": True}},
}


@router.post(
    "",
    status_code=202,
    summary="Start a run",
    response_model=RunAnswer,
    responses=problems(400, 403, 404, 409, 422, 502),
)
def begin(hub: Hub, caller: Runner, asked: Annotated[RunRequest, Body(openapi_examples=START)]) -> Response:
    """Starts a run; workers carry it. `Location` is where to follow it."""
    hub.hub.access.require(caller, Scope.RUN, Resource.mapping(asked.mapping))
    if asked.follow:
        return _accepted(hub, start_following(hub.hub, asked.mapping, str(caller.actor)))
    kind = RunKind.FULL if asked.full else None
    order = Order(asked.mapping, str(caller.actor), kind=kind, dry=asked.dry, changed_limit=asked.changed)
    return _accepted(hub, start(hub.hub, order))


@router.get("", summary="List runs, newest first", response_model=list[RunAnswer], responses=problems(403, 422))
def list_runs(
    hub: Hub,
    caller: Reader,
    mapping: Annotated[str | None, Query(max_length=128, examples=["patient_risk"])] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> Response:
    """The latest runs of a mapping; of every mapping for a key that is held to none."""
    hub.hub.access.require(caller, Scope.READ, None if mapping is None else Resource.mapping(mapping))
    with hub.hub.database.read() as session:
        return answer([describe(each) for each in hub.hub.ledger.runs(session, mapping, limit)])


@router.get("/{run}", summary="Look at a run", response_model=ProgressAnswer, responses=problems(403, 404, 422))
def show(hub: Hub, caller: Reader, run: RunId) -> Response:
    """A run as it stands, with its progress."""
    require_run(hub.hub, caller, Scope.READ, run)
    return answer(progress(hub.hub, run))


@router.post("/{run}/cancel", summary="Cancel a run", response_model=RunAnswer, responses=problems(403, 404, 409, 422))
def stop(hub: Hub, caller: Runner, run: RunId) -> Response:
    """Ends a run at its next page; what it wrote stays, and can be undone."""
    require_run(hub.hub, caller, Scope.RUN, run)
    cancel(hub.hub, run, str(caller.actor))
    return _told(hub, run)


@router.post(
    "/{run}/resume", summary="Resume a held run", response_model=RunAnswer, responses=problems(400, 403, 404, 409, 422)
)
def go_on(hub: Hub, caller: Runner, run: RunId, asked: ResumeRequest | None = None) -> Response:
    """Lets a held run go on, under the mapping as it is published now."""
    require_run(hub.hub, caller, Scope.RUN, run)
    how = asked or ResumeRequest()
    resume(hub.hub, run, str(caller.actor), changed_limit=how.changed, lift=how.no_limit)
    return _told(hub, run)


@router.post(
    "/{run}/undo",
    status_code=202,
    summary="Undo a run",
    response_model=RunAnswer,
    responses=problems(403, 404, 409, 422),
)
def take_back(hub: Hub, caller: Runner, run: RunId) -> Response:
    """Starts the run that puts back what a run replaced, and pauses the mapping."""
    require_run(hub.hub, caller, Scope.RUN, run)
    return _accepted(hub, undo(hub.hub, run, caller.actor))


def _told(hub: Gate, run: str) -> Response:
    with hub.hub.database.read() as session:
        return answer(describe(hub.hub.ledger.run(session, run)))


def _accepted(hub: Gate, run: str) -> Response:
    with hub.hub.database.read() as session:
        return answer(describe(hub.hub.ledger.run(session, run)), 202, {"Location": f"/v1/runs/{run}"})
