"""Retention: bodies go when their time is over, holds keep them, keys change, and every proof holds on."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hub.audit import Action, AuditError, AuditLog, Event, Hold, Retention
from hub.audit.leaf import leaf_hash
from hub.audit.merkle import verifier
from hub.audit.merkle.note import follow_changes, open_checkpoint, sign_change, sign_checkpoint
from hub.audit.merkle.proof import proves_growth, proves_inclusion
from hub.audit.merkle.sealer import PURPOSE
from hub.audit.retention.pruning import digest
from hub.audit.store import CheckpointRow, KeyChangeRow, PrunedRow
from hub.database import Database
from hub.keys import open_signing_key
from tests.clocks import SetClock
from tests.hub.audit.sealed_log import READ, Log, make_log
from tests.hub.audit.test_export import judged, whole
from tests.system.drill import until

YEARS = 6 * 366


@pytest.fixture
def log(any_database: Database, tmp_path: Path) -> Log:
    return make_log(any_database, tmp_path)


@pytest.fixture
def audit(log: Log) -> AuditLog:
    return AuditLog(log.database, clock=log.clock)


@pytest.fixture
def retention(log: Log, audit: AuditLog) -> Retention:
    """A retention whose database tells the time of the log's own clock, seven years later."""
    log.clock.moment += timedelta(days=7 * 366)
    log.database.clock = log.clock
    return Retention(log.database, audit)


def test_nothing_goes_before_somebody_said_how_long_is_enough(log: Log, retention: Retention) -> None:
    assert retention.kept_days() is None
    assert retention.prune("hub") == 0
    with pytest.raises(AuditError, match="at least 183 days"):
        retention.keep(182, "human:anna")
    assert retention.kept_days() is None


def test_bodies_go_and_every_proof_holds_on(log: Log, audit: AuditLog, retention: Retention) -> None:
    held = log.sealed.prove_at(20)
    retention.keep(YEARS, "human:anna")
    assert retention.prune("hub") == 316
    log.sealed.seal(every_chain=True)
    verdict = log.sealed.verify([each.note for each in log.kept])
    assert (verdict.fault, verdict.pruned, verdict.kept) == (None, 316, 4)
    newest = log.sealed.checkpoint()
    again = log.sealed.prove_at(20)
    assert again.leaf is None
    assert held.leaf is not None
    assert proves_inclusion(leaf_hash(held.leaf), 20, newest.size, again.path, newest.root)
    path, _ = log.sealed.prove_growth(log.kept[1].size)
    assert proves_growth(log.kept[1].size, log.kept[1].root, newest.size, newest.root, path)
    told = audit.events(action=Action.AUDIT_PRUNE)[0].event
    assert (told.actor, told.detail["events"]) == ("hub", 316)
    assert audit.events(action=Action.AUDIT_RETAIN)[0].event.detail == {"days": YEARS}
    assert retention.prune("hub") == 0


def test_a_pruned_log_is_exported_and_verified_by_the_program(log: Log, retention: Retention) -> None:
    retention.keep(YEARS, "human:anna")
    retention.prune("hub")
    log.sealed.seal(every_chain=True)
    lines = whole(log)
    assert judged(log, lines, 1, 3) is None
    without = [each for each in lines if each["type"] != "pruning"]
    assert "no pruning took it" in str(judged(log, without))
    untold = [each for each in lines if not (each["type"] == "event" and "audit.trail.prune" in each["leaf"])]
    assert judged(log, untold) is not None
    other = json.loads(json.dumps(lines))
    next(each for each in other if each["type"] == "pruned")["hash"] = verifier.base64.b64encode(bytes(32)).decode()
    assert judged(log, other) is not None


