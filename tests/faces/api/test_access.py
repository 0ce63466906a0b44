"""Who gets in: each route against each scope, mappings that a key is held to, wrong keys, and how often."""

from __future__ import annotations

import re

import httpx
import pytest
from fastapi import APIRouter

from hub.access import Scope
from hub.access.types import PERSONAL
from hub.api.access import FAILURES_BURST, Holding, routes
from hub.api.rates import Rates
from hub.audit import Action
from tests.faces.api.conftest import ME, Opens, Site, document, serving

RUN = "20260101-000000-abcdef"
APPROVAL = "0123456789abcdef"
ROUTES = {
    ("POST", "/v1/score/patient_risk"): Scope.SCORE,
    ("POST", "/v1/runs"): Scope.RUN,
    ("GET", "/v1/runs"): Scope.READ,
    ("GET", f"/v1/runs/{RUN}"): Scope.READ,
    ("POST", f"/v1/runs/{RUN}/cancel"): Scope.RUN,
    ("POST", f"/v1/runs/{RUN}/resume"): Scope.RUN,
    ("POST", f"/v1/runs/{RUN}/undo"): Scope.RUN,
    ("GET", "/v1/decisions?mapping=patient_risk&key=00842302"): Scope.RECORDS,
    ("GET", "/metrics"): Scope.READ,
    ("POST", "/v1/mappings/submit"): Scope.MAPPINGS,
    ("POST", "/v1/mappings/publish"): Scope.MAPPINGS,
    ("POST", "/v1/mappings/patient_risk/approve"): Scope.APPROVE,
    ("PUT", "/v1/connections/clinic/secrets"): Scope.CONNECTIONS,
    ("GET", "/v1/approvals"): Scope.READ,
    ("GET", f"/v1/approvals/{APPROVAL}"): Scope.READ,
    ("POST", f"/v1/approvals/{APPROVAL}/approve"): Scope.APPROVE,
    ("POST", f"/v1/approvals/{APPROVAL}/refuse"): Scope.APPROVE,
    ("POST", f"/v1/approvals/{APPROVAL}/break-glass"): Scope.GLASS,
}
BODIES = {
    "/v1/score/patient_risk": {"keys": [{"PATNR": "00842302"}]},
    "/v1/runs": {"mapping": "unheard_of"},
    "/v1/connections/clinic/secrets": {"secrets": {"none_of_its_own": "x"}},
    "/v1/mappings/submit": {"document": document()},
    "/v1/mappings/publish": {"document": document()},
    "/v1/mappings/patient_risk/approve": {"digest": "0" * 64},
    f"/v1/approvals/{APPROVAL}/break-glass": {"reason": "fire"},
}
OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("POST", "/oauth/token"),
    ("GET", "/.well-known/jwks.json"),
    ("GET", "/.well-known/oauth-authorization-server"),
}


def _ask(client: httpx.Client, method: str, path: str) -> httpx.Response:
    return client.request(method, path, json=BODIES.get(path) if method in ("POST", "PUT") else None)


def _plain(path: str) -> str:
    named = {RUN: "{run}", APPROVAL: "{approval}", "patient_risk": "{mapping}", "/clinic/": "/{connection}/"}
    plain = path.split("?")[0]
    for each, shown in named.items():
        plain = plain.replace(each, shown)
    return plain


def test_every_route_is_in_the_matrix(site: Site) -> None:
    described = httpx.get(f"{site.url}/openapi.json", trust_env=False).json()["paths"]
    known = {(method.upper(), path) for path, methods in described.items() for method in methods}
    asked = {(method, _plain(path)) for method, path in ROUTES}
    assert known == asked | OPEN


def test_every_route_declares_its_scope_in_its_signature() -> None:
    declared = {(method, path): needed for method, path, needed in routes()}
    asked = {(method, _plain(path)): scope for (method, path), scope in ROUTES.items()}
    assert {each: needed.scope for each, needed in declared.items() if isinstance(needed, Holding)} == asked
    assert {each for each, needed in declared.items() if isinstance(needed, str)} == OPEN


def test_a_route_without_a_scope_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    router = APIRouter()
    router.add_api_route("/v1/forgotten", lambda: None)
    monkeypatch.setattr("hub.api.app.ROUTERS", (router,))
    with pytest.raises(LookupError, match="/v1/forgotten declares no scope"):
        list(routes())


