"""Turns a loaded page into decisions: who is due, what the model says, what would be written and what it replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from hub.decisions import HELD, INVALID, LEFT, PARKED, PLANNED, RELEASED, UNCHANGED, Standing, View
from hub.faults import reach
from hub.mappings import READY, Compiled, CompiledLookup, Facts, Pipeline
from hub.models import Scorer
from hub.runs.pages.columns import constant, put, renamed, split
from hub.runs.pages.loading import Load
from hub.runs.types import Counts

ReadLookup = Callable[[CompiledLookup, pl.DataFrame, datetime], Iterator[pl.DataFrame]]
ReadTargets = Callable[[pl.DataFrame, Sequence[str]], pl.DataFrame]
ReadRows = Callable[[pl.DataFrame], pl.Series]

SETTLED = ("applied", "unchanged", "left", "dropped", "undone", "planned")
"""Standings whose unmoved input needs no second look; the others are counted as what they are."""


def completed(decisions: pl.DataFrame, compiled: Compiled) -> pl.DataFrame:
    """The decisions with every column that the log wants, typed, null where a decision has nothing to say."""
    wanted: dict[str, pl.DataType] = {
        "_key": compiled.source.key_dtype(),
        "_target": compiled.target.key_dtype(),
        "_version": pl.String(),
        "_state": pl.String(),
        "_reason": pl.String(),
        "_because": pl.String(),
        "_digest": pl.Binary(),
        "_previous": pl.Struct({"segment": pl.Int64, "row": pl.UInt32}),
        "_reasons": pl.List(pl.Struct({"feature": pl.String, "effect": pl.Float64})),
        "_clear": pl.List(pl.String()),
    }
    for prefix, names in (
        ("set.", compiled.set),
        ("with.", compiled.with_),
        ("before.", {**compiled.set, **compiled.with_}),
    ):
        wanted |= {f"{prefix}{name}": compiled.target.by_name[name].dtype for name in names}
    schema, height = decisions.schema, decisions.height
    empty = [name for name, dtype in wanted.items() if schema.get(name, _NULL) == _NULL and dtype != _NULL]
    return put(decisions, *(constant(name, None, wanted[name], height) for name in empty)) if empty else decisions


_NULL = pl.Null()


@dataclass(frozen=True, slots=True)
class Featured:
    """A page's features with its digests, and the keys of records that are selected no more or gone altogether."""

    frame: pl.DataFrame
    outside: pl.DataFrame
    gone: pl.DataFrame
    forced: bool

    def only(self, keys: pl.Series) -> Featured:
        """Some of the page's records."""
        return replace(self, frame=self.frame.filter(pl.col("_key").is_in(keys.implode())))


@dataclass(frozen=True, slots=True)
class Sifted:
    """A page's records that need a decision, each with where it stands (`_st_…`); `idle` counts those that do not.

    `view` is where all that were looked at stand, those of `keys` in their order.
    """

    fresh: pl.DataFrame
    lost: pl.DataFrame
    idle: Counts
    keys: pl.DataFrame
    view: View


@dataclass(frozen=True, slots=True)
class Scored:
    """A model's outputs for the ready records of a page, in order, with their reasons where some are shown."""

    outputs: pl.DataFrame
    reasons: pl.Series | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """The decisions of a page (segment columns); `counts` explains every record but those planned."""

    decisions: pl.DataFrame
    counts: Counts
    planned: int


