"""`/v1/mappings`: a document is handed in by one person, approved by another, and published."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from hub.access import Caller, Scope
from hub.access.approvals import as_json
from hub.api.access import Gate, Hub, MappingApprover, Writer
from hub.api.routes.answers import answer, problems
from hub.api.routes.approvals import ApprovalAnswer, Reasoned
from hub.mappings import read_document

router = APIRouter(prefix="/v1/mappings", tags=["mappings"])

MOST_LETTERS = 200_000


class DocumentRequest(Reasoned):
    """A mapping document, as it would stand in a file."""

    document: str = Field(min_length=1, max_length=MOST_LETTERS, description="The text of the document, in YAML.")


class VersionRequest(Reasoned):
    """A version that was handed in."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="The digest of its document.")


class VersionAnswer(BaseModel):
    """A version by its digest; `number` counts those that were published."""

    model_config = ConfigDict(extra="forbid")

    mapping: str
    digest: str
    number: int | None


@router.post(
    "/submit",
    summary="Hand a document in for approval",
    response_model=VersionAnswer,
    responses=problems(400, 403, 404, 409, 422, 502, 503),
)
def submit(hub: Hub, caller: Writer, given: DocumentRequest) -> Response:
    """Freezes the document with its rights, its model and its systems. Approvals of what it replaces are void."""
    name = _allow(hub, caller, given.document)
    compiled = hub.hub.mappings.submit(given.document, caller, given.reason)
    return answer({"mapping": name, "digest": compiled.document.digest, "number": None})


@router.post(
    "/publish",
    summary="Publish a document",
    response_model=VersionAnswer,
    responses=problems(400, 403, 404, 409, 422, 502, 503),
)
def publish(hub: Hub, caller: Writer, given: DocumentRequest) -> Response:
    """In production 409 until another person approved exactly this; the answer names the next step."""
    _allow(hub, caller, given.document)
    made = hub.hub.mappings.publish(given.document, caller)
    return answer({"mapping": made.mapping, "digest": made.digest, "number": made.number})


@router.post(
    "/{mapping}/approve",
    summary="Approve a version of a mapping",
    response_model=ApprovalAnswer,
    responses=problems(400, 403, 404, 409, 422),
)
def approve(
    hub: Hub, caller: MappingApprover, mapping: Annotated[str, Path(max_length=128)], given: VersionRequest
) -> Response:
    """409 for its authors, and for a version that was not handed in or changed since."""
    return answer(as_json(hub.hub.mappings.approve(mapping, given.digest, caller, given.reason)))


def _allow(hub: Gate, caller: Caller, text: str) -> str:
    """The mapping of a document whose every resource is the caller's to write for; 404 for the first that is not."""
    document = read_document(text)
    for each in document.resources:
        hub.hub.access.require(caller, Scope.MAPPINGS, each)
    return document.mapping
