"""The audit trail: stored with what it tells, gone with what was rolled back, and every tampering named."""

from __future__ import annotations

import json
import multiprocessing
import os
import pwd
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hub.audit import Action, AuditError, AuditLog, Event, Outcome
from hub.audit.leaf import leaf_hash, make_row, tell
from hub.database import Database
from hub.sdk import Clock
from tests.clocks import SetClock

READ = Event("service:nightly", Action.PAGE_READ, "mapping:lead_score", run="r1", digest="ab" * 32, detail={"rows": 7})


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def audit(any_database: Database, clock: Clock) -> AuditLog:
    return AuditLog(any_database, clock=clock)


def record(audit: AuditLog, database: Database, count: int = 1) -> None:
    with database.begin() as session:
        for _ in range(count):
            audit.record(session, READ)


def tamper(database: Database, *statements: str) -> None:
    """What somebody does who owns the database: the triggers are no hindrance to him."""
    with database.engine.begin() as connection:
        on = "" if database.sqlite else " on audit_event"
        for name in ("no_delete", "no_update"):
            connection.execute(text(f"drop trigger audit_event_{name}{on}"))
        for each in statements:
            assert connection.execute(text(each)).rowcount > 0


def test_a_chain_begins_with_the_user_whom_the_kernel_knows_whatever_the_environment_says(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "grace")
    audit = AuditLog(database)
    with database.begin() as session:
        audit.record(session, Event("human:grace", Action.RUN_START, "run:1"))
    (began,) = audit.events(action=Action.WRITER_OPEN)
    try:
        known = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        known = str(os.geteuid())
    assert began.event.detail["account"] == known != "grace"


def test_an_event_comes_back_as_it_was_recorded(audit: AuditLog, any_database: Database, clock: SetClock) -> None:
    record(audit, any_database)
    (found,) = audit.events(action=Action.PAGE_READ)
    assert found.event == READ
    assert (found.at, found.writer, found.seq) == (clock.moment, "1", 1)


def test_events_are_found_by_what_they_tell_newest_first(
    audit: AuditLog, any_database: Database, clock: SetClock
) -> None:
    for number in range(5):
        clock.moment += timedelta(minutes=1)
        with any_database.begin() as session:
            audit.record(session, Event(f"human:{number % 2}", Action.RUN_START, f"run:{number}", run=f"r{number}"))
    assert [each.event.subject for each in audit.events(actor="human:1")] == ["run:3", "run:1"]
    assert [each.event.subject for each in audit.events(run="r2")] == ["run:2"]
    assert [each.event.subject for each in audit.events(subject="run:4")] == ["run:4"]
    start = datetime(2026, 1, 1, 0, 2, tzinfo=UTC)
    found = audit.events(action=Action.RUN_START, since=start, until=start + timedelta(minutes=2))
    assert [each.event.subject for each in found] == ["run:2", "run:1"]
    assert len(audit.events(limit=2)) == 2


def test_what_is_rolled_back_was_never_recorded(audit: AuditLog, any_database: Database) -> None:
    def fail() -> None:
        with any_database.begin() as session:
            audit.record(session, READ)
            raise KeyError

    record(audit, any_database)
    with pytest.raises(KeyError):
        fail()
    record(audit, any_database)
    verdict = audit.verify()
    assert (verdict.ok, verdict.events, verdict.writers) == (True, 3, 1)


def test_a_savepoint_takes_only_its_own_events_along(audit: AuditLog, any_database: Database) -> None:
    def fail(session: Session, subject: str) -> None:
        with session.begin_nested():
            audit.record(session, Event("human:a", Action.RUN_START, subject))
            raise KeyError

    with any_database.begin() as session:
        audit.record(session, Event("human:a", Action.RUN_START, "before"))
        with session.begin_nested():
            audit.record(session, Event("human:a", Action.RUN_START, "kept"))
            with pytest.raises(KeyError):
                fail(session, "lost inside")
        with pytest.raises(KeyError):
            fail(session, "lost")
        audit.record(session, Event("human:a", Action.RUN_START, "after"))
    kept = [each.event.subject for each in audit.events(action=Action.RUN_START)]
    assert sorted(kept) == ["after", "before", "kept"]
    assert audit.verify().ok


