"""Records set aside because carrying them failed: known by their raw values, before anything is computed of them."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from hub.decisions import PARKED, Standing, key_text
from hub.mappings import Compiled
from hub.mappings.pipeline import RowDigest
from hub.runs.pages.judging import Featured
from hub.runs.pages.loading import Load
from hub.runs.types import Counts


class Parking:
    """Keeps parked records of one mapping out of its pages until they are edited, replayed, or the version changes."""

    def __init__(self, compiled: Compiled, standing: Standing) -> None:
        targets = {*compiled.set, *compiled.with_} if compiled.in_place else set()
        self._mapping = compiled.document.mapping
        self._fields = [name for name in compiled.fields if name not in targets]
        self._digest = RowDigest("parked", compiled.document.digest, compiled.model.digest)
        self._standing = standing

    def without_parked(self, load: Load) -> tuple[Load, Counts]:
        """The page less the records that stand parked as they are, and how many those were."""
        if load.forced or not load.frame.height or not self._standing.states(self._mapping).get(PARKED):
            return load, Counts()
        standing = self._standing.in_state(self._mapping, PARKED)
        known = [pl.DataFrame({"digest": each["digest"], "_text": key_text(each["_key"])}) for each in standing]
        if not known:
            return load, Counts()
        page = pl.DataFrame(
            {"digest": self._digest.of(load.frame[self._fields]), "_text": key_text(load.frame["_key"])}
        )
        parked = page.join(pl.concat(known), on=["digest", "_text"], how="semi")["_text"]
        if not len(parked):
            return load, Counts()
        kept = load.frame.filter(~page["_text"].is_in(parked.implode()))
        number = load.frame.height - kept.height
        return replace(load, frame=kept), Counts(number, {PARKED: number})

    def featured(self, load: Load) -> Featured:
        """The records of a page as the judge takes them, nothing computed of them."""
        none = load.gone.clear()
        frame = load.frame.select(
            "_key", "_version", _state=pl.lit(PARKED), _reason=pl.lit(None, pl.String)
        ).with_columns(self._digest.of(load.frame[self._fields]).alias("_digest"))
        return Featured(frame, none, load.gone, forced=True)
