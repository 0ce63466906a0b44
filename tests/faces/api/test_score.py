"""Scores on request: right, durable before they are answered, written only where asked, and each caller its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
import pytest

from hub.access import Scope
from hub.models import ModelVersion, Scorer
from tests.faces.api.conftest import ME, PATIENTS, Opens, Site, document

PATIENT, OTHER = "00842302", "00842517"
NAMED = 10
"""Patients, the first of all, of whom each test has its own; the others are those of tests with many."""
URL = "/v1/score/patient_risk"


def test_a_record_fetched_by_key_gets_the_score_of_the_model(site: Site, client: Opens) -> None:
    answered = client(Scope.SCORE).post(URL, json={"keys": [{"PATNR": PATIENT}]})
    assert answered.status_code == 200, answered.text
    (told,) = answered.json()["decisions"]
    assert told["key"] == {"PATNR": PATIENT}
    assert told["outputs"]["probability"] == pytest.approx(site.truth[PATIENT], abs=1e-6)
    assert told["decided"]["score"] == round(100 * site.truth[PATIENT])
    assert told["set"]["RISK_BAND"] == "HIGH"
    assert told["state"] == "planned"
    titles = {each["feature"]: each["title"] for each in told["reasons"]}
    assert titles
    assert set(titles.items()) <= set(_titles(site).items())
    assert site.query("select RISK_SCORE from PATIENT where PATNR = ?", PATIENT) == [[None]]


def _titles(site: Site) -> dict[str, str]:
    document = site.hub.mappings.document(site.hub.mappings.get("patient_risk"))
    return {each.name: each.title for each in document.features}


def test_an_inline_record_is_scored_as_given_and_answers_come_in_the_order_asked(site: Site, client: Opens) -> None:
    records = [
        {"PATNR": OTHER, "CLINIC": "N01", "BIRTH_D": "1980-01-01"},
        {"PATNR": "99999999", "CLINIC": "N01", "BIRTH_D": "1980-01-01"},
        {"PATNR": "90000002", "CLINIC": "T99", "BIRTH_D": "1980-01-01"},
        {"PATNR": PATIENT, "CLINIC": "N01", "BIRTH_D": "1980-01-01"},
    ]
    told = client(Scope.SCORE).post(URL, json={"records": records}).json()["decisions"]
    assert [each["key"]["PATNR"] for each in told] == [each["PATNR"] for each in records]
    assert [each["state"] for each in told] == ["planned", "held", "not selected", "planned"]
    assert told[1]["reason"] == "lookup fna: no match"
    assert told[2]["decision"] is None
    assert told[3]["outputs"]["probability"] == pytest.approx(site.truth[PATIENT], abs=1e-6)


def test_the_decision_is_stored_and_proven_when_the_answer_comes(site: Site, client: Opens) -> None:
    opened = client(Scope.SCORE, Scope.READ, Scope.RECORDS)
    (told,) = opened.post(URL, json={"keys": [{"PATNR": "90000005"}]}).json()["decisions"]
    segment = int(told["decision"]["segment"])
    assert site.hub.log.segment(segment).root.hex() == told["decision"]["digest"]
    site.hub.log.verify(segment)
    stored = site.hub.log.frame(segment).row(told["decision"]["row"], named=True)
    assert stored["_key"] == told["key"]
    assert stored["o.probability"] == told["outputs"]["probability"]
    shown = opened.get("/v1/decisions", params={"mapping": "patient_risk", "key": "90000005"}).json()
    assert shown["decisions"][0]["digest"] == told["decision"]["digest"]
    assert shown["decisions"][0]["decided"] == told["decided"]


def test_a_score_is_written_back_where_that_is_asked_and_allowed(site: Site, client: Opens) -> None:
    asked = {"keys": [{"PATNR": "90000007"}], "write": True}
    refused = client(Scope.SCORE).post(URL, json=asked)
    assert refused.status_code == 403
    assert site.query("select RISK_SCORE from PATIENT where PATNR = '90000007'") == [[None]]
    answered = client(Scope.SCORE, Scope.WRITE).post(URL, json=asked).json()
    (told,) = answered["decisions"]
    assert told["state"] == "applied"
    with site.hub.database.read() as session:
        assert site.hub.ledger.run(session, answered["run"]).counts.by == {"applied": 1}
    stored = site.query("select RISK_SCORE, RISK_BAND from PATIENT where PATNR = '90000007'")
    assert stored == [[told["set"]["RISK_SCORE"], told["set"]["RISK_BAND"]]]
    assert told["set"]["RISK_SCORE"] == round(100 * site.truth["90000007"])


def test_callers_at_once_each_get_their_own_records(site: Site, client: Opens) -> None:
    patients = [key for key in site.truth if key.startswith("9")][10:50]
    opened = client(Scope.SCORE)
    start = threading.Barrier(8)

    def ask(share: list[str]) -> dict[str, float]:
        start.wait()
        answers = {}
        for key in share:
            answered = opened.post(URL, json={"keys": [{"PATNR": key}]})
            assert answered.status_code == 200, answered.text
            (told,) = answered.json()["decisions"]
            assert told["key"] == {"PATNR": key}
            answers[key] = told["outputs"]["probability"]
        return answers

    with ThreadPoolExecutor(8) as callers:
        parts = list(callers.map(ask, [patients[at::8] for at in range(8)]))
    answers = {key: value for part in parts for key, value in part.items()}
    assert answers == {key: pytest.approx(site.truth[key], abs=1e-6) for key in patients}
    for key in patients:
        found = site.hub.standing.view("patient_risk", pl.DataFrame({"PATNR": [key]})).frame.row(0, named=True)
        stored = site.hub.log.frame(found["segment"]).row(found["row"], named=True)
        assert (stored["_key"]["PATNR"], stored["o.probability"]) == (key, answers[key])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"records": [{"PATNR": "1", "WEIGHT": 80}]}, "records[0].WEIGHT: PATIENT has no such field"),
        ({"records": [{"PATNR": "1", "SEX": "2"}]}, "records[0].SEX: the mapping does not read this field"),
        ({"records": [{"CLINIC": "N01"}]}, "records[0].PATNR: missing"),
        ({"records": [{"PATNR": "1"}, {"PATNR": "1"}]}, "records[1]: the same record as one before it"),
        ({"keys": [{"PATNR": "1"}, {"PATNR": 4711}]}, "keys[1].PATNR: expected text"),
        ({"keys": [{"PATNR": "4711"}]}, "keys: 1 of 1 name no record of PATIENT"),
        ({"records": [{"PATNR": "1", "BIRTH_D": "s3cret"}]}, "records[0].BIRTH_D: expected a date as text"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_by_place_and_never_by_value(
    client: Opens, body: dict[str, Any], told: str
) -> None:
    answered = client(Scope.SCORE).post(URL, json=body)
    assert answered.status_code == 422
    assert answered.headers["content-type"] == "application/problem+json"
    assert answered.json()["detail"].startswith(told)
    assert "s3cret" not in answered.text
    assert "4711" not in answered.text


def test_a_paused_mapping_scores_nothing(site: Site, client: Opens) -> None:
    site.hub.mappings.pause("patient_risk", ME, "test")
    try:
        answered = client(Scope.SCORE).post(URL, json={"keys": [{"PATNR": PATIENT}]})
    finally:
        site.hub.mappings.resume("patient_risk", ME)
    assert (answered.status_code, answered.json()["code"]) == (409, "paused")


@pytest.fixture
def silent(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The mapping with a deadline and a model that answers when the event is set, which it is after the test."""
    answer = threading.Event()
    text = document()
    slow = text.replace("run:\n", "run:\n  deadline: 2s\n")
    loaded = site.hub.registry.load

    class Slow:
        def __init__(self, scorer: Scorer) -> None:
            self._scorer = scorer

        def predict(self, features: pl.DataFrame) -> pl.DataFrame:
            answer.wait(60)
            return self._scorer.predict(features)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._scorer, name)

    def load(version: ModelVersion) -> Any:
        return Slow(loaded(version))

    monkeypatch.setattr(type(site.hub.registry), "load", lambda _self, version: load(version))
    site.hub.mappings.publish(slow, ME)
    yield answer
    answer.set()
    monkeypatch.undo()
    site.hub.mappings.publish(text, ME)


