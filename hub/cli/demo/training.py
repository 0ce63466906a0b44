"""Trains the demo's model as a data scientist would, outside of the hub; run as a process of its own."""

from __future__ import annotations

import json
import sys

from hub.cli.demo.clinic import MEASURED, patient_number


def train(model_file: str, sample_file: str) -> dict[str, object]:
    """Fits on half of the patients and stores the model and that half.

    The area under the curve is measured on the other half; the probability of each patient is what the estimator says
    when it is called directly, to be held against what the hub writes.
    """
    import skops.io
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    bunch = load_breast_cancer(as_frame=True)
    features = bunch.data[list(MEASURED.values())].set_axis(list(MEASURED), axis=1)
    malignant = 1 - bunch.target
    known, unseen, known_truth, truth = train_test_split(
        features, malignant, test_size=0.5, random_state=7, stratify=malignant
    )
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=0.3)).fit(known, known_truth)
    skops.io.dump(estimator, model_file)
    known.to_csv(sample_file, index=False)
    probabilities = estimator.predict_proba(features)[:, 1].tolist()
    return {
        "trained_on": len(known),
        "auc": round(float(roc_auc_score(truth, estimator.predict_proba(unseen)[:, 1])), 4),
        "probabilities": {patient_number(place): value for place, value in enumerate(probabilities)},
    }


if __name__ == "__main__":
    json.dump(train(*sys.argv[1:]), sys.stdout)
