"""The model of the Salesforce bench: a small gradient boosting on fields that every lead has."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import polars as pl

from bench.org import FEATURES, NUMBERS, TEXTS

_VALUES = {
    "LeadSource": ["Web", "Phone Inquiry", "Partner Referral", "Purchased List", "none"],
    "Industry": ["Banking", "Energy", "Retail", "Technology", "none"],
    "Rating": ["Hot", "Warm", "Cold", "none"],
    "Country": ["Germany", "France", "Poland", "Portugal", "Norway"],
    "Status": ["Open - Not Contacted", "Working - Contacted", "Closed - Not Converted"],
}


def train(folder: Path, rows: int = 5_000) -> pl.DataFrame:
    """Fits the model, leaves it in the folder, and answers some rows to register it with."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    draw = np.random.default_rng(4)
    columns = {name: draw.choice(_VALUES[name], rows) for name in TEXTS}
    columns |= {name: np.round(draw.lognormal(5.0, 1.5, rows)) for name in NUMBERS}
    frame = pl.DataFrame(columns).select(FEATURES)
    signal = (frame["LeadSource"] == "Web").cast(pl.Float64) + (frame["Rating"] == "Hot").cast(pl.Float64)
    truth = (signal + draw.normal(0, 0.5, rows) > 0.6).to_numpy()
    encode = ColumnTransformer(
        [("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(TEXTS))], remainder="passthrough"
    )
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=50, random_state=0))
    model.fit(frame.to_pandas(), truth)
    joblib.dump(model, folder / "model.joblib")
    return frame.head(2_000)
