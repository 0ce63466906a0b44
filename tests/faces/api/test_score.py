"""Scores on request: right, durable before they are answered, written only where asked, and each caller its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from hub.access import Scope
from tests.faces.api.conftest import Opens, Site

PATIENT = "00842302"


def test_a_record_fetched_by_key_gets_the_score_of_the_model(site: Site, client: Opens) -> None:
    answered = client(Scope.SCORE).post("/v1/score/patient_risk", json={"keys": [{"PATNR": PATIENT}]})
    assert answered.status_code == 200, answered.text
    (told,) = answered.json()["decisions"]
    assert told["key"] == {"PATNR": PATIENT}
    assert told["outputs"]["probability"] == pytest.approx(site.truth[PATIENT], abs=1e-6)
    assert told["decided"]["score"] == round(100 * site.truth[PATIENT])
    assert told["set"]["RISK_BAND"] == "HIGH"
    assert told["state"] == "planned"
    assert told["reasons"]
    assert {each["title"] for each in told["reasons"]} & {"Area of nuclei", "Largest area", "Concave points"} | {1}
    assert site.query("select RISK_SCORE from PATIENT where PATNR = ?", PATIENT) == [[None]]
