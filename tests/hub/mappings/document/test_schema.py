"""The JSON Schema that editors use and the parser are one definition: what one takes, the other takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from ruamel.yaml import YAML

from hub.mappings.document import document_schema

SCHEMA = document_schema()


def violations(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """The violations of the part of JSON Schema that the document's schema uses; an unknown keyword is one."""
    unknown = schema.keys() - _KNOWN
    assert not unknown, f"{path}: the test does not know {unknown}"
    if "$ref" in schema:
        yield from violations(value, SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[-1]], path)
    for word in ("oneOf", "anyOf"):
        if word in schema:
            fitting = [each for each in schema[word] if not list(violations(value, each, path))]
            if not fitting or (word == "oneOf" and len(fitting) > 1):
                yield f"{path}: {len(fitting)} of {word} fit"
    if "type" in schema and not any(_is(value, kind) for kind in _listed(schema["type"])):
        yield f"{path}: no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: not one of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: not {schema['const']}"
    if isinstance(value, str):
        yield from _text(value, schema, path)
    if isinstance(value, int | float) and value < schema.get("minimum", value):
        yield f"{path}: too small"
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{path}: too short"
        for index, each in enumerate(value):
            yield from violations(each, schema.get("items", {}), f"{path}[{index}]")
    if isinstance(value, dict):
        yield from _map(value, schema, path)


def _text(value: str, schema: dict[str, Any], path: str) -> Iterator[str]:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{path}: length"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: pattern"


def _map(value: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    if len(value) < schema.get("minProperties", 0):
        yield f"{path}: too few"
    yield from (f"{path}: lacks {name}" for name in schema.get("required", ()) if name not in value)
    for name, each in value.items():
        inside = f"{path}.{name}"
        yield from violations(name, schema.get("propertyNames", {}), inside)
        known = [schema["properties"][name]] if name in schema.get("properties", {}) else []
        known += [sub for pattern, sub in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
        rest = schema.get("additionalProperties", True)
        if not known and rest is False:
            yield f"{inside}: unknown"
        elif not known and isinstance(rest, dict):
            known = [rest]
        for sub in known:
            yield from violations(each, sub, inside)


def _listed(kind: str | list[str]) -> list[str]:
    return [kind] if isinstance(kind, str) else kind


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    kinds = {"string": str, "integer": int, "number": (int, float), "object": dict, "array": list, "null": type(None)}
    return kind in kinds and isinstance(value, kinds[kind])  # type: ignore[arg-type]


_KNOWN = {
    *("$ref", "$defs", "$schema", "$id", "title", "description", "default", "examples", "type", "enum", "const"),
    *("oneOf", "anyOf", "pattern", "minLength", "maxLength", "minimum", "minItems", "items", "minProperties"),
    *("required", "properties", "patternProperties", "additionalProperties", "propertyNames"),
}


def shipped() -> dict[str, Any]:
    """The mappings that ship, as plain values."""
    found = [each / "mapping.yaml" for each in files("mappings").iterdir() if (each / "mapping.yaml").is_file()]
    return {each.parent.name: YAML(typ="safe", pure=True).load(each.read_text("utf-8")) for each in found}  # type: ignore[attr-defined]


def test_the_shipped_mappings_satisfy_the_schema() -> None:
    documents = shipped()
    assert len(documents) == 4
    assert [list(violations(each, SCHEMA)) for each in documents.values()] == [[], [], [], []]


def test_a_good_document_satisfies_the_schema(good: str) -> None:
    assert list(violations(YAML(typ="safe", pure=True).load(good), SCHEMA)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("owner: revenue-operations\n", ""),
        ("format: 1", "format: 2"),
        ("mapping: lead_score", "mapping: LeadScore"),
        ("refresh: 1d", "refresh: 30"),
        ("leaves", "leeves"),
        ("missing: null", "missing: maybe"),
        ("mode: update", "mode: updaet"),
        ("rejected: 1%", "rejected: 0.01"),
        ("changed: 20000", "changed: 0"),
        ("match: { CustomerNo: AccountNo }", "match: {}"),
        ("title: Days since first contact }", "titel: Days }"),
        ("min: 0, max", "min: a, max"),
        ('score: "round', 'Score: "round'),
    ],
)
def test_what_the_parser_refuses_by_shape_the_schema_refuses(good: str, old: str, new: str) -> None:
    text = good.replace("  timezone", "  leaves: keep\n  timezone")
    assert old in text
    assert list(violations(YAML(typ="safe", pure=True).load(text.replace(old, new, 1)), SCHEMA))


def test_the_schema_is_plain_json_that_names_itself() -> None:
    again = json.loads(json.dumps(SCHEMA))
    assert again["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(again["required"]) == {
        *("format", "mapping", "title", "owner", "purpose", "read", "features", "model", "decide", "write")
    }


def test_every_key_of_the_document_is_described() -> None:
    for name, shape in SCHEMA["$defs"].items():
        assert [key for key, each in shape["properties"].items() if not each.get("description")] == [], name
