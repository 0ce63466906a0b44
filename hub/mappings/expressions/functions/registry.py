"""How a function or operator is declared: its types, its rule, its examples and the polars operations it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import polars as pl

from hub.mappings.expressions.functions.conversions import coerce
from hub.mappings.expressions.types import (
    BOOLEAN,
    INTEGER,
    REAL,
    TEXT,
    ExpressionError,
    Node,
    ValueType,
)
from hub.sdk import FieldType

Check: TypeAlias = tuple[pl.Expr, str]
"""A condition that puts the record in error where it is true, and the reason: no value of the record in it."""

Emitted: TypeAlias = "pl.Expr | tuple[pl.Expr, Sequence[Check]]"
Emitter: TypeAlias = Callable[..., Emitted]
"""From a node and the expressions of its arguments to the value, and the checks this operation itself needs.

Its value may be anything where a check holds, but computing it must never raise."""


@dataclass(frozen=True)
class Call:
    """One use of a function in a text, its arguments already typed."""

    name: str
    args: tuple[Node, ...]
    timezone: str
    text: str
    position: int | None

    def fail(self, message: str) -> ExpressionError:
        """An error that names the function and where it stands."""
        return ExpressionError(f"{self.name}: {message}", text=self.text, position=self.position)


Resolver: TypeAlias = Callable[[Call], Node]


@dataclass(frozen=True)
class Function:
    """One function of the language: what the reference page says of it, and how a call becomes a node."""

    name: str
    group: str
    signature: str
    rule: str
    examples: tuple[tuple[str, str], ...]
    resolve: Resolver
    aliases: tuple[str, ...] = ()


@dataclass
class Registry:
    """Functions by name, and the emitter of every strict operation."""

    functions: dict[str, Function] = field(default_factory=dict)
    emitters: dict[str, Emitter] = field(default_factory=dict)

    def add(self, function: Function) -> None:
        for name in (function.name, *function.aliases):
            if name in self.functions:
                raise ValueError(f"two functions are called {name}")
            self.functions[name] = function


REGISTRY = Registry()

_KINDS: Mapping[str, str] = {
    "text": "text",
    "integer": "an integer",
    "real": "a number",
    "number": "a number",
    "boolean": "a condition",
    "moment": "a date or timestamp",
    "any": "a value",
}


def operation(op: str) -> Callable[[Emitter], Emitter]:
    """Registers the emitter of an operator that is written without a name."""

    def register(emitter: Emitter) -> Emitter:
        REGISTRY.emitters[op] = emitter
        return emitter

    return register


def function(
    name: str,
    params: str,
    result: ValueType | Callable[[Sequence[Node]], ValueType] | None,
    *,
    group: str,
    rule: str,
    examples: Sequence[tuple[str, str]],
    aliases: tuple[str, ...] = (),
    signature: str | None = None,
    resolve: Resolver | None = None,
    zoned: bool = False,
) -> Callable[[Emitter], Emitter]:
    """Registers a function and its emitter.

    `params` lists the arguments as `name kind`, kind one of text, integer, real, number, boolean, moment, any;
    with `!` it must be a literal and goes to the node's params, with `?` it may be left out, with `*` it repeats.
    A literal that is left out is not in the params. `zoned` puts the timezone first in the params.
    """
    shown = signature or f"{name}({', '.join(_shown(each) for each in params.split(', ') if each)})"

    def register(emitter: Emitter) -> Emitter:
        if name in REGISTRY.emitters:
            raise ValueError(f"two operations are called {name}")
        REGISTRY.emitters[name] = emitter
        how = resolve or _declared(name, params, result, shown, zoned=zoned)
        REGISTRY.add(Function(name, group, shown, rule, tuple(examples), how, aliases))
        return emitter

    return register


def _shown(param: str) -> str:
    name, kind = param.split(" ")
    if kind.endswith("*"):
        return f"{name}, …"
    return f"[{name}]" if "?" in kind else name


def _declared(
    name: str,
    params: str,
    result: ValueType | Callable[[Sequence[Node]], ValueType] | None,
    shown: str,
    *,
    zoned: bool,
) -> Resolver:
    declared = [each.split(" ") for each in params.split(", ") if each]
    repeats = bool(declared) and declared[-1][1].endswith("*")
    least = sum("?" not in kind for _, kind in declared)

    def resolve(call: Call) -> Node:
        if len(call.args) < least or (len(call.args) > len(declared) and not repeats):
            raise call.fail(f"{len(call.args)} arguments given, expected {shown}")
        args: list[Node] = []
        constants: list[object] = [call.timezone] if zoned else []
        for index, arg in enumerate(call.args):
            label, kind = declared[min(index, len(declared) - 1)]
            taken = accept(call, arg, kind.rstrip("!?*"), label)
            if "!" in kind:
                if not taken.constant:
                    raise call.fail(f"{label} must be written as a literal")
                constants.append(taken.params[0])
            else:
                args.append(taken)
        kind_of = result(args) if callable(result) else result
        assert kind_of is not None
        return Node(name, kind_of, tuple(args), tuple(constants))  # type: ignore[arg-type]

    return resolve


def accept(call: Call, arg: Node, kind: str, label: str) -> Node:
    """The argument as the kind asked for; ExpressionError says what was expected instead."""
    given = arg.type
    if given.kind is None:
        nulls = {"text": TEXT, "integer": INTEGER, "real": REAL, "number": INTEGER, "boolean": BOOLEAN}
        return coerce(arg, nulls[kind], call.timezone) if kind in nulls else arg
    fits = {
        "text": given.textual,
        "integer": given.kind is FieldType.INTEGER,
        "real": given.numeric,
        "number": given.numeric,
        "boolean": given.kind is FieldType.BOOLEAN,
        "moment": given.temporal,
        "any": True,
    }[kind]
    if not fits:
        hint = {"text": "cast(… as text)", "integer": "cast(… as integer)", "real": "cast(… as real)"}.get(kind)
        tail = f"; use {hint} if that is meant" if hint else ""
        raise call.fail(f"{label} must be {_KINDS[kind]}, not {given}{tail}")
    return coerce(arg, REAL, call.timezone) if kind == "real" else arg
