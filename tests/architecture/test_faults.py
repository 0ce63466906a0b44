"""No commit and no call to a far side is without its fault points."""

from __future__ import annotations

import ast
from collections import Counter

from tests.architecture.units import APART, ROOT, commits, hub_modules

LOCAL = frozenset({"spec", "plan", "source", "destination", "live", "provisioner"})
"""What a connector answers about itself, without its far side."""
ROLES = frozenset({"_connector", "_source", "_destination", "_live", "_provisioner"})


def test_every_commit_has_a_name_of_its_own() -> None:
    assert {name for name, count in Counter(commits()).items() if count > 1} == set()
    assert len(commits()) > 50


def test_only_the_database_commits() -> None:
    """Whoever takes a session or a connection of the engine itself goes past the points."""
    wrong = []
    for path, tree in hub_modules():
        shown = path.relative_to(ROOT).as_posix()
        if shown.startswith(APART):
            continue
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.endswith((".sessions", ".commit", "engine.begin", "engine.connect", "sessions.begin")):
                wrong.append(f"{shown}:{node.lineno} {called}")  # type: ignore[attr-defined]
    assert wrong == []


def test_every_call_of_a_guarded_role_stands_between_its_points() -> None:
    tree = ast.parse((ROOT / "hub" / "connections" / "guard.py").read_text(encoding="utf-8"))
    inside = {
        id(node)
        for block in ast.walk(tree)
        if (isinstance(block, ast.With) and "around(" in ast.unparse(block.items[0]))
        or (isinstance(block, ast.Call) and ast.unparse(block.func) == "_trimmed")
        for node in ast.walk(block)
    }
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr in ROLES
        and node.func.attr not in LOCAL
    ]
    assert len(calls) >= 10
    assert [f"{each.lineno} {ast.unparse(each.func)}" for each in calls if id(each) not in inside] == []


def test_no_connector_is_reached_but_through_the_guard() -> None:
    text = (ROOT / "hub" / "connections" / "connections.py").read_text(encoding="utf-8")
    used = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "connector"
    ]
    assert used == ["connector.close"]
    made = [
        path.relative_to(ROOT).as_posix()
        for path, tree in hub_modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("catalogue.make")
    ]
    assert made == ["hub/connections/connections.py"]
