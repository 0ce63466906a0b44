"""Every verb explains itself, shows an example that its own parser accepts, and the help comes at once."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from hub.cli.reference import verbs
from tests.faces.cli.conftest import Shell

PLAIN = {"broker", "serve", "worker"}
"""Verbs that go on until they are ended, and so have no answer to print as JSON."""
HEAVY = {"alembic", "celery", "numpy", "onnx", "onnxruntime", "pandas", "polars", "pydantic", "sklearn", "sqlalchemy"}


VERBS = dict(verbs())


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_shows_an_example(bare: Shell, verb: str) -> None:
    shown = bare(f"{verb} --help").out
    assert f"Example: hub {verb}" in " ".join(shown.split())


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_of_a_verb_is_one_that_it_takes(verb: str) -> None:
    command = VERBS[verb]
    words = shlex.split(command.epilog.removeprefix("Example: hub ").split(" > ")[0])[len(verb.split()) :]
    options = {name: each for each in command.params for name in getattr(each, "opts", ()) if name.startswith("-")}
    given = iter(words)
    places = 0
    for word in given:
        if word.startswith("--"):
            assert word in options
            if not options[word].is_flag:
                next(given)
        else:
            places += 1
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    assert sum(each.required for each in arguments) <= places
    assert places <= len(arguments) or any(each.nargs == -1 for each in arguments)


@pytest.mark.parametrize("verb", sorted(set(VERBS) - PLAIN))
def test_a_verb_answers_as_json_when_asked(verb: str) -> None:
    assert "--json" in {name for each in VERBS[verb].params for name in getattr(each, "opts", ())}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_and_each_of_its_options_say_what_they_do(verb: str) -> None:
    command = VERBS[verb]
    assert command.help
    assert command.help.strip().endswith((".", "?"))
    assert [each.name for each in command.params if not getattr(each, "help", None)] == []


def test_the_help_imports_nothing_heavy() -> None:
    code = "import sys; from hub.cli.main import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("\n")[-2].split())
    assert "hub.cli.main" in loaded
    assert loaded & HEAVY == set()
