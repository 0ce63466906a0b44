"""A compiled mapping made ready to carry records: every stage prepared once, then used by any thread."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from hub.mappings.expressions import to_filter
from hub.mappings.pipeline.changes import Passengers, Writes
from hub.mappings.pipeline.digests import RowDigest
from hub.mappings.pipeline.intake import TARGET, Admitted, Featuring, Intake
from hub.mappings.pipeline.lookups import LookupStage, ReadLookup
from hub.mappings.pipeline.outcome import Decisions, Facts
from hub.mappings.types import Compiled
from hub.sdk import Changes, Selection


class Pipeline:
    """One published version of a mapping with its model version. Holds no record, does no I/O, never changes."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self.feature_names = tuple(compiled.features)
        self._digested = self.feature_names if compiled.in_place else (*self.feature_names, TARGET)
        self._intake = Intake(compiled)
        self._lookups = tuple(LookupStage(each, compiled.document.read.timezone) for each in compiled.lookups)
        self._featuring = Featuring(compiled)
        self._digest = RowDigest(compiled.document.digest, compiled.model.digest)
        self._decisions = Decisions(compiled)
        self._passengers = Passengers(compiled)
        self._writes = Writes(compiled)

    def selection(self, now: datetime, *, incremental: bool, page_rows: int) -> Selection:
        """What to ask the source for: never fewer records than `where` wants; `admit` applies the whole of it."""
        compiled = self.compiled
        read = compiled.document.read
        pushed = None
        if compiled.where is not None:
            pushed = to_filter(compiled.where, compiled.source.by_name, now=now).pushed
        return Selection(
            entity=read.entity,
            fields=compiled.fields,
            where=pushed,
            changed_by=read.changed_by if incremental else None,
            page_rows=page_rows,
        )

    def admit(self, page: pl.DataFrame, now: datetime) -> Admitted:
        """The records of a page that are due, with `_state` and `_reason`, and those that are not."""
        return self._intake.admit(page, now)

    def enrich(self, frame: pl.DataFrame, read_lookup: ReadLookup, now: datetime) -> pl.DataFrame:
        """The frame with the columns `<lookup>.<column>` of every lookup, in the order written."""
        for stage in self._lookups:
            frame = stage.enrich(frame, read_lookup, now)
        return frame

    def features(self, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """`_key _version _before _state _reason` (`_target` where another record is written) and the features."""
        return self._featuring.features(frame, now)

    def digest(self, featured: pl.DataFrame) -> pl.Series:
        """What identifies each score's input: 16 bytes over the feature values, the mapping version and the model.

        Where another record is written, its key counts as well: a score is due again when its target moves.
        """
        return self._digest.of(featured[list(self._digested)])

    def decide(self, featured: pl.DataFrame, predictions: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """Featured records with the model's outputs, the decided names, `_because` and `set.<field>`."""
        return self._decisions.decide(featured, predictions, now)

    def decide_late(self, featured: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """What `decide` gives where the model has not answered by the deadline: the fallback, marked as such."""
        return self._decisions.decide_late(featured, now)

    def passengers(self, decided: pl.DataFrame, reasons: pl.Series | None, now: datetime, facts: Facts) -> pl.DataFrame:
        """`_state`, `_reason`, `with.<field>` and the `set.<field>` that show reasons or facts."""
        return self._passengers.passengers(decided, reasons, now, facts)

    def worth_writing(self, decided: pl.DataFrame, last_written: pl.Series | None) -> pl.Series:
        """Per row, whether the record does not yet hold what was decided."""
        return self._writes.worth_writing(decided, last_written)

    def changes(self, decided: pl.DataFrame, passengers: pl.DataFrame | None) -> Changes:
        """The changes of decided records, in order; every row must be ready."""
        return self._writes.changes(decided, passengers)

    def clearing(self, keys: pl.Series, before: pl.Series | None = None) -> Changes:
        """Changes that empty every field this mapping writes."""
        return self._writes.clearing(keys, before)
