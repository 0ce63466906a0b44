"""The nouns of the models room: tasks, signatures, versions, and the ways in which a model can refuse or be refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Self, TypeAlias

from hub.sdk import FieldType

Label: TypeAlias = bool | int | str
Reference: TypeAlias = bool | int | float | str | None


class Task(StrEnum):
    """What a model answers."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"
    ANOMALY = "anomaly"


class Way(StrEnum):
    """How a version is computed: each is proven equal to the fitted estimator before it is used.

    ONNX: preprocessing as column operations, the estimator as an ONNX graph (or a graph that was given as it is).
    COLUMNS: preprocessing as column operations, the fitted estimator behind it. AS_IS: the whole fitted pipeline.
    """

    ONNX = "onnx"
    COLUMNS = "columns"
    AS_IS = "as is"


INPUT_TYPES = frozenset({FieldType.INTEGER, FieldType.REAL, FieldType.TEXT, FieldType.BOOLEAN})


@dataclass(frozen=True, slots=True)
class InputField:
    """One input of a model, as the registration sample showed it.

    `minimum` and `maximum` are the range seen, for numbers. `categories` are the values seen (and those the encoder
    knows), for text; `closed` says that a value outside them cannot be scored. `reference` is the sample's median or
    most frequent value: what reasons put in this input's place.
    """

    name: str
    type: FieldType
    nullable: bool
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    reference: Reference = None
    closed: bool = False


@dataclass(frozen=True)
class Signature:
    """What goes into a model and what comes out.

    `classes` are the labels in the estimator's order, empty for regression and anomaly; `positive` is the class whose
    probability a binary model gives.
    """

    task: Task
    inputs: tuple[InputField, ...]
    classes: tuple[Label, ...] = ()
    positive: Label | None = None

    @cached_property
    def by_name(self) -> Mapping[str, InputField]:
        """Inputs by their exact name."""
        return {each.name: each for each in self.inputs}

    def outputs(self) -> Mapping[str, FieldType]:
        """The names and types of the columns of every prediction: a closed table per task, in order.

        binary: `probability` (of the positive class), `label`, `confidence` (probability of the label).
        multiclass: `label`, `confidence`, then `probability_<class>` for each class, see `probability_names`.
        regression: `value`. anomaly: `anomaly_score` (higher is more anomalous), `is_anomaly`.
        """
        if self.task is Task.BINARY:
            return {
                "probability": FieldType.REAL,
                "label": self.label_type,
                "confidence": FieldType.REAL,
            }
        if self.task is Task.MULTICLASS:
            each = dict.fromkeys(self.probability_names, FieldType.REAL)
            return {"label": self.label_type, "confidence": FieldType.REAL, **each}
        if self.task is Task.REGRESSION:
            return {"value": FieldType.REAL}
        return {"anomaly_score": FieldType.REAL, "is_anomaly": FieldType.BOOLEAN}

    @property
    def label_type(self) -> FieldType:
        """The type of the `label` column: that of the classes."""
        if all(isinstance(each, bool) for each in self.classes):
            return FieldType.BOOLEAN
        return FieldType.INTEGER if all(isinstance(each, int) for each in self.classes) else FieldType.TEXT

    @cached_property
    def probability_names(self) -> tuple[str, ...]:
        """`probability_<class>` per class: what is no letter or digit becomes `_`, a repeat a number."""
        names: list[str] = []
        for each in self.classes:
            plain = "probability_" + re.sub(r"\W", "_", str(each))
            name, count = plain, 1
            while name in names:
                count += 1
                name = f"{plain}_{count}"
            names.append(name)
        return tuple(names)

    @property
    def positive_index(self) -> int:
        """Where the positive class stands among the classes."""
        return next(at for at, each in enumerate(self.classes) if each == self.positive)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "task": self.task.value,
            "classes": list(self.classes),
            "positive": self.positive,
            "inputs": [
                {
                    "name": each.name,
                    "type": each.type.value,
                    "nullable": each.nullable,
                    "minimum": each.minimum,
                    "maximum": each.maximum,
                    "categories": list(each.categories),
                    "reference": each.reference,
                    "closed": each.closed,
                }
                for each in self.inputs
            ],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        inputs = tuple(
            InputField(**{**each, "type": FieldType(each["type"]), "categories": tuple(each["categories"])})
            for each in raw["inputs"]
        )
        return cls(Task(raw["task"]), inputs, tuple(raw["classes"]), raw["positive"])


@dataclass(frozen=True)
class ModelVersion:
    """One immutable version of a model, and how it was proven.

    `digest` is the SHA-256 of the stored artefact, in hex. `runtime` is `sklearn` or `onnx`. `largest_difference` is
    the largest one seen between `way` and the fitted estimator over `rows_compared` rows, in units of the output
    (relative above 1 for regression); `tolerance` is what was allowed. `tried` says per faster way why it was not
    taken. `pool` names the workers that score it.
    """

    name: str
    number: int
    digest: str
    signature: Signature
    runtime: str
    way: Way
    largest_difference: float
    rows_compared: int
    tolerance: float
    metrics: Mapping[str, float]
    owner: str
    note: str
    pool: str
    created_at: datetime
    tried: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


class ModelError(Exception):
    """Root of what the models room refuses; the message is for the person who asked."""


class ModelRefusedError(ModelError):
    """This file or estimator is not taken; the message names the way out."""


class SampleError(ModelError):
    """The registration sample does not fit the model."""


class FeaturesError(ModelError):
    """The features handed in lack an input of the model or hold it in a type that cannot be its own."""


class ModelNotFoundError(ModelError):
    """No such model, version or alias."""


class ModelInUseError(ModelError):
    """The version cannot be removed: an alias or a published mapping points at it."""


class ArtefactError(ModelError):
    """The stored bytes are not those that were registered."""
