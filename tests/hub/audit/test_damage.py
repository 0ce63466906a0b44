"""Whatever is done to the log wherever it is done is named by what it is; and an honest log holds after any crash."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from hub.audit import AuditLog, Checkpoint, SealedLog
from hub.audit.leaf import leaf_hash
from hub.audit.merkle import verifier
from hub.audit.merkle.proof import proves_growth, proves_inclusion
from hub.database import Database
from hub.faults import VARIABLE, FaultError
from tests.hub.audit.sealed_log import READ, Log, make_log
from tests.hub.audit.test_sealed import put, roll_back

LENGTHS = {1: 8, 2: 300, 3: 5, 4: 3}
"""The last place of each of the log's writers."""
EACH = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Copies:
    """A sealed log, and as many copies of it as are asked for, each to be damaged once."""

    def __init__(self, folder: Path) -> None:
        database = Database(f"sqlite:///{folder / 'whole.db'}")
        database.create_all()
        self.log = make_log(database, folder)
        self._folder = folder
        self._number = itertools.count()

    @contextmanager
    def copy(self) -> Iterator[Log]:
        path = self._folder / f"copy-{next(self._number)}.db"
        with closing(sqlite3.connect(self._folder / "whole.db")) as connection:
            connection.execute("VACUUM INTO ?", (str(path),))
        database = Database(f"sqlite:///{path}")
        try:
            sealed = SealedLog(database, self.log.sealed._keys)
            yield replace(self.log, database=database, sealed=sealed, kept=list(self.log.kept))
        finally:
            database.close()
            path.unlink()


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copies]:
    made = Copies(tmp_path_factory.mktemp("log"))
    yield made
    made.log.database.close()


@st.composite
def places(draw: st.DrawFn, first: int = 1) -> tuple[int, int]:
    """A writer and a place of its chain."""
    writer = draw(st.sampled_from(sorted(LENGTHS)))
    return writer, draw(st.integers(first, LENGTHS[writer]))


@EACH
@given(st.integers(1, 300), st.integers(1, 300))
def test_any_two_rows_that_change_places_are_named(copies: Copies, one: int, other: int) -> None:
    with copies.copy() as log:
        if one != other:
            where = "where writer = 2 and seq ="
            log.tamper(
                f"update audit_event set seq = -1 {where} {one}",
                f"update audit_event set seq = {one} {where} {other}",
                f"update audit_event set seq = {other} {where} -1",
            )
            assert "rows were swapped" in str(log.fault())
        else:
            assert log.fault() is None


@EACH
@given(places())
def test_any_row_taken_out_and_any_tail_cut_is_named(copies: Copies, place: tuple[int, int]) -> None:
    writer, seq = place
    for compared in ("=", ">="):
        with copies.copy() as log:
            log.tamper(f"delete from audit_event where writer = {writer} and seq {compared} {seq}")
            assert f"event {seq} of writer {writer} is missing" in str(log.fault())


@EACH
@given(st.sampled_from(sorted(LENGTHS)), st.integers(2, 4000), st.booleans())
def test_any_event_put_in_with_an_old_date_is_named(copies: Copies, writer: int, days: int, sealed: bool) -> None:
    with copies.copy() as log:
        put(log, writer, LENGTHS[writer] + 1, days)
        if sealed:
            log.sealed.seal(every_chain=True)
        assert f"event {LENGTHS[writer] + 1} of writer {writer} was back-dated" in str(log.fault())


@EACH
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_a_database_rolled_back_is_named_whatever_was_written_since(copies: Copies, since: list[int]) -> None:
    with copies.copy() as log:
        newest = log.kept[-1]
        roll_back(log)
        assert "the database was rolled back" in str(log.fault(newest))
        other = replace(log, kept=[])
        other.write(*since)
        named = str(log.fault(newest))
        assert "the database was rolled back" in named or "history was rewritten" in named


