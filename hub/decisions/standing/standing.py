"""Where each record of a mapping stands now: blocks of neighbouring keys, with single rows laid over them.

All changes to one mapping's standing are in one order, given by its head row, which is locked from `put` to the end of
the caller's transaction. A block carries the number of the change that wrote it; rows laid over count for a block when
their number is higher. So whoever reads number, rows and blocks in that order sees nothing torn.
"""

from __future__ import annotations

import secrets
import threading
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import polars as pl
from sqlalchemy.orm import Session

from hub.database import Database
from hub.decisions import store
from hub.decisions.keytext import key_text
from hub.decisions.log.rows import packed, unpacked
from hub.decisions.standing import blocks
from hub.decisions.standing.blocks import TEXT
from hub.decisions.standing.snapshot import (
    Block,
    Over,
    Prepared,
    Snapshot,
    View,
    carried,
    is_blank,
    packed_parts,
    place_of_each,
    places_of,
)
from hub.decisions.types import KEY, LEFT, IntegrityError
from hub.keys import KeyRing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

KEPT_BLOCKS = 24
"""Blocks kept open per process for those who ask for few keys; each takes some megabytes."""
PASSED_BLOCKS = 8
"""Blocks that a page of many keys leaves open behind it: the pages of a run come in order, and no page comes back."""
SCANNED = 6
"""Blocks read at once by whoever looks through all of them."""
SCATTERED = 0.05
"""Share of a block's rows below which updates are laid over it rather than rewriting it."""
OVER_COUNT = 64
"""Separate puts laid over, above which they are gathered into one."""
OVER_ROWS = 20_000
OVER_SHARE = 0.15
"""Rows laid over, above which (and above that share of all) every put rewrites the blocks it touches."""
TIDY_EVERY = 8
LOOKS = 100
FEW_KEYS = 256
"""Keys up to which a view picks single rows out of their blocks."""
SPARSE = 8
"""Rows of the blocks that some keys lie in, for each of the keys, above which the other rows are not kept together."""


class _MovedError(Exception):
    """A block was written by another between two statements: look again."""


class _Picked(NamedTuple):
    """Where some scattered keys stood, in a mapping's standing of that number and epoch."""

    of: tuple[str, int, int]
    texts: frozenset[str]
    rows: list[pl.DataFrame]