def test_nothing_is_pruned_by_an_event_that_was_there_before_it(log: Log, audit: AuditLog) -> None:
    def record(event: Event) -> None:
        with log.database.begin() as session:
            audit.record(session, event)

    record(Event("hub", Action.AUDIT_PRUNE, "audit", digest=digest([(5, 3, 1)])))
    for _ in range(3):
        record(READ)
    log.sealed.seal()
    with log.database.begin() as session:
        session.add(PrunedRow(writer=5, first_seq=3, count=1, batch=1))
        session.flush()
        assert session.execute(text("delete from audit_event where writer = 5 and seq = 3")).rowcount == 1  # type: ignore[attr-defined]
    assert log.fault() == "1 events of writer 5 from 3 on are missing: told of before they were there"
    assert judged(log, whole(log)) == "event 323 is missing: its pruning was told of before it was there"


def test_what_a_hold_names_stays(log: Log, audit: AuditLog, retention: Retention) -> None:
    retention.keep(YEARS, "human:anna")
    retention.hold(Hold("case-17", "Request of the court", run="r1"), "human:anna")
    assert retention.prune("hub") == 0
    with pytest.raises(AuditError, match="case-17 already"):
        retention.hold(Hold("case-17", "Again"), "human:anna")
    with pytest.raises(AuditError, match="reason"):
        retention.hold(Hold("case-18", " "), "human:anna")
    assert [each.name for each in retention.holds()] == ["case-17"]
    retention.end_hold("case-17", "human:bert")
    with pytest.raises(AuditError, match="no hold case-17"):
        retention.end_hold("case-17", "human:bert")
    retention.hold(Hold("first", "Only the first hour", until=log.clock.moment - timedelta(days=8 * 366)), "human:anna")
    assert retention.prune("hub") == 316
    actions = {each.event.action for each in audit.events(subject="hold:case-17")}
    assert actions == {Action.AUDIT_HOLD, Action.AUDIT_UNHOLD}


@pytest.mark.service("postgresql")
@pytest.mark.parametrize("any_database", ["postgresql"], indirect=True)
def test_a_hold_and_what_it_would_have_kept_come_one_after_the_other(log: Log, retention: Retention) -> None:
    waiting = text("select count(*) from pg_locks where locktype = 'advisory' and not granted")
    held = Hold("case-20", "Request of the court", subject="record:x")
    with ThreadPoolExecutor() as threads:
        with log.database.begin() as session:
            retention.check_erasable(session, "record:x")
            laying = threads.submit(retention.hold, held, "human:anna")
            until(lambda: laying.done() or session.execute(waiting).scalar_one())
            assert not laying.done()
        laying.result(30)
    assert retention.holds() == [held]


def test_a_hold_on_some_leaves_the_rest_to_go(log: Log, retention: Retention) -> None:
    retention.keep(YEARS, "human:anna")
    half = log.kept[0]
    assert half.size == 9
    with log.database.read() as session:
        at = session.execute(text("select at from audit_event where writer = 2 and seq = 150")).scalar_one()
    moment = at if not isinstance(at, str) else SetClock().now().fromisoformat(at + "+00:00")
    retention.hold(Hold("late", "What came later", since=moment), "human:anna")
    gone = retention.prune("hub")
    assert 0 < gone < 316
    log.sealed.seal(every_chain=True)
    verdict = log.sealed.verify([each.note for each in log.kept])
    assert (verdict.fault, verdict.pruned) == (None, gone)
    assert judged(log, whole(log), 2) is None


def test_events_taken_out_without_a_word_are_named(log: Log) -> None:
    log.tamper(
        "insert into audit_pruned (writer, first_seq, count, batch) values (2, 5, 3, 1)",
        "delete from audit_event where writer = 2 and seq between 5 and 7",
    )
    assert log.fault() == "3 events of writer 2 from 5 on are missing: no event tells of their pruning"
    assert "no event tells of their pruning" in str(judged(log, whole(log)))


