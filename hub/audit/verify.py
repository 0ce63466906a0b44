"""Verifies the trail from its stored bytes alone: every chain without a gap, every row as it was hashed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from hub.audit.leaf import NOTHING, leaf_hash, read_leaf
from hub.audit.store import AuditEventRow
from hub.audit.types import Action, Pruned, Recorded, Verdict


class FaultError(Exception):
    """The first thing that does not hold."""


@dataclass
class _Walk:
    """Where the walk stands. `promised`: how far each writer had come, and the hash there, as its successor tells."""

    promised: dict[int, tuple[int, str]]
    events: int = 0
    writer: int = 0
    seq: int = 0
    previous: bytes = NOTHING
    opening: bytes = NOTHING
    pruned: int = 0


def verify_trail(openings: Iterable[bytes], rows: Iterable[AuditEventRow | Pruned]) -> Verdict:
    """The verdict over rows in the order of writer and place; `openings` are the leaves with which writers began."""
    walk = _Walk(_promises(openings))
    try:
        for row in rows:
            _step(walk, row)
            walk.events += 1
        _end_chain(walk)
    except FaultError as fault:
        return Verdict(walk.events, walk.writer, str(fault), pruned=walk.pruned)
    return Verdict(walk.events, walk.writer, pruned=walk.pruned)


def _promises(openings: Iterable[bytes]) -> dict[int, tuple[int, str]]:
    promised: dict[int, tuple[int, str]] = {}
    for leaf in openings:
        try:
            raw = json.loads(leaf)
            promised[int(raw["writer"]) - 1] = (int(raw["detail"]["before"]), str(raw["detail"]["before_hash"]))
        except (ValueError, KeyError, TypeError):
            continue  # the first writer promises nothing; an altered leaf is named when the walk comes to it
    return promised


def _step(walk: _Walk, row: AuditEventRow | Pruned) -> None:
    if row.writer != walk.writer:
        _end_chain(walk)
        _begin_chain(walk, row)
    elif row.seq != walk.seq + 1:
        raise FaultError(f"event {walk.seq + 1} of writer {row.writer} is missing")
    where = f"event {row.seq} of writer {row.writer}"
    if isinstance(row, Pruned):
        walk.pruned += 1
    else:
        recorded = _check_row(row, where, walk.opening if row.seq == 0 else walk.previous)
        if row.seq == 0:
            if recorded.event.action is not Action.WRITER_OPEN:
                raise FaultError(f"{where} does not open it")
            walk.opening = row.leaf_hash
    if walk.promised.get(row.writer) not in (None, (row.seq, row.leaf_hash.hex())):
        _check_promise(walk, row, where)
    walk.seq, walk.previous = row.seq, row.leaf_hash


def _check_row(row: AuditEventRow, where: str, expected: bytes) -> Recorded:
    if leaf_hash(row.leaf) != row.leaf_hash:
        raise FaultError(f"{where} was altered: its bytes do not have the stored hash")
    try:
        recorded, previous = read_leaf(row.leaf)
    except (ValueError, KeyError, TypeError) as error:
        raise FaultError(f"{where} was altered: its bytes are no event ({type(error).__name__})") from None
    if (recorded.writer, recorded.seq) != (str(row.writer), row.seq):
        raise FaultError(
            f"{where} is event {recorded.seq} of writer {recorded.writer}: rows were swapped, or one was moved"
        )
    if previous != expected:
        raise FaultError(f"{where} does not follow the one before it: one of them was replaced")
    if column := _differing(row, recorded):
        raise FaultError(f"{where} was altered: its column {column} does not say what its bytes say")
    return recorded


def _check_promise(walk: _Walk, row: AuditEventRow | Pruned, where: str) -> None:
    if walk.promised[row.writer][0] == row.seq:
        raise FaultError(f"{where} is not the one that writer {row.writer + 1} saw: the chain was replaced")


def _begin_chain(walk: _Walk, row: AuditEventRow | Pruned) -> None:
    if row.writer != walk.writer + 1:
        raise FaultError(f"writer {walk.writer + 1} is missing with all its events")
    if row.seq != 0 or isinstance(row, Pruned):
        raise FaultError(f"event 0 of writer {row.writer} is missing")
    walk.writer = row.writer


def _end_chain(walk: _Walk) -> None:
    reached, _ = walk.promised.get(walk.writer, (0, ""))
    if walk.seq < reached:
        raise FaultError(f"event {walk.seq + 1} of writer {walk.writer} is missing: its chain was cut")


def _differing(row: AuditEventRow, recorded: Recorded) -> str | None:
    told = recorded.event
    pairs = {
        "writer": (str(row.writer), recorded.writer),
        "seq": (row.seq, recorded.seq),
        "at": (row.at, recorded.at),
        "actor": (row.actor, told.actor),
        "action": (row.action, told.action),
        "subject": (row.subject, told.subject),
        "outcome": (row.outcome, told.outcome),
        "run": (row.run, told.run),
    }
    return next((name for name, (stored, hashed) in pairs.items() if stored != hashed), None)