def test_a_commit_that_fails_leaves_a_trail_that_holds(audit: AuditLog, any_database: Database) -> None:
    def fail_at_commit() -> None:
        with any_database.begin() as session:
            audit.record(session, READ)
            # Another writer has taken the same place: the insert at commit is refused.
            writer = session.execute(text("select max(writer) from audit_event")).scalar_one()
            row = make_row(tell(READ, datetime(2026, 1, 1, tzinfo=UTC)), writer, 2, bytes(32))
            values = ", ".join(f":{name}" for name in row)
            session.execute(
                text(f"insert into audit_event ({', '.join(row)}) values ({values})"),
                {**row, "action": str(READ.action), "outcome": str(READ.outcome), "at": str(row["at"])},
            )

    record(audit, any_database)
    with pytest.raises(DBAPIError):
        fail_at_commit()
    record(audit, any_database, 2)
    verdict = audit.verify()
    assert verdict.ok, verdict.fault
    assert (verdict.writers, len(audit.events(action=Action.PAGE_READ))) == (2, 3)


def test_threads_write_side_by_side(audit: AuditLog, any_database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(record, audit, any_database, 3) for _ in range(80)]:
            done.result()
    verdict = audit.verify()
    assert verdict.ok, verdict.fault
    assert len(audit.events(action=Action.PAGE_READ, limit=1000)) == 240
    assert verdict.writers <= 8


def write_some(url: str) -> None:
    database = Database(url)
    audit = AuditLog(database)
    for _ in range(20):
        record(audit, database, 2)
    database.close()


def test_processes_write_side_by_side(audit: AuditLog, any_database: Database) -> None:
    context = multiprocessing.get_context("spawn")
    url = any_database.url.render_as_string(hide_password=False)
    running = [context.Process(target=write_some, args=(url,)) for _ in range(3)]
    for each in running:
        each.start()
    for each in running:
        each.join(60)
    verdict = audit.verify()
    assert verdict.ok, verdict.fault
    assert (verdict.events, verdict.writers) == (3 * 41, 3)


def test_each_leaf_is_hashed_as_a_merkle_log_wants_it(audit: AuditLog, any_database: Database) -> None:
    record(audit, any_database, 3)
    with any_database.read() as session:
        rows = session.execute(text("select leaf, leaf_hash from audit_event order by seq")).all()
    assert len(rows) == 4
    for before, row in zip([None, *rows], rows, strict=False):
        assert row.leaf_hash == sha256(b"\x00" + row.leaf).digest() == leaf_hash(row.leaf)
        assert json.loads(row.leaf)["previous"] == (before.leaf_hash.hex() if before else "00" * 32)


@pytest.mark.parametrize(
    "statement",
    ["delete from audit_event", "update audit_event set actor = 'human:me'", "update audit_event set leaf = leaf"],
)
def test_the_trail_is_append_only(audit: AuditLog, any_database: Database, statement: str) -> None:
    record(audit, any_database)
    with pytest.raises(DBAPIError, match="append-only"), any_database.begin() as session:
        session.execute(text(statement))


@pytest.mark.service("postgresql")
def test_the_trail_is_not_emptied_at_once(postgresql_database: Database) -> None:
    with pytest.raises(DBAPIError, match="append-only"), postgresql_database.begin() as session:
        session.execute(text("truncate audit_event"))


def three_writers(database: Database) -> AuditLog:
    for _ in range(3):
        audit = AuditLog(database)
        record(audit, database, 4)
    return audit


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("delete from audit_event where writer = 2 and seq = 2", "event 2 of writer 2 is missing"),
        ("delete from audit_event where writer = 2 and seq >= 3", "event 3 of writer 2 is missing: its chain was cut"),
        ("delete from audit_event where writer = 2 and seq = 0", "event 0 of writer 2 is missing"),
        ("delete from audit_event where writer = 2", "writer 2 is missing with all its events"),
        ("delete from audit_event where writer = 1", "writer 1 is missing with all its events"),
        (
            "update audit_event set actor = 'human:me' where writer = 3 and seq = 4",
            "event 4 of writer 3 was altered: its column actor does not say what its bytes say",
        ),
        (
            "update audit_event set outcome = 'failed' where writer = 1 and seq = 1",
            "event 1 of writer 1 was altered: its column outcome does not say what its bytes say",
        ),
        (
            "update audit_event set leaf_hash = leaf where writer = 2 and seq = 3",
            "event 3 of writer 2 was altered: its bytes do not have the stored hash",
        ),
        (
            "update audit_event set seq = 9 where writer = 3 and seq = 4",
            "event 4 of writer 3 is missing",
        ),
        (
            "update audit_event set writer = 4 where writer = 3",
            "writer 3 is missing with all its events",
        ),
    ],
)
def test_tampering_is_named(any_database: Database, statement: str, fault: str) -> None:
    audit = three_writers(any_database)
    assert audit.verify().ok
    tamper(any_database, statement)
    assert audit.verify().fault == fault