def test_past_the_deadline_the_fallback_answers_and_is_marked(
    site: Site, client: Opens, silent: threading.Event
) -> None:
    opened = client(Scope.SCORE, Scope.READ, Scope.RECORDS)
    (told,) = opened.post(URL, json={"keys": [{"PATNR": "90000009"}]}).json()["decisions"]
    assert told["because"] == "the model did not answer in time"
    assert told["decided"]["band"] == "REVIEW"
    assert told["outputs"]["probability"] is None
    silent.set()
    (prompt,) = opened.post(URL, json={"keys": [{"PATNR": "90000009"}]}).json()["decisions"]
    assert prompt["outputs"]["probability"] == pytest.approx(site.truth["90000009"], abs=1e-6)
    shown = opened.get("/v1/decisions", params={"mapping": "patient_risk", "key": "PATNR=90000009"}).json()
    assert [each["because"] for each in shown["decisions"]] == [prompt["because"], told["because"]]


def test_many_records_are_one_request_and_one_segment(site: Site, client: Opens) -> None:
    keys = [{"PATNR": key} for key in list(site.truth)[NAMED:]]
    told = client(Scope.SCORE).post(URL, json={"keys": keys}).json()["decisions"]
    assert len(told) == PATIENTS - NAMED
    assert len({each["decision"]["segment"] for each in told if each["decision"]}) == 1
    ready = [each for each in told if each["outputs"].get("probability") is not None]
    assert len(ready) == PATIENTS - NAMED
    for each in ready:
        assert each["outputs"]["probability"] == pytest.approx(site.truth[each["key"]["PATNR"]], abs=1e-6)