@pytest.mark.parametrize(("method", "path"), [each for each, scope in ROUTES.items() if scope not in PERSONAL])
def test_a_route_is_closed_to_its_scope_for_another_mapping(client: Opens, method: str, path: str) -> None:
    refused = _ask(client(ROUTES[method, path], mappings=["some_other"]), method, path)
    assert refused.status_code in (403, 404)
    assert refused.json()["code"] in ("denied", "unknown_mapping", "unknown_run", "unknown_connection")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_opens_to_its_scope_and_to_no_other(client: Opens, method: str, path: str) -> None:
    wanted = ROUTES[method, path]
    others = [each for each in Scope if each is not wanted and each not in PERSONAL]
    refused = _ask(client(*others), method, path)
    assert (refused.status_code, refused.json()["code"]) == (403, "denied")
    assert refused.headers["content-type"] == "application/problem+json"
    if wanted not in PERSONAL:
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
    key = site.key(*set(Scope) - PERSONAL) if "Cookie" in header else ""
    sent = {name: value.replace("KEY", key) for name, value in header.items()}
    with httpx.Client(base_url=site.url, headers=sent, trust_env=False) as nobody:
        refused = _ask(nobody, method, path)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert refused.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_key_in_an_address_opens_nothing(site: Site, method: str, path: str) -> None:
    key = site.key(*(each for each in Scope if each not in PERSONAL))
    sign = "&" if "?" in path else "?"
    with httpx.Client(base_url=site.url, trust_env=False) as caller:
        for name in ("access_token", "token", "api_key", "apikey", "authorization", "bearer"):
            assert _ask(caller, method, f"{path}{sign}{name}={key}").status_code == 401, name
        in_login = httpx.URL(site.url).copy_with(username=key)
        assert caller.request(method, str(in_login) + path).status_code == 401


def test_no_address_has_a_place_for_a_secret(site: Site) -> None:
    told = httpx.get(f"{site.url}/openapi.json", trust_env=False).json()
    wanted = [
        (path, each["name"])
        for path, methods in told["paths"].items()
        for operation in methods.values()
        for each in operation.get("parameters", ())
        if each["in"] in ("query", "path")
    ]
    assert len(wanted) > 10
    secret = re.compile(r"secret|token|passw|api_?key|credential|assertion|session|cookie|code", re.IGNORECASE)
    assert [each for each in wanted if secret.search(each[1])] == []


def test_in_production_the_description_is_for_callers(site: Site) -> None:
    strict = site.hub.settings.model_copy(update={"production": True})
    with serving(type(site.hub)(strict, site.hub.database, site.hub.keys)) as url:
        with httpx.Client(base_url=url, trust_env=False) as nobody:
            told = {path: nobody.get(path).status_code for path in ("/openapi.json", "/metrics", "/docs", "/redoc")}
        assert told == {"/openapi.json": 401, "/metrics": 401, "/docs": 404, "/redoc": 404}
        header = {"Authorization": f"Bearer {site.key(Scope.READ)}"}
        assert httpx.get(f"{url}/openapi.json", headers=header, trust_env=False).json()["openapi"]


def test_a_revoked_key_is_turned_away_at_once(site: Site, client: Opens) -> None:
    opened = client(Scope.READ)
    assert opened.get("/v1/runs").status_code == 200
    newest = site.hub.access.list_tokens()[-1]
    site.hub.access.revoke_token(newest.id, actor=ME)
    assert opened.get("/v1/runs").status_code == 401


def test_a_key_held_to_other_mappings_cannot_tell_whether_one_exists(client: Opens) -> None:
    held = client(Scope.SCORE, Scope.READ, Scope.RECORDS, Scope.RUN, mappings=["some_other"])
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
    assert {status for status, _ in answers[0]} == {404}
    own = held.post("/v1/score/some_other", json={"keys": [{"PATNR": "1"}]})
    assert (own.status_code, own.json()["detail"]) == (404, "no mapping of this name is published")
    assert held.get("/metrics").status_code == 403


def test_a_run_of_a_mapping_out_of_sight_is_as_unknown_as_one_that_is_not(site: Site, client: Opens) -> None:
    run = client(Scope.RUN).post("/v1/runs", json={"mapping": "patient_risk", "dry": True}).json()["run"]
    held = client(Scope.READ, Scope.RUN, mappings=["some_other"])
    for path in ("", "/cancel", "/undo", "/resume"):
        method = "POST" if path else "GET"
        before = _denials(site)
        hidden = held.request(method, f"/v1/runs/{run}{path}")
        between = _denials(site)
        absent = held.request(method, f"/v1/runs/{RUN}{path}")
        assert (hidden.status_code, hidden.text) == (404, absent.text)
        # The same work too: no clock tells which of the two it was.
        assert (between - before, _denials(site) - between) == (1, 1)
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
