"""What the hub says of itself: an OpenAPI document whose examples work, health, readiness, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from hub.access import Scope
from hub.api.access import routes
from hub.database import Database
from hub.runs import open_installation
from hub.settings import load_settings
from tests.faces.api.conftest import ME, PATIENTS, Opens, Site, build, document, serving


def _described(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{site.url}/openapi.json", trust_env=False).json()
    return found


EXPECTED = {"cancel": 409, "resume": 409, "undo": 409, "approve": 403, "refuse": 403, "break-glass": 403}
"""No program approves, so that no API key can."""


def _example(parameter: dict[str, Any], run: str, approval: str) -> Any:
    if parameter["name"] == "run":
        return run
    if parameter["name"] == "approval":
        return approval
    for place in (parameter, parameter["schema"]):
        if place.get("examples"):
            found = place["examples"]
            return found[0] if isinstance(found, list) else next(iter(found.values()))["value"]
    return None


def test_every_example_works_as_it_stands(site: Site, client: Opens) -> None:
    opened = client(Scope.SCORE, Scope.WRITE, Scope.RUN, Scope.READ, Scope.RECORDS, Scope.MAPPINGS)
    given_in = site.hub.mappings.submit(document().replace("title: ", "title: New "), ME)
    approval = site.hub.approvals.list()[0].id
    opened.post("/v1/score/patient_risk", json={"keys": [{"PATNR": "00842302"}]})
    run = opened.post("/v1/runs", json={"mapping": "patient_risk", "dry": True}).json()["run"]
    opened.post(f"/v1/runs/{run}/cancel")
    tried = []
    for path, methods in _described(site)["paths"].items():
        for method, told in methods.items():
            if path == "/oauth/token":
                continue  # a form, with a proof that only its sender can make
            if path.endswith("/secrets"):
                continue  # the file of the clinic opens with no password
            named = {each["name"]: each for each in told.get("parameters", ())}
            given = {name: _example(each, run, approval) for name, each in named.items()}
            place = path.format(**{name: given[name] for name, each in named.items() if each["in"] == "path"})
            query = {name: given[name] for name, each in named.items() if each["in"] == "query" and given[name]}
            content = told.get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, example in content.get("examples", {"": {"value": None}}).items():
                sent = {"document": document()} if path.endswith("publish") else example["value"]
                sent = {"document": document().replace("title: ", "title: Newest ")} if "submit" in path else sent
                sent = {"digest": given_in.document.digest} if path.endswith("{mapping}/approve") else sent
                answered = opened.request(method, place, params=query, json=sent)
                expected = EXPECTED.get(path.rpartition("/")[2])
                wanted = {str(expected)} if expected else {each for each in told["responses"] if each[0] == "2"}
                assert str(answered.status_code) in wanted, (path, name, answered.text)
                assert str(answered.status_code) in told["responses"]
                tried.append((path, name))
    assert {("/v1/score/{mapping}", each) for each in ("keys", "records", "write")} <= set(tried)
    assert ("/v1/runs", "dry") in tried


def test_answers_are_as_described(site: Site, client: Opens) -> None:
    schemas = _described(site)["components"]["schemas"]
    opened = client(Scope.SCORE, Scope.RUN, Scope.READ, Scope.RECORDS)
    scored = opened.post("/v1/score/patient_risk", json={"keys": [{"PATNR": "00842302"}]}).json()
    begun = opened.post("/v1/runs", json={"mapping": "patient_risk", "dry": True}).json()
    followed = opened.get(f"/v1/runs/{begun['run']}").json()
    opened.post(f"/v1/runs/{begun['run']}/cancel")
    shown = opened.get("/v1/decisions", params={"mapping": "patient_risk", "key": "00842302"}).json()
    for name, answer in (
        ("ScoreAnswer", scored),
        ("Decision", scored["decisions"][0]),
        ("Reason", scored["decisions"][0]["reasons"][0]),
        ("Pointer", scored["decisions"][0]["decision"]),
        ("RunAnswer", begun),
        ("ProgressAnswer", followed),
        ("ReceiptAnswer", shown),
    ):
        assert set(answer) == set(schemas[name]["properties"]), name


def test_every_route_that_asks_who_calls_says_that_it_wants_a_key(site: Site) -> None:
    nobody = {path for _, path, needed in routes() if isinstance(needed, str)}
    for path, methods in _described(site)["paths"].items():
        for told in methods.values():
            assert ("security" in told) == (path not in nobody), path


def test_health_needs_no_key_and_tells_nothing(site: Site) -> None:
    with httpx.Client(base_url=site.url, trust_env=False) as nobody:
        assert nobody.get("/healthz").json() == {"status": "ok"}
        assert nobody.get("/readyz").json() == {"status": "ready"}


def test_readiness_tells_of_a_database_that_is_not_migrated(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, api_port=0, log_level="error")
    database = Database(settings)
    database.create_all()
    with open_installation(settings, database) as hub, serving(hub) as url:
        assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        with database.begin() as session:
            session.execute(text("drop table tick"))
        refused = httpx.get(f"{url}/readyz", trust_env=False)
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert "tick" not in refused.text
        assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200


def _samples(opened: httpx.Client) -> dict[tuple[str, ...], float]:
    answered = opened.get("/metrics")
    assert answered.status_code == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answered.text)
        for sample in family.samples
    }


def test_metrics_count_runs_records_and_requests(site: Site, client: Opens) -> None:
    opened = client(Scope.READ, Scope.RECORDS, Scope.RUN)
    before = _samples(opened)
    first = opened.post("/v1/runs", json={"mapping": "patient_risk", "dry": True}).json()["run"]
    waiting = _samples(opened)
    assert waiting["hub_runs", "queued"] == before["hub_runs", "queued"] + 1
    assert waiting[("hub_oldest_waiting_run_seconds",)] > 0
    site.carry(first)
    after = _samples(opened)
    assert after["hub_runs", "done"] == before["hub_runs", "done"] + 1
    read = [sum(value for name, value in each.items() if name[0] == "hub_records_last_day") for each in (before, after)]
    assert read[1] == read[0] + PATIENTS
    assert after["hub_requests_total", "POST", "/v1/runs", "202"] >= 1
    assert after["hub_request_seconds_count", "POST", "/v1/runs"] >= 1
    assert after[("hub_oldest_waiting_run_seconds",)] == 0
    assert after[("hub_approvals_unconfirmed",)] == 0


@pytest.mark.service("postgresql")
def test_the_same_on_postgresql(postgresql_url: Any, tmp_path: Path) -> None:
    address = postgresql_url.render_as_string(hide_password=False)
    hub, clinic, truth, model = build(tmp_path, api_port=0, database_url=address)
    with hub, serving(hub) as url:
        site = Site(hub, url, clinic, truth, model)
        with site.client(Scope.SCORE, Scope.WRITE, Scope.READ, Scope.RECORDS) as opened:
            asked = {"keys": [{"PATNR": "00842302"}], "write": True}
            (told,) = opened.post("/v1/score/patient_risk", json=asked).json()["decisions"]
            assert told["state"] == "applied"
            (told,) = opened.post("/v1/score/patient_risk", json={"keys": [{"PATNR": "00842517"}]}).json()["decisions"]
            hub.log.verify(int(told["decision"]["segment"]))
            assert opened.get("/readyz").status_code == 200
            shown = opened.get("/v1/decisions", params={"mapping": "patient_risk", "key": "00842302"}).json()
            assert shown["standing"]["state"] == "applied"