class Standing:
    """The standing of every mapping. Safe to share between threads; only committed state is kept between calls."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys
        self._snapshots: dict[str, Snapshot] = {}
        self._open: OrderedDict[int, pl.DataFrame] = OrderedDict()
        self._picked: _Picked | None = None
        self._lock = threading.Lock()

    # --- reading ------------------------------------------------------------------------------------------------------

    def view(
        self, mapping: str, keys: pl.DataFrame | pl.Series, fields: Mapping[str, pl.DataType] | None = None
    ) -> View:
        """How the keys stand (a struct series such as `_key`, or a frame of the key's columns).

        `fields` gives the target fields that `values` shall have, with their types; without it, those ever kept.
        """
        texts = key_text(keys if isinstance(keys, pl.Series) else keys.to_struct(KEY))
        snapshot, rows = self._seen(mapping, lambda session, now: self._matching(session, now, texts))
        return View(mapping, blocks.nested(blocks.aligned(texts, rows), fields), snapshot)

    def due(
        self, mapping: str, now: datetime, fields: Mapping[str, pl.DataType] | None = None
    ) -> Iterator[pl.DataFrame]:
        """The records whose due time has come, `_key` and standing columns, block by block."""

        def may_hold(snapshot: Snapshot, at: int) -> bool:
            block = snapshot.blocks[at]
            if block.due is not None and block.due <= now:
                return True
            return any((rows["due"] <= now).any() for rows in snapshot.newer(at))

        for rows in self._scan(mapping, may_hold):
            yield from _nonempty(rows.filter(pl.col("due") <= now), fields)

    def unseen(
        self, mapping: str, seen: NDArray[np.uint64], fields: Mapping[str, pl.DataType] | None = None
    ) -> Iterator[pl.DataFrame]:
        """The records that stand (and have not left) but whose key's hash is not in `seen`, block by block."""
        import numpy as np

        from hub.decisions.keyhash import among, in_order, key_hash

        known = in_order(seen)
        for rows in self._scan(mapping):
            hashes = key_hash(rows[KEY])
            ordered = np.sort(hashes)
            missing = ordered[~among(ordered, known)]
            if missing.size:
                unseen = pl.Series(among(hashes, missing))
                yield from _nonempty(rows.filter(unseen & (rows["state"] != LEFT)), fields)

    def in_state(
        self, mapping: str, *states: str, fields: Mapping[str, pl.DataType] | None = None
    ) -> Iterator[pl.DataFrame]:
        """The records that stand in one of these states, block by block in key order."""

        def may_hold(snapshot: Snapshot, at: int) -> bool:
            held = snapshot.blocks[at].states
            return any(held.get(state) for state in states) or bool(snapshot.newer(at))

        for rows in self._scan(mapping, may_hold):
            yield from _nonempty(rows.filter(pl.col("state").is_in(states)), fields)

    def key_type(self, mapping: str) -> pl.Struct | None:
        """The type of the keys that stand; None before the first."""

        def look(session: Session, snapshot: Snapshot) -> pl.DataType | None:
            if snapshot.over:
                return snapshot.over[-1].rows.schema[KEY]
            some = next((at for at, each in enumerate(snapshot.blocks) if each.rows), None)
            return None if some is None else self._plain(session, snapshot, [some], KEPT_BLOCKS)[0].schema[KEY]

        _, kind = self._seen(mapping, look)
        return kind if isinstance(kind, pl.Struct) else None

    def states(self, mapping: str) -> dict[str, int]:
        """How many records stand in each state."""

        def count(session: Session, snapshot: Snapshot) -> list[Mapping[str, int]]:
            covered = [at for at in range(len(snapshot.blocks)) if snapshot.newer(at)]
            plain = [each.states for at, each in enumerate(snapshot.blocks) if at not in set(covered)]
            return [*plain, *(blocks.counted(rows) for rows in self._rows(session, snapshot, covered))]

        _, counts = self._seen(mapping, count)
        total: Counter[str] = Counter()
        for each in counts:
            total.update(each)
        return dict(sorted(total.items()))

    # --- writing ------------------------------------------------------------------------------------------------------

    def prepare(self, view: View, updates: pl.DataFrame) -> Prepared | None:
        """The costly part of `put`, which needs no transaction; None where there is nothing to write."""
        if updates.is_empty():
            return None
        rows = blocks.flat(updates)
        with self._database.read() as session:
            try:
                return self._plan(session, view.snapshot, rows)
            except _MovedError:
                return Prepared(view.snapshot, rows)

    def put(self, session: Session, view: View, updates: pl.DataFrame | Prepared | None) -> Snapshot | None:
        """Stores how records stand now, in the caller's transaction; later calls wait for its end, so call it late.

        Answers the standing as it is with that, for `keep`; None where it has to be read.

        `updates` has `_key` (or the key's columns) and all standing columns, or is what `prepare` made of them; records
        not in it stay as they are. What others changed since the view was made is kept, record by record.
        """
        plan = self.prepare(view, updates) if isinstance(updates, pl.DataFrame) else updates
        if plan is None:
            return None
        seq, epoch = store.advance_head(session, view.mapping)
        if (seq, epoch) != (plan.snapshot.seq + 1, plan.snapshot.epoch) or is_blank(plan):
            current = self._synced(session, plan.snapshot)
            plan = carried(plan, current) or self._plan(session, current, plan.updates)
        for at, parts in plan.rewrites.items():
            for number, (low, rows, content) in enumerate(parts):
                known = at >= 0 and number == 0
                block_id = plan.snapshot.blocks[at].id if known else secrets.randbits(62)
                self._write_block(session, view.mapping, (block_id, low), rows, content, seq)
        after = self._lay_over(session, plan, seq)
        return None if plan.rewrites or plan.snapshot.seq != seq - 1 else after

    def keep(self, snapshot: Snapshot | None) -> None:
        """Remembers what `put` answered, once its transaction is committed: the next look need not read it again."""
        if snapshot is None:
            return
        with self._lock:
            kept = self._snapshots.get(snapshot.mapping)
            if kept is None or (kept.epoch, kept.seq) < (snapshot.epoch, snapshot.seq):
                self._snapshots[snapshot.mapping] = snapshot

    def remove(self, session: Session, mapping: str, keys: pl.Series) -> int:
        """Forgets records and takes their values out of every block; answers how many there were."""
        seq, _ = store.advance_head(session, mapping)
        snapshot = self._synced(session, Snapshot(mapping))
        texts = key_text(keys)
        gone = pl.col(TEXT).is_in(texts.implode())
        removed = 0
        for at in places_of(snapshot, texts):
            rows = self._rows(session, snapshot, [at])[0]
            left = rows.filter(~gone)
            if left.height < rows.height:
                removed += rows.height - left.height
                block = snapshot.blocks[at]
                self._write_block(session, mapping, (block.id, block.low), left, packed(left), seq)
        for each in snapshot.over:
            left = each.rows.filter(~gone)
            if left.height < each.rows.height:
                store.drop_rows(session, mapping, [each.seq])
                if not left.is_empty():
                    self._write_over(session, mapping, left, each.seq)
        return removed

    def lock(self, session: Session, mapping: str) -> None:
        """Keeps every other `put` of the mapping waiting until the caller's transaction ends."""
        store.advance_head(session, mapping)

    def clear(self, session: Session, mapping: str) -> None:
        """Forgets every record of a mapping."""
        store.clear_standing(session, mapping)

    def fold(self, mapping: str, most: int = 8, *, share: float = 0.0) -> int:
        """Rewrites up to `most` blocks that have rows laid over, in a transaction of its own; answers how many.

        With a `share`, only where so much of a block is laid over: less costs a reader less than writing it anew.
        """
        with self._database.read() as session:
            if not self._laden(self._current(session, mapping), share):
                return 0
        with self._database.begin() as session:
            seq, _ = store.advance_head(session, mapping)
            snapshot = self._synced(session, Snapshot(mapping))
            chosen = self._laden(snapshot, share)[:most]
            plan = Prepared(snapshot, blocks.empty())
            for at, rows in zip(chosen, self._rows(session, snapshot, chosen), strict=True):
                block, content = snapshot.blocks[at], packed(rows)
                plan.rewrites[at] = [(block.low, rows, content)]
                self._write_block(session, mapping, (block.id, block.low), rows, content, seq)
            self._gather(session, plan, seq)
        return len(chosen)

    @staticmethod
    def _laden(snapshot: Snapshot, share: float) -> list[int]:
        """The blocks of which more than this share is laid over."""
        laid = [sum(rows.height for rows in snapshot.newer(at)) for at in range(len(snapshot.blocks))]
        return [at for at, each in enumerate(snapshot.blocks) if laid[at] > share * each.rows]

    def _plan(self, session: Session, snapshot: Snapshot, updates: pl.DataFrame) -> Prepared:
        plan = Prepared(snapshot, updates)
        if not snapshot.blocks:
            plan.rewrites[-1] = packed_parts("", updates)
            return plan
        over = []
        everything = sum(each.rows for each in snapshot.blocks)
        full = sum(each.rows.height for each in snapshot.over) > max(OVER_ROWS, OVER_SHARE * everything)
        for at in places_of(snapshot, updates[TEXT]):
            block = snapshot.blocks[at]
            fresh = blocks.between(updates, block.low, snapshot.high(at))
            if not full and fresh.height < SCATTERED * block.rows:
                over.append(fresh)
            else:
                rows = blocks.laid_over(self._rows(session, snapshot, [at])[0], [fresh])
                plan.rewrites[at] = packed_parts(block.low, rows)
        plan.over = blocks.stacked(over) if over else None
        return plan

    def _lay_over(self, session: Session, plan: Prepared, seq: int) -> Snapshot:
        snapshot = plan.snapshot
        if len(snapshot.over) >= OVER_COUNT or (snapshot.over and plan.rewrites and seq % TIDY_EVERY == 0):
            return self._gather(session, plan, seq)
        over = [] if plan.over is None else [self._write_over(session, snapshot.mapping, plan.over, seq)]
        return snapshot.then(seq, over)

    def _gather(self, session: Session, plan: Prepared, seq: int) -> Snapshot:
        """Puts one in place of all that was laid over, leaving out what a block has taken in."""
        snapshot = plan.snapshot
        written = pl.Series(
            [seq if at in plan.rewrites else each.seq for at, each in enumerate(snapshot.blocks)], dtype=pl.Int64
        )
        kept = []
        for each in snapshot.over:
            live = written.gather(place_of_each(snapshot, each.rows[TEXT])) < each.seq
            if live.any():
                kept.append(each.rows.filter(live))
        store.drop_rows(session, snapshot.mapping, [each.seq for each in snapshot.over])
        if plan.over is not None:
            kept.append(plan.over)
        rows = blocks.laid_over(blocks.empty(), kept)
        over = [self._write_over(session, snapshot.mapping, rows, seq)] if kept else []
        return snapshot.then(seq, over, instead=True)

    def _write_over(self, session: Session, mapping: str, rows: pl.DataFrame, seq: int) -> Over:
        sealed = self._keys.seal(packed(rows), _identity("standing_row", mapping, seq))
        named = {"mapping": mapping, "seq": seq, "rows": rows.height, "due": rows["due"].min(), "sealed": sealed}
        store.write_rows(session, named)
        return Over(seq, rows, rows[TEXT][0], rows[TEXT][-1])

    def _write_block(
        self, session: Session, mapping: str, place: tuple[int, str], rows: pl.DataFrame, content: bytes, seq: int
    ) -> None:
        block_id, low = place
        token = secrets.randbits(62)
        facts = {
            "mapping": mapping,
            "id": block_id,
            "seq": seq,
            "token": token,
            "low": self._keys.seal(low.encode(), _identity("standing_low", mapping, block_id)),
            "rows": rows.height,
            "states": blocks.counted(rows),
            "due": rows["due"].min(),
        }
        sealed = self._keys.seal(content, _identity("standing_block", mapping, block_id, token))
        store.write_block(session, facts, sealed)

    # --- what this process knows --------------------------------------------------------------------------------------

    def _seen(self, mapping: str, look: Callable[[Session, Snapshot], T]) -> tuple[Snapshot, T]:
        """What `look` finds in the standing as it is now, again where a block moved under it."""
        for _ in range(LOOKS):
            with self._database.read() as session:
                snapshot = self._current(session, mapping)
                try:
                    return snapshot, look(session, snapshot)
                except _MovedError:
                    continue
        raise IntegrityError(f"the standing of {mapping} names a block that is not there")

    def _scan(
        self, mapping: str, may_hold: Callable[[Snapshot, int], bool] = lambda _snapshot, _at: True
    ) -> Iterator[pl.DataFrame]:
        """The rows of every block that may hold what is looked for, in key order, some blocks at a time.

        Each is as it is when it is reached.
        """
        position: str | None = ""

        def look(session: Session, snapshot: Snapshot) -> tuple[pl.DataFrame | None, str | None]:
            assert position is not None
            left = range(max(bisect_right(snapshot.lows, position) - 1, 0), len(snapshot.blocks))
            places = list(islice((at for at in left if may_hold(snapshot, at)), SCANNED))
            if not places:
                return None, None
            rows = blocks.stacked(self._rows(session, snapshot, places))
            return blocks.between(rows, position, None), snapshot.high(places[-1])

        while position is not None:
            _, (rows, position) = self._seen(mapping, look)
            if rows is not None and not rows.is_empty():
                yield rows

    def _matching(self, session: Session, snapshot: Snapshot, texts: pl.Series) -> list[pl.DataFrame]:
        """Rows of the touched blocks; only those of the keys where these are few."""
        if len(texts) > FEW_KEYS:
            places = places_of(snapshot, texts)
            if sum(snapshot.blocks[at].rows for at in places) <= SPARSE * len(texts):
                return self._rows(session, snapshot, places)
            return self._few_of_many(session, snapshot, places, texts)
        found, below = [], dict[int, list[str]]()
        for text in dict.fromkeys(texts.to_list()):
            at = snapshot.place(text)
            top = snapshot.tops.get(text)
            if not snapshot.blocks:
                continue
            if top is not None and top[0] > snapshot.blocks[at].seq:
                found.append(top[1].slice(top[2], 1))
            else:
                below.setdefault(at, []).append(text)
        plain = self._plain(session, snapshot, list(below), KEPT_BLOCKS)
        return [*found, *(blocks.picked(rows, wanted) for rows, wanted in zip(plain, below.values(), strict=True))]

    def _few_of_many(
        self, session: Session, snapshot: Snapshot, places: Sequence[int], texts: pl.Series
    ) -> list[pl.DataFrame]:
        """The rows of keys that lie scattered, some blocks at a time: all of these together would be most there is.

        A page is looked up when it is judged and again when it is settled; where nothing was written in between, the
        blocks are not opened twice.
        """
        of, asked = (snapshot.mapping, snapshot.seq, snapshot.epoch), frozenset(texts.to_list())
        with self._lock:
            picked = self._picked
        if picked is not None and picked.of == of and asked <= picked.texts:
            return picked.rows
        wanted, found = texts.alias(TEXT).to_frame(), list[pl.DataFrame]()
        for first in range(0, len(places), PASSED_BLOCKS):
            rows = blocks.stacked(self._rows(session, snapshot, places[first : first + PASSED_BLOCKS]))
            found.append(rows.join(wanted, on=TEXT, how="semi", maintain_order="left"))
        with self._lock:
            self._picked = _Picked(of, asked, found)
        return found

    def _rows(self, session: Session, snapshot: Snapshot, places: Sequence[int]) -> list[pl.DataFrame]:
        """The rows of blocks with what is laid over them."""
        plain = self._plain(session, snapshot, places, PASSED_BLOCKS)
        return [blocks.laid_over(rows, snapshot.newer(at)) for at, rows in zip(places, plain, strict=True)]

    def _plain(self, session: Session, snapshot: Snapshot, places: Sequence[int], most: int) -> list[pl.DataFrame]:
        """The rows of blocks; `most` stay open, those used last."""
        wanted = [snapshot.blocks[at] for at in places]
        with self._lock:
            found = {each.id: self._open[each.token] for each in wanted if each.token in self._open}
        missing = [each for each in wanted if each.id not in found]
        blobs = store.load_blobs(session, snapshot.mapping, [each.id for each in missing]) if missing else {}
        for each in missing:
            token, sealed = blobs.get(each.id, (-1, b""))
            if token != each.token:
                raise _MovedError
            identity = _identity("standing_block", snapshot.mapping, each.id, token)
            found[each.id] = unpacked(self._keys.open(sealed, identity))
        self._keep({each.token: found[each.id] for each in wanted}, most)
        return [found[each.id] for each in wanted]

    def _keep(self, opened: Mapping[int, pl.DataFrame], most: int) -> None:
        with self._lock:
            for token, rows in opened.items():
                self._open[token] = rows
                self._open.move_to_end(token)
            while len(self._open) > most:
                self._open.popitem(last=False)

    def _current(self, session: Session, mapping: str) -> Snapshot:
        """The mapping's standing as committed; kept for the next call."""
        with self._lock:
            known = self._snapshots.get(mapping, Snapshot(mapping))
        if store.read_head(session, mapping) == (known.seq, known.epoch):
            return known
        fresh = self._synced(session, known)
        self.keep(fresh)
        return fresh

    def _synced(self, session: Session, known: Snapshot) -> Snapshot:
        """What was known and what was written since. The order of the three reads matters: see the module's text."""
        seq, epoch = store.read_head(session, known.mapping)
        if epoch != known.epoch:
            known = Snapshot(known.mapping)
        kept = {each.seq: each for each in known.over}
        over = tuple(
            kept.get(each.seq) or self._over(known.mapping, each)
            for each in store.list_rows(session, known.mapping, known.seq)
        )
        merged = {each.id: each for each in known.blocks}
        for row in store.list_blocks(session, known.mapping, known.seq):
            merged[row.id] = self._block(row, merged.get(row.id))
        ordered = tuple(sorted(merged.values(), key=lambda each: each.low))
        return Snapshot(known.mapping, seq, epoch, ordered, over, tuple(each.low for each in ordered))

    def _block(self, row: store.StandingBlockRow, known: Block | None) -> Block:
        low = known.low if known else self._keys.open(row.low, _identity("standing_low", row.mapping, row.id)).decode()
        return Block(row.id, low, row.seq, row.token, row.rows, row.states, row.due)

    def _over(self, mapping: str, row: store.OverRow) -> Over:
        assert row.sealed is not None
        rows = unpacked(self._keys.open(row.sealed, _identity("standing_row", mapping, row.seq)))
        return Over(row.seq, rows, rows[TEXT][0], rows[TEXT][-1])


def _nonempty(rows: pl.DataFrame, fields: Mapping[str, pl.DataType] | None) -> Iterator[pl.DataFrame]:
    if not rows.is_empty():
        yield pl.concat([rows.select(KEY), blocks.nested(rows, fields)], how="horizontal")


def _identity(what: str, mapping: str, *numbers: int) -> dict[str, str]:
    return {"kind": what, "mapping": mapping, "at": ".".join(map(str, numbers))}
