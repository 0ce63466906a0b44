"""What a verb imports before it answers: a short one pays for no library that it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from hub.cli.main import ROOMS, command_for

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
    ("words", "rooms"),
    [
        (["--help"], set()),
        (["serve", "--port", "0"], set()),
        (["decisions", "show", "risk", "1"], {"decisions"}),
        (["--", "runs", "list"], {"runs"}),
        ([], set(ROOMS)),
    ],
    ids=["help", "a process", "a room", "a room behind dashes", "nothing"],
)
def test_no_verbs_are_made_but_of_the_rooms_that_are_named(words: list[str], rooms: set[str]) -> None:
    """Typer takes longer over a hundred verbs than over its own import. Without words the shell may be completing."""
    made = getattr(get_command(command_for(words)), "commands", {})
    assert {name for name in ROOMS if made[name].commands} == rooms
    assert made.keys() >= set(ROOMS)


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
