"""Every unit of work of the hub as its source has it, by the name of its commit's fault points."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
APART = ("hub/database.py", "hub/postgresql/", "hub/migrations/", "hub/sdk/")
"""Where transactions are made, where the schema is, and what knows of no database of the hub."""


def hub_modules() -> Iterator[tuple[Path, ast.Module]]:
    """Each module of the hub, parsed."""
    for path in sorted((ROOT / "hub").rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


@cache
def commits() -> tuple[str, ...]:
    """`commit of Class.function` or of `module.function`, for every `begin()` and `retrying(work)` of a database."""
    found = []
    for path, tree in hub_modules():
        shown = path.relative_to(ROOT).as_posix()
        if shown.startswith(APART):
            continue
        module = path.stem if path.stem != "__init__" else path.parent.name
        for owner, call in _calls(tree):
            if _commits(call):
                place = owner if "." in owner else f"{module}.{owner}"
                found.append(f"commit of {place}{_work(call)}")
    return tuple(found)


def _commits(call: ast.Call) -> bool:
    func = call.func
    named = isinstance(func, ast.Attribute) and func.attr in {"begin", "retrying"}
    return named and "database" in ast.unparse(func.value)


def _work(call: ast.Call) -> str:
    """What is added to the name by the function that is the work, where that has a name."""
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr == "begin" or isinstance(call.args[0], ast.Lambda):
        return ""
    work = call.args[0]
    if isinstance(work, ast.Call):  # partial(…), which has no name of its own
        return ""
    return f".{work.attr if isinstance(work, ast.Attribute) else ast.unparse(work)}"


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the outermost function it stands in, and that function's class."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield from ((f"{node.name}.{inner.name}", each) for each in _within(inner))
        elif isinstance(node, ast.FunctionDef):
            yield from ((node.name, each) for each in _within(node))


def _within(node: ast.AST) -> Iterator[ast.Call]:
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))
