"""The hub's database: one transaction per unit of work, many at once, and what happens when one fails."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from hub.database import Base, CommitUnknownError, Database, DatabaseError, clock, is_transient

THREADS = 8
STEPS = 40


class TrialBase(DeclarativeBase):
    """The tests' own root, with the hub's types: its tables are none of the hub's schema."""

    type_annotation_map = Base.type_annotation_map


class TrialRow(TrialBase):
    """A table of the tests alone."""

    __tablename__ = "test_trial"

    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int]
    at: Mapped[datetime | None]


@pytest.fixture
def trial(any_database: Database) -> Iterator[Database]:
    TrialRow.__table__.create(any_database.engine, checkfirst=True)
    with any_database.begin() as session:
        session.add(TrialRow(id=1, count=0))
    return any_database


def count(database: Database) -> int:
    with database.read() as session:
        return session.execute(select(TrialRow.count).where(TrialRow.id == 1)).scalar_one()


def step(database: Database) -> None:
    """Reads, then writes what was read: loses counts wherever two units of work overlap."""
    with database.begin() as session:
        row = session.execute(select(TrialRow).where(TrialRow.id == 1).with_for_update()).scalar_one()
        row.count += 1


def run_steps(url: str, steps: int) -> None:
    database = Database(url)
    for _ in range(steps):
        step(database)
    database.close()


def test_a_unit_of_work_is_stored_as_a_whole_or_not_at_all(trial: Database) -> None:
    def fail_half_way() -> None:
        with trial.begin() as session:
            session.execute(update(TrialRow).values(count=7))
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert count(trial) == 0


def test_eight_threads_never_meet_a_locked_database(trial: Database) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(step, trial) for _ in range(THREADS * STEPS)]:
            done.result()
    assert count(trial) == THREADS * STEPS


def test_four_processes_never_meet_a_locked_database(trial: Database) -> None:
    context = multiprocessing.get_context("spawn")
    url = trial.url.render_as_string(hide_password=False)
    running = [context.Process(target=run_steps, args=(url, STEPS)) for _ in range(4)]
    for each in running:
        each.start()
    for each in running:
        each.join(60)
    assert [each.exitcode for each in running] == [0] * 4
    assert count(trial) == 4 * STEPS


def test_a_reader_is_not_held_up_by_a_writer_and_sees_one_state(trial: Database) -> None:
    with trial.begin() as writing:
        writing.execute(update(TrialRow).values(count=5))
        assert count(trial) == 0
    assert count(trial) == 5


def test_a_read_cannot_write(trial: Database) -> None:
    with pytest.raises(DBAPIError), trial.read() as session:
        session.execute(delete(TrialRow))
    with trial.begin() as session:
        session.execute(update(TrialRow).values(count=3))
    assert count(trial) == 3


def test_an_error_does_not_repeat_the_values(trial: Database) -> None:
    with pytest.raises(IntegrityError) as caught, trial.begin() as session:
        session.execute(insert(TrialRow).values(id=1, count=424242))
    assert "424242" not in str(caught.value)


def test_a_moment_comes_back_aware_and_in_utc_whatever_it_went_in_as(trial: Database) -> None:
    moment = datetime(2026, 3, 29, 2, 30, 0, 123456, timezone(timedelta(hours=5, minutes=45)))
    with trial.begin() as session:
        session.execute(update(TrialRow).values(at=moment))
    with trial.read() as session:
        found = session.execute(select(TrialRow.at)).scalar_one()
        assert session.execute(select(func.count()).where(TrialRow.at == moment)).scalar_one() == 1
    assert found == moment
    assert found is not None
    assert found.tzinfo is UTC


def test_a_moment_without_zone_is_refused(trial: Database) -> None:
    with pytest.raises(StatementError, match="without time zone"), trial.begin() as session:
        session.execute(update(TrialRow).values(at=datetime(2026, 1, 1)))


def test_the_database_clock_can_be_stored_and_compared(trial: Database) -> None:
    with trial.begin() as session:
        now = trial.now(session)
        assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)
        session.execute(update(TrialRow).values(at=clock()))
        assert session.execute(select(func.count()).where(TrialRow.at <= clock())).scalar_one() == 1
        session.execute(update(TrialRow).values(at=now + timedelta(seconds=60)))
        assert session.execute(select(func.count()).where(TrialRow.at <= clock())).scalar_one() == 0


@pytest.mark.service("postgresql")
def test_a_claim_steps_past_the_rows_that_others_hold(postgresql_database: Database) -> None:
    TrialRow.__table__.create(postgresql_database.engine, checkfirst=True)
    with postgresql_database.begin() as session:
        session.add_all([TrialRow(id=1, count=0), TrialRow(id=2, count=0)])
    claim = postgresql_database.skip_locked(select(TrialRow.id).order_by(TrialRow.id).limit(1))
    with postgresql_database.begin() as one, postgresql_database.begin() as two:
        assert one.execute(claim).scalar_one() == 1
        assert two.execute(claim).scalar_one() == 2


