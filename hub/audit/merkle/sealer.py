"""The sealer: gives committed events their places in the log, lets the tree grow over them, and signs a checkpoint.

One seals at a time: the head of the log is one row, held locked from the look to the commit. Who dies there gives it
back at once, and everything of a seal is one transaction, so there is nothing to repair. On PostgreSQL who freezes
there is cut off by the server.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hub.audit.merkle import seals
from hub.audit.merkle.note import Checkpoint, follow_changes, sign_checkpoint
from hub.audit.merkle.seals import Span
from hub.audit.merkle.tree import Tree, grow
from hub.database import Database
from hub.keys import KeyRing, open_signing_key
from hub.logs import Log

PURPOSE = "audit-log"
"""The signing key of the log."""

log = Log(__name__)


def seal(database: Database, keys: KeyRing, *, every_chain: bool, apart: timedelta) -> Checkpoint | None:
    """The new checkpoint; None where nothing waits, another process seals, or one did less than `apart` ago."""
    if not _worthwhile(database, every_chain, apart):
        return None
    with database.begin() as session:
        now = database.now(session)
        head = seals.lock_head(session, now)
        if head is None:
            return None
        size = head.size
        spans, hashes = _collect(session, size, every_chain)
        if not hashes:
            return None
        return _append(session, keys, size, spans, hashes, now)


def _worthwhile(database: Database, every_chain: bool, apart: timedelta) -> bool:
    """A look that takes no lock, so that many workers may look often."""
    with database.read() as session:
        head = seals.head(session)
        # A clock that was put back since makes the last time lie ahead: that is no reason to wait for it.
        if head is not None and timedelta(0) <= database.now(session) - head[1] < apart:
            return False
        waiting = seals.pending(session, every_chain=every_chain)
        try:
            return next(waiting, None) is not None
        finally:
            waiting.close()


def _append(
    session: Session, keys: KeyRing, size: int, spans: list[Span], hashes: list[bytes], now: datetime
) -> Checkpoint:
    def stored(level: int, number: int) -> bytes:
        return seals.load_tile(session, level, number)

    changed = grow(size, hashes, stored)
    grown = size + len(hashes)
    tree = Tree(lambda level, number: changed.get((level, number)) or stored(level, number))
    signer = open_signing_key(session, keys, PURPOSE)
    known = follow_changes(signer.public, seals.key_changes(session))
    made = sign_checkpoint(signer, grown, tree.root(grown), known.origin)
    seals.store_tiles(session, changed)
    seals.extend(session, spans, now)
    seals.add_checkpoint(session, grown, made.note, now)
    return made


def _collect(session: Session, size: int, every_chain: bool) -> tuple[list[Span], list[bytes]]:
    """The events that wait, as spans from `size` on, and their hashes in that order.

    A chain is taken up to its first gap: what lies behind one has lost its order, and verifying names it.
    """
    waiting: dict[int, tuple[int, list[bytes]]] = {}
    torn: dict[int, int] = {}
    for writer, seq, leaf_hash in seals.pending(session, every_chain=every_chain):
        first, hashes = waiting.setdefault(writer, (seq, []))
        if seq == first + len(hashes):
            hashes.append(leaf_hash)
        else:
            torn.setdefault(writer, first + len(hashes))
    _drop_gaps(waiting, seals.chains(session, waiting), torn)
    for writer, seq in torn.items():
        log.error("an event is missing from the audit trail; run hub audit verify", writer=writer, seq=seq)
    return _placed(waiting, size), [each for _, hashes in waiting.values() for each in hashes]


def _drop_gaps(waiting: dict[int, tuple[int, list[bytes]]], sealed: dict[int, int], torn: dict[int, int]) -> None:
    for writer in [each for each, (first, _) in waiting.items() if first != sealed.get(each, 0)]:
        torn[writer] = sealed.get(writer, 0)
        del waiting[writer]


def _placed(waiting: dict[int, tuple[int, list[bytes]]], size: int) -> list[Span]:
    spans, at = [], size
    for writer, (first, hashes) in waiting.items():
        spans.append(Span(at, writer, first, len(hashes)))
        at += len(hashes)
    return spans