class Judge:
    """Judges the pages of one run. `features` may go on in a thread of its own, as the connections of lookups do."""

    def __init__(
        self,
        compiled: Compiled,
        pipeline: Pipeline,
        scorer: Callable[[], Scorer],
        standing: Standing,
        facts: Facts,
        readers: tuple[ReadLookup, ReadTargets, ReadRows],
    ) -> None:
        self._compiled = compiled
        self._pipeline = pipeline
        self._scorer = scorer
        self._standing = standing
        self._facts = facts
        self._now = facts.scored_at
        self._read_lookup, self._read_targets, self._read_rows = readers
        self._keys = list(compiled.source.key)
        self._targets = [*compiled.set, *compiled.with_]

    def features(self, load: Load) -> Featured:
        """The features of the selected records with their digests."""
        reach("before score", load.frame["_key"])
        admitted = self._pipeline.admit(load.frame, self._now)
        left, gone = self._key_columns(admitted.outside), load.gone
        if left.height:
            deleted, here = split(admitted.outside, admitted.outside["_deleted"].fill_null(value=False))
            left, gone = self._key_columns(here), pl.concat([self._key_columns(deleted), gone])
        enriched = self._pipeline.enrich(admitted.frame, self._read_lookup, self._now)
        featured = self._pipeline.features(enriched, self._now)
        featured = put(featured, self._pipeline.digest(featured).alias("_digest"))
        return Featured(featured, left, gone, load.forced)

    def sift(self, featured: Featured) -> Sifted:
        """Tells the records that need a decision from those whose input has not moved."""
        frame, keys = featured.frame, self._key_columns(featured.frame)
        lost = self._lost(featured)
        if lost.height:
            keys = pl.concat([keys, lost.select(self._keys)])
        fields = self._compiled.target.schema(self._targets)
        view = self._standing.view(self._compiled.document.mapping, keys, fields)
        stands = pl.DataFrame([each.alias(f"_st_{each.name}") for each in view.frame.get_columns()])
        here = self._marked(frame.hstack(stands.head(frame.height)), featured.forced)
        fresh, settled = split(here, here["_fresh"])
        idle: dict[str, int] = {}
        for state, number in settled["_st_state"].value_counts().iter_rows():
            outcome = "skipped" if state in SETTLED else state
            idle[outcome] = idle.get(outcome, 0) + number
        stood = lost.hstack(stands.tail(lost.height))
        if stood.height:
            left = pl.col("_st_state").is_in([LEFT, "dropped"])
            stood = stood.filter(pl.col("_st_state").is_not_null() & ~left)
        return Sifted(fresh, stood, Counts(sum(idle.values()), idle), keys, view)

    def _lost(self, featured: Featured) -> pl.DataFrame:
        """The keys of records selected no more, and whether they are gone altogether."""
        parts = [(featured.outside, False), (featured.gone, True)]
        listed = [
            each.hstack([constant("_gone", flag, pl.Boolean(), each.height)])
            for each, flag in parts
            if each.height or not flag
        ]
        return listed[0] if len(listed) == 1 else pl.concat(listed).unique(self._keys)

    def judge(self, sifted: Sifted, scored: Scored | None = None, *, park: str | None = None) -> Judged:
        """The decisions of a page. `park` is the reason to set its records aside unscored."""
        fresh = sifted.fresh
        if park is not None:
            fresh = fresh.with_columns(_state=pl.lit(PARKED), _reason=pl.lit(park))
        ready, rest = split(fresh, fresh["_state"] == READY)
        parts = [self._stored(rest)] if rest.height or not ready.height else []
        if sifted.lost.height:
            parts.append(self._leaving(sifted.lost))
        if ready.height:
            parts += self._decided(ready, scored)
        decisions = _joined(parts)
        by = dict(sifted.idle.by)
        planned = 0
        for state, number in decisions["_state"].value_counts().iter_rows():
            if state == PLANNED:
                planned = number
                continue
            outcome = "unchanged" if state == LEFT else state
            by[outcome] = by.get(outcome, 0) + number
        return Judged(decisions, Counts(sum(by.values()) + planned, by), planned)

    def blank(self, keys: pl.Series) -> Featured:
        """Records of which nothing but the key is known: every feature null, and ready."""
        compiled = self._compiled
        schema = {**compiled.source.page_schema(compiled.fields)}
        for lookup in compiled.lookups:
            schema |= {name: each.dtype for name, each in lookup.columns.items()}
        ready = (pl.lit(READY).alias("_state"), pl.lit(None, pl.String).alias("_reason"))
        frame = pl.DataFrame(schema=schema).clear(len(keys)).with_columns(keys.alias("_key"), *ready)
        featured = self._pipeline.features(frame, self._now).with_columns(ready)
        featured = featured.with_columns(self._pipeline.digest(featured).alias("_digest"))
        none = self._key_columns(featured.clear())
        return Featured(featured, none, none, forced=True)

    def judge_late(self, sifted: Sifted) -> pl.DataFrame:
        """The decisions of the mapping's fallback alone, the model not having answered in time."""
        fresh = sifted.fresh
        ready = pl.col("_state") == READY
        decided = self._pipeline.decide_late(fresh.filter(ready), self._now)
        planned = pl.when(ready).then(pl.lit(PLANNED)).otherwise(pl.col("_state")).alias("_state")
        parts = [self._stored(fresh.filter(~ready)), self._stored(decided.with_columns(planned))]
        return _joined(parts)

    def _key_columns(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame["_key"].struct.unnest()

    def _marked(self, here: pl.DataFrame, forced: bool) -> pl.DataFrame:
        if forced and here["_st_why"].null_count() == here.height:
            yes, no = (constant(name, flag, pl.Boolean(), here.height) for name, flag in _FRESH)
            return here.hstack([yes, no])
        due = pl.col("_st_due").le(self._now).fill_null(value=False) | pl.lit(forced)
        same = (pl.col("_digest") == pl.col("_st_digest")).fill_null(value=False)
        alike = ((pl.col("_state") == INVALID) == (pl.col("_st_state") == INVALID)).fill_null(value=False)
        released = (pl.col("_st_why") == RELEASED).fill_null(value=False)
        passes = released & (pl.col("_state") == HELD)
        return here.with_columns(
            _fresh=due | ~same | ~alike,
            _released=released,
            _state=pl.when(passes).then(pl.lit(READY)).otherwise(pl.col("_state")),
            _reason=pl.when(passes).then(pl.lit(None, pl.String)).otherwise(pl.col("_reason")),
        )

    def _decided(self, ready: pl.DataFrame, scored: Scored | None) -> list[pl.DataFrame]:
        outputs = scored.outputs if scored else self._scorer().predict(ready[list(self._compiled.features)])
        decided = self._pipeline.decide(ready, outputs, self._now)
        if ready["_released"].any():
            passes = pl.col("_released") & (pl.col("_state") == HELD)
            decided = decided.with_columns(_state=pl.when(passes).then(pl.lit(READY)).otherwise(pl.col("_state")))
        if scored is not None and scored.reasons is not None:
            decided = put(decided, scored.reasons.alias("_reasons"))
        decided, unsure = split(decided, decided["_state"] == READY)
        parts = [self._stored(unsure)] if unsure.height else []
        if decided.height:
            intended, held = split(decided, self._worth(decided))
            if held.height:
                parts.append(self._stored(put(held, constant("_state", UNCHANGED, pl.String(), held.height))))
            if intended.height:
                parts.append(self._intended(intended))
        return parts

    def _worth(self, decided: pl.DataFrame) -> pl.Series:
        held = decided["_before"] if self._compiled.in_place else decided["_st_values"]
        worth = self._pipeline.worth_writing(decided, held)
        why = decided["_st_why"]
        return worth if why.null_count() == len(why) else worth | (why == "expired").fill_null(value=False)

    def _intended(self, decided: pl.DataFrame) -> pl.DataFrame:
        """Decisions that are to be written: the values to set, what they replace, and the reasons shown."""
        reasons = decided["_reasons"] if "_reasons" in decided.columns else None
        if reasons is None and self._compiled.reasons:
            reasons = self._scorer().reasons(decided[list(self._compiled.features)], self._compiled.reasons)
            decided = put(decided, reasons.alias("_reasons"))
        passengers = self._pipeline.passengers(decided, reasons, self._now, self._facts)
        misfits = passengers["_state"] != READY
        if misfits.any():
            refused = decided.filter(misfits).with_columns(passengers.filter(misfits).select("_state", "_reason"))
            rest = decided.filter(~misfits)
            return _joined([self._stored(refused), *([self._intended(rest)] if rest.height else [])])
        changes = self._pipeline.changes(decided, passengers).frame
        target = changes["_key"]
        before = (
            decided["_before"].struct.unnest()
            if self._compiled.in_place
            else self._read_targets(target.struct.unnest(), self._targets)
        )
        written = {name: f"set.{name}" if name in self._compiled.set else f"with.{name}" for name in self._targets}
        stored = self._stored(put(decided, constant("_state", PLANNED, pl.String(), decided.height)))
        return put(
            stored,
            *renamed(changes, written),
            *renamed(before, {name: f"before.{name}" for name in self._targets}),
            changes["_clear"],
            target.alias("_target"),
        )

    def _leaving(self, lost: pl.DataFrame) -> pl.DataFrame:
        """Records that stand and are selected no more: cleared where the mapping says so, else only noted."""
        document = self._compiled.document
        expires = document.write.expires
        expired = (pl.col("_st_why") == "expired").fill_null(value=False)
        wanted = (
            pl.lit(document.read.leaves == "clear")
            | (pl.lit(expires is not None and expires.then == "clear") & expired)
        ) & pl.col("_st_values").is_not_null()
        reachable = ~pl.col("_gone") if self._compiled.in_place else pl.lit(value=True)
        clears = lost.select((wanted & reachable).alias("clears"))["clears"]
        target = held = None
        if clears.any() and not self._compiled.in_place:
            target = self._read_rows(lost.select("_st_segment", "_st_row"))
            held = self._read_targets(target.struct.unnest(), self._targets)
            # What somebody removed, or emptied, needs no clearing.
            full = pl.col("_there").is_null() | pl.any_horizontal(pl.col(self._targets).is_not_null())
            clears &= held.select(full.alias("clears"))["clears"]
        frame = lost.select(
            _key=pl.struct(self._keys),
            _state=pl.when(clears).then(pl.lit(PLANNED)).otherwise(pl.lit(LEFT)),
            _reason=pl.when(pl.col("_gone")).then(pl.lit("the record is gone")).otherwise(pl.lit("no longer selected")),
            _previous=pl.struct(pl.col("_st_segment").alias("segment"), pl.col("_st_row").alias("row")),
            _clear=pl.when(clears).then(pl.lit(self._targets)).otherwise(pl.lit(None, pl.List(pl.String))),
        )
        if not clears.any():
            return frame
        values = lost["_st_values"].struct.unnest()
        if held is not None:
            values = held
        before = values.select(pl.col(name).alias(f"before.{name}") for name in self._targets)
        return pl.concat(
            [frame.with_columns((frame["_key"] if target is None else target).alias("_target")), before],
            how="horizontal",
        )

    def _stored(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The columns of the decision log that a judged frame fills, under their names there."""
        groups = {
            "f.": self._compiled.features,
            "o.": self._compiled.model.signature.outputs(),
            "d.": self._compiled.decide,
        }
        there = set(frame.columns)
        passed = ["_key", "_version", "_state", "_reason", "_digest"]
        passed += [name for name in ("_because", "_reasons", "_target") if name in there]
        passed += [name for name in frame.columns if name.startswith("set.")]
        named = {name: prefix + name for prefix, names in groups.items() for name in names if name in there}
        return pl.DataFrame([*frame[passed].get_columns(), _previous(frame), *renamed(frame, named)])


_FRESH = (("_fresh", True), ("_released", False))


def _previous(frame: pl.DataFrame) -> pl.Series:
    """Where the decision before is stored; null where there is none."""
    known = frame["_st_segment"].null_count()
    both = pl.struct(pl.col("_st_segment").alias("segment"), pl.col("_st_row").alias("row"))
    if known == frame.height:
        dtype = pl.Struct({"segment": frame.schema["_st_segment"], "row": frame.schema["_st_row"]})
        return constant("_previous", None, dtype, frame.height)
    return frame.select(pl.when(pl.col("_st_segment").is_not_null()).then(both).alias("_previous")).to_series()


def _joined(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    filled = [each for each in parts if each.height] or parts[:1]
    return filled[0] if len(filled) == 1 else pl.concat(filled, how="diagonal_relaxed")
