"""Where the pages of a slice come from: a part of the source, records due again, records gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import polars as pl

from hub.decisions import Standing
from hub.mappings import Compiled, Pipeline
from hub.runs.types import Claim, Run, SliceKind
from hub.sdk import Cursor, Selection, Source


@dataclass(frozen=True, slots=True)
class Load:
    """What one page brings: records as read, and the keys of records that the source has no more.

    `frame` is a page (`Entity.page_schema`), `gone` has the key columns, `cursor` stands after the page. `forced`
    says that the records are due whatever their digest says.
    """

    frame: pl.DataFrame
    gone: pl.DataFrame
    cursor: str | None = None
    forced: bool = False
    segment: int | None = None

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

    def pages(self, source: Source, claim: Claim, after: str | None, seen: list[bytes]) -> Iterator[Load]:
        """The pages of a slice that are still to do. `seen` are the key hashes of a full run's pages."""
        if claim.kind is SliceKind.READ:
            return self._read(source, claim, after)
        if claim.kind is SliceKind.DUE:
            return self._due(source, claim)
        return self._absent(source, claim, seen)

    def _read(self, source: Source, claim: Claim, after: str | None) -> Iterator[Load]:
        assert claim.selection is not None
        selection = replace(Selection.from_json(claim.selection), page_rows=claim.page_rows)
        cursor = Cursor.from_json(after) if after is not None else None
        for page in source.read(selection, after=cursor):
            yield Load(page.frame, self._no_keys(), page.cursor.to_json())

    def _due(self, source: Source, claim: Claim) -> Iterator[Load]:
        mapping = self._run.mapping
        standing = (
            chain.from_iterable(self._standing.in_state(mapping, state) for state in claim.subject)
            if claim.subject
            else self._standing.due(mapping, self._run.logical_at)
        )
        for frame in standing:
            for part in frame["_key"].struct.unnest().iter_slices(claim.page_rows):
                yield self.fetch(source, part, forced=True)

    def _absent(self, source: Source, claim: Claim, seen: list[bytes]) -> Iterator[Load]:
        hashes = np.frombuffer(b"".join(seen), dtype=np.uint64)
        for frame in self._standing.unseen(self._run.mapping, hashes):
            for part in frame["_key"].struct.unnest().iter_slices(claim.page_rows):
                yield self.fetch(source, part, forced=False)

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
