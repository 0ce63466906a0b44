"""The features and what the model asks of them."""

from __future__ import annotations

from collections.abc import Callable

from hub.mappings.check.findings import Findings, Scope, listed
from hub.mappings.document import found
from hub.mappings.expressions import Expression, ValueType
from hub.mappings.nearest import near
from hub.mappings.types import Expectation
from hub.models import InputField, ModelError, ModelVersion
from hub.sdk import FieldType

Models = Callable[[str, str], ModelVersion]

_NUMBERS = frozenset({FieldType.INTEGER, FieldType.DECIMAL, FieldType.REAL})


def find_model(findings: Findings, model: Models) -> ModelVersion | None:
    """The version the document uses, or None after noting why there is none."""
    wanted = findings.document.model
    try:
        return model(wanted.name, wanted.use)
    except ModelError as error:
        findings.note(("model", "name"), str(error))
        return None


def compile_features(findings: Findings, scope: Scope, version: ModelVersion | None) -> dict[str, Expression]:
    """Each feature in its input's type; missing and superfluous ones are noted."""
    inputs = dict(version.signature.by_name) if version is not None else {}
    made: dict[str, Expression] = {}
    for feature in findings.document.features:
        path = feature_path(findings, feature.name)
        wanted = inputs.get(feature.name)
        if version is not None and wanted is None:
            _superfluous(findings, feature.name, version)
        expect = None if wanted is None else ValueType(wanted.type)
        expression = findings.compile(path, feature.text, scope, expect=expect)
        if expression is not None:
            made[feature.name] = expression
    if version is not None:
        _missing(findings, version)
    return made


def feature_path(findings: Findings, name: str) -> tuple[str, ...]:
    """Where the expression of a feature stands: it may be text or a map with `is`."""
    inside = ("features", name, "is")
    return inside if inside in findings.document.marks else ("features", name)


def _superfluous(findings: Findings, name: str, version: ModelVersion) -> None:
    here = {each.name for each in findings.document.features}
    missing = [each for each in version.signature.by_name if each not in here]
    model = f"{version.name} {version.number}"
    findings.note(("features", name), f"is no input of {model}{near(name, missing) or '; remove it'}")


def _missing(findings: Findings, version: ModelVersion) -> None:
    here = {each.name for each in findings.document.features}
    missing = [each.name for each in version.signature.inputs if each.name not in here]
    if missing:
        inputs = "an input" if len(missing) == 1 else "inputs"
        findings.note(
            ("features",),
            f"{version.name} {version.number} needs {inputs} that no feature gives: {listed(missing, 20)}",
        )


def check_expectations(findings: Findings, features: dict[str, Expression], version: ModelVersion | None) -> None:
    """Each expectation names a feature and values that feature can have."""
    known = [each.name for each in findings.document.features]
    for each in findings.document.expect:
        if each.feature not in known:
            findings.note(("expect", each.feature), f"there is no feature {each.feature}{near(each.feature, known)}")
            continue
        expression = features.get(each.feature)
        if expression is not None:
            _check_bounds(findings, each, expression.type)
        wanted = version.signature.by_name.get(each.feature) if version is not None else None
        if wanted is not None and wanted.closed:
            _check_categories(findings, each, wanted)


def _check_bounds(findings: Findings, expectation: Expectation, kind: ValueType) -> None:
    number = kind.kind in _NUMBERS or kind.kind is None
    for name, bound in (("min", expectation.minimum), ("max", expectation.maximum)):
        if bound is not None and not number:
            findings.note(
                ("expect", expectation.feature, name), f"bounds are for numbers; {expectation.feature} is {kind}"
            )
    for index, value in enumerate(expectation.among or ()):
        if kind.kind is None:
            continue
        fits = {bool: kind.kind is FieldType.BOOLEAN, str: kind.textual, int: number, float: number}[type(value)]
        if not fits:
            place = ("expect", expectation.feature, "in", index)
            findings.note(place, f"{expectation.feature} is {kind}, never {found(value)}")


def _check_categories(findings: Findings, expectation: Expectation, wanted: InputField) -> None:
    for index, value in enumerate(expectation.among or ()):
        if wanted.categories and isinstance(value, str) and value not in wanted.categories:
            hint = near(str(value), wanted.categories) or f"; it knows {listed(wanted.categories)}"
            findings.note(("expect", expectation.feature, "in", index), f"the model cannot score {found(value)}{hint}")
