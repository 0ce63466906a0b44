"""What a mapping will do, and what differs between two versions of one, in text for the person who must decide."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime

from hub.mappings.expressions import Pushdown, to_filter
from hub.mappings.specification import duration_text
from hub.mappings.types import Compiled, CompiledLookup, Document
from hub.sdk import Grant, Json


def explain(compiled: Compiled, now: datetime) -> str:
    """The reads that are planned, what each far side is asked and what the hub judges itself, and every expression."""
    lines = [f"mapping {compiled.document.mapping}  {compiled.document.digest[:12]}", ""]
    lines += _read(compiled, now)
    for number, lookup in enumerate(compiled.lookups, start=2):
        lines += _lookup(number, lookup, now)
    lines += ["", "Features"]
    for name, each in compiled.features.items():
        moves = "  (moves with time)" if each.uses_now else ""
        lines.append(f"  {name}: {each.type} = {each.text}{moves}")
    lines += ["", f"Model {compiled.model.name} version {compiled.model.number}, run as {compiled.model.way.value}"]
    outputs = ", ".join(f"{name} {kind.value}" for name, kind in compiled.model.signature.outputs().items())
    lines += [f"  gives {outputs}", "", "Decided"]
    lines += [f"  {name}: {each.type} = {each.text}" for name, each in compiled.decide.items()]
    if compiled.fallback_when is not None:
        lines.append(f"  where {compiled.fallback_when.text}:")
        lines += [f"    {name}: {each.type} = {each.text}" for name, each in compiled.fallback.items()]
    if compiled.hold is not None:
        lines.append(f"  held where {compiled.hold.text}")
    lines += ["", f"Written to {compiled.document.write.connection}/{compiled.target.name}"]
    for fields, along in ((compiled.set, ""), (compiled.with_, "  (along)")):
        lines += [f"  {name} = {each.text}{along}" for name, each in fields.items()]
    return "\n".join(lines) + "\n"


def _read(compiled: Compiled, now: datetime) -> Iterator[str]:
    read = compiled.document.read
    yield "Reads, in this order"
    yield f"  1. {read.connection}/{compiled.source.name}: {', '.join(compiled.fields) or 'keys only'}"
    if compiled.where is not None:
        yield from _pushed(to_filter(compiled.where, compiled.source.by_name, now=now))
    if read.changed_by is not None:
        yield f"     incremental by {read.changed_by}, then key"
    if read.refresh is not None:
        yield f"     everything again after {duration_text(read.refresh)}"
    what = [f"{name} (time)" for name, each in compiled.features.items() if each.uses_now]
    what += [f"{name} (derived)" for name in compiled.fields if compiled.source.by_name[name].derived]
    what += [f"lookup {each.lookup.name}" for each in compiled.lookups]
    if read.changed_by is not None and read.refresh is None and what:
        yield f"     note: {', '.join(what)} can change without {read.changed_by}; refresh would catch that"


def _lookup(number: int, compiled: CompiledLookup, now: datetime) -> Iterator[str]:
    lookup = compiled.lookup
    yield f"  {number}. {lookup.connection}/{compiled.entity.name} as {lookup.name}: {', '.join(compiled.fields)}"
    yield "     for distinct " + " and ".join(f"{name} = {each.text}" for name, each in compiled.match.items())
    if compiled.where is not None:
        yield from _pushed(to_filter(compiled.where, compiled.entity.by_name, now=now))
    if lookup.take == "first":
        yield f"     keeps the first by {lookup.order}"
    elif lookup.take == "one":
        yield "     expects one; a second match makes the record invalid"
    for name, text in (lookup.aggregate or {}).items():
        yield f"     {lookup.name}.{name}: {compiled.columns[f'{lookup.name}.{name}']} = {text}"


def _pushed(pushdown: Pushdown) -> Iterator[str]:
    for text in pushdown.pushed_text:
        yield f"     the system filters: {text}"
    for text in pushdown.kept_text:
        yield f"     the hub filters:    {text}"


def diff(old: Document, new: Document) -> tuple[str, ...]:
    """One line per value that differs, by its path; empty where the two mean the same."""
    if old.digest == new.digest:
        return ()
    before, after = dict(_flat((), old.source)), dict(_flat((), new.source))
    paths = [path for path in dict.fromkeys((*before, *after)) if before.get(path) != after.get(path)]
    lines = [_changed(path, before.get(path), after.get(path)) for path in paths]
    for name in ("lookups", "features", "decide"):
        first, second = _order(old, name), _order(new, name)
        kept = [each for each in first if each in second]
        if kept != [each for each in second if each in first]:
            lines.append(f"{name}: order was {', '.join(kept)}; is {', '.join(e for e in second if e in first)}")
    return tuple(lines)


def diff_grants(old: Mapping[str, Grant], new: Mapping[str, Grant]) -> tuple[str, ...]:
    """One line per right that is needed now and was not before (`+`), or no longer (`-`)."""
    before, after = set(_rights(old)), set(_rights(new))
    return tuple(
        [f"+ {right}" for right in sorted(after - before)] + [f"- {right}" for right in sorted(before - after)]
    )


def _changed(path: str, before: str | None, after: str | None) -> str:
    if before is None:
        return f"{path}: added {after}"
    if after is None:
        return f"{path}: removed, was {before}"
    return f"{path}: was {before}; is {after}"


def _flat(path: tuple[str, ...], node: Json) -> Iterator[tuple[str, str]]:
    """Every value with its path; pairs in a list stand for an ordered map, as the canonical form has them."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            inside = path if (path, name) == (("decide",), "names") else (*path, name)
            yield from _flat(inside, value)
    elif isinstance(node, list) and path in {("lookups",), ("features",), ("decide",)}:
        for name, value in node:
            yield from _flat((*path, str(name)), value)
    else:
        yield ".".join(path), json.dumps(node, ensure_ascii=False)


def _order(document: Document, name: str) -> list[str]:
    if name == "lookups":
        return [each.name for each in document.lookups]
    return [each.name for each in document.features] if name == "features" else list(document.decide.set)


def _rights(grants: Mapping[str, Grant]) -> Iterator[str]:
    for connection, grant in grants.items():
        for entity, fields in grant.reads.items():
            yield from (f"read {connection}/{entity}.{name}" for name in fields)
        for entity, fields in grant.writes.items():
            yield from (f"write {connection}/{entity}.{name}" for name in fields)
        for entity, modes in grant.modes.items():
            yield from (f"{mode} {connection}/{entity}" for mode in modes)
