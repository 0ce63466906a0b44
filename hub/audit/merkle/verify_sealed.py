"""Verifies that every sealed event still stands at its place, that the tree is the one the checkpoints were signed
over, and that it contains what checkpoints kept outside speak of.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from hub.audit.merkle import seals
from hub.audit.merkle.note import Checkpoint, LogKeys, open_checkpoint
from hub.audit.merkle.seals import Span
from hub.audit.merkle.tree import EMPTY_ROOT, HASH_BYTES, WIDTH, Peaks, Tree
from hub.audit.store import AuditEventRow
from hub.audit.types import AuditError, Pruned
from hub.audit.verify import FaultError

LATE = timedelta(days=1)
"""An event that tells of a moment so long before what was sealed ahead of it was not written when it says it was.

What is written is sealed within seconds; only a process that was frozen between event and commit is later.
"""
TILES_HELD = 256


class Sealed:
    """What the log says of one database, beside the walk over its events."""

    def __init__(self, session: Session, known: LogKeys) -> None:
        self._session = session
        self._known = known
        self._head = head[0] if (head := seals.head(session)) is not None else 0
        self._sizes = [each for each in seals.sizes(session) if each <= self._head]
        self._earliest = array("d", [float("inf")] * (len(self._sizes) + 1))
        self._latest = array("d", [float("-inf")] * (len(self._sizes) + 1))
        self._first: dict[int, str] = {}
        self._tiles: OrderedDict[int, bytes] = OrderedDict()

    @property
    def size(self) -> int:
        """How many events are sealed."""
        return self._head

    def watch(self, rows: Iterable[AuditEventRow | Pruned]) -> Generator[AuditEventRow | Pruned, None, None]:
        """The same rows, in the order of writer and place, each compared with its place in the log once it is used."""
        spans = self._within(seals.spans_by_writer(self._session))
        span, seen = next(spans, None), 0
        for row in rows:
            yield row
            while span is not None and (span.writer, span.first_seq + span.count) <= (row.writer, row.seq):
                self._check_whole(span, seen)
                span, seen = next(spans, None), 0
            if span is not None and span.writer == row.writer and row.seq >= span.first_seq:
                seen += 1
                self._check_place(row, span.first_index + row.seq - span.first_seq)
            elif isinstance(row, Pruned):
                raise FaultError(f"event {row.seq} of writer {row.writer} is missing: it was not sealed")
            else:
                self._note_moment(row, len(self._sizes))
        while span is not None:
            self._check_whole(span, seen)
            span, seen = next(spans, None), 0

    def check(self, known: Iterable[str]) -> int:
        """Checks places, moments, tree and checkpoints; how many of the notes `known` from outside agree."""
        self._check_spans()
        self._check_moments()
        opened = [self._opened(each) for each in known]
        sizes = {each.size for each in opened if isinstance(each, Checkpoint)}
        roots = self._check_tree({*sizes, *self._known.roots})
        for size, root in self._known.roots.items():
            if roots.get(size) != root:
                raise FaultError(f"history was rewritten: the first {size} events are not those of a change of the key")
        return self._check_known(opened, roots)

    def _within(self, spans: Iterator[Span]) -> Iterator[Span]:
        return (each for each in spans if each.first_index < self._head)

    def _check_whole(self, span: Span, seen: int) -> None:
        if seen < span.count:
            raise FaultError(
                f"event {span.first_seq + seen} of writer {span.writer} is missing, though it was sealed as "
                f"number {span.first_index + seen} of the log"
            )

    def _check_place(self, row: AuditEventRow | Pruned, index: int) -> None:
        number, at = divmod(index, WIDTH)
        tile = self._tiles.get(number)
        if tile is None:
            tile = self._tiles[number] = seals.load_tile(self._session, 0, number)
            if len(self._tiles) > TILES_HELD:
                self._tiles.popitem(last=False)
        if tile[at * HASH_BYTES : (at + 1) * HASH_BYTES] != row.leaf_hash:
            raise FaultError(
                f"event {row.seq} of writer {row.writer} is not the one that was sealed as number {index} of the log"
            )
        if not isinstance(row, Pruned):
            self._note_moment(row, bisect_right(self._sizes, index))

    def _note_moment(self, row: AuditEventRow, batch: int) -> None:
        moment = row.at.timestamp()
        if moment < self._earliest[batch]:
            self._earliest[batch] = moment
            self._first[batch] = f"event {row.seq} of writer {row.writer}"
        self._latest[batch] = max(self._latest[batch], moment)

    def _check_moments(self) -> None:
        latest = float("-inf")
        for batch in range(len(self._earliest)):
            if self._earliest[batch] < latest - LATE.total_seconds():
                raise FaultError(
                    f"{self._first[batch]} was back-dated: it tells of {_day(self._earliest[batch])}, and what was "
                    f"sealed before it of {_day(latest)}"
                )
            latest = max(latest, self._latest[batch])

    def _check_spans(self) -> None:
        reached = 0
        for span in self._within(seals.spans_by_index(self._session)):
            if span.first_index != reached:
                raise FaultError(f"number {min(reached, span.first_index)} of the log has no event, or two")
            reached += span.count
        if reached != self._head:
            raise FaultError(f"the log says it holds {self._head} events, and {reached} have a place in it")

    def _check_tree(self, wanted: Collection[int]) -> dict[int, bytes]:
        """The roots at the sizes wanted, over the leaves: the nodes that are stored could be those of another log."""
        peaks, leaves, roots = Peaks(), self._leaves(), dict[int, bytes]()
        for size, note in seals.notes(self._session):
            if size > self._head:
                break
            for _ in range(size - peaks.size):
                leaf = next(leaves, None)
                if leaf is None:
                    raise FaultError(f"the tree ends at {peaks.size}, and a checkpoint speaks of {size} events")
                peaks.append(leaf)
                if peaks.size in wanted:
                    roots[peaks.size] = peaks.root()
            self._check_note(note, size, peaks.root())
        if peaks.size != self._head:
            raise FaultError(f"the checkpoint over all {self._head} sealed events is missing")
        tree = Tree(lambda level, number: seals.load_tile(self._session, level, number))
        if self._head and tree.root(self._head) != peaks.root():
            raise FaultError("the stored nodes of the tree are not those over its leaves")
        return roots

    def _check_note(self, note: str, size: int, root: bytes) -> None:
        try:
            told = open_checkpoint(note, self._known)
        except AuditError as error:
            raise FaultError(f"checkpoint {size}: {error}") from None
        if (told.size, told.root) != (size, root):
            raise FaultError(f"the events up to {size} are not those that the checkpoint there was signed over")

    def _leaves(self) -> Iterator[bytes]:
        for tile in seals.leaf_tiles(self._session):
            for at in range(0, len(tile), HASH_BYTES):
                yield tile[at : at + HASH_BYTES]

    def _opened(self, note: str) -> Checkpoint | FaultError:
        try:
            return open_checkpoint(note, self._known)
        except AuditError as error:
            return FaultError(f"a checkpoint from outside: {error}")

    def _check_known(self, known: Iterable[Checkpoint | FaultError], roots: Mapping[int, bytes]) -> int:
        agreed = 0
        for told in known:
            if isinstance(told, FaultError):
                raise told
            if told.size > self._head:
                raise FaultError(
                    f"the database was rolled back: a checkpoint kept outside speaks of {told.size} sealed events, "
                    f"and {self._head} are here"
                )
            if roots.get(told.size, EMPTY_ROOT) != told.root:
                raise FaultError(
                    f"history was rewritten: the first {told.size} events are not those of a checkpoint kept outside"
                )
            agreed += 1
        return agreed


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")
