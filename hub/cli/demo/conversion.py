"""Trains the model of the second act as a data scientist would: on the org's own past leads, outside of the hub."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from hub.cli.demo.crm import KNOWN, PAST, Row, customers, day_of, features, opened, rows

LANDMARKS = (2, 14, 30, 60)
"""Days after a lead came on which it is looked at, as far as it was still open then.

A lead that is open says nothing of how long it will be, so its past ones are taken as they stood on such days, not as
they ended (landmarking: van Houwelingen, Scandinavian Journal of Statistics 34, 2007).
"""


def snapshots(told: Row) -> Iterator[dict[str, Any]]:
    """Past leads on their landmarks, each with its id and whether it converted in the end."""
    salesforce = opened(told)
    buyers = customers(salesforce)
    worked: dict[str, list[date]] = defaultdict(list)
    for each in rows(salesforce, "SELECT WhoId, ActivityDate FROM Task WHERE WhoId != null AND ActivityDate != null"):
        worked[each["WhoId"]].append(date.fromisoformat(each["ActivityDate"]))
    asked = f"SELECT {KNOWN}, IsConverted, ConvertedDate, LastModifiedDate FROM Lead WHERE {PAST}"  # noqa: S608
    for lead in rows(salesforce, asked):
        came, converted = day_of(lead["CreatedDate"]), lead["IsConverted"]
        # A lead that was given up has not been touched since.
        ended = date.fromisoformat(lead["ConvertedDate"]) if converted else day_of(lead["LastModifiedDate"])
        days = sorted(worked[lead["Id"]])
        for landmark in LANDMARKS:
            today = came + timedelta(days=landmark)
            if today >= ended:
                break
            known = bisect_right(days, today)
            last = days[known - 1] if known else None
            yield {"lead": lead["Id"], "converted": int(converted), **features(lead, buyers, today, last)}


def train(told: Row, model_file: str, sample_file: str) -> dict[str, Any]:
    """Fits on half of the past leads and stores the model and that half; the area under the curve is the others'."""
    import pandas as pd
    import skops.io
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    seen = pd.DataFrame(snapshots(told))
    # Whole leads are held back: two looks at one lead know each other.
    places = {each: place for place, each in enumerate(sorted(seen["lead"].unique()))}
    held_back = seen["lead"].map(places) % 2 == 1
    inputs, truth = seen.drop(columns=["lead", "converted"]), seen["converted"]
    words = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["industry", "source"]), remainder=StandardScaler()
    )
    estimator = make_pipeline(words, LogisticRegression()).fit(inputs[~held_back], truth[~held_back])
    skops.io.dump(estimator, model_file)
    inputs[~held_back].to_csv(sample_file, index=False)
    answers = estimator.predict_proba(inputs[held_back])[:, 1]
    outcomes = seen.groupby("lead")["converted"].first()
    return {
        "leads": len(outcomes),
        "converted": int(outcomes.sum()),
        "trained_on": int((~held_back).sum()),
        "auc": round(float(roc_auc_score(truth[held_back], answers)), 4),
    }
