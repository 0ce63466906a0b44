"""Approvals over the API: a skipped state is 409 with the next step, and people decide, each for what they may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import generate_latest

from hub.access import Caller, Resource, Rights, Scope, local_caller
from hub.api.app import make_app
from hub.api.metrics import Metrics
from hub.runs import Installation, open_installation
from tests.faces.api.conftest import build, document

NEW = {"document": document().replace("title: ", "title: New ")}


@dataclass
class Desk:
    """An application in production at which people sit down one after the other, each already known to it."""

    hub: Installation
    app: FastAPI

    def ask(self, who: Caller, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """One request of somebody."""

        async def known(_request: object) -> Caller:
            return who

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
                return await client.request(method, path, json=body)

        self.app.state.gate.admit = known
        return asyncio.run(send())


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home: Path = tmp_path_factory.mktemp("desk")
    made, *_ = build(home)
    made.mappings.note_preview(NEW["document"], "human:anna")
    made.close()
    settings = made.settings.model_copy(update={"production": True, "environment": "test"})
    with open_installation(settings) as hub:
        yield Desk(hub, make_app(hub))


def person(name: str, scope: Scope, only: Resource | None = None) -> Caller:
    return replace(local_caller(name), rights=Rights.of([scope], None if only is None else [only]))


def test_a_version_goes_from_hand_to_hand_and_no_state_is_skipped(strict: Desk) -> None:
    anna, bert = person("anna", Scope.MAPPINGS), person("bert", Scope.APPROVE, Resource.mapping("patient_risk"))
    early = strict.ask(anna, "POST", "/v1/mappings/publish", NEW)
    assert (early.status_code, early.json()["code"]) == (409, "approval")
    assert "hub mappings submit" in early.json()["detail"]
    handed_in = strict.ask(anna, "POST", "/v1/mappings/submit", {**NEW, "reason": "a new title"})
    assert handed_in.status_code == 200, handed_in.text
    digest = {"digest": handed_in.json()["digest"]}
    still = strict.ask(anna, "POST", "/v1/mappings/publish", NEW)
    assert (still.status_code, "hub access approvals approve" in still.json()["detail"]) == (409, True)
    own = strict.ask(person("anna", Scope.APPROVE), "POST", "/v1/mappings/patient_risk/approve", digest)
    assert (own.status_code, own.json()["code"]) == (409, "approval")
    given = strict.ask(bert, "POST", "/v1/mappings/patient_risk/approve", {**digest, "reason": "fine"})
    assert (given.status_code, given.json()["state"], given.json()["why"]) == (200, "approved", "fine")
    again = strict.ask(bert, "POST", f"/v1/approvals/{given.json()['id']}/approve")
    assert (again.status_code, again.json()["code"]) == (409, "approval")
    published = strict.ask(anna, "POST", "/v1/mappings/publish", NEW)
    assert (published.status_code, published.json()["number"]) == (200, 2)


def test_who_holds_the_scope_lets_it_through_alone_with_a_reason(strict: Desk) -> None:
    strict.hub.mappings.submit(document().replace("title: ", "title: Urgent "), "human:anna")
    (asked,) = strict.hub.approvals.list()
    path = f"/v1/approvals/{asked.id}"
    why = {"reason": "nobody else on call"}
    for scope in (Scope.APPROVE, Scope.MAPPINGS, Scope.SYSTEM):
        assert strict.ask(person("anna", scope), "POST", f"{path}/break-glass", why).status_code == 403
    alone = person("anna", Scope.GLASS)
    assert strict.ask(alone, "POST", f"{path}/break-glass").status_code == 422
    assert strict.ask(alone, "POST", f"{path}/break-glass", {"reason": ""}).status_code == 422
    broken = strict.ask(alone, "POST", f"{path}/break-glass", why).json()
    told = [broken[name] for name in ("state", "broken_by", "broken_why", "unconfirmed", "decided_by")]
    assert told == ["approved", "human:anna", "nobody else on call", True, None]
    assert "hub_approvals_unconfirmed 1.0" in generate_latest(Metrics(strict.hub).registry).decode()
    confirmed = strict.ask(person("bert", Scope.APPROVE), "POST", f"{path}/approve", {"reason": "it was right"}).json()
    assert (confirmed["unconfirmed"], confirmed["decided_by"]) == (False, "human:bert")
    assert "hub_approvals_unconfirmed 0.0" in generate_latest(Metrics(strict.hub).registry).decode()


def test_only_who_may_approve_this_mapping_decides(strict: Desk) -> None:
    newer = strict.hub.mappings.submit(document().replace("title: ", "title: Newer "), "human:anna")
    (asked,) = strict.hub.approvals.list()
    path = f"/v1/approvals/{asked.id}/approve"
    elsewhere = person("bert", Scope.APPROVE, Resource.mapping("another"))
    assert strict.ask(elsewhere, "POST", path).status_code == 404
    assert strict.ask(person("bert", Scope.MAPPINGS), "POST", path).status_code == 403
    seen = strict.ask(person("bert", Scope.READ), "GET", f"/v1/approvals/{asked.id}").json()
    assert (seen["content"]["document"]["digest"], seen["authors"]) == (newer.document.digest, ["anna"])
    path = f"/v1/approvals/{asked.id}/refuse"
    refused = strict.ask(person("bert", Scope.APPROVE), "POST", path, {"reason": "no"})
    assert (refused.status_code, refused.json()["state"]) == (200, "refused")
    assert strict.ask(person("bert", Scope.READ), "GET", "/v1/approvals").json() == []
