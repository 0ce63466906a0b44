"""Writes the sealed log as JSON lines that anybody verifies without the hub: `hub/audit/merkle/verifier.py`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from hub.audit.leaf import leaf_hash
from hub.audit.merkle import seals
from hub.audit.merkle.note import Checkpoint, LogKeys, open_checkpoint
from hub.audit.merkle.seals import Span
from hub.audit.merkle.tree import Tree
from hub.audit.retention.pruning import batches, hashes
from hub.audit.types import AuditError

Write = Callable[[str], object]


def export_whole(session: Session, write: Write, newest: Checkpoint, known: LogKeys) -> int:
    """Every event up to the newest checkpoint, in the order of the log, or its hash where it was pruned; how many."""
    _begin(session, write, newest, known, whole=True)
    for batch, ranges in batches(session).items():
        _line(write, type="pruning", batch=batch, ranges=[list(each) for each in ranges])
    for size, note in seals.notes(session):
        if size <= newest.size:
            _line(write, type="checkpoint", note=note)
    written = 0
    for span in seals.spans_by_index(session):
        if span.first_index >= newest.size:
            break
        written += _export_span(session, write, span)
    _line(write, type="end", events=written)
    return written


def _export_span(session: Session, write: Write, span: Span) -> int:
    leaves = seals.leaves(session, span)
    whole = len(leaves) == span.count
    kept = iter(()) if whole else hashes(session, span.writer, span.first_seq, span.count)
    gone = set() if whole else seals.pruned(session, span.writer, span.first_seq, span.count)
    for at in range(span.count):
        seq, index = span.first_seq + at, span.first_index + at
        found = next(kept, b"")
        if seq in leaves:
            _event(write, index, leaves[seq])
        elif seq in gone:
            _line(write, type="pruned", index=index, writer=span.writer, seq=seq, hash=encoded([found])[0])
        else:
            raise AuditError(f"events of writer {span.writer} are missing; run hub audit verify")
    return span.count


def export_some(
    session: Session,
    write: Write,
    newest: Checkpoint,
    known: LogKeys,
    chosen: Iterable[tuple[int, bytes]],
    kept: Sequence[str],
) -> int:
    """The chosen events (index and leaf), each with its proof, and that the log grew from the notes `kept`."""
    tree = Tree(lambda level, number: seals.load_tile(session, level, number))
    _begin(session, write, newest, known, whole=False)
    for note in kept:
        old = open_checkpoint(note, known)
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


def _begin(session: Session, write: Write, newest: Checkpoint, known: LogKeys, *, whole: bool) -> None:
    changes = seals.key_changes(session)
    _line(write, type="log", key=known.verifier_key, changes=changes, checkpoint=newest.note, whole=whole)


def _event(write: Write, index: int, leaf: bytes, **more: Any) -> None:
    told = base64.b64encode(leaf_hash(leaf)).decode("ascii")
    _line(write, type="event", index=index, leaf=leaf.decode("utf-8"), hash=told, **more)


def _line(write: Write, **told: Any) -> None:
    write(json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n")
