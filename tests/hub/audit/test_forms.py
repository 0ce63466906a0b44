"""Events in the forms of other tools, judged by libraries of others, and reports made from the log alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.audit import Action, Event, Outcome, Recorded
from hub.audit.forms import FORMS
from hub.audit.forms.report import Report, digest_of, make

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
PATIENT = "record:" + "ab" * 16
MODEL = {"name": "ward_risk", "version": 3, "digest": "cd" * 32}
READING: dict[str, Any] = {
    "records": 200,
    "fields": ["AGE", "WARD"],
    "purpose": "mapping:ward_risk",
    "version": "ef" * 32,
    "model": MODEL,
    "segment": "17",
}
EVERY = [Event("human:anna", each, "thing:1", outcome) for each in Action for outcome in Outcome]


def story() -> list[Recorded]:
    """What happens to one mapping in a day, and to another beside it."""
    events = [
        Event("human:anna", Action.ROLE_GRANT, "human:bert", detail={"role": "operator"}),
        Event("human:anna", Action.MAPPING_PUBLISH, "mapping:ward_risk", digest="ef" * 32),
        Event("human:anna", Action.MAPPING_PUBLISH, "mapping:lead_score", digest="aa" * 32),
        Event("service:nightly", Action.RUN_START, "r1", run="r1", detail={"mapping": "ward_risk"}),
        Event("service:nightly", Action.RUN_START, "r2", run="r2", detail={"mapping": "lead_score"}),
        Event("service:nightly", Action.PAGE_READ, "ward/PATIENT", run="r1", digest="11" * 32, detail=READING),
        Event("service:nightly", Action.PAGE_READ, "crm/Lead", run="r2", detail={"records": 9, "fields": ["Email"]}),
        Event("service:nightly", Action.WRITE_INTENT, "ward/PATIENT", Outcome.STARTED, "r1", "11" * 32),
        Event(
            "service:nightly",
            Action.WRITE_OUTCOME,
            "ward/PATIENT",
            run="r1",
            detail={"counts": {"applied": 180, "rejected": 20}},
        ),
        Event("hub", Action.RUN_FINISH, "r1", run="r1", detail={"state": "failed", "counts": {"read": 200}}),
        Event("human:anna", Action.DECISION_SHOW, PATIENT, detail={"mapping": "ward_risk", "purpose": "receipt"}),
        Event("human:bert", Action.DECISION_RELEASE, PATIENT, detail={"mapping": "ward_risk"}),
        Event("service:app", Action.SCORE_REQUEST, "mapping:ward_risk", detail={"records": 2, "subjects": [PATIENT]}),
        Event("service:app", Action.ACCESS_DENIED, "mapping:ward_risk", Outcome.DENIED),
        Event("human:anna", Action.SUBJECT_SHRED, PATIENT, detail={"mapping": "ward_risk", "reason": "asked"}),
        Event("human:carl", Action.AUDIT_VERIFY, "audit"),
    ]
    return [Recorded(START + timedelta(minutes=at), "1", at, each) for at, each in enumerate(events)]


def every() -> Iterator[Recorded]:
    yield from story()
    for at, each in enumerate(EVERY):
        yield Recorded(START, "2", at, each)


def test_every_event_is_an_audit_event_of_fhir() -> None:
    resource = pytest.importorskip("fhir.resources.R4B.auditevent").AuditEvent
    for index, each in enumerate(every()):
        made = FORMS["fhir"](index, each)
        read = json.loads(resource.model_validate(made).model_dump_json())
        assert read["agent"][0]["who"]["identifier"]["value"] == each.event.actor
        assert read["recorded"].startswith("2026-01-05T08:")


def test_what_was_only_begun_is_no_success_of_fhir() -> None:
    resource = pytest.importorskip("fhir.resources.R4B.auditevent").AuditEvent
    for outcome, told in ((Outcome.DONE, "0"), (Outcome.STARTED, None), (Outcome.DENIED, "4"), (Outcome.FAILED, "8")):
        intent = Event("service:nightly", Action.WRITE_INTENT, "ward/PATIENT", outcome)
        made = FORMS["fhir"](0, Recorded(START, "1", 0, intent))
        assert made.get("outcome") == told
        (why,) = made.get("_outcome", {"extension": [{"valueCode": "told"}]})["extension"]
        assert why["valueCode"] == ("temp-unknown" if told is None else "told")
        assert resource.model_validate(made).outcome == told


def test_a_look_at_a_patient_names_the_patient_by_pseudonym() -> None:
    made = FORMS["fhir"](0, story()[10])
    assert (made["type"]["code"], made["subtype"][0]["code"], made["action"]) == ("rest", "read", "R")
    roles = {each["role"]["code"]: each for each in made["entity"]}
    assert roles["1"]["what"]["identifier"]["value"] == "ab" * 16
    asked = FORMS["fhir"](0, story()[12])
    assert [each["role"]["code"] for each in asked["entity"]] == ["4", "1"]
    page = FORMS["fhir"](0, story()[5])
    assert {"search-type", "24"} <= {page["subtype"][0]["code"], page["entity"][1]["role"]["code"]}


WHO = [
    (Event("human:anna", Action.SESSION_OPEN, "session:1"), (3002, 1, "anna", "110114", "110122")),
    (Event("human:unknown", Action.SESSION_OPEN, "hub", Outcome.FAILED), (3002, 1, "unknown", "110114", "110122")),
    (Event("human:anna", Action.SESSION_CLOSE, "session:1"), (3002, 2, "anna", "110114", "110123")),
    (Event("human:anna", Action.SESSION_CLOSE, "human:bert"), (3002, 2, "bert", "110114", "110123")),
    (Event("service:crm", Action.CLIENT_TOKEN, "client:1"), (3002, 1, "crm", "110114", "110122")),
    (
        Event("service:unknown", Action.ACCESS_DENIED, "token:1", Outcome.DENIED),
        (3002, 1, "unknown", "110114", "110122"),
    ),
    (Event("human:anna", Action.ACCESS_DENIED, "mapping:x", Outcome.DENIED), (6003, 99, None, "110113", "110132")),
    (Event("hub", Action.PERSON_CREATE, "human:bert"), (3001, 1, "bert", "110113", "110137")),
    (Event("human:anna", Action.PERSON_ENABLE, "human:bert"), (3001, 2, "bert", "110113", "110137")),
    (Event("human:anna", Action.PERSON_DISABLE, "human:bert"), (3001, 5, "bert", "110113", "110137")),
    (Event("human:anna", Action.ROLE_REVOKE, "human:bert"), (3001, 8, "bert", "110113", "110136")),
    (Event("human:anna", Action.CLIENT_REVOKE, "client:1"), (3001, 6, "1", "110113", "110137")),
    (Event("human:anna", Action.TOKEN_REVOKE, "token:1"), (6003, 4, None, "110113", "110137")),
    (Event("human:anna", Action.SECRET_PUT, "connection:erp"), (6003, 3, None, "110113", "access.secret.put")),
    (Event("service:w", Action.LEASE_OPEN, "connection:erp"), (6003, 1, None, "110113", "access.lease.open")),
    (Event("human:anna", Action.APPROVAL_APPROVE, "approval:1"), (6003, 3, None, "110113", "access.approval.approve")),
    (Event("human:anna", Action.AUDIT_VERIFY, "audit"), (6003, 2, None, "110101", "audit.trail.verify")),
    (Event("human:anna", Action.AUDIT_EXPORT, "audit"), (6003, 2, None, "110106", "audit.trail.export")),
    (Event("human:anna", Action.KEY_RETIRE, "keys"), (6003, 4, None, "110100", "keys.key.retire")),
]
"""What happens around logins and accounts: OCSF's class, activity and user, and FHIR's type and first kind of it."""


@pytest.mark.parametrize(("event", "told"), WHO, ids=[f"{each.action} by {each.actor}" for each, _ in WHO])
def test_logins_accounts_and_calls_are_told_apart(event: Event, told: tuple[int, int, str | None, str, str]) -> None:
    kind, activity, user, code, subtype = told
    ocsf, fhir = (FORMS[each](0, Recorded(START, "1", 0, event)) for each in ("ocsf", "fhir"))
    assert (ocsf["class_uid"], ocsf["activity_id"], ocsf.get("user", {}).get("name")) == (kind, activity, user)
    assert (fhir["type"]["code"], fhir["subtype"][0]["code"]) == (code, subtype)


SIBLINGS = {"activity_id": "activity_name", "status_id": "status", "type_id": "type"}


def test_whatever_ocsf_numbers_as_other_is_named_beside() -> None:
    def hold(made: Any) -> None:
        if isinstance(made, dict):
            for number, name in SIBLINGS.items():
                assert made.get(number) != 99 or made.get(name), made
            for each in made.values():
                hold(each)

    for index, each in enumerate(every()):
        hold(FORMS["ocsf"](index, each))


REQUIRED = {
    3001: {"user", "actor"},
    3002: {"user", "service"},
    6003: {"api", "actor", "src_endpoint"},
    6005: {"actor", "src_endpoint", "database", "type_id"},
}
"""What the classes of OCSF 1.4 require beside what they all do."""
OF_ALL = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}


def test_every_event_has_what_its_class_of_ocsf_requires() -> None:
    met = set()
    for index, each in enumerate(every()):
        made = FORMS["ocsf"](index, each)
        kind = made["class_uid"]
        met.add(kind)
        assert OF_ALL | REQUIRED[kind] <= set(made)
        assert (made["type_uid"], made["category_uid"]) == (100 * kind + made["activity_id"], kind // 1000)
        assert made["status_id"] == (2 if each.event.outcome in (Outcome.DENIED, Outcome.FAILED) else made["status_id"])
    assert met == set(REQUIRED)


def test_its_objects_are_those_of_ocsf() -> None:
    metadata = pytest.importorskip("py_ocsf_models.objects.metadata").Metadata
    api = pytest.importorskip("py_ocsf_models.objects.api").API
    for index, each in enumerate(every()):
        made = FORMS["ocsf"](index, each)
        assert metadata.model_validate(made["metadata"]).version == "1.4.0"
        if "api" in made:
            assert api.model_validate(made["api"]).operation == each.event.action.value


def test_the_ai_act_s_report_tells_use_versions_oversight_changes_and_failures() -> None:
    report = make(story(), Report("ward_risk", "ai-act", None, None))
    assert [each["run"] for each in report["use"]] == ["r1"]
    assert report["use"][0]["state"] == "failed"
    assert report["versions"] == [
        {
            "mapping_version": "ef" * 32,
            "model": "ward_risk",
            "model_version": "3",
            "model_digest": "cd" * 32,
            "first": "2026-01-05T08:05:00.000000+00:00",
            "last": "2026-01-05T08:05:00.000000+00:00",
            "records": 200,
            "segments": 1,
        }
    ]
    assert [each["action"] for each in report["human_oversight"]] == ["decisions.decision.release"]
    assert {each["subject"] for each in report["changes"]} == {"human:bert", "mapping:ward_risk"}
    assert [each["action"] for each in report["failures"]] == ["runs.run.finish"]
    assert [each["actor"] for each in report["integrity"]] == ["human:carl"]
    assert "lead_score" not in json.dumps(report)


def test_hipaa_s_report_tells_who_read_what_for_which_purpose() -> None:
    report = make(story(), Report("ward_risk", "hipaa", None, None))
    reads = {(each["actor"], each["purpose"]): (each["records"], each["fields"]) for each in report["reads"]}
    assert reads["service:nightly", "mapping:ward_risk"] == (200, ["AGE", "WARD"])
    assert reads["human:anna", "receipt"] == (1, [])
    assert reads["service:app", "mapping:ward_risk"] == (2, [])
    assert report["writes"] == [{"actor": "service:nightly", "target": "ward/PATIENT", "records": 180}]
    assert report["denied"] == [{"actor": "service:app", "of": "mapping:ward_risk", "times": 1}]
    assert [each["subject"] for each in report["receipts"]] == [PATIENT]
    assert [each["reason"] for each in report["erasures"]] == ["asked"]
    assert [each["action"] for each in report["access_changes"]] == ["access.role.grant"]


def test_a_report_of_a_period_leaves_out_what_lies_outside_it() -> None:
    report = make(story(), Report("ward_risk", "hipaa", START + timedelta(minutes=10), START + timedelta(minutes=12)))
    assert report["events"] == 2
    assert report["period"] == {"from": "2026-01-05T08:10:00.000000+00:00", "to": "2026-01-05T08:12:00.000000+00:00"}


def test_two_reports_that_differ_have_different_digests(tmp_path: Path) -> None:
    made = make(story(), Report("ward_risk", "hipaa", None, None))
    (tmp_path / "report.json").write_text(json.dumps(made), encoding="utf-8")
    assert digest_of(json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))) == digest_of(made)
    assert digest_of({**made, "events": 0}) != digest_of(made)