def test_the_database_refuses_to_delete_what_no_pruning_named(log: Log) -> None:
    with pytest.raises(DBAPIError, match="append-only"), log.database.begin() as session:
        session.execute(text("delete from audit_event where writer = 2 and seq = 5"))
    with log.database.begin() as session:
        session.add(PrunedRow(writer=2, first_seq=5, count=1, batch=1))
        session.flush()
        session.execute(text("delete from audit_event where writer = 2 and seq = 5"))
    with pytest.raises(DBAPIError, match="append-only"), log.database.begin() as session:
        session.execute(text("delete from audit_event where writer = 2 and seq = 6"))


def test_checkpoints_thin_out_and_those_put_outside_stay(log: Log) -> None:
    for _ in range(5):
        log.write(1)
    sizes = [each.size for each in log.kept]
    with log.database.begin() as session:
        rows = session.scalars(select(CheckpointRow).order_by(CheckpointRow.size)).all()
        for at, row in enumerate(rows):
            row.at = log.clock.moment + timedelta(minutes=10 * at)
        values = {"name": "file", "size": sizes[1], "receipt": b"x", "at": log.clock.moment}
        session.execute(
            text("insert into audit_anchor (name, size, receipt, at) values (:name, :size, :receipt, :at)"), values
        )
    log.database.clock = log.clock
    log.clock.moment += timedelta(days=3)
    assert log.sealed.thin() == len(sizes) - 3
    with log.database.read() as session:
        left = session.scalars(select(CheckpointRow.size).order_by(CheckpointRow.size)).all()
    assert sizes[1] in left
    assert left[-1] == sizes[-1]
    assert log.sealed.thin() == 0
    assert log.fault(*log.kept) is None


def change(log: Log) -> str:
    """Another key signs from now on, and that is an event."""
    audit = AuditLog(log.database, clock=log.clock)

    def record(session: Session, key: str) -> None:
        audit.record(session, Event("human:anna", Action.AUDIT_KEY, "audit", detail={"key": key}))

    return log.sealed.change_key(record)


def test_another_key_signs_on_and_the_old_one_vouches_for_it(log: Log) -> None:
    first = log.sealed.verifier_key()
    second = change(log)
    log.sealed.change_key(lambda _session, _key: None)
    with pytest.raises(AuditError, match="since the key was last changed"):
        log.sealed.change_key(lambda _session, _key: None)
    log.write(3)
    assert second != first
    assert second.split("+")[0] == first.split("+")[0]
    assert log.fault(*log.kept) is None
    lines = whole(log)
    for key in (first, log.sealed.verifier_key()):
        verification = verifier.Verification(key, [log.kept[0].note, log.kept[-1].note])
        verification.check(iter(json.loads(json.dumps(lines))))
        assert verification.events == log.kept[-1].size
    del lines[0]["changes"][0]
    with pytest.raises(verifier.FaultError, match="of another log"):
        verifier.Verification(first, []).check(iter(lines))


def test_a_key_signs_nothing_beyond_its_time(log: Log) -> None:
    with log.database.begin() as session:
        old = open_signing_key(session, log.sealed._keys, PURPOSE)
    change(log)
    log.write(3)
    newest = log.sealed.checkpoint()
    forged = sign_checkpoint(old, newest.size, newest.root)
    assert "was not the log's at that size" in str(log.fault(forged))
    with pytest.raises(verifier.FaultError, match="was not the log's at that size"):
        verifier.Verification(log.sealed.verifier_key(), [forged.note]).check(iter(whole(log)))


def test_a_key_that_was_given_up_signs_no_newest_checkpoint(log: Log) -> None:
    with log.database.begin() as session:
        stolen = open_signing_key(session, log.sealed._keys, PURPOSE)
    current = change(log)
    log.write(3)
    lines = whole(log)
    lines[0]["checkpoint"] = sign_checkpoint(stolen, 9, bytes(32)).note
    with pytest.raises(verifier.FaultError, match="rolled back: its key was changed at 320 events, it has 9"):
        verifier.Verification(current, []).check(iter(lines))


