"""`GET /v1/decisions`: the receipt behind a record's score."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict

from hub.access import Resource, Scope
from hub.api.access import Hub, RecordReader
from hub.api.problems import ProblemError
from hub.api.routes.answers import answer, problems
from hub.decisions import DecisionError
from hub.decisions.plain import receipt_json
from hub.decisions.receipts import named_key
from hub.runs import Installation, look_up

router = APIRouter(tags=["decisions"])


class ReceiptAnswer(BaseModel):
    """Where a record stands, and every decision that led there, newest first."""

    model_config = ConfigDict(extra="allow")

    mapping: str
    key: dict[str, Any]
    standing: dict[str, Any] | None
    decisions: list[dict[str, Any]]
    older: list[Any] | None


@router.get(
    "/v1/decisions",
    summary="Show a record's receipt",
    response_model=ReceiptAnswer,
    responses=problems(403, 404, 422),
)
def show(
    hub: Hub,
    caller: RecordReader,
    mapping: Annotated[str, Query(max_length=128, examples=["patient_risk"])],
    key: Annotated[
        list[str],
        Query(
            min_length=1,
            max_length=20,
            description="The record's key: the value alone, or field=value, once for each field of the key or all of"
            " them with commas between.",
            examples=[["PATNR=00842302"]],
        ),
    ],
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> Response:
    """Starts at the standing and follows the decisions back. The look is an event of the audit trail."""
    hub.hub.access.require(caller, Scope.RECORDS, Resource.mapping(mapping))
    name = hub.hub.mappings.get(mapping).mapping
    found = look_up(hub.hub, name, key_of(hub.hub, name, key), str(caller.actor), limit)
    if found is None:
        raise ProblemError(404, "unknown_record", "the mapping has never met this record")
    return answer(receipt_json(found))


def key_of(hub: Installation, mapping: str, parts: list[str]) -> dict[str, str]:
    """The key that somebody wrote, by field; of a mapping that has met no record, as it was given. ProblemError."""
    kind = hub.standing.key_type(mapping)
    if kind is None:
        return {"": ",".join(parts)}
    try:
        return named_key([each.name for each in kind.fields], parts)
    except DecisionError as error:
        raise ProblemError(422, "invalid", f"key: {error}") from None