def flipped(path: list[bytes], at: int, bit: int) -> list[bytes]:
    """The path with one bit of it changed."""
    hashes = list(path)
    broken = bytearray(hashes[at % len(hashes)])
    broken[bit // 8] ^= 1 << bit % 8
    hashes[at % len(hashes)] = bytes(broken)
    return hashes


@EACH
@given(st.integers(0, 319), st.integers(0, 9), st.integers(0, 255), st.integers(1, 319))
def test_any_forged_proof_that_an_event_is_there_is_refused(
    copies: Copies, index: int, at: int, bit: int, away: int
) -> None:
    log = copies.log
    proof, newest = log.sealed.prove_at(index), log.sealed.checkpoint()
    assert proof.leaf is not None
    found = leaf_hash(proof.leaf)
    for check in (proves_inclusion, verifier.included):
        assert check(found, index, newest.size, proof.path, newest.root)
        assert not check(found, index, newest.size, flipped(proof.path, at, bit), newest.root)
        assert not check(found, index, newest.size, proof.path[:-1], newest.root)
        assert not check(found, index, newest.size, [*proof.path, found], newest.root)
        assert not check(leaf_hash(proof.leaf + b" "), index, newest.size, proof.path, newest.root)
        assert not check(found, (index + away) % 320, newest.size, proof.path, newest.root)


@EACH
@given(st.sampled_from(range(3)), st.integers(0, 12), st.integers(0, 255))
def test_any_forged_proof_that_the_log_grew_is_refused(copies: Copies, old: int, at: int, bit: int) -> None:
    log = copies.log
    kept: Checkpoint = log.kept[old]
    path, newest = log.sealed.prove_growth(kept.size)
    for check in (proves_growth, verifier.grown):
        assert check(kept.size, kept.root, newest.size, newest.root, path)
        assert not check(kept.size, kept.root, newest.size, newest.root, flipped(path, at, bit))
        assert not check(kept.size, kept.root, newest.size, newest.root, path[:-1])
        assert not check(kept.size, flipped([kept.root], 0, bit)[0], newest.size, newest.root, path)
        assert not check(kept.size, kept.root, newest.size, flipped([newest.root], 0, bit)[0], path)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["one writes", "another writes", "one loses"]), st.integers(1, 20)),
        st.tuples(
            st.sampled_from(["seal", "die before the seal", "die after the seal", "a key is changed"]), st.just(0)
        ),
        st.tuples(st.sampled_from(["die before a new key", "die after a new key", "one starts anew"]), st.just(0)),
    ),
    min_size=1,
    max_size=14,
)
POINTS = {
    "die before the seal": "before commit of sealer.seal",
    "die after the seal": "after commit of sealer.seal",
    "die before a new key": "before commit of SealedLog.change_key",
    "die after a new key": "after commit of SealedLog.change_key",
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_an_honest_log_holds_after_any_crash(copies: Copies, steps: list[tuple[str, int]]) -> None:
    with copies.copy() as log:
        Honest(log).carry_out(steps)
        log.sealed.seal(every_chain=True)
        verdict = log.sealed.verify([each.note for each in log.kept])
        assert (verdict.fault, verdict.sealed) == (None, verdict.events)
        with log.database.read() as session:
            assert session.execute(text("select size from audit_seal_head")).scalar_one() == verdict.events


class Honest:
    """Two processes that write, and one that seals, change the key, and die where they are told to."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._writers = [AuditLog(log.database, clock=log.clock) for _ in range(2)]

    def carry_out(self, steps: list[tuple[str, int]]) -> None:
        for step, count in steps:
            if count:
                self._write(step, count)
            elif step == "one starts anew":
                self._writers[0] = AuditLog(self._log.database, clock=self._log.clock)
            elif step in POINTS:
                self._die(step)
            else:
                self._seal_or_change(step)

    def _write(self, step: str, count: int) -> None:
        try:
            with self._log.database.begin() as session:
                for _ in range(count):
                    self._writers[step == "another writes"].record(session, READ)
                if step == "one loses":
                    raise FaultError(step)
        except FaultError:
            assert step == "one loses"

    def _die(self, step: str) -> None:
        os.environ[VARIABLE] = f"raise:{POINTS[step]}"
        try:
            self._seal_or_change(step)
        except FaultError:
            assert "die" in step
        finally:
            del os.environ[VARIABLE]

    def _seal_or_change(self, step: str) -> None:
        if "key" in step:
            self._write("one writes", 1)
            self._log.sealed.change_key(lambda session, _: self._writers[0].record(session, READ))
        elif (made := self._log.sealed.seal()) is not None:
            self._log.kept.append(made)
