"""A document against the systems and the model it names: compiled, or every problem with its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hub.mappings.check.findings import Findings
from hub.mappings.check.grants import Lineage, draw_grants
from hub.mappings.check.inputs import Models, check_expectations, compile_features, feature_path, find_model
from hub.mappings.check.results import Results, compile_results
from hub.mappings.check.sources import (
    Entities,
    LookupParts,
    Reading,
    Systems,
    check_following,
    compile_lookups,
    compile_read,
)
from hub.mappings.check.targets import (
    check_feedback,
    check_ownership,
    check_values,
    compile_key,
    find_target,
    writes_in_place,
)
from hub.mappings.expressions import Expression
from hub.mappings.types import Compiled, Document, Taken
from hub.models import ModelVersion
from hub.sdk import Entity, Field, FieldType

TEXT_LENGTH = 254
"""Characters of a text field made for a mapping; reasons are cut to it."""


def compile_mapping(
    document: Document,
    entities: Entities,
    model: Models,
    taken: Taken | None = None,
    follows: Callable[[str], bool] = lambda _: True,
) -> Compiled:
    """The document resolved. MappingError holds everything that is wrong with it.

    `entities` gives a connection's entities (ConnectionsError where there is no such connection), `model` the version
    of a name and an alias or number (ModelError where there is none), `taken` the owner of each target field that a
    published mapping writes, `follows` whether a connection tells of changes as they happen. An error of the far side
    itself, such as UnavailableError, passes through.
    """
    findings = Findings(document)
    systems = Systems(findings, entities)
    version = find_model(findings, model)
    reading = compile_read(findings, systems)
    lookups = compile_lookups(findings, systems, reading.scope)
    features = compile_features(findings, reading.scope, version)
    check_expectations(findings, features, version)
    results = compile_results(findings, features, version)
    target = find_target(findings, systems, reading)
    key = compile_key(findings, target, reading.scope)
    if target is not None:
        check_values(findings, target, results)
        check_ownership(findings, target, taken or {})
    check_feedback(findings, reading, _looked_at(findings, reading, lookups, features))
    check_following(findings, reading, version, follows)
    findings.raise_any()
    assert reading.source is not None
    assert target is not None
    assert version is not None
    return _compiled(document, reading, reading.source, lookups, features, results, target, key, version)


def missing_fields(document: Document, entities: Entities, model: Models) -> tuple[Field, ...]:
    """The target fields that the document writes and the target does not have, as they would have to be made.

    MappingError where the document is wrong in something else than that.
    """
    findings = Findings(document)
    systems = Systems(findings, entities)
    version = find_model(findings, model)
    reading = compile_read(findings, systems)
    compile_lookups(findings, systems, reading.scope)
    results = compile_results(findings, compile_features(findings, reading.scope, version), version)
    write = document.write
    target = reading.source if writes_in_place(document) else systems.entity(("write",), write.connection, write.entity)
    findings.raise_any()
    assert target is not None
    made = {**results.set, **results.with_}
    return tuple(_field(name, each) for name, each in made.items() if name not in target.by_name)


def _field(name: str, expression: Expression) -> Field:
    made = expression.type
    if made.kind is FieldType.DECIMAL:
        return Field(name, made.kind, writable=True, precision=made.digits[0], scale=made.digits[1])
    kind = made.kind or FieldType.TEXT
    return Field(name, kind, writable=True, length=TEXT_LENGTH if kind is FieldType.TEXT else None)


def _looked_at(
    findings: Findings, reading: Reading, lookups: Sequence[LookupParts], features: Mapping[str, Expression]
) -> dict[tuple[str, ...], frozenset[str]]:
    """The fields of the record read that each expression of the input side looks at, lookups of the same entity too."""
    read = findings.document.read
    seen: dict[tuple[str, ...], frozenset[str]] = {}
    for name, each in features.items():
        seen[feature_path(findings, name)] = each.columns
    if reading.where is not None and read.leaves == "clear":
        seen["read", "where"] = reading.where.columns
    for parts in lookups:
        path = ("lookups", parts.lookup.name)
        for name, each in parts.match.items():
            seen[*path, "match", name] = each.columns
        if (parts.lookup.connection, parts.lookup.entity) == (read.connection, read.entity):
            prefix = f"{parts.lookup.name}."
            used = {
                name.removeprefix(prefix)
                for each in features.values()
                for name in each.columns
                if name.startswith(prefix)
            }
            seen[path] = frozenset(parts.own | (used if parts.aggregate is None else set()))
    return seen


def _compiled(
    document: Document,
    reading: Reading,
    source: Entity,
    parts: Sequence[LookupParts],
    features: Mapping[str, Expression],
    results: Results,
    target: Entity,
    key: Mapping[str, Expression] | None,
    version: ModelVersion,
) -> Compiled:
    inputs = [*features.values(), *(key or {}).values(), *(each for one in parts for each in one.match.values())]
    used = frozenset[str]().union(*(each.columns for each in inputs))
    lookups = tuple(each.finish(used) for each in parts)
    in_place = writes_in_place(document)
    wanted = used | (reading.where.columns if reading.where is not None else frozenset())
    if in_place:
        wanted |= {*results.set, *results.with_}
    fields = tuple(each.name for each in source.fields if each.name in wanted)
    lineage = Lineage(document, source, lookups, features, version.signature.outputs())
    return Compiled(
        document=document,
        source=source,
        target=target,
        in_place=in_place,
        fields=fields,
        where=reading.where,
        lookups=lookups,
        features=features,
        decide=results.decide,
        fallback_when=results.fallback_when,
        fallback=results.fallback,
        hold=results.hold,
        set=results.set,
        with_=results.with_,
        key=key,
        model=version,
        grants=draw_grants(document, source, target, fields, lookups),
        lineage=lineage.targets(results),
    )
