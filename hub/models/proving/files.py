"""Proof of a model file: parsed first, then treated as the estimator or graph it holds."""

from __future__ import annotations

import json
import warnings
from typing import Any, Literal

import numpy as np

from hub.models.proving.estimators import difference, positive_class, prove_estimator
from hub.models.proving.proof import Proven, Wish
from hub.models.signature import Inputs


def prove_here(kind: Literal["onnx", "skops"], content: bytes, sample: Any, wish: Wish) -> Proven:
    """In this process, which should be one that may die."""
    if kind == "skops":
        from hub.models.runtimes.sklearn import load

        return prove_estimator(load(content), sample, wish)
    return prove_graph(content, sample, wish)
