"""The JSON Schema of the mapping document, so that editors complete it, and its use in saying what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from hub.mappings.document.scalars import NAME
from hub.mappings.document.shapes import DocumentShape

SCHEMA_ID = "urn:hub:mapping:1"


@cache
def document_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of the document. Treat it as read-only: the answer is shared."""
    schema: dict[str, Any] = _without_nulls(DocumentShape.model_json_schema(by_alias=True, mode="validation"))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = SCHEMA_ID
    schema["title"] = "Mapping document"
    decide = schema["$defs"]["DecideShape"]
    decide["propertyNames"] = {"pattern": f"^{NAME}$"}
    return schema


def _without_nulls(node: Any) -> Any:
    """An optional key is absent or has its value; null is never written, so the schema does not offer it."""
    if isinstance(node, list):
        return [_without_nulls(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {name: _without_nulls(each) for name, each in node.items() if not (name == "default" and each is None)}
    kept.pop("title", None) if isinstance(kept.get("title"), str) else None
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    options = kept.get("anyOf")
    if isinstance(options, list):
        options = [each for each in options if each != {"type": "null"}]
        if len(options) == 1:
            kept.pop("anyOf")
            return {**options[0], **kept}
        kept["anyOf"] = options
    return kept


def node_at(path: Sequence[str | int]) -> dict[str, Any]:
    """The schema of what stands at a path, its references and choices resolved; empty where there is none."""
    node = document_schema()
    for step in path:
        node = _step(node, step)
        if not node:
            break
    return node


def _step(node: dict[str, Any], step: str | int) -> dict[str, Any]:
    if isinstance(step, int):
        found = node.get("items", {})
    else:
        rest = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties", {}))
        found = node.get("properties", {}).get(step, rest if isinstance(rest, dict) else {})
    return _resolved(found)


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        target: dict[str, Any] = document_schema()["$defs"][name]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    for option in node.get("oneOf", ()):
        if "$ref" in option:  # text or a map: the map is the one with an inside
            return {**node, **_resolved(option)}
    return node
