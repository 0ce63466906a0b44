"""What is decided over a model's answer, and what is written of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hub.mappings.check.findings import Findings, Scope
from hub.mappings.check.sources import CONDITION
from hub.mappings.expressions import Expression, ValueType
from hub.mappings.types import WRITTEN_NAMES
from hub.models import ModelVersion


@dataclass
class Results:
    """The expressions after the model; `names` is what `set` and `with` may use."""

    names: Scope
    decide: dict[str, Expression] = field(default_factory=dict)
    fallback_when: Expression | None = None
    fallback: dict[str, Expression] = field(default_factory=dict)
    hold: Expression | None = None
    set: dict[str, Expression] = field(default_factory=dict)
    with_: dict[str, Expression] = field(default_factory=dict)


def compile_results(findings: Findings, features: Mapping[str, Expression], version: ModelVersion | None) -> Results:
    """Decided names in their order, each over features, outputs and those before it; then what is written."""
    document = findings.document
    seen = _seen(findings, features, version)
    made = Results(seen.copy())
    for name, text in document.decide.set.items():
        if name in seen.names:
            of = "a feature" if any(each.name == name for each in document.features) else "an output of the model"
            findings.note(("decide", name), f"{name} is the name of {of} already; choose another")
        expression = findings.compile(("decide", name), text, made.names)
        made.names.names[name] = expression.type if expression is not None else ValueType(None)
        if expression is not None:
            made.decide[name] = expression
    if document.decide.hold is not None:
        made.hold = findings.compile(("decide", "hold"), document.decide.hold, made.names, expect=CONDITION)
    _fallback(findings, made, seen, version)
    made.names.names.update({name: ValueType(kind) for name, kind in WRITTEN_NAMES.items()})
    for part, wanted, into in (("set", document.write.set, made.set), ("with", document.write.with_, made.with_)):
        for name, text in wanted.items():
            expression = findings.compile(("write", part, name), text, made.names, allow_reasons=True)
            if expression is not None:
                into[name] = expression
    return made


def _seen(findings: Findings, features: Mapping[str, Expression], version: ModelVersion | None) -> Scope:
    """Features and the model's outputs."""
    scope = Scope(unknown=version is None)
    for feature in findings.document.features:
        expression = features.get(feature.name)
        scope.names[feature.name] = expression.type if expression is not None else ValueType(None)
    if version is None:
        return scope
    for name, kind in version.signature.outputs().items():
        if name in scope.names:
            findings.note(
                ("features", name), f"{name} is an output of {version.name} {version.number} as well; rename it"
            )
        scope.names[name] = ValueType(kind)
    return scope


def _fallback(findings: Findings, made: Results, seen: Scope, version: ModelVersion | None) -> None:
    fallback = findings.document.decide.fallback
    if fallback is None:
        if findings.document.run.deadline is not None:
            findings.note(("run", "deadline"), "needs decide.fallback, which answers when the model has not in time")
        return
    made.fallback_when = findings.compile(("decide", "fallback", "when"), fallback.when, seen, expect=CONDITION)
    for name, text in fallback.set.items():
        decided = made.decide.get(name)
        path = ("decide", "fallback", "set", name)
        expression = findings.compile(path, text, seen, expect=decided.type if decided is not None else None)
        if expression is not None:
            made.fallback[name] = expression
    if findings.document.run.deadline is not None and version is not None:
        _check_deadline(findings, made.fallback, frozenset(version.signature.outputs()))


def _check_deadline(findings: Findings, fallback: Mapping[str, Expression], outputs: frozenset[str]) -> None:
    """At the deadline there is no answer of the model, so the fallback must do without."""
    for name, expression in fallback.items():
        if used := sorted(expression.columns & outputs):
            findings.note(
                ("decide", "fallback", "set", name),
                f"uses {', '.join(used)} of the model, which has not answered at run.deadline; use features only",
            )
