"""What is written and where: the target entity, its key, and whether each field can hold what it is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from hub.mappings.check.findings import Findings, Scope, listed
from hub.mappings.check.results import Results
from hub.mappings.check.sources import Reading, Systems
from hub.mappings.expressions import Expression
from hub.mappings.expressions.types import Node
from hub.mappings.nearest import near
from hub.mappings.pipeline import fits
from hub.mappings.types import Document, Taken, Write
from hub.sdk import Entity, Field, FieldType, Mode

ASK = "ask its administrator for"
_NUMBERS = frozenset({FieldType.INTEGER, FieldType.DECIMAL, FieldType.REAL})


def writes_in_place(document: Document) -> bool:
    """Whether the record written is the record read."""
    write, read = document.write, document.read
    return write.key is None and (write.connection, write.entity) == (read.connection, read.entity)


def find_target(findings: Findings, systems: Systems, reading: Reading) -> Entity | None:
    """The entity written, its modes and fields judged."""
    write = findings.document.write
    own = writes_in_place(findings.document)
    target = reading.source if own else systems.entity(("write",), write.connection, write.entity)
    if target is None:
        return None
    target = target.keyed_by(write.key or ())
    if write.mode not in target.modes:
        findings.note(
            ("write", "mode"), f"{target.name} of connection {write.connection} {_other_modes(target, write)}"
        )
    if not own and write.key is None:
        findings.note(("write", "entity"), f"needs write.key, which says which {target.name} a record belongs to")
    for part, fields in (("set", write.set), ("with", write.with_)):
        for name in fields:
            _check_field(findings, ("write", part, name), name, target)
    if write.mode is not Mode.UPDATE:
        given = {*write.set, *write.with_, *target.key}
        for each in target.fields:
            if each.required and each.name not in given:
                why = f"a new {target.name} needs {each.name}, which has no default; set it, or give it one over there"
                findings.note(("write", "set"), why)
    for name in write.when_changed:
        kind = target.by_name.get(name)
        if kind is not None and kind.type not in _NUMBERS:
            findings.note(("write", "when_changed", name), f"{name} holds {kind.type}; a difference needs a number")
    return target


def _other_modes(target: Entity, write: Write) -> str:
    """What the entity takes instead, and by which other key it takes what is asked."""
    others = [each.field for each in target.alternates if write.mode in each.modes]
    if others:
        return f"takes {write.mode} by another key only; give write.key as one of {listed(others)}"
    if target.modes:
        return f"takes {listed(sorted(target.modes))} only, not {write.mode}"
    return f"is read-only; {ASK} the right to {write.mode} {target.name}"


def _check_field(findings: Findings, path: tuple[str, ...], name: str, target: Entity) -> None:
    field = target.by_name.get(name)
    if field is None:
        writable = [each.name for each in target.fields if each.writable and each.name not in target.key]
        hint = near(name, writable) or f"; writable are {listed(writable) or 'none'}"
        findings.note(path, f"{target.name} has no field {name}{hint}")
    elif name in target.key:
        findings.note(path, f"{name} is part of the key of {target.name} and is never written")
    elif not field.writable:
        right = f"{ASK} the right to edit {target.name}.{name}"
        findings.note(path, f"{name} of {target.name} is read-only for this connection; {right}")


def compile_key(findings: Findings, target: Entity | None, scope: Scope) -> dict[str, Expression] | None:
    """The key of another target over the fields read: exactly its key fields, each of a type that fits."""
    key = findings.document.write.key
    if key is None:
        return None
    made: dict[str, Expression] = {}
    for name, text in key.items():
        path = ("write", "key", name)
        expression = findings.compile(path, text, scope)
        if expression is not None:
            made[name] = expression
        if target is None:
            continue
        if name not in target.key:
            findings.note(path, f"{name} is no key field of {target.name}; {_keys_of(target)}")
        elif expression is not None and name in target.by_name:
            _check_fit(findings, path, expression, target.by_name[name])
    missing = [name for name in target.key if name not in key] if target is not None else []
    if missing and target is not None:
        findings.note(("write", "key"), f"lacks {listed(missing)} of the key of {target.name}")
    return made


def _keys_of(target: Entity) -> str:
    others = [each.field for each in target.alternates]
    return f"its key is {listed(target.key) or 'none'}{f', or one of {listed(others)}' if others else ''}"


def check_values(findings: Findings, target: Entity, results: Results) -> None:
    """Each expression against the field it is written to: its type, and every literal it can give."""
    for part, made in (("set", results.set), ("with", results.with_)):
        for name, expression in made.items():
            field = target.by_name.get(name)
            if field is None:
                continue
            path = ("write", part, name)
            if _check_fit(findings, path, expression, field):
                _check_literals(findings, path, expression, field, results)


def _check_fit(findings: Findings, path: tuple[str, ...], expression: Expression, field: Field) -> bool:
    if expression.type.kind is None or fits(expression.type.dtype, field):
        return True
    findings.note(
        path, f"the expression gives {expression.type}, but {field.name} holds {field.type}; use cast(… as …)"
    )
    return False


def _check_literals(
    findings: Findings, path: tuple[str, ...], expression: Expression, field: Field, results: Results
) -> None:
    decided: dict[str, list[Node]] = {}
    for name in (*results.decide, *results.fallback):
        trees = [each[name].tree for each in (results.decide, results.fallback) if name in each]
        decided[name] = trees
    for value in sorted(set(literal_results(expression.tree, decided)), key=str):
        if wrong := misfit(value, field):
            findings.note(path, wrong)


def literal_results(
    tree: Node, decided: Mapping[str, list[Node]], depth: int = 0
) -> Iterator[str | int | float | Decimal]:
    """The constants that an expression can give as they stand, followed through choices and decided names."""
    if tree.op == "literal":
        value = tree.params[0]
        if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
            yield value
    elif tree.op == "case":
        values = (*tree.args[1:-1:2], tree.args[-1])
        for each in values:
            yield from literal_results(each, decided, depth)
    elif tree.op == "coalesce":
        for each in tree.args:
            yield from literal_results(each, decided, depth)
    elif tree.op == "nullif":
        yield from literal_results(tree.args[0], decided, depth)
    elif tree.op == "column" and depth < len(decided) + 1:
        for each in decided.get(str(tree.params[0]), ()):
            yield from literal_results(each, decided, depth + 1)


def misfit(value: str | float | Decimal, field: Field) -> str:
    """Why a field can never hold this constant; empty where it can."""
    if isinstance(value, str):
        if field.values and value not in field.values:
            fix = f"{ASK} this value, or give another"
            return f"{field.name} does not take '{value}', only {listed(field.values)}; {fix}"
        if field.length is not None and len(value) > field.length:
            fix = f"{ASK} a longer field, or shorten the text"
            return f"'{value}' is longer than the {field.length} characters that {field.name} holds; {fix}"
        return ""
    if field.type is FieldType.INTEGER and value != int(value):
        return f"{value} is no whole number, which {field.name} holds; use round(…)"
    if field.type is FieldType.DECIMAL and field.precision is not None:
        whole = field.precision - (field.scale or 0)
        if abs(value) >= 10**whole:
            return f"{value} has more than the {whole} digits that {field.name} holds before the point"
    return ""


def check_ownership(findings: Findings, target: Entity, taken: Taken) -> None:
    """A target field belongs to one published mapping."""
    write = findings.document.write
    for part, fields in (("set", write.set), ("with", write.with_)):
        for name in fields:
            owner = taken.get((write.connection, target.name, name))
            if owner is not None and owner != findings.document.mapping:
                findings.note(
                    ("write", part, name),
                    f"{name} of {target.name} is written by the published mapping {owner} already",
                )


def check_feedback(findings: Findings, reading: Reading, read: Mapping[tuple[str, ...], frozenset[str]]) -> None:
    """A score must not feed itself. `read` tells which source fields each expression of the input side looks at."""
    document = findings.document
    if reading.source is None or (document.write.connection, document.write.entity) != (
        document.read.connection,
        document.read.entity,
    ):
        return
    targets = {*document.write.set, *document.write.with_}
    for path, fields in read.items():
        if both := sorted(targets & fields):
            findings.note(path, f"reads {listed(both)}, which this mapping writes: a score must not feed itself")
    if document.read.changed_by in targets:
        findings.note(
            ("read", "changed_by"), "is written by this mapping, so each score would make its record due again"
        )
