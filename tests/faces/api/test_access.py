"""Who gets in: each route against each scope, mappings that a key is held to, wrong keys, and how often."""

from __future__ import annotations

import httpx
import pytest

from hub.access import Scope
from hub.api.access import FAILURES_BURST
from hub.api.limits import Rates
from hub.audit import Action
from tests.faces.api.conftest import ME, Opens, Site, serving

RUN = "20260101-000000-abcdef"
ROUTES = {
    ("POST", "/v1/score/patient_risk"): Scope.SCORE,
    ("POST", "/v1/runs"): Scope.RUN,
    ("GET", "/v1/runs"): Scope.READ,
    ("GET", f"/v1/runs/{RUN}"): Scope.READ,
    ("POST", f"/v1/runs/{RUN}/cancel"): Scope.RUN,
    ("POST", f"/v1/runs/{RUN}/resume"): Scope.RUN,
    ("POST", f"/v1/runs/{RUN}/undo"): Scope.RUN,
    ("GET", "/v1/decisions?mapping=patient_risk&key=00842302"): Scope.READ,
    ("GET", "/metrics"): Scope.READ,
}
BODIES = {
    "/v1/score/patient_risk": {"keys": [{"PATNR": "00842302"}]},
    "/v1/runs": {"mapping": "unheard_of"},
}
OPEN = {"/healthz", "/readyz"}


def _ask(client: httpx.Client, method: str, path: str) -> httpx.Response:
    return client.request(method, path, json=BODIES.get(path) if method == "POST" else None)


def test_every_route_is_in_the_matrix(site: Site) -> None:
    described = httpx.get(f"{site.url}/openapi.json", trust_env=False).json()["paths"]
    known = {(method.upper(), path) for path, methods in described.items() for method in methods}
    asked = {(method, path.split("?")[0].replace(RUN, "{run}")) for method, path in ROUTES}
    asked = {(method, path.replace("patient_risk", "{mapping}")) for method, path in asked}
    assert known == asked | {("GET", path) for path in OPEN}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_opens_to_its_scope_and_to_no_other(client: Opens, method: str, path: str) -> None:
    wanted = ROUTES[method, path]
    others = [each for each in Scope if each not in (wanted, Scope.ADMIN)]
    refused = _ask(client(*others), method, path)
    assert (refused.status_code, refused.json()["code"]) == (403, "denied")
    assert refused.headers["content-type"] == "application/problem+json"
    assert _ask(client(wanted), method, path).status_code not in (401, 403)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Basic aHViOmh1Yg=="},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer hub_dev_nonsense"},
        {"Cookie": "hub=KEY; session=KEY; Authorization=Bearer KEY"},
        {"X-Forwarded-User": "anna"},
    ],
)
def test_without_an_api_key_nothing_opens(site: Site, method: str, path: str, header: dict[str, str]) -> None:
    key = site.key(Scope.ADMIN) if "Cookie" in header else ""
    sent = {name: value.replace("KEY", key) for name, value in header.items()}
    with httpx.Client(base_url=site.url, headers=sent, trust_env=False) as nobody:
        refused = _ask(nobody, method, path)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert refused.headers["www-authenticate"].startswith("Bearer")


def test_a_revoked_key_is_turned_away_at_once(site: Site, client: Opens) -> None:
    opened = client(Scope.READ)
    assert opened.get("/v1/runs").status_code == 200
    newest = site.hub.access.list_tokens()[-1]
    site.hub.access.revoke_token(newest.id, actor=ME)
    assert opened.get("/v1/runs").status_code == 401