@pytest.mark.service("postgresql")
def test_a_deadlock_is_done_again_and_both_pass(postgresql_database: Database) -> None:
    TrialRow.__table__.create(postgresql_database.engine, checkfirst=True)
    with postgresql_database.begin() as session:
        session.add_all([TrialRow(id=1, count=0), TrialRow(id=2, count=0)])
    met = threading.Barrier(2, timeout=10)
    tries = []

    def work(first: int, second: int) -> None:
        def both(session: Session) -> None:
            tries.append(first)
            session.execute(update(TrialRow).where(TrialRow.id == first).values(count=TrialRow.count + 1))
            if len(tries) <= 2:
                met.wait()
            session.execute(update(TrialRow).where(TrialRow.id == second).values(count=TrialRow.count + 1))

        postgresql_database.retrying(both)

    with ThreadPoolExecutor(2) as pool:
        for done in (pool.submit(work, 1, 2), pool.submit(work, 2, 1)):
            done.result()
    assert len(tries) == 3
    with postgresql_database.read() as session:
        assert session.execute(select(TrialRow.count).order_by(TrialRow.id)).scalars().all() == [2, 2]


@pytest.mark.service("postgresql")
def test_a_connection_cut_in_the_middle_is_done_again(postgresql_database: Database) -> None:
    tries = []

    def work(session: Session) -> int:
        tries.append(1)
        if len(tries) == 1:
            session.execute(text("select pg_terminate_backend(pg_backend_pid())"))
        return session.execute(text("select 42")).scalar_one()

    assert postgresql_database.retrying(work, pause=lambda _: None) == 42
    assert len(tries) == 2


@pytest.mark.service("postgresql")
@pytest.mark.parametrize("repeatable", [False, True])
def test_a_connection_cut_at_commit_is_told_apart(postgresql_database: Database, repeatable: bool) -> None:
    tries = []

    def work(session: Session) -> str:
        tries.append(1)
        pid = session.execute(text("select pg_backend_pid()")).scalar_one()
        if len(tries) == 1:
            with postgresql_database.begin() as other:
                other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        return "done"

    if repeatable:
        assert postgresql_database.retrying(work, repeatable=True, pause=lambda _: None) == "done"
        assert len(tries) == 2
    else:
        with pytest.raises(CommitUnknownError, match="look up what was stored"):
            postgresql_database.retrying(work)
        assert len(tries) == 1


def test_a_fault_of_the_work_itself_is_not_repeated(trial: Database) -> None:
    tries = []

    def work(session: Session) -> None:
        tries.append(1)
        session.execute(insert(TrialRow).values(id=1, count=1))

    with pytest.raises(IntegrityError):
        trial.retrying(work)
    assert len(tries) == 1


def test_a_busy_database_is_transient_and_a_missing_table_is_not(database: Database) -> None:
    with pytest.raises(OperationalError) as caught, database.begin() as session:
        session.execute(text("select * from no_such_table"))
    assert not is_transient(caught.value)


def test_the_file_is_for_the_hub_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'deep' / 'hub.db'}")
    database.check()
    assert stat.S_IMODE((tmp_path / "deep" / "hub.db").stat().st_mode) == 0o600
    database.close()


def test_opening_it_twice_in_one_process_leaves_others_who_end_no_say_over_what_was_committed(tmp_path: Path) -> None:
    first = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    TrialRow.__table__.create(first.engine)
    with first.begin() as session:
        session.add(TrialRow(id=1, count=0))
    Database(first.url).close()
    visit = "import sys; from tests.hub.test_database import *; run_steps(sys.argv[1], 1)"
    subprocess.run([sys.executable, "-c", visit, str(first.url)], check=True)
    step(first)
    with closing(sqlite3.connect(tmp_path / "hub.db")) as other:
        assert other.execute("select count from test_trial").fetchall() == [(2,)]
    first.close()


def test_what_is_no_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="cannot be opened"):
        Database(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "needs a database file"),
        ("mysql+pymysql://root@127.0.0.1/hub", "SQLite or PostgreSQL, not mysql"),
    ],
)
def test_a_database_that_cannot_serve_is_refused(url: str, said: str) -> None:
    with pytest.raises(DatabaseError, match=said):
        Database(url)


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    database = Database("postgresql+psycopg://hub:s3cret@127.0.0.1:1/hub")
    with pytest.raises(
        DatabaseError, match=r"postgresql\+psycopg://hub:\*\*\*@127.0.0.1:1/hub cannot be used"
    ) as caught:
        database.check()
    assert "s3cret" not in str(caught.value)
    database.close()
