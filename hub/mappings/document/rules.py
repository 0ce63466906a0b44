"""What must hold between the keys of one section of the document; each section is judged though another is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from hub.mappings.document.scalars import NAME_RULE, Name, is_name
from hub.mappings.document.shapes import (
    DecideShape,
    ExpectShape,
    LookupShape,
    ModelShape,
    RunShape,
    WriteShape,
)
from hub.mappings.document.tree import Path, Tree
from hub.mappings.nearest import near
from hub.mappings.types import WRITTEN_NAMES

_KINDS = {bool: "truth", int: "number", float: "number", str: "text"}

Broken = Iterator[tuple[Path, str]]


def broken_rules(tree: Tree, bad: set[str]) -> None:
    """Notes every broken rule of the sections that are not in `bad`."""
    for section, (adapter, rule) in _RULES.items():
        if section in bad or not isinstance(tree.root, dict) or section not in tree.root:
            continue
        for path, message in rule(adapter.validate_python(tree.root[section])):
            tree.problem((section, *path), message)


def _lookups(lookups: Mapping[str, LookupShape]) -> Broken:
    for name, lookup in lookups.items():
        if lookup.aggregate and lookup.take:
            yield (name, "take"), "cannot stand beside aggregate: a lookup takes a record or folds them"
        if lookup.order and lookup.take != "first":
            yield (name, "order"), "belongs to take: first; add it, or remove order"
        if lookup.take == "first" and not lookup.order:
            yield (name, "take"), 'first needs order, such as order: "TakenAt desc", to say which is first'


def _expect(expect: Mapping[str, ExpectShape]) -> Broken:
    for name, each in expect.items():
        if each.min is None and each.max is None and each.in_ is None and not each.required:
            yield (name,), "expects nothing; give min, max, in or required"
        if each.min is not None and each.max is not None and each.min > each.max:
            yield (name, "min"), "is above max"
        if each.in_ is not None and len({_KINDS[type(one)] for one in each.in_}) > 1:
            yield (name, "in"), "mixes kinds of values; give text only, numbers only, or true and false"


def _model(model: ModelShape) -> Broken:
    for name in ("choose", "canary", "shadow"):
        if getattr(model, name) is not None:
            yield (name,), "is not yet available; remove it for now"


def _decide(decide: DecideShape) -> Broken:
    names = decide.__pydantic_extra__ or {}
    if not names:
        yield (), 'decides nothing; give at least one name, such as score: "round(100 * probability)"'
    for name in names:
        if name in WRITTEN_NAMES:
            yield (name,), f"{name} is a name that the hub gives itself; choose another"
            continue
        if not is_name(name):
            yield (name,), f"'{name}' is no name: {NAME_RULE}"
    if decide.fallback is not None:
        for name in decide.fallback.set:
            if name not in names:
                yield ("fallback", "set", name), f"{name} is not decided above{near(name, names)}"


def _write(write: WriteShape) -> Broken:
    own = write.entity is None and write.connection is None
    if write.connection is not None and write.entity is None:
        yield ("connection",), "needs entity beside it: which entity of that connection is written"
    if write.mode != "update" and write.entity is None:
        yield ("mode",), f"{write.mode} needs entity, the entity written"
    if write.mode != "update" and write.key is None:
        yield ("mode",), f"{write.mode} needs key, such as key: {{ TargetKey: OurField }}"
    if write.mode == "update" and own and write.key is not None:
        yield ("key",), "belongs to another target; update without entity writes the record read"
    for name in write.with_:
        if name in write.set:
            yield ("with", name), "stands in set already; a field is written by one of them"
    for part, fields in (("set", write.set), ("with", write.with_)):
        for name in fields:
            if name in (write.key or {}):
                yield (part, name), "is part of key already, which names the record; remove it here"
    for name, least in write.when_changed.items():
        if name not in write.set:
            yield ("when_changed", name), f"{name} is not written by set{near(name, write.set)}"
        elif least <= 0:
            yield ("when_changed", name), "expected a difference above 0"


def _run(run: RunShape) -> Broken:
    if run.follow and run.schedule is None:
        yield ("follow",), 'needs schedule beside it, such as "0 * * * *": its runs carry retries, expiry and refresh'
    if run.follow and run.ahead:
        yield ("follow",), "cannot stand beside ahead: what follows writes each change as it comes; remove one of them"


_Rule = tuple[TypeAdapter[Any], Callable[[Any], Broken]]
_RULES: Mapping[str, _Rule] = {
    "lookups": (TypeAdapter(dict[Name, LookupShape]), _lookups),
    "expect": (TypeAdapter(dict[str, ExpectShape]), _expect),
    "model": (TypeAdapter(ModelShape), _model),
    "decide": (TypeAdapter(DecideShape), _decide),
    "write": (TypeAdapter(WriteShape), _write),
    "run": (TypeAdapter(RunShape), _run),
}
