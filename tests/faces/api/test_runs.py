"""Runs over HTTP: started, followed, listed, cancelled, resumed, undone; and the receipt of what they decided."""

from __future__ import annotations

import pytest

from hub.access import Scope
from hub.decisions.plain import receipt_json
from hub.runs import look_up
from tests.faces.api.conftest import ME, PATIENTS, Opens, Site


def test_a_run_is_started_followed_listed_explained_and_undone(site: Site, client: Opens) -> None:
    site.renew()
    opened = client(Scope.RUN, Scope.READ, Scope.RECORDS)
    begun = opened.post("/v1/runs", json={"mapping": "patient_risk", "full": True})
    assert begun.status_code == 202
    place, run = begun.headers["location"], begun.json()["run"]
    assert place == f"/v1/runs/{run}"
    assert opened.get(place).json()["state"] == "queued"
    again = opened.post("/v1/runs", json={"mapping": "patient_risk"})
    assert (again.status_code, again.json()["code"]) == (409, "refused")
    site.carry(run)

    ended = opened.get(place).json()
    assert (ended["state"], ended["adds_up"]) == ("done", True)
    assert ended["counts"] == {"read": PATIENTS, "applied": PATIENTS}
    listed = opened.get("/v1/runs", params={"mapping": "patient_risk", "limit": 1}).json()
    assert [each["run"] for each in listed] == [run]
    stored = dict(site.query("select PATNR, RISK_SCORE from PATIENT"))
    assert stored == {key: round(100 * chance) for key, chance in site.truth.items()}

    asked = {"mapping": "patient_risk", "key": "PATNR=00842302"}
    shown = opened.get("/v1/decisions", params=asked)
    assert shown.status_code == 200
    told = shown.json()
    assert told["standing"]["state"] == "applied"
    assert told["decisions"][0]["run"] == run
    assert told["decisions"][0]["written"]["RISK_SCORE"] == stored["00842302"]
    assert told["decisions"][0]["result"]["state"] == "applied"
    found = look_up(site.hub, "patient_risk", {"PATNR": "00842302"}, str(ME))
    assert found is not None
    assert receipt_json(found)["decisions"][0]["digest"] == told["decisions"][0]["digest"]

    back = opened.post(f"{place}/undo")
    assert back.status_code == 202
    site.carry(back.json()["run"])
    assert opened.get(back.headers["location"]).json()["undoes"] == run
    assert site.query("select count(*) from PATIENT where RISK_SCORE is not null") == [[0]]
    paused = opened.post("/v1/runs", json={"mapping": "patient_risk"})
    assert (paused.status_code, paused.json()["code"]) == (409, "refused")
    site.hub.mappings.resume("patient_risk", ME)


def test_a_run_is_held_by_its_limit_and_goes_on_when_somebody_says_so(site: Site, client: Opens) -> None:
    site.renew()
    opened = client(Scope.RUN, Scope.READ, Scope.RECORDS)
    run = opened.post("/v1/runs", json={"mapping": "patient_risk", "full": True, "changed": 3}).json()["run"]
    site.carry(run)
    held = opened.get(f"/v1/runs/{run}").json()
    assert (held["state"], held["changed"]) == ("held", 0)
    assert opened.post(f"/v1/runs/{run}/resume", json={"changed": PATIENTS}).json()["state"] == "running"
    cancelled = opened.post(f"/v1/runs/{run}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    for verb in ("cancel", "resume", "undo"):
        refused = opened.post(f"/v1/runs/{run}/{verb}")
        assert (refused.status_code, refused.json()["code"]) == (409, "refused")


def test_a_dry_run_writes_nothing(site: Site, client: Opens) -> None:
    opened = client(Scope.RUN, Scope.READ, Scope.RECORDS, Scope.SCORE)
    opened.post("/v1/score/patient_risk", json={"keys": [{"PATNR": key} for key in site.truth]})
    site.renew()
    run = opened.post("/v1/runs", json={"mapping": "patient_risk", "dry": True}).json()["run"]
    site.carry(run)
    told = opened.get(f"/v1/runs/{run}").json()
    assert (told["dry"], told["counts"]) == (True, {"read": PATIENTS, "planned": PATIENTS})
    assert site.query("select count(*) from PATIENT where RISK_SCORE is not null") == [[0]]


def test_a_mapping_that_no_longer_fits_is_not_started_and_says_why(site: Site, client: Opens) -> None:
    site.hub.connections.pause("clinic", ME)
    try:
        refused = client(Scope.RUN).post("/v1/runs", json={"mapping": "patient_risk"})
    finally:
        site.hub.connections.resume("clinic", ME)
    assert (refused.status_code, refused.json()["code"]) == (409, "preflight")
    assert any("connection clinic is paused" in each for each in refused.json()["problems"])


@pytest.mark.parametrize(
    ("keys", "status", "code"),
    [
        (["77777777"], 404, "unknown_record"),
        (["PATNR=77777777"], 404, "unknown_record"),
        (["NAME=x", "PATNR=1"], 422, "invalid"),
        (["1", "2"], 422, "invalid"),
        ([], 422, "invalid"),
    ],
)
def test_a_receipt_is_asked_for_by_the_whole_key(
    site: Site, client: Opens, keys: list[str], status: int, code: str
) -> None:
    opened = client(Scope.READ, Scope.RECORDS, Scope.SCORE)
    opened.post("/v1/score/patient_risk", json={"keys": [{"PATNR": "90000003"}]})
    answered = opened.get("/v1/decisions", params={"mapping": "patient_risk", "key": keys})
    assert (answered.status_code, answered.json()["code"]) == (status, code)
    assert "77777777" not in answered.text


def test_a_look_at_a_record_is_in_the_audit_trail_without_its_key(site: Site, client: Opens) -> None:
    opened = client(Scope.READ, Scope.RECORDS, Scope.SCORE)
    opened.post("/v1/score/patient_risk", json={"keys": [{"PATNR": "90000004"}]})
    looks = []
    for key in ("90000004", "PATNR=90000004", "90000003"):
        opened.get("/v1/decisions", params={"mapping": "patient_risk", "key": key})
        looks.append(site.hub.audit.events(limit=1)[0].event)
    assert {each.action for each in looks} == {"decisions.decision.show"}
    assert looks[0].subject == looks[1].subject != looks[2].subject
    assert "9000000" not in str(looks)


def test_following_is_asked_for_alone_and_of_mappings_that_ask_for_it(client: Opens) -> None:
    opened = client(Scope.RUN)
    both = opened.post("/v1/runs", json={"mapping": "patient_risk", "follow": True, "full": True})
    assert both.status_code == 422
    assert "leave out full, dry and changed" in both.text
    refused = opened.post("/v1/runs", json={"mapping": "patient_risk", "follow": True})
    assert refused.status_code == 409
    assert "publish it with `run: { follow: true }`" in refused.text
