"""`POST /v1/score/{mapping}`: decisions on records at once, durable before they are answered; written back if asked."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from hub.access import Resource, Scope
from hub.api.access import Hub, Scorer
from hub.api.routes.answers import answer, problems
from hub.runs import MOST_RECORDS, Answer, answer_json

FEW = 16
"""Decisions that are put into words at once; more of them would hold up everybody else's."""

router = APIRouter(tags=["score"])


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError("expected text, a number, true, false or null")


Scalar = Annotated[
    Any, AfterValidator(_scalar), WithJsonSchema({"type": ["string", "number", "boolean", "null"]}, mode="validation")
]
Record = Annotated[dict[str, Scalar], Field(max_length=500)]
MappingName = Annotated[str, Path(description="A published mapping.", examples=["patient_risk"], max_length=128)]


class ScoreRequest(BaseModel):
    """Records to score: given whole, or named by key and fetched through the mapping's connection."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    records: list[Record] | None = Field(
        None,
        min_length=1,
        max_length=MOST_RECORDS,
        description="Records of the mapping's entity by field, key fields included. What is left out is null.",
    )
    keys: list[Record] | None = Field(
        None, min_length=1, max_length=MOST_RECORDS, description="Keys of records to fetch from the far system."
    )
    write: bool = Field(
        False,
        description="Write the result back as a run would; needs the scope write. Given values win over read ones.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> ScoreRequest:
        if (self.records is None) == (self.keys is None):
            raise ValueError("give either records or keys")
        return self


class Pointer(BaseModel):
    """Where a decision is stored, and the digest that proves it."""

    segment: str
    row: int
    digest: str


class Reason(BaseModel):
    """A feature that moved this score, and by how much."""

    feature: str
    title: str
    effect: float


class Decision(BaseModel):
    """What was decided about one record. `set` is what would be, or was, written to it."""

    key: dict[str, Any]
    state: str = Field(
        description="planned (would be written), unchanged (the record holds it already), invalid, held, not selected; "
        "after a write: applied, conflict, rejected, unknown"
    )
    reason: str | None
    because: str | None = Field(description="why a fallback answered instead of the model")
    outputs: dict[str, Any]
    decided: dict[str, Any]
    reasons: list[Reason]
    set: dict[str, Any]
    decision: Pointer | None


class Model(BaseModel):
    """The version of the model that scored."""

    name: str
    version: int
    digest: str


class ScoreAnswer(BaseModel):
    """The decisions in the order asked. `run` is the run that wrote them, where that was asked for."""

    mapping: str
    mapping_version: str
    model: Model
    run: str | None
    decisions: list[Decision]


EXAMPLES: dict[str, Any] = {
    "keys": {
        "summary": "Score records that the hub fetches by key",
        "value": {"keys": [{"PATNR": "00842302"}]},
    },
    "records": {
        "summary": "Score records as given; lookups are still read",
        "value": {"records": [{"PATNR": "00842302", "CLINIC": "N01", "BIRTH_D": "1962-05-03"}]},
    },
    "write": {
        "summary": "Score a record and write the result back to it",
        "value": {"keys": [{"PATNR": "00842517"}], "write": True},
    },
}


@router.post(
    "/v1/score/{mapping}",
    summary="Score records now",
    response_model=ScoreAnswer,
    responses=problems(400, 403, 404, 409, 422, 502, 503),
)
async def score(
    hub: Hub,
    caller: Scorer,
    mapping: MappingName,
    asked: Annotated[ScoreRequest, Body(openapi_examples=EXAMPLES)],
) -> Response:
    """Scores up to 1,000 records; each decision is durable before the answer and can be shown as a receipt."""
    actor = str(caller.actor)
    what, given = ("records", asked.records) if asked.records is not None else ("keys", asked.keys or [])
    if asked.write:
        await hub.require(caller, Scope.WRITE, Resource.mapping(mapping))
        made = await run_in_threadpool(hub.scoring.score_and_write, mapping, given, actor, what)
    else:
        ask = hub.scoring.score if what == "records" else hub.scoring.score_keys
        made = await asyncio.wrap_future(ask(mapping, given, actor))
    if len(given) > FEW:
        return await run_in_threadpool(_shown, made)
    return _shown(made)


def _shown(made: Answer) -> Response:
    return answer(answer_json(made))
