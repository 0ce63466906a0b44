"""Where the pages of a slice come from: the source or a part of it, a live one, records due again or gone."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from hub.decisions import Standing, key_hash, key_text
from hub.mappings import Compiled, Pipeline
from hub.runs.types import Claim, Run, SliceKind
from hub.sdk import Cursor, Live, Selection, Source


@dataclass(frozen=True, slots=True)
class Load:
    """What one page brings: records as read, and the keys of records that the source has no more.

    `frame` is a page (`Entity.page_schema`), `gone` has the key columns, `cursor` stands after the page. `forced`
    says that the records are due whatever their digest says, `gap` that what moved before may never be told, `since`
    when the oldest change was made that a live source tells of here.
    """

    frame: pl.DataFrame
    gone: pl.DataFrame
    cursor: str | None = None
    forced: bool = False
    segment: int | None = None
    gap: bool = False
    since: datetime | None = None

    @property
    def rows(self) -> int:
        """Records in the page, the gone ones too."""
        return self.frame.height + self.gone.height


class Loader:
    """Makes the pages of one run's slices; reads through one source, in the thread that iterates."""

    def __init__(self, compiled: Compiled, pipeline: Pipeline, run: Run, standing: Standing) -> None:
        self._entity = compiled.source
        self._pipeline = pipeline
        self._run = run
        self._standing = standing

    def pages(self, source: Source, claim: Claim, after: str | None, seen: np.ndarray) -> Generator[Load]:
        """The pages of a slice that are still to do. `seen` are the key hashes that the run met before."""
        if claim.kind is SliceKind.READ:
            return self._read(source, claim, after)
        if claim.kind is SliceKind.DUE:
            return self._due(source, claim, after, seen)
        absent = self._standing.unseen(self._run.mapping, seen)
        return self._standing_pages(source, claim, after, absent, forced=False)

    def _read(self, source: Source, claim: Claim, after: str | None) -> Generator[Load]:
        assert claim.selection is not None
        planned = Selection.from_json(claim.selection)
        # The fields and the filter are those of the mapping as the run is carried now: a resumed run may have a newer.
        now = self._pipeline.selection(self._run.logical_at, incremental=True, page_rows=claim.page_rows)
        selection = replace(now, part=planned.part, changed_by=planned.changed_by)
        cursor = Cursor.from_json(after) if after is not None else None
        for page in source.read(selection, after=cursor):
            yield Load(page.frame, self._no_keys(), page.cursor.to_json())

    def follow(self, live: Live, claim: Claim, after: str | None) -> Generator[Load]:
        """The pages that a live source tells, each acknowledged when the next is asked for: it is stored by then.

        Records that left the selection come too, since nothing else would tell of them soon.
        """
        wanted = self._pipeline.selection(self._run.logical_at, incremental=False, page_rows=claim.page_rows)
        cursor = Cursor.from_json(after) if after is not None else None
        for page in live.follow(replace(wanted, where=None), after=cursor):
            # An empty cursor is no place yet: whoever followed from it would begin with a gap again.
            place = page.cursor.to_json() if page.cursor.state else None
            yield Load(page.frame, self._no_keys(), place, gap=page.gap, since=page.since)
            live.acknowledge(page.cursor)

    def _due(self, source: Source, claim: Claim, after: str | None, seen: np.ndarray) -> Generator[Load]:
        mapping = self._run.mapping
        standing = (
            self._standing.in_state(mapping, *claim.subject)
            if claim.subject
            else self._standing.due(mapping, self._run.logical_at)
        )
        fresh = (each.filter(~np.isin(key_hash(each["_key"]), seen)) for each in standing) if seen.size else standing
        return self._standing_pages(source, claim, after, fresh, forced=True)

    def _standing_pages(
        self, source: Source, claim: Claim, after: str | None, standing: Iterable[pl.DataFrame], *, forced: bool
    ) -> Generator[Load]:
        """Records that stand, fetched by key. They come in key order, so the last one is where a page ends.

        Without that a record that stays as it was, say rejected again, would come again after every restart.
        """
        for frame in standing:
            texts = key_text(frame["_key"])
            left = frame if after is None else frame.filter(texts > after)
            for part in left["_key"].to_frame().iter_slices(claim.page_rows):
                load = self.fetch(source, part["_key"].struct.unnest(), forced=forced)
                yield replace(load, cursor=key_text(part["_key"])[-1])

    def fetch(self, source: Source, keys: pl.DataFrame, *, forced: bool) -> Load:
        """The records of these keys as they stand now, whether selected or not."""
        selection = replace(
            self._pipeline.selection(self._run.logical_at, incremental=False, page_rows=max(1, keys.height)), where=None
        )
        frames = [page.frame for page in source.lookup(selection, keys)]
        empty = pl.DataFrame(schema=self._entity.page_schema(selection.fields))
        frame = pl.concat([empty, *frames]).filter(~pl.col("_deleted").fill_null(value=False))
        found = frame.get_column("_key").struct.unnest() if frame.height else self._no_keys()
        gone = keys.join(found, on=list(self._entity.key), how="anti")
        return Load(frame, gone, None, forced)

    def _no_keys(self) -> pl.DataFrame:
        return pl.DataFrame(schema=self._entity.schema(self._entity.key))
