"""What events tell of a record is sealed under its own key; without the key it is gone, and every proof holds on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select, text

from hub.audit import Action, AuditError, AuditLog, Event, Hold, Retention, SealedLog, SubjectKeys
from hub.audit.leaf import leaf_hash
from hub.audit.merkle.proof import proves_inclusion
from hub.audit.retention.subjects import ABOUT
from hub.audit.store import SubjectKeyRow
from hub.database import Database
from tests.hub.audit.sealed_log import make_keys

SECRET = "Zweitmeinung"


class Told:
    """A trail in which events tell of two records."""

    def __init__(self, database: Database, folder: Path) -> None:
        keys = make_keys(folder)
        self.database = database
        self.subjects = SubjectKeys(keys)
        self.audit = AuditLog(database, subjects=self.subjects)
        self.sealed = SealedLog(database, keys)
        self.retention = Retention(database, self.audit)
        self.first = self.subjects.name("patient_risk", "00842302")
        self.second = self.subjects.name("patient_risk", "00842303")

    def look(self, subject: str) -> None:
        about = {"state": "applied", "why": SECRET}
        with self.database.begin() as session:
            self.audit.record(session, Event("human:anna", Action.DECISION_SHOW, subject, about=about))

    def destroy(self, subject: str) -> bool:
        with self.database.begin() as session:
            return self.subjects.destroy(session, subject)


@pytest.fixture
def told(any_database: Database, tmp_path: Path) -> Told:
    made = Told(any_database, tmp_path)
    made.look(made.first)
    made.look(made.second)
    made.look(made.first)
    made.sealed.seal(every_chain=True)
    return made


def test_what_is_told_of_a_record_does_not_stand_in_the_trail(told: Told) -> None:
    with told.database.read() as session:
        leaves = session.execute(text("select leaf from audit_event")).scalars().all()
    assert not any(SECRET.encode() in bytes(each) or b"00842302" in bytes(each) for each in leaves)
    found = told.audit.about(told.first)
    assert [each.event.about for each in found] == [{"state": "applied", "why": SECRET}] * 2
    assert told.audit.events(subject=told.first)[0].event.about == {}


def test_records_of_several_mappings_have_different_names(told: Told) -> None:
    assert told.subjects.name("lead_score", "00842302") != told.first
    assert len({told.first, told.second}) == 2


def test_without_its_key_a_record_is_forgotten_and_the_log_verifies(told: Told) -> None:
    before = told.sealed.checkpoint()
    proof = told.sealed.prove_at(1)
    assert told.destroy(told.first)
    assert not told.destroy(told.first)
    assert [each.event.about for each in told.audit.about(told.first)] == [{}, {}]
    assert told.audit.about(told.second)[0].event.about == {"state": "applied", "why": SECRET}
    verdict = told.sealed.verify([before.note])
    assert (verdict.fault, verdict.kept) == (None, 1)
    assert proof.leaf is not None
    assert proves_inclusion(leaf_hash(proof.leaf), 1, before.size, proof.path, before.root)


def test_a_record_met_again_gets_another_key(told: Told) -> None:
    told.destroy(told.first)
    told.look(told.first)
    assert [bool(each.event.about) for each in told.audit.about(told.first)] == [True, False, False]


def test_a_key_in_the_place_of_another_opens_nothing(told: Told) -> None:
    with told.database.begin() as session:
        rows = {each.subject: each for each in session.scalars(select(SubjectKeyRow))}
        first, second = rows[told.first], rows[told.second]
        first.number, first.sealed = second.number, second.sealed
    assert [each.event.about for each in told.audit.about(told.first)] == [{}, {}]


def test_an_event_that_names_a_record_among_others_is_found(told: Told) -> None:
    detail = {"subjects": [told.second, told.first], "fields": ["AGE"]}
    with told.database.begin() as session:
        told.audit.record(session, Event("service:api", Action.SCORE_REQUEST, "mapping:patient_risk", detail=detail))
    assert told.audit.about(told.first)[0].event.action is Action.SCORE_REQUEST
    assert len(told.audit.about(told.first)) == 3


def test_only_an_event_about_a_record_tells_of_it(told: Told) -> None:
    event = Event("human:anna", Action.RUN_START, "run:1", about={"x": 1})
    with pytest.raises(ValueError, match="only an event about a record"), told.database.begin() as session:
        told.audit.record(session, event)


def test_a_hold_keeps_a_record_from_being_erased(told: Told) -> None:
    told.retention.hold(Hold("case-17", "Court", subject=told.first), "human:anna")
    with told.database.read() as session:
        with pytest.raises(AuditError, match="legal hold case-17"):
            told.retention.check_erasable(session, told.first)
        told.retention.check_erasable(session, told.second)


@pytest.mark.parametrize(
    ("held", "runs", "kept"),
    [
        (Hold("case-17", "Court"), [], True),
        (Hold("case-17", "Court", run="r1"), ["r0", "r1"], True),
        (Hold("case-17", "Court", run="r1"), ["r0"], False),
        (Hold("case-17", "Court", actor="service:nightly"), ["r1"], True),
        (Hold("case-17", "Court", actor="service:nightly"), [], False),
        (Hold("case-17", "Court", actor="service:api"), [], True),
        (Hold("case-17", "Court", subject="crm/Lead"), ["r1"], True),
        (Hold("case-17", "Court", subject="crm/Lead"), [], False),
    ],
)
def test_a_hold_on_what_was_done_with_a_record_keeps_it_as_well(
    told: Told, held: Hold, runs: list[str], kept: bool
) -> None:
    named = {"subjects": [told.second, told.first]}
    with told.database.begin() as session:
        told.audit.record(session, Event("service:nightly", Action.PAGE_READ, "crm/Lead", run="r1"))
        told.audit.record(session, Event("service:api", Action.SCORE_REQUEST, "mapping:patient_risk", detail=named))
    told.retention.hold(held, "human:anna")
    with told.database.read() as session:
        if not kept:
            told.retention.check_erasable(session, told.first, lambda: runs)
            return
        with pytest.raises(AuditError, match="legal hold case-17"):
            told.retention.check_erasable(session, told.first, lambda: runs)


def test_a_sealed_detail_names_its_key_and_nothing_else(told: Told) -> None:
    detail = told.audit.events(subject=told.first)[0].event.detail
    sealed = json.loads(json.dumps(detail[ABOUT]))
    assert set(sealed) == {"key", "sealed"}