def test_a_key_that_was_given_up_signs_no_other_past_up_to_its_end(log: Log) -> None:
    with log.database.begin() as session:
        stolen = open_signing_key(session, log.sealed._keys, PURPOSE)
    current = change(log)
    log.write(3)
    assert log.fault() is None
    forged = sign_checkpoint(stolen, 320, bytes(32))
    assert "had another root when its key was changed" in str(log.fault(forged))
    lines = whole(log)
    lines[0]["checkpoint"] = forged.note
    with pytest.raises(verifier.FaultError, match="had another root when its key was changed"):
        verifier.Verification(current, []).check(iter(lines))


def test_the_key_that_signs_now_gives_the_log_no_other_past_than_the_old_one_signed(log: Log) -> None:
    other = "\n" + base64.b64encode(bytes(32)).decode("ascii") + "\n"
    with log.database.begin() as session:
        old = open_signing_key(session, log.sealed._keys, PURPOSE)
    change(log)
    log.write(3)
    with log.database.begin() as session:
        new = open_signing_key(session, log.sealed._keys, PURPOSE)
        session.scalars(select(KeyChangeRow)).one().note = sign_change(old, new, log.kept[0].origin, 320, bytes(32))
    assert "had another root when its key was changed" in str(log.fault())
    log.tamper("delete from audit_checkpoint where size = 320")
    assert log.fault() == "history was rewritten: the first 320 events are not those of a change of the key"
    lines = whole(log)
    assert other in lines[0]["changes"][0]
    with pytest.raises(verifier.FaultError, match="history was rewritten: the first 320 events"):
        verifier.Verification(log.sealed.verifier_key(), []).check(iter(lines))


def test_a_key_that_was_given_up_vouches_for_no_second_one(log: Log) -> None:
    with log.database.begin() as session:
        stolen = open_signing_key(session, log.sealed._keys, PURPOSE)
        thiefs = open_signing_key(session, log.sealed._keys, "another")
    current = change(log)
    log.write(3)
    lines = whole(log)
    newest = log.sealed.checkpoint()
    lines[0]["changes"].append(sign_change(stolen, thiefs, newest.origin, 5, newest.root))
    lines[0]["checkpoint"] = sign_checkpoint(thiefs, newest.size, newest.root, newest.origin).note
    with pytest.raises(verifier.FaultError, match="one key leads to two"):
        verifier.Verification(current, []).check(iter(lines))


def forge(log: Log, alter: Callable[[str], str]) -> None:
    with log.database.begin() as session:
        row = session.scalars(select(KeyChangeRow)).one()
        row.note = alter(row.note)


def test_a_forged_change_of_the_key_is_named(log: Log) -> None:
    change(log)
    log.write(1)
    forge(log, lambda note: note.replace("\n320\n", "\n316\n"))
    assert log.fault() == "a change of the log's key is forged: the keys did not both sign it"


def test_a_change_that_one_key_alone_signed_is_none(log: Log) -> None:
    with log.database.begin() as session:
        mine = open_signing_key(session, log.sealed._keys, PURPOSE)
        other = open_signing_key(session, log.sealed._keys, "another")
    origin = log.kept[0].origin
    note = sign_change(mine, other, origin, 5, bytes(32))
    known = follow_changes(other.public, [note])
    assert (known.origin, known.current, known.keys[0]) == (origin, other.public, (mine.public, 5))
    assert known.roots == {5: bytes(32)}
    with pytest.raises(AuditError, match="was not the log's at that size"):
        open_checkpoint(log.kept[0].note, known)
    halves = note.rstrip("\n").split("\n")
    with pytest.raises(AuditError, match="did not both sign it"):
        follow_changes(other.public, ["\n".join(halves[:-1]) + "\n"])
    with pytest.raises(AuditError, match="did not both sign it"):
        follow_changes(mine.public, [note])
