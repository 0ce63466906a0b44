"""What a verb imports before it answers: a short one pays for no library that it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from hub.cli.main import OTHERS, ROOMS, command_for

ALWAYS = {"sklearn", "onnx", "onnxruntime", "skl2onnx", "skops", "pandas", "celery", "fastapi", "uvicorn", "redis"}
FRAMES = {"polars", "numpy", "pyarrow", "sqlalchemy", "alembic", "sqlglot", "cryptography", "structlog"}
PRINTED = (
    "import sys; from hub.cli.main import run; code = run(sys.argv[1:]); print(code, *sys.modules, file=sys.stderr)"
)


def loaded(*arguments: str, home: Path, **variables: str) -> tuple[int, set[str]]:
    """The exit code of a verb and the modules that its process had imported when it ended."""
    environment = {"HUB_HOME": str(home), "PATH": "", "PYTHONPATH": ":".join(sys.path), **variables}
    command = [sys.executable, "-W", "ignore", "-c", PRINTED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    code, *names = done.stderr.splitlines()[-1].split()
    return int(code), set(names)


@pytest.mark.parametrize(
    "asked",
    [["decisions", "show", "--help"], ["runs", "start", "--help"], ["serve", "--help"], ["demo", "--help"]],
    ids=" ".join,
)
def test_help_imports_no_heavy_library(asked: list[str], tmp_path: Path) -> None:
    code, names = loaded(*asked, home=tmp_path)
    assert code == 0
    assert names & (ALWAYS | FRAMES) == set()


@pytest.mark.parametrize(
    ("words", "named", "whole"),
    [
        (["--help"], set(ROOMS), set()),
        (["serve", "--port", "0"], set(ROOMS), set()),
        (["decisions", "show", "risk", "1"], {"decisions"}, {"decisions"}),
        (["--", "runs", "list"], {"runs"}, {"runs"}),
        (["decisoins", "show"], set(ROOMS), set()),
        ([], set(ROOMS), set(ROOMS)),
    ],
    ids=["help", "a process", "a room", "a room behind dashes", "a slip", "nothing"],
)
def test_no_verbs_are_made_but_of_the_room_that_is_named(words: list[str], named: set[str], whole: set[str]) -> None:
    """Typer takes longer over a hundred verbs than over its own import. Without words the shell may be completing."""
    made = getattr(get_command(command_for(words)), "commands", {})
    assert made.keys() & set(ROOMS) == named
    assert {name for name in named if made[name].commands} == whole


def test_a_verb_imports_no_room_but_its_own(tmp_path: Path) -> None:
    code, names = loaded("decisions", "show", "risk", "1", "--at", "http://127.0.0.1:1", home=tmp_path, HUB_TOKEN="key")
    assert code == 1
    assert {f"hub.cli.{name}" for name in (*ROOMS, *OTHERS)} & names == {"hub.cli.decisions"}


def test_a_look_at_a_receipt_imports_neither_models_nor_mappings_nor_the_worker(tmp_path: Path) -> None:
    assert loaded("audit", "list", home=tmp_path)[0] == 0  # the first verb of all makes the database
    program = (
        "import sys; from hub.cli.caller import me; from hub.cli.output import opened; from hub.runs import look_up\n"
        "with opened() as hub: look_up(hub, 'risk', {'id': '1'}, str(me()))\n"
        "print(*sys.modules)"
    )
    environment = {"HUB_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    names = set(done.stdout.splitlines()[-1].split())
    assert "hub.decisions.receipts" in names
    unused = {
        "hub.mappings.mappings",
        "hub.models.registry",
        "hub.connections",
        "hub.runs.store",
        "hub.runs.planning.planning",
    }
    assert names & (ALWAYS | {"alembic", "sqlglot", "numpy", "pyarrow", "structlog", "rich"} | unused) == set()
