"""The rules of the house, read from the source: who imports what, how things are named, what is never done."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from hub.access import Scope
from hub.access.approvals import ApprovalKind
from hub.audit import Action

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("hub", "connectors", "mappings")
WORDS = {
    "manager",
    "helper",
    "helpers",
    "util",
    "utils",
    "handler",
    "processor",
    "base",
    "common",
    "core",
    "data",
    "info",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
HOSTS = re.compile(r"pypi\.org|files\.pythonhosted|/simple/|(?<!no-emit-)index-url|proxy\.golang|registry\.npmjs")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|home|root|Users|opt)/")
MAX_FILES = 8
CALLED_BY_LIBRARIES = {"Base", "data_received", "get_extra_info", "get_route_handler"}
"""SQLAlchemy's declarative root, asyncio's protocol, httpcore's network stream, FastAPI's route."""
FACES = {"api", "cli", "console"}
"""Faces have one module per room instead."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def modules(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found, f"no module in {folders}"
    return found


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module a file imports, `from a import b` as `a.b`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield each.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                yield f"{node.module}.{each.name}", node.lineno


def test_rooms_stand_in_their_order() -> None:
    layers = re.search(r"layers = \[(.*?)\n\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert layers
    rooms = re.findall(r"[a-z]+", re.sub(r"\([a-z]+\)", "", layers[1]))
    assert [room for room in rooms if importlib.util.find_spec(f"hub.{room}") is None] == []
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_store_is_imported_by_its_room_and_by_migrations_alone() -> None:
    wrong = []
    for path in modules(*FOLDERS):
        for name, line in imports(path):
            found = re.match(r"hub\.(\w+)\.store\b", name)
            if found and not shown(path).startswith((f"hub/{found[1]}/", "hub/migrations/")):
                wrong.append(f"{shown(path)}:{line} imports {name}")
    assert wrong == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        shown(path) for path in modules(*FOLDERS, "tests") if path.stat().st_size and not ast.get_docstring(tree(path))
    ]
    assert silent == []


def test_a_room_has_at_most_eight_files() -> None:
    rooms = [path for path in (ROOT / "hub").iterdir() if path.name not in FACES and list(path.glob("*.py"))]
    crowded = {path.name: len(list(path.glob("*.py"))) for path in rooms}
    assert {name: count for name, count in crowded.items() if count > MAX_FILES} == {}


def words_of(name: str) -> set[str]:
    return {each.lower() for each in re.findall(r"[A-Z][a-z0-9]+|[A-Z]+(?![a-z])|[a-z0-9]+", name)}


def test_names_say_what_a_thing_is() -> None:
    wrong = []
    for path in modules(*FOLDERS):
        named = [(path.stem, 1)] + [
            (node.name, node.lineno)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        for name, line in named:
            # A dunder is somebody else's contract; so are the names that a library calls.
            if words_of(name) & WORDS and not name.startswith("__") and name not in CALLED_BY_LIBRARIES:
                wrong.append(f"{shown(path)}:{line} {name}")
    assert wrong == []


def test_errors_end_in_error() -> None:
    wrong = []
    for path in modules("hub", "connectors"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                parents = {ast.unparse(each).rpartition(".")[2] for each in node.bases}
                if any(each in {"Exception", "BaseException"} or each.endswith("Error") for each in parents):
                    wrong += [] if node.name.endswith("Error") else [f"{shown(path)}:{node.lineno} {node.name}"]
    assert wrong == []


def test_nothing_runs_code_that_came_as_text_or_bytes() -> None:
    wrong = []
    for path in modules(*FOLDERS):
        wrong += [
            f"{shown(path)}:{line} imports {name}"
            for name, line in imports(path)
            if name.split(".")[0] in FORBIDDEN_IMPORTS
        ]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                wrong.append(f"{shown(path)}:{node.lineno} calls {node.func.id}")
            if isinstance(node, ast.Call) and any(
                each.arg == "shell" and isinstance(each.value, ast.Constant) and each.value.value is True
                for each in node.keywords
            ):
                wrong.append(f"{shown(path)}:{node.lineno} runs a shell")
    assert wrong == []


def test_certificates_are_always_verified() -> None:
    wrong = []
    for path in modules(*FOLDERS):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.keyword) and ast.unparse(node) in {"verify=False", "check_hostname=False"}:
                wrong.append(f"{shown(path)}:{node.value.lineno} {ast.unparse(node)}")
            if isinstance(node, ast.Attribute) and node.attr in {"CERT_NONE", "_create_unverified_context"}:
                wrong.append(f"{shown(path)}:{node.lineno} {node.attr}")
    assert wrong == []


def test_no_sql_is_built_from_text_outside_a_dialect_or_a_store() -> None:
    wrong = []
    for path in modules("hub"):
        if path.name == "store.py":
            continue
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "text" and isinstance(node.args[0], ast.JoinedStr | ast.BinOp):
                wrong.append(f"{shown(path)}:{node.lineno} text() of a built string")
    assert wrong == []


def test_no_host_of_a_registry_and_no_path_of_one_machine_is_in_the_project() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    wrong = []
    for name in listed:
        path = ROOT / name
        if not path.is_file() or path == Path(__file__) or path.stat().st_size > 2_000_000:
            continue
        try:
            content = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if HOSTS.search(content):
            wrong.append(f"{name}: a registry's address")
        if path.suffix in {".py", ".toml", ".yaml", ".yml", ".md", ".lock"} and MACHINE_PATHS.search(content):
            wrong.append(f"{name}: a path of one machine")
    assert wrong == []


@pytest.mark.parametrize("member", [*Action, *Scope], ids=str)
def test_each_action_and_scope_says_what_it_means(member: Action | Scope) -> None:
    assert len(member.meaning.split()) >= 3


@pytest.mark.parametrize("kind", [Action, ApprovalKind])
def test_nothing_is_promised_that_no_room_records_or_asks_for(kind: type[Action | ApprovalKind]) -> None:
    apart = ("hub/audit/types.py", "hub/audit/forms/", "hub/access/approvals/types.py")
    named = {
        node.attr
        for path in modules("hub")
        if not shown(path).startswith(apart)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == kind.__name__
    }
    assert {each.name for each in kind} - named == set()


@pytest.mark.parametrize("action", list(Action), ids=str)
def test_an_action_is_room_subject_verb(action: Action) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z]+\.[a-z]+", action.value)
    rooms = {"access", "audit", "connections", "decisions", "keys", "mappings", "models", "runs"}
    assert action.room in rooms
