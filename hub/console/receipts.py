"""`/receipts/MAPPING?key=…`: the story behind one record's score, one click behind it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from hub.access import Resource, Scope
from hub.api.problems import ProblemError
from hub.api.routes.decisions import key_of
from hub.console.pages import Page, render
from hub.console.visits import RecordGuest, hub_of, require
from hub.decisions.plain import receipt_json
from hub.runs import look_up

router = APIRouter(route_class=Page)

SHOWN = 20
"""Decisions on one page."""


@router.get("/receipts/{mapping}")
def receipt(
    request: Request,
    guest: RecordGuest,
    mapping: str,
    key: Annotated[list[str], Query(min_length=1, max_length=20)],
) -> Response:
    """Where the record stands and what led there. The look is an event of the trail."""
    hub = hub_of(request)
    require(request, guest, Scope.RECORDS, Resource.mapping(mapping))
    name = hub.mappings.get(mapping).mapping
    found = look_up(hub, name, key_of(hub, name, key), str(guest.caller.actor), SHOWN)
    if found is None:
        raise ProblemError(404, "unknown_record", "the mapping has never met this record")
    return render("receipt.html", guest, receipt=receipt_json(found))
