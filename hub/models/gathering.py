"""Many small requests to one heavy model, gathered into batches: nobody waits for a clock, each gets its own rows."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import polars as pl

from hub.models.scorer import Scorer


class Gathering:
    """A scorer for many threads. While one batch is being scored, the next one gathers.

    A caller alone is scored at once. Where a batch fails, its callers are scored one by one, so that nobody is failed
    by somebody else's rows.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Asked] = []

    def predict(self, features: pl.DataFrame) -> pl.DataFrame:
        """As `Scorer.predict`."""
        own = _Asked(features.select(each.name for each in self._scorer.signature.inputs))
        with self._lock:
            self._waiting.append(own)
        with self._turn:
            if not own.done:
                self._carry()
        if own.error is not None:
            raise own.error
        assert own.answer is not None
        return own.answer

    def reasons(self, features: pl.DataFrame, n: int) -> pl.Series:
        """As `Scorer.reasons`; computed for the few records about to be written or shown, so not gathered."""
        return self._scorer.reasons(features, n)

    def _carry(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, []
        alike: dict[tuple[tuple[str, pl.DataType], ...], list[_Asked]] = {}
        for each in taken:
            alike.setdefault(tuple(each.features.schema.items()), []).append(each)
        for batch in alike.values():
            self._score(batch)

    def _score(self, batch: Sequence[_Asked]) -> None:
        try:
            answers = self._scorer.predict(pl.concat([each.features for each in batch]))
        except Exception as error:  # noqa: BLE001  (told to its own caller, below or in a batch of one)
            if len(batch) == 1:
                batch[0].error = error
                return
            for each in batch:
                self._score([each])
            return
        at = 0
        for each in batch:
            each.answer = answers.slice(at, each.features.height)
            at += each.features.height


class _Asked:
    """One caller's rows, and what became of them."""

    def __init__(self, features: pl.DataFrame) -> None:
        self.features = features
        self.answer: pl.DataFrame | None = None
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None
