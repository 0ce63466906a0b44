"""Writes the sealed log as JSON lines that anybody verifies without the hub: `hub/audit/merkle/verifier.py`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from hub.audit.leaf import leaf_hash
from hub.audit.merkle import seals
from hub.audit.merkle.note import Checkpoint, open_checkpoint, verifier_key
from hub.audit.merkle.tree import Tree
from hub.audit.types import AuditError

Write = Callable[[str], object]


def export_whole(session: Session, write: Write, newest: Checkpoint, public: bytes) -> int:
    """Every event up to the newest checkpoint, in the order of the log; how many."""
    _begin(write, newest, public, whole=True)
    for size, note in seals.notes(session):
        if size <= newest.size:
            _line(write, type="checkpoint", note=note)
    written = 0
    for span in seals.spans_by_index(session):
        if span.first_index >= newest.size:
            break
        leaves = seals.leaves(session, span)
        if len(leaves) != span.count:
            raise AuditError(f"events of writer {span.writer} are missing; run hub audit verify")
        for at, leaf in enumerate(leaves, start=span.first_index):
            _event(write, at, leaf)
        written += span.count
    _line(write, type="end", events=written)
    return written


def export_some(
    session: Session,
    write: Write,
    newest: Checkpoint,
    public: bytes,
    chosen: Iterable[tuple[int, bytes]],
    kept: Sequence[str],
) -> int:
    """The chosen events (index and leaf), each with its proof, and that the log grew from the notes `kept`."""
    tree = Tree(lambda level, number: seals.load_tile(session, level, number))
    _begin(write, newest, public, whole=False)
    for note in kept:
        old = open_checkpoint(note, public)
        if not 0 < old.size <= newest.size:
            raise AuditError(f"the kept checkpoint speaks of {old.size} events, and the log holds {newest.size}")
        _line(write, type="growth", **{"from": note}, path=encoded(tree.consistency(old.size, newest.size)))
    written = 0
    for index, leaf in chosen:
        _event(write, index, leaf, path=encoded(tree.inclusion(index, newest.size)))
        written += 1
    _line(write, type="end", events=written)
    return written


def encoded(hashes: Iterable[bytes]) -> list[str]:
    """Hashes in base64."""
    return [base64.b64encode(each).decode("ascii") for each in hashes]


def _begin(write: Write, newest: Checkpoint, public: bytes, *, whole: bool) -> None:
    _line(write, type="log", key=verifier_key(public), checkpoint=newest.note, whole=whole)


def _event(write: Write, index: int, leaf: bytes, **more: Any) -> None:
    told = base64.b64encode(leaf_hash(leaf)).decode("ascii")
    _line(write, type="event", index=index, leaf=leaf.decode("utf-8"), hash=told, **more)


def _line(write: Write, **told: Any) -> None:
    write(json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n")
