"""The trail with what was pruned of it: where a body was dropped, the hash of the event stands in its place."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from hashlib import sha256
from heapq import merge
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.audit import store
from hub.audit.leaf import read_leaf
from hub.audit.merkle import seals
from hub.audit.merkle.tree import HASH_BYTES, WIDTH
from hub.audit.store import AuditEventRow, PrunedRow
from hub.audit.types import Action, Pruned
from hub.keys import canonical

Range = tuple[int, int, int]
"""A writer, the first place of its chain, and how many from there."""

ALL = 2**31


def walk(session: Session) -> Generator[AuditEventRow | Pruned, None, None]:
    """Every event, chain after chain, a few thousand in memory at a time."""
    if session.execute(select(PrunedRow.batch).limit(1)).first() is None:
        yield from store.walk(session)
        return
    rows: Iterable[AuditEventRow | Pruned] = merge(store.walk(session), _pruned(session), key=_place)
    yield from rows


def batches(session: Session) -> dict[int, list[Range]]:
    """What each pruning took out, in order."""
    columns = PrunedRow.batch, PrunedRow.writer, PrunedRow.first_seq, PrunedRow.count
    wanted = select(*columns).order_by(*columns)
    rows = session.execute(wanted)
    return {batch: [each[1:] for each in found] for batch, found in groupby(rows, key=lambda row: row[0])}


def digest(ranges: Iterable[Range]) -> str:
    """What the event of a pruning binds: the places it took out."""
    return sha256(canonical([list(each) for each in ranges])).hexdigest()


def untold(session: Session) -> str | None:
    """What was taken out of the trail though no later event tells of its pruning; None where all is told."""
    told = store.find(
        session,
        actor=None,
        action=Action.AUDIT_PRUNE,
        subject=None,
        run=None,
        since=None,
        until=None,
        limit=ALL,
    )
    at = {read_leaf(each.leaf)[0].event.digest: seals.place(session, each.writer, each.seq) for each in told}
    for ranges in batches(session).values():
        taken, writer, first, count = digest(ranges), *ranges[0]
        if taken not in at:
            return f"{count} events of writer {writer} from {first} on are missing: no event tells of their pruning"
        if (telling := at[taken]) is not None and any(_later(session, each, telling) for each in ranges):
            return f"{count} events of writer {writer} from {first} on are missing: told of before they were there"
    return None


def _later(session: Session, taken: Range, index: int) -> bool:
    """Whether a pruning took something that stands behind that place of the log: it can only take what there was."""
    writer, first, count = taken
    last = seals.place(session, writer, first + count - 1)
    return last is None or last > index


def _place(row: AuditEventRow | Pruned) -> tuple[int, int]:
    return row.writer, row.seq


def _pruned(session: Session) -> Iterator[Pruned]:
    wanted = select(PrunedRow.writer, PrunedRow.first_seq, PrunedRow.count)
    for writer, first, count in session.execute(wanted.order_by(PrunedRow.writer, PrunedRow.first_seq)).all():
        for seq, found in enumerate(hashes(session, writer, first, count), start=first):
            yield Pruned(writer, seq, found)


def hashes(session: Session, writer: int, first: int, count: int) -> Iterator[bytes]:
    """The leaf hashes of sealed neighbours of a chain, from the tree; fewer where they have no place in it."""
    tile, number = b"", -1
    for span in seals.spans_of(session, writer, first, count):
        begin = max(first, span.first_seq)
        for seq in range(begin, min(first + count, span.first_seq + span.count)):
            wanted, at = divmod(span.first_index + seq - span.first_seq, WIDTH)
            if wanted != number:
                tile, number = seals.load_tile(session, 0, wanted), wanted
            yield tile[at * HASH_BYTES : (at + 1) * HASH_BYTES]
