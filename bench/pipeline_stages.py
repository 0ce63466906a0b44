"""Milliseconds per stage of a mapping with 18 features, without the model: `python bench/pipeline_stages.py`.

Medians of 15 passes over 10,000 records and of 300 over one; read the ratios, not the figures, across machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from hub.mappings.pipeline import Pipeline
from hub.mappings.types import Expectation, Fallback
from hub.models import InputField
from hub.sdk import Entity, Field, FieldType, Mode
from tests.hub.mappings.pipeline.builder import FACTS, NOW, Draft

NUMBERS = [f"n{at}" for at in range(8)]
TEXTS = [f"t{at}" for at in range(10)]
SOURCE = Entity(
    "Lead",
    (
        Field("Id", FieldType.INTEGER, nullable=False),
        *(Field(name, FieldType.REAL) for name in NUMBERS),
        *(Field(name, FieldType.TEXT) for name in TEXTS),
        Field("Score", FieldType.INTEGER, writable=True),
        Field("Band", FieldType.TEXT, length=10, writable=True),
        Field("Why", FieldType.TEXT, length=120, writable=True),
        Field("ScoredAt", FieldType.INSTANT, writable=True),
    ),
    key=("Id",),
    modes=frozenset({Mode.UPDATE}),
)
KINDS = ("Yes", "No", "Fiber optic", "Month-to-month")


def draft() -> Draft:
    """The lead mapping over 18 features, with expectations, a fallback, a hold, thresholds and passengers."""
    features = {f"f_{name}": f"coalesce({name}, 0) * 2 + 1" for name in NUMBERS}
    features |= {f"f_{name}": f"coalesce(trim({name}), 'Unknown')" for name in TEXTS}
    inputs = [InputField(f"f_{name}", FieldType.REAL, nullable=False) for name in NUMBERS]
    known = (*KINDS, "Unknown")
    inputs += [InputField(f"f_{name}", FieldType.TEXT, nullable=False, categories=known, closed=True) for name in TEXTS]
    band = "case when probability >= 0.8 then 'Hot' when probability >= 0.5 then 'Warm' else 'Cold' end"
    return Draft(
        source=SOURCE,
        target=SOURCE,
        where="n0 > -1000",
        features=features,
        inputs=inputs,
        expect=[Expectation(f"f_{name}", minimum=-1e6, maximum=1e6) for name in NUMBERS],
        decide={"score": "round(100 * probability)", "band": band},
        fallback=Fallback("confidence < 0.1", {"band": "'Review'"}, "low confidence"),
        hold="probability > 0.999 and f_n0 = 0",
        set={"Score": "score", "Band": "band"},
        with_={"Why": "reasons(3)", "ScoredAt": "scored_at"},
        when_changed={"Score": 1},
    )


def rows(n: int) -> dict[str, Any]:
    """A page, predictions and reasons of `n` records."""
    random = np.random.default_rng(7)
    columns: dict[str, Any] = {"Id": range(n)}
    columns |= {name: random.normal(size=n) for name in NUMBERS}
    columns |= {name: random.choice(KINDS, n) for name in TEXTS}
    page = pl.DataFrame(columns).with_columns(
        pl.lit(1, pl.Int64).alias("Score"),
        pl.lit(None, pl.String).alias("Band"),
        pl.lit(None, pl.String).alias("Why"),
        pl.lit(None, pl.Datetime("us", "UTC")).alias("ScoredAt"),
        pl.struct("Id").alias("_key"),
        pl.lit(None, pl.String).alias("_version"),
        pl.lit(value=False).alias("_deleted"),
        pl.lit(None, pl.String).alias("_invalid"),
    )
    chance = pl.Series(random.random(n))
    predictions = pl.DataFrame({"probability": chance, "label": ["yes"] * n, "confidence": 0.2 + chance / 2})
    why = [[{"feature": f"f_{name}", "effect": 0.5} for name in NUMBERS[:3]]] * n
    return {"page": page, "predictions": predictions, "reasons": pl.Series(why)}


def measure(pipeline: Pipeline, n: int, passes: int) -> dict[str, float]:
    """Median milliseconds of each stage."""
    made = rows(n)
    taken: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        answer = call()
        taken.setdefault(name, []).append((time.perf_counter() - start) * 1000)
        return answer

    for _ in range(passes):
        frame = timed("admit", lambda: pipeline.admit(made["page"], NOW).frame)
        featured = timed("features", lambda frame=frame: pipeline.features(frame, NOW))
        timed("digest", lambda featured=featured: pipeline.digest(featured))
        decided = timed("decide", lambda featured=featured: pipeline.decide(featured, made["predictions"], NOW))
        timed("worth writing", lambda decided=decided: pipeline.worth_writing(decided, None))
        along = timed("passengers", lambda decided=decided: pipeline.passengers(decided, made["reasons"], NOW, FACTS))
        timed("changes", lambda decided=decided, along=along: pipeline.changes(decided, along))
    return {name: median(each) for name, each in taken.items()}


def main() -> None:
    """Prints the table."""
    start = time.perf_counter()
    pipeline = Pipeline(draft().compile())
    print(f"prepared in {(time.perf_counter() - start) * 1000:.0f} ms")
    many, one = measure(pipeline, 10_000, 15), measure(pipeline, 1, 300)
    print(f"{'stage':<15}{'10,000 records':>16}{'1 record':>12}   (ms)")
    for name in many:
        print(f"{name:<15}{many[name]:>16.2f}{one[name]:>12.3f}")
    print(f"{'sum':<15}{sum(many.values()):>16.2f}{sum(one.values()):>12.3f}")


if __name__ == "__main__":
    main()
