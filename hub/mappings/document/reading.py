"""A mapping document from its text: read, checked against its shape, and given its digest; all problems at once."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import rfc8785
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hub.mappings.document.rules import broken_rules
from hub.mappings.document.scalars import found
from hub.mappings.document.schema import node_at
from hub.mappings.document.shapes import (
    DecideShape,
    DocumentShape,
    ExpectShape,
    FeatureShape,
    LookupShape,
    WriteShape,
)
from hub.mappings.document.tree import Path, Tree, read_tree
from hub.mappings.nearest import near
from hub.mappings.types import (
    Decide,
    Document,
    Expectation,
    Expires,
    Fallback,
    Feature,
    Lookup,
    MappingError,
    ModelUse,
    Read,
    RunPolicy,
    Write,
)
from hub.sdk import Json, Mode

_TAGS = frozenset({"map", "text"})


def read_document(text: str) -> Document:
    """The document that the text says. MappingError holds everything that is wrong with its form, by line."""
    tree = read_tree(text)
    if tree.root is None and not tree.problems:
        tree.hopeless = True
        tree.problem((), "is empty; see 'hub mappings schema' for what belongs in it")
    if isinstance(tree.root, dict):
        _refuse_nothing(tree, tree.root, ())
    shape = None if tree.hopeless else _shape(tree)
    if tree.problems or shape is None:
        seen = sorted(dict.fromkeys(tree.problems), key=lambda each: (each.line, each.column, each.path))
        raise MappingError(seen)
    return _document(shape, tree)


def _refuse_nothing(tree: Tree, node: Any, path: Path) -> None:
    """A key without a value is a slip; only a lookup's `missing` may say null."""
    if isinstance(node, dict):
        for name, value in node.items():
            _refuse_nothing(tree, value, (*path, name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            _refuse_nothing(tree, value, (*path, index))
    elif node is None and path[-1] != "missing":
        tree.problem(path, "has no value; give one, or remove the key")


def _shape(tree: Tree) -> DocumentShape | None:
    try:
        shape = DocumentShape.model_validate(tree.root)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_context=True):
            _note(tree, each)
        broken_rules(tree, {str(each["loc"][0]) for each in error.errors() if each["loc"]})
        return None
    broken_rules(tree, set())
    return shape


def _note(tree: Tree, error: ErrorDetails) -> None:
    """One error of the shape as a problem, unless the reading has already said that nothing stands there."""
    path = _path(tree.root, error["loc"])
    if error["input"] is None and error["type"] != "missing" and path in tree.marks:
        return
    tree.problem(path[:-1] if error["type"] == "missing" else path, _sentence(path, error))


def _path(root: Any, loc: tuple[int | str, ...]) -> Path:
    """pydantic's place without the names of union branches and of validators."""
    path: list[int | str] = []
    node = root
    for index, step in enumerate(loc):
        inside = (isinstance(node, dict) and step in node) or (
            isinstance(node, list) and isinstance(step, int) and step < len(node)
        )
        if inside:
            node = node[step]
            path.append(step)
        elif index == len(loc) - 1 and isinstance(node, dict) and step not in _TAGS and step != "[key]":
            path.append(step)
    return tuple(path)


def _sentence(path: Path, error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "sentence":
        return str(context["sentence"])
    if kind == "missing":
        said = node_at(path).get("description", "")
        return f"needs {path[-1]}" + (f": {said}" if said else "")
    if kind == "extra_forbidden":
        known = list(node_at(path[:-1]).get("properties", {}))
        hint = near(str(path[-1]), known)
        return f"is no key here{hint or ';'} Known: {', '.join(known)}".replace("; Known", "; known")
    if kind == "literal_error":
        return _one_of(path, error["input"])
    if kind == "too_short":
        return "is empty; give at least one entry"
    return f"expected {_EXPECTED.get(kind, 'something else')}, found {found(error['input'])}"


def _one_of(path: Path, value: Any) -> str:
    node = node_at(path)
    known = [each for each in node.get("enum", [node.get("const")]) if each is not None]
    options = [str(each) for each in known]
    hint = near(value, options) if isinstance(value, str) else ""
    listed = " or ".join([", ".join(options[:-1]), options[-1]]) if len(options) > 1 else options[0]
    return f"expected {listed}, found {found(value)}{hint}"


_EXPECTED: Mapping[str, str] = {
    "model_type": "a map (key: value)",
    "model_attributes_type": "a map (key: value)",
    "dict_type": "a map (key: value)",
    "list_type": "a list",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "string_type": "text",
}


def _document(shape: DocumentShape, tree: Tree) -> Document:
    source = canonical(shape)
    model, run = shape.model, shape.run
    return Document(
        mapping=shape.mapping,
        title=shape.title,
        owner=shape.owner,
        purpose=shape.purpose,
        read=Read(**dict(shape.read)),
        lookups=tuple(_lookup(name, each, shape) for name, each in shape.lookups.items()),
        features=tuple(_feature(name, each) for name, each in shape.features.items()),
        expect=tuple(_expectation(name, each) for name, each in shape.expect.items()),
        model=ModelUse(model.name, model.use),
        decide=_decide(shape.decide),
        write=_write(shape.write, shape),
        run=RunPolicy(
            schedule=run.schedule,
            follow=run.follow,
            changed=run.limits.changed if run.limits else None,
            rejected=run.limits.rejected if run.limits else None,
            ahead=run.ahead,
            deadline=run.deadline,
        ),
        digest=digest(source),
        source=source,
        marks=tree.marks,
    )


def canonical(shape: DocumentShape) -> dict[str, Json]:
    """The document without what means nothing: comments, layout, defaults, and the order of keys where none is meant.

    Lookups, features and decided names keep their order as lists of pairs, for a later one may use an earlier one.
    """
    plain: dict[str, Any] = shape.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for name in ("lookups", "features"):
        if name in plain:
            plain[name] = [[key, value] for key, value in plain[name].items()]
    apart = {"fallback", "hold"}
    decided = plain["decide"]
    plain["decide"] = {
        "names": [[key, value] for key, value in decided.items() if key not in apart],
        **{key: value for key, value in decided.items() if key in apart},
    }
    return plain


def digest(source: Mapping[str, Json]) -> str:
    """SHA-256 of the canonical JSON (RFC 8785), in hex."""
    return sha256(rfc8785.dumps(dict(source))).hexdigest()


def _lookup(name: str, shape: LookupShape, document: DocumentShape) -> Lookup:
    take = shape.take or (None if shape.aggregate else "one")
    return Lookup(
        name=name,
        connection=shape.connection or document.read.connection,
        entity=shape.entity,
        match=shape.match,
        where=shape.where,
        take=take,
        order=shape.order,
        aggregate=shape.aggregate,
        missing=shape.missing,
    )


def _feature(name: str, shape: FeatureShape | str) -> Feature:
    if isinstance(shape, FeatureShape):
        return Feature(name, shape.is_, shape.title)
    words = name.replace("_", " ").strip() or name
    return Feature(name, shape, words[:1].upper() + words[1:])


def _expectation(name: str, shape: ExpectShape) -> Expectation:
    among = None if shape.in_ is None else tuple(shape.in_)
    return Expectation(name, shape.min, shape.max, among, shape.required, shape.else_)


def _decide(shape: DecideShape) -> Decide:
    fallback = shape.fallback
    return Decide(
        set=dict(shape.__pydantic_extra__ or {}),
        fallback=Fallback(fallback.when, fallback.set, fallback.because) if fallback else None,
        hold=shape.hold,
    )


def _write(shape: WriteShape, document: DocumentShape) -> Write:
    return Write(
        mode=Mode(shape.mode),
        connection=shape.connection or document.read.connection,
        entity=shape.entity or document.read.entity,
        set=shape.set,
        key=shape.key,
        with_=shape.with_,
        when_changed=shape.when_changed,
        expires=Expires(shape.expires.after, shape.expires.then) if shape.expires else None,
    )
