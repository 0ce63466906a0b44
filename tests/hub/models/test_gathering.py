"""Requests gathered into batches: each caller gets its own rows, and nobody is failed by another's."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import polars as pl
import pytest

from hub.models import FeaturesError, Gathering, InputField, Scorer, Signature, Task
from hub.sdk import FieldType


class Doubling:
    """Answers twice the input; counts its calls, holds the first until told, and refuses a batch with a 13 in it."""

    signature = Signature(Task.REGRESSION, (InputField("x", FieldType.REAL, nullable=False),))

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.entered, self.go = threading.Event(), threading.Event()

    def predict(self, features: pl.DataFrame) -> pl.DataFrame:
        self.calls.append(features.height)
        self.entered.set()
        assert self.go.wait(30)
        if (features["x"] == 13).any():
            raise FeaturesError("x: 13 is refused")
        return features.select(value=pl.col("x") * 2)


def rows(*values: float) -> pl.DataFrame:
    return pl.DataFrame({"x": values, "ignored": ["a"] * len(values)}, schema={"x": pl.Float64, "ignored": pl.String})


def _waiting(gathering: Any, count: int) -> bool:
    return len(gathering._waiting) >= count


def test_requests_that_come_while_one_is_scored_ride_together_and_each_gets_its_own_rows() -> None:
    model = Doubling()
    gathering = Gathering(cast("Scorer", model))
    with ThreadPoolExecutor(33) as callers:
        first = callers.submit(gathering.predict, rows(1))
        assert model.entered.wait(30)
        others = [callers.submit(gathering.predict, rows(*range(at, at + 1 + at % 3))) for at in range(20, 52)]
        gathered = threading.Event()
        while not _waiting(gathering, 32):
            gathered.wait(0.001)
        model.go.set()
        assert first.result()["value"].to_list() == [2]
        for at, each in zip(range(20, 52), others, strict=True):
            assert each.result()["value"].to_list() == [2 * x for x in range(at, at + 1 + at % 3)]
    assert len(model.calls) == 2
    assert model.calls[0] == 1


def test_a_request_that_is_refused_fails_alone() -> None:
    model = Doubling()
    gathering = Gathering(cast("Scorer", model))
    with ThreadPoolExecutor(4) as callers:
        first = callers.submit(gathering.predict, rows(1))
        assert model.entered.wait(30)
        good, bad = callers.submit(gathering.predict, rows(5)), callers.submit(gathering.predict, rows(13))
        gathered = threading.Event()
        while not _waiting(gathering, 2):
            gathered.wait(0.001)
        model.go.set()
        assert first.result()["value"].to_list() == [2]
        assert good.result()["value"].to_list() == [10]
        with pytest.raises(FeaturesError):
            bad.result()