def forge(row: dict[str, object], **changes: object) -> bytes:
    leaf = json.loads(bytes(row["leaf"]))  # type: ignore[arg-type]
    leaf.update(changes)
    return json.dumps(leaf, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"actor": "human:me"}, "event 3 of writer 2 does not follow the one before it"),
        ({"format": 2}, "event 2 of writer 2 was altered: its bytes are no event"),
        ({"action": "runs.never.was"}, "event 2 of writer 2 was altered: its bytes are no event"),
    ],
)
def test_an_event_forged_with_its_hash_breaks_the_chain(
    any_database: Database, changes: dict[str, object], fault: str
) -> None:
    audit = three_writers(any_database)
    with any_database.read() as session:
        found = session.execute(text("select * from audit_event where writer = 2 and seq = 2")).mappings().one()
    leaf = forge(dict(found), **changes)
    tamper(any_database)
    with any_database.begin() as session:
        values = {"leaf": leaf, "hash": leaf_hash(leaf), "actor": changes.get("actor", READ.actor)}
        session.execute(
            text("update audit_event set leaf = :leaf, leaf_hash = :hash, actor = :actor where writer = 2 and seq = 2"),
            values,
        )
    told = audit.verify().fault
    assert told is not None
    assert told.startswith(fault)


def test_a_chain_rewritten_to_its_end_is_told_by_the_writer_after_it(any_database: Database) -> None:
    audit = three_writers(any_database)
    tamper(any_database)
    with any_database.begin() as session:
        rows = session.execute(text("select * from audit_event where writer = 2 order by seq")).mappings().all()
        previous = rows[0]["leaf_hash"]
        for row in rows[1:]:
            leaf = forge(dict(row), actor="human:me", previous=bytes(previous).hex())
            previous = leaf_hash(leaf)
            session.execute(
                text(
                    "update audit_event set leaf = :leaf, leaf_hash = :hash, actor = 'human:me' "
                    "where writer = 2 and seq = :seq"
                ),
                {"leaf": leaf, "hash": previous, "seq": row["seq"]},
            )
    assert audit.verify().fault == "event 4 of writer 2 is not the one that writer 3 saw: the chain was replaced"


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Event("", Action.RUN_START, "run:1"), "an event's actor is 1 to 500 printable"),
        (Event("human:a\nhuman:b", Action.RUN_START, "run:1"), "an event's actor is 1 to 500 printable"),
        (Event("human:a", Action.RUN_START, "x" * 501), "an event's subject is 1 to 500 printable"),
        (Event("human:a", Action.RUN_START, "run:1", detail={"at": b"x"}), "detail is no JSON"),  # type: ignore[dict-item]
        (Event("human:a", Action.RUN_START, "run:1", detail={"long": "x" * 70_000}), "store a digest instead"),
    ],
)
def test_a_malformed_event_is_refused_before_anything_is_stored(
    audit: AuditLog, any_database: Database, event: Event, said: str
) -> None:
    with pytest.raises(AuditError, match=said), any_database.begin() as session:
        audit.record(session, event)
    assert audit.verify().events == 0


def test_numbers_that_json_cannot_hold_are_kept_as_text(audit: AuditLog, any_database: Database) -> None:
    with any_database.begin() as session:
        audit.record(session, Event("human:a", Action.RUN_START, "run:1", detail={"id": 2**60, "score": float("nan")}))
    (found,) = audit.events(action=Action.RUN_START)
    assert found.event.detail == {"id": str(2**60), "score": {"real": "nan"}}
    assert audit.verify().ok


def test_a_session_of_another_database_is_refused(audit: AuditLog, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Database(f"sqlite:///{tmp_path_factory.mktemp('other') / 'hub.db'}")
    with pytest.raises(ValueError, match="own database"), other.begin() as session:
        audit.record(session, READ)
    other.close()


def test_an_outcome_is_told_apart_from_its_intent(audit: AuditLog, any_database: Database) -> None:
    with any_database.begin() as session:
        audit.record(session, Event("service:w", Action.WRITE_INTENT, "mapping:m", Outcome.STARTED, digest="cd" * 32))
    assert [each.event.outcome for each in audit.events(action=Action.WRITE_INTENT)] == [Outcome.STARTED]
