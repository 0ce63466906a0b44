"""Decisions for whoever waits for them: made of records at hand, remembered, and written nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import polars as pl
from sqlalchemy.orm import Session

from hub.audit import Action
from hub.decisions import PLANNED, UNCHANGED, Prepared, Segment, Snapshot, View, key_text
from hub.mappings import Compiled
from hub.runs.installation import Installation
from hub.runs.pages.columns import put
from hub.runs.pages.judging import Featured, Judge, completed
from hub.runs.pages.landing import shown_after
from hub.runs.pages.loading import Load
from hub.runs.pages.trail import Trail
from hub.runs.types import Run

Askers: TypeAlias = tuple[str, int, int]
"""Who asked, the first row of theirs in the segment, and how many."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """Decisions made on the spot, and where those of `keys` stood before, in their order."""

    decisions: pl.DataFrame
    keys: pl.DataFrame
    view: View

    def only(self, keys: Sequence[tuple[Any, ...]]) -> Concluded:
        """The decisions on records of these keys, in this order, and where each of them stood."""
        decided, stood = _rows_at(self.decisions["_key"].struct.unnest(), keys), _rows_at(self.keys, keys)
        rows = replace(self.view, frame=_picked(self.view.frame, stood))
        return Concluded(_picked(self.decisions, decided), _picked(self.keys, stood), rows)


@dataclass(frozen=True, slots=True)
class Remembering:
    """Decisions made on the spot as a segment, and where their records stand with them; not stored yet."""

    segment: Segment
    view: View
    after: Prepared | None
    subjects: Sequence[str]


class Online:
    """Online scoring by one mapping, at one logical time."""

    def __init__(self, hub: Installation, run: Run, compiled: Compiled, judge: Judge, trail: Trail) -> None:
        self._hub = hub
        self._run = run
        self._compiled = compiled
        self._judge = judge
        self._trail = trail

    def feature(self, load: Load) -> Featured:
        """The features of some records that are due whatever their standing."""
        return replace(self._judge.features(load), forced=True)

    def decide(self, featured: Featured) -> Concluded:
        """The decisions on some records; nothing is stored."""
        sifted = self._judge.sift(featured)
        return Concluded(self._judge.judge(sifted).decisions, sifted.keys, sifted.view)

    def decide_late(self, featured: Featured | pl.Series) -> Concluded:
        """What the mapping's fallback decides without the model, of these features or, without any, of these keys."""
        sifted = self._judge.sift(self._judge.blank(featured) if isinstance(featured, pl.Series) else featured)
        return Concluded(self._judge.judge_late(sifted), sifted.keys, sifted.view)

    def remembering(self, made: Concluded) -> Remembering:
        """Decisions made on the spot, ready to be stored; what can fail because of a record fails here."""
        shown = [UNCHANGED if each == PLANNED else each for each in made.decisions["_state"].to_list()]
        frame = put(completed(made.decisions, self._compiled), pl.Series("_state", shown, pl.String()))
        segment = self._hub.log.write(self._trail.facts("request", 0, 0), frame, inside=True)
        stood = shown_after(frame, made.view.frame, segment.id, self._run.logical_at)
        subjects = [self._hub.subjects.name(self._run.mapping, each) for each in key_text(frame["_key"])]
        return Remembering(segment, made.view, self._hub.standing.prepare(made.view, stood), subjects)

    def remember(self, made: Remembering, told: Sequence[Askers]) -> None:
        """Stores decisions with one event for each who asked, durable when this returns; nothing is written back.

        The records stay due: what their far side holds was not changed, so the next run looks at them again.
        """

        def commit(session: Session) -> Snapshot | None:
            self._hub.log.catalogue(session, made.segment)
            after = self._hub.standing.put(session, made.view, made.after)
            subject, digest = f"mapping:{self._run.mapping}", made.segment.root.hex()
            for actor, first, records in told:
                detail = {"records": records, "segment": str(made.segment.id), "row": first}
                detail |= {"subjects": list(made.subjects[first : first + records]), **self._trail.told_of_reading()}
                self._hub.record(session, actor, Action.SCORE_REQUEST, subject, digest=digest, **detail)
            return after

        stored = self._hub.database.retrying(commit, stored=lambda s, _: self._hub.log.catalogued(s, made.segment))
        self._hub.standing.keep(stored)


def _rows_at(frame: pl.DataFrame, keys: Sequence[tuple[Any, ...]]) -> list[int]:
    at = {key: row for row, key in enumerate(frame.rows())}
    return [at[key] for key in keys]


def _picked(frame: pl.DataFrame, rows: list[int]) -> pl.DataFrame:
    return frame if rows == list(range(frame.height)) else frame[rows]