def test_a_key_held_to_other_mappings_cannot_tell_whether_one_exists(client: Opens) -> None:
    held = client(Scope.SCORE, Scope.READ, Scope.RUN, mappings=["some_other"])
    answers = []
    for mapping in ("patient_risk", "no_such_mapping"):
        told = [
            held.post(f"/v1/score/{mapping}", json={"keys": [{"PATNR": "00842302"}]}),
            held.get("/v1/decisions", params={"mapping": mapping, "key": "00842302"}),
            held.post("/v1/runs", json={"mapping": mapping}),
            held.get("/v1/runs", params={"mapping": mapping}),
        ]
        answers.append([(each.status_code, each.text.replace(mapping, "NAME")) for each in told])
    assert answers[0] == answers[1]
    assert {status for status, _ in answers[0]} == {403}
    own = held.post("/v1/score/some_other", json={"keys": [{"PATNR": "1"}]})
    assert (own.status_code, own.json()["detail"]) == (404, "no mapping of this name is published")
    assert held.get("/metrics").status_code == 403


def test_a_run_of_a_mapping_out_of_sight_is_as_unknown_as_one_that_is_not(site: Site, client: Opens) -> None:
    run = client(Scope.RUN).post("/v1/runs", json={"mapping": "patient_risk", "dry": True}).json()["run"]
    held = client(Scope.READ, Scope.RUN, mappings=["some_other"])
    for path in ("", "/cancel", "/undo", "/resume"):
        method = "POST" if path else "GET"
        hidden, absent = (held.request(method, f"/v1/runs/{each}{path}") for each in (run, RUN))
        assert (hidden.status_code, hidden.text) == (404, absent.text)
    seen = client(Scope.READ, mappings=["patient_risk"]).get(f"/v1/runs/{run}")
    assert seen.json()["mapping"] == "patient_risk"
    site.carry(run)


def test_a_denial_is_in_the_audit_trail(site: Site, client: Opens) -> None:
    before = _denials(site)
    client(Scope.READ).post("/v1/score/patient_risk", json={"keys": [{"PATNR": "1"}]})
    assert _denials(site) == before + 1


def _denials(site: Site) -> int:
    return len(site.hub.audit.events(action=Action.ACCESS_DENIED, limit=10_000))


def test_a_key_used_too_often_is_told_when_to_come_back(site: Site) -> None:
    slow = site.hub.settings.model_copy(update={"api_rate": 0.5})
    hub = type(site.hub)(slow, site.hub.database, site.hub.keys)
    with serving(hub) as url:
        header = {"Authorization": f"Bearer {site.key(Scope.READ)}"}
        with httpx.Client(base_url=url, headers=header, trust_env=False) as often:
            assert often.get("/v1/runs").status_code == 200
            refused = often.get("/v1/runs")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_often")
        assert 1 <= int(refused.headers["retry-after"]) <= 2
        other = {"Authorization": f"Bearer {site.key(Scope.READ)}"}
        assert httpx.get(f"{url}/v1/runs", headers=other, trust_env=False).status_code == 200


def test_wrong_keys_are_slowed_down_and_proven_ones_are_not(site: Site) -> None:
    with serving(site.hub) as url, httpx.Client(base_url=url, trust_env=False) as caller:
        good = {"Authorization": f"Bearer {site.key(Scope.READ)}"}
        assert caller.get("/v1/runs", headers=good).status_code == 200
        wrong = {"Authorization": "Bearer hub_dev_wrong"}
        statuses = [caller.get("/v1/runs", headers=wrong).status_code for _ in range(int(FAILURES_BURST) + 5)]
        assert statuses[: int(FAILURES_BURST)] == [401] * int(FAILURES_BURST)
        assert statuses[-1] == 429
        assert caller.get("/v1/runs", headers=good).status_code == 200


def test_a_bucket_refills_with_time_and_forgets_the_oldest() -> None:
    now = [0.0]
    rates = Rates(2, 3, lambda: now[0])
    assert [rates.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rates.take("b") == 0
    now[0] = 0.25
    assert rates.left("a") == 0.25
    now[0] = 0.5
    assert (rates.left("a"), rates.take("a"), rates.take("a")) == (0, 0, 0.5)
    now[0] = 100
    assert [rates.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
