"""The public API of `hub.sdk` as text: what a third-party connector depends on."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
from collections.abc import Iterator

import pydantic

import hub.sdk


def api() -> str:
    """One line for each public name, member and field, sorted by name."""
    return "\n".join(line for name in sorted(hub.sdk.__all__) for line in _lines(name, getattr(hub.sdk, name))) + "\n"


def _lines(name: str, thing: object) -> Iterator[str]:
    if inspect.isfunction(thing):
        yield f"def {name}{inspect.signature(thing)}"
    elif inspect.isclass(thing):
        yield f"class {name}({', '.join(each.__name__ for each in thing.__bases__)})"
        yield from (f"    {line}" for line in _members(thing))
    else:
        yield f"{name} = {thing}"


def _members(cls: type) -> Iterator[str]:
    if issubclass(cls, enum.Enum):
        yield from (f"{each.name} = {each.value!r}" for each in cls)
        return
    if dataclasses.is_dataclass(cls):
        for each in dataclasses.fields(cls):
            optional = each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING
            yield f"{each.name}: {each.type}{' = …' if optional else ''}"
    elif not issubclass(cls, pydantic.BaseModel):
        yield from (f"{name}: {kind}" for name, kind in vars(cls).get("__annotations__", {}).items())
    for name, member in sorted(vars(cls).items()):
        if name.startswith("_") and name not in ("__init__", "__or__", "__len__", "__enter__", "__exit__"):
            continue
        if name == "__init__" and (dataclasses.is_dataclass(cls) or getattr(cls, "_is_protocol", False)):
            continue
        if not dataclasses.is_dataclass(cls) or name not in {each.name for each in dataclasses.fields(cls)}:
            yield from _member(name, member)


def _member(name: str, member: object) -> Iterator[str]:
    if isinstance(member, classmethod):
        yield f"classmethod {name}{inspect.signature(member.__func__)}"
    elif isinstance(member, types.FunctionType):
        yield f"def {name}{inspect.signature(member)}"
    elif isinstance(member, property) or (hasattr(member, "func") and callable(member.func)):
        yield f"property {name}"
