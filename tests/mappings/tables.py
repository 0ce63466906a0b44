"""The small tables of the shipped mappings as a connector describes them, and what their models take."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from hub.mappings import Compiled, compile_mapping, read_document
from hub.models import InputField, ModelVersion, Signature, Task, Way
from hub.sdk import Entity, Field, FieldType, Mode

MAPPINGS = ("lab_latest", "lead_score", "material_demand", "patient_risk")


def folder(name: str) -> Traversable:
    """The folder of a mapping that ships."""
    return files("mappings") / name


def systems(name: str) -> dict[str, list[Entity]]:
    """The entities of each connection of a mapping, as its `tables.json` has them."""
    raw = json.loads((folder(name) / "examples" / "tables.json").read_text("utf-8"))
    return {
        connection: [_entity(entity, told) for entity, told in entities.items()] for connection, entities in raw.items()
    }


def model(name: str) -> Callable[[str, str], ModelVersion]:
    """The first version of a mapping's model, with the signature that its `model.json` has."""
    raw = json.loads((folder(name) / "examples" / "model.json").read_text("utf-8"))["signature"]
    inputs = tuple(InputField(**{**each, "type": FieldType(each["type"])}) for each in raw["inputs"])
    signature = Signature(Task(raw["task"]), inputs, tuple(raw["classes"]), raw["positive"])

    def found(wanted: str, _use: str) -> ModelVersion:
        return ModelVersion(
            name=wanted,
            number=1,
            digest="0" * 64,
            signature=signature,
            runtime="sklearn",
            way=Way.ONNX,
            largest_difference=0.0,
            rows_compared=1000,
            tolerance=1e-6,
            metrics={},
            owner="data-science",
            note="",
            pool="default",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            aliases=("champion",),
        )

    return found


def shipped(name: str, entities: Mapping[str, Sequence[Entity]] | None = None) -> Compiled:
    """A mapping that ships, compiled against its tables, or against others."""
    known = entities if entities is not None else systems(name)
    text = (folder(name) / "mapping.yaml").read_text("utf-8")
    return compile_mapping(read_document(text), known.__getitem__, model(name))


def _entity(name: str, told: Mapping[str, Any]) -> Entity:
    fields = tuple(Field(each, **{**spec, "type": FieldType(spec["type"])}) for each, spec in told["fields"].items())
    modes = frozenset(Mode(each) for each in told.get("modes", ()))
    return Entity(name, fields, tuple(told["key"]), changed_by=tuple(told.get("changed_by", ())), modes=modes)
