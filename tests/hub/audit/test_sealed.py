"""The sealed log: an honest one always verifies, and what was done to it is named, whoever did it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from hub.audit import AuditError, AuditLog, SealedLog
from hub.audit.leaf import leaf_hash, make_row, tell
from hub.audit.merkle.note import only, open_checkpoint, sign_checkpoint
from hub.audit.merkle.proof import proves_growth, proves_inclusion
from hub.audit.merkle.tree import WIDTH
from hub.audit.store import SealHeadRow, TileRow
from hub.database import Database
from hub.keys import KeyRing, SealedError, open_signing_key
from hub.keys.store import SigningKeyRow, add_signing_key
from tests.hub.audit.sealed_log import READ, Log, make_keys, make_log


@pytest.fixture
def log(any_database: Database, tmp_path: Path) -> Log:
    return make_log(any_database, tmp_path)


def test_what_is_committed_is_sealed_once_and_verifies(log: Log) -> None:
    verdict = log.sealed.verify([each.note for each in log.kept])
    assert (verdict.fault, verdict.events, verdict.sealed, verdict.kept) == (None, 320, 320, 4)
    assert [each.size for each in log.kept] == [9, 310, 316, 320]
    assert log.sealed.seal() is None


def test_a_clock_that_was_put_back_keeps_nothing_from_being_sealed(log: Log) -> None:
    with log.database.begin() as session:
        head = session.scalars(select(SealHeadRow)).one()
        head.at += timedelta(hours=1)
        AuditLog(log.database).record(session, READ)
    made = log.sealed.seal(apart=timedelta(seconds=1))
    assert made is not None
    assert log.sealed.seal(apart=timedelta(minutes=1)) is None
    verdict = log.sealed.verify()
    assert (verdict.fault, verdict.sealed) == (None, verdict.events)


def test_nothing_is_sealed_before_it_is_committed(log: Log) -> None:
    audit = AuditLog(log.database)
    with log.database.begin() as session:
        audit.record(session, READ)
        with log.database.read() as other:
            assert other.execute(text("select count(*) from audit_event")).scalar_one() == 320
    made = log.sealed.seal()
    assert made is not None
    assert log.sealed.verify().ok


def test_any_event_is_proven_under_the_newest_checkpoint(log: Log) -> None:
    newest = log.sealed.checkpoint()
    for index in (0, 8, 9, 255, 256, 309, 319):
        proof = log.sealed.prove_at(index)
        assert proof.checkpoint == newest
        assert proves_inclusion(leaf_hash(proof.leaf), index, newest.size, proof.path, newest.root)
    assert log.sealed.prove(2, 1).index == 10
    with pytest.raises(AuditError, match="no event at 320"):
        log.sealed.prove_at(320)
    with pytest.raises(AuditError, match="not sealed"):
        log.sealed.prove(9, 1)


def test_each_checkpoint_is_proven_to_be_a_beginning_of_the_newest(log: Log) -> None:
    for old in log.kept:
        path, newest = log.sealed.prove_growth(old.size)
        assert proves_growth(old.size, old.root, newest.size, newest.root, path)
    with pytest.raises(AuditError, match="the log holds 320 events"):
        log.sealed.prove_growth(321)


def test_before_anything_is_sealed_that_is_what_is_said(any_database: Database, tmp_path: Path) -> None:
    sealed = SealedLog(any_database, make_keys(tmp_path))
    assert sealed.seal() is None
    assert sealed.verify().ok
    for ask in (sealed.checkpoint, sealed.verifier_key, lambda: sealed.prove_at(0)):
        with pytest.raises(AuditError, match="hub audit seal"):
            ask()


def test_seals_keep_the_distance_asked_for(log: Log) -> None:
    log.write(1)
    audit = AuditLog(log.database)
    with log.database.begin() as session:
        audit.record(session, READ)
    assert log.sealed.seal(apart=timedelta(minutes=1)) is None
    assert log.sealed.seal() is not None


def test_many_sealers_at_once_seal_each_event_once(log: Log) -> None:
    stop = threading.Event()

    def seal() -> None:
        own = log.sealed
        while not stop.is_set():
            own.seal()

    sealers = [threading.Thread(target=seal) for _ in range(3)]
    for each in sealers:
        each.start()
    audit = AuditLog(log.database, clock=log.clock)
    for _ in range(40):
        with log.database.begin() as session:
            audit.record(session, READ)
    stop.set()
    for each in sealers:
        each.join()
    log.sealed.seal()
    verdict = log.sealed.verify()
    assert (verdict.fault, verdict.sealed) == (None, verdict.events)


def test_a_chain_that_went_cold_is_found_where_all_are_looked_at(log: Log) -> None:
    audit = AuditLog(log.database, clock=log.clock)
    with log.database.begin() as session:
        audit.record(session, READ)
    log.sealed.seal()
    log.tamper("update audit_chain set warm = false")
    with log.database.begin() as session:
        audit.record(session, READ)
    assert log.sealed.seal() is None
    made = log.sealed.seal(every_chain=True)
    assert made is not None
    assert log.sealed.verify().ok


def test_another_ring_neither_signs_nor_makes_a_second_key(log: Log, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    audit = AuditLog(log.database)
    with log.database.begin() as session:
        audit.record(session, READ)
    with pytest.raises(SealedError):
        SealedLog(log.database, make_keys(tmp_path / "other")).seal()
    assert log.sealed.verify().ok


Damage = Callable[[Log], None]


def flip(column: str, where: str, table: str = "audit_event") -> Damage:
    """Flips one bit of a column of bytes."""

    def damage(log: Log) -> None:
        with log.database.read() as session:
            found = bytes(session.execute(text(f"select {column} from {table} where {where}")).scalar_one())
        broken = found[:-2] + bytes([found[-2] ^ 1]) + found[-1:]
        log.tamper(f"update {table} set {column} = :broken where {where}", broken=broken)

    return damage


def do(*statements: str) -> Damage:
    """Runs statements."""
    return lambda log: log.tamper(*statements)


def swap(log: Log) -> None:
    """Two neighbours change places, each with its own hash."""
    log.tamper(
        "update audit_event set seq = -1 where writer = 2 and seq = 7",
        "update audit_event set seq = 7 where writer = 2 and seq = 8",
        "update audit_event set seq = 8 where writer = 2 and seq = -1",
    )


def put(log: Log, writer: int, seq: int, days: int) -> None:
    """Inserts an event at the end of a chain, correctly chained, that tells of days ago."""
    with log.database.begin() as session:
        before = session.execute(
            text("select leaf_hash from audit_event where writer = :w and seq = :s"), {"w": writer, "s": seq - 1}
        ).scalar_one()
        row = make_row(tell(READ, log.clock.now() - timedelta(days=days)), writer, seq, bytes(before))
        values = ", ".join(f":{name}" for name in row)
        told = {**row, "action": str(READ.action), "outcome": str(READ.outcome), "at": row["at"].replace(tzinfo=None)}
        told["at"] = told["at"] if not log.database.sqlite else told["at"].isoformat(" ", "microseconds")
        session.execute(text(f"insert into audit_event ({', '.join(row)}) values ({values})"), told)


def rewrite(log: Log) -> None:
    """The whole tail of a chain is made anew with one event changed, chains and hashes right."""
    with log.database.read() as session:
        wanted = text("select seq, leaf from audit_event where writer = 4 order by seq")
        rows = [(row.seq, bytes(row.leaf)) for row in session.execute(wanted)]
    second = rows[1][1]
    changed = second.replace(b'"rows":7', b'"rows":8')
    assert changed != second
    kept = {1: changed}
    for seq, leaf in rows[2:]:
        before = rows[seq - 1][1] if seq - 1 not in kept else kept[seq - 1]
        old = leaf_hash(rows[seq - 1][1]).hex().encode()
        kept[seq] = leaf.replace(old, leaf_hash(before).hex().encode())
    for seq, leaf in kept.items():
        log.tamper(
            "update audit_event set leaf = :leaf, leaf_hash = :hash where writer = 4 and seq = :seq",
            leaf=leaf,
            hash=leaf_hash(leaf),
            seq=seq,
        )


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a flipped byte of an event": (flip("leaf", "writer = 2 and seq = 7"), "event 7 of writer 2 was altered"),
    "a flipped byte of a hash": (flip("leaf_hash", "writer = 2 and seq = 7"), "event 7 of writer 2 was altered"),
    "a flipped byte of a tile": (
        flip("hashes", "level = 0 and number = 1", "audit_tile"),
        "is not the one that was sealed as number",
    ),
    "a flipped byte of a node": (
        flip("hashes", "level = 1 and number = 0", "audit_tile"),
        "the stored nodes of the tree are not those over its leaves",
    ),
    "swapped rows": (swap, "event 7 of writer 2 is event 8 of writer 2: rows were swapped"),
    "a row taken out": (do("delete from audit_event where writer = 2 and seq = 9"), "event 9 of writer 2 is missing"),
    "the tail cut": (
        do("delete from audit_event where writer = 4 and seq > 2"),
        "event 3 of writer 4 is missing, though it was sealed as number 319",
    ),
    "a writer cut whole": (do("delete from audit_event where writer = 4"), "event 0 of writer 4 is missing, though"),
    "an old event at the end": (lambda log: put(log, 1, 9, 30), "event 9 of writer 1 was back-dated"),
    "history made anew": (rewrite, "event 1 of writer 4 is not the one that was sealed as number 317"),
    "a place taken away": (do("delete from audit_span where first_index = 9"), "number 9 of the log has no event"),
    "a checkpoint taken away": (do("delete from audit_checkpoint where size = 320"), "checkpoint over all 320"),
    "a checkpoint altered": (
        do("update audit_checkpoint set note = replace(note, '320', '321') where size = 320"),
        "checkpoint 320: the checkpoint is forged",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_named(damage: str, log: Log) -> None:
    done, named = DAMAGES[damage]
    assert log.fault() is None
    done(log)
    assert named in str(log.fault())


def test_an_old_event_stays_named_after_it_was_sealed(log: Log) -> None:
    put(log, 1, 9, 30)
    assert log.sealed.seal(every_chain=True) is not None
    assert "event 9 of writer 1 was back-dated" in str(log.fault())


def roll_back(log: Log) -> None:
    """The database is put back to how it was at the third checkpoint, without a trace."""
    size = log.kept[2].size
    log.tamper(
        "delete from audit_event where writer = 4",
        "delete from audit_span where writer = 4",
        "delete from audit_chain where writer = 4",
        f"delete from audit_checkpoint where size > {size}",
        f"update audit_seal_head set size = {size}",
    )
    with log.database.read() as session:
        wanted = text("select hashes from audit_tile where level = 0 and number = 1")
        tile = bytes(session.execute(wanted).scalar_one())
    cut = tile[: 32 * (size - 256)]
    log.tamper("update audit_tile set hashes = :cut where level = 0 and number = 1", cut=cut)


def test_a_database_rolled_back_is_named_by_whoever_kept_a_checkpoint(log: Log) -> None:
    roll_back(log)
    assert log.fault() is None  # nothing inside can tell: this is what checkpoints are kept outside for
    assert log.fault(*log.kept[:3]) is None
    assert "the database was rolled back" in str(log.fault(*log.kept))


def test_history_written_anew_under_the_right_key_is_named_by_whoever_kept_a_checkpoint(log: Log) -> None:
    roll_back(log)
    log.write(2)
    log.write(1, 1, 1)
    assert log.fault() is None
    assert "history was rewritten: the first 320 events" in str(log.fault(log.kept[3]))


def test_history_written_anew_is_named_however_the_stored_nodes_of_the_tree_were_dressed_up(
    database: Database, tmp_path: Path
) -> None:
    """Whoever owns database and key leaves nodes of the old log where no root of so large a log looks any more."""
    keys = make_keys(tmp_path)
    mine = Log(database, SealedLog(database, keys))
    mine.write(100, 155)
    (kept,) = mine.kept
    assert kept.size == WIDTH
    anew = Database(f"sqlite:///{tmp_path / 'anew.db'}")
    anew.create_all()
    with database.read() as old, anew.begin() as session:
        row = old.scalars(select(SigningKeyRow)).one()
        add_signing_key(session, row.purpose, row.public, row.sealed)
    other = Log(anew, SealedLog(anew, keys))
    other.write(90, WIDTH**2)
    assert "history was rewritten: the first 256 events" in str(other.fault(kept))
    with anew.begin() as session:
        tile = session.get_one(TileRow, (1, 0))
        tile.hashes = kept.root + tile.hashes[len(kept.root) :]
    assert other.fault() is None
    assert "history was rewritten: the first 256 events" in str(other.fault(kept))
    anew.close()


def test_a_checkpoint_that_somebody_else_signed_is_forged(log: Log, tmp_path: Path) -> None:
    newest = log.sealed.checkpoint()
    with log.database.begin() as session:
        other = open_signing_key(session, KeyRing(make_keys(tmp_path)._kek, bytes(32)), "another")
    forged = sign_checkpoint(other, newest.size, newest.root)
    assert "forged" in str(log.fault(forged))
    with pytest.raises(AuditError, match="forged"):
        open_checkpoint(newest.note.replace("\n321\n", "\n320\n"), only(other.public))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.sampled_from(["leaf", "leaf_hash"]), st.integers(0, 319), st.integers(0), st.integers(0, 7))
def test_whatever_byte_of_whatever_event_is_flipped_is_named(
    log: Log, column: str, number: int, byte: int, bit: int
) -> None:
    with log.database.read() as session:
        wanted = f"select writer, seq, {column} as held from audit_event order by writer, seq limit 1 offset {number}"
        row = session.execute(text(wanted)).one()
    held = bytearray(row.held)
    held[byte % len(held)] ^= 1 << bit
    change = f"update audit_event set {column} = :held where writer = {row.writer} and seq = {row.seq}"
    log.tamper(change, held=bytes(held))
    try:
        assert f"event {row.seq} of writer {row.writer} " in str(log.fault())
    finally:
        log.tamper(change, held=bytes(row.held))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=4))
def test_an_honest_log_always_verifies(log: Log, writers: list[list[int]]) -> None:
    for counts in writers:
        log.write(*counts)
    verdict = log.sealed.verify([each.note for each in log.kept])
    assert (verdict.fault, verdict.sealed) == (None, verdict.events)
