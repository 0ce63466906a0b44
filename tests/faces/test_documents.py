"""The documents say what is so: their commands work and their links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hub.cli.reference import verbs

ROOT = Path(__file__).resolve().parents[2]
LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
PAGES = sorted(ROOT / each for each in LISTED.split())
VERBS = dict(verbs())
FENCED = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """Every `hub …` line of a page's code blocks, comments taken off."""
    text = page.read_text(encoding="utf-8")
    blocks = [*FENCED.findall(text), *re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [re.split(r"\s+#|\s+>", line)[0] for line in lines if line.startswith("hub ")]


COMMANDS = [pytest.param(line, id=f"{page.relative_to(ROOT)}: {line}") for page in PAGES for line in commands(page)]


def test_there_are_documents_with_commands() -> None:
    assert len(PAGES) > 10
    assert len(COMMANDS) > 50


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_a_document_is_one_that_the_hub_takes(line: str) -> None:
    words = shlex.split(line)[1:]
    verb = next((" ".join(words[:n]) for n in (3, 2, 1) if " ".join(words[:n]) in VERBS), None)
    assert verb is not None, f"hub {' '.join(words)} is no command"
    rest = words[len(verb.split()) :]
    options = {name: each for each in VERBS[verb].params for name in each.opts if name.startswith("-")}
    arguments = [each for each in VERBS[verb].params if each.param_type_name == "argument"]
    given = iter(rest)
    places = 0
    for word in given:
        if word.startswith("--"):
            assert word in options, f"hub {verb} has no {word}"
            if not options[word].is_flag:
                next(given)
        else:
            places += 1
    assert sum(each.required for each in arguments) <= places
    assert places <= len(arguments) or any(each.nargs == -1 for each in arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [each for each in links if "://" not in each and not (page.parent / each).exists()]
    assert missing == []


def test_the_readme_begins_with_the_two_commands() -> None:
    first = FENCED.findall((ROOT / "README.md").read_text(encoding="utf-8"))[0].splitlines()
    assert [each.split("#")[0].strip() for each in first] == ["make demo", "make test"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"demo", "test", "check", "bench", "serve", "help"} <= set(targets)


@pytest.mark.timeout(600)
def test_the_first_own_mapping_of_the_readme_works_as_it_is_written(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- try -->\n```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-eu", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "read 400, applied 400" in done.stdout
    assert "read 400, skipped 400" in done.stdout
    assert "nothing is missing, nothing was altered" in done.stdout
    assert "reasons:" in done.stdout


def test_every_decision_says_situation_decision_and_consequence() -> None:
    pages = sorted((ROOT / "hub" / "docs" / "decisions").glob("*.md"))
    assert len(pages) >= 8
    for number, page in enumerate(pages, 1):
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. ")
        for part in ("**Situation.**", "**Decision.**", "**What follows.**"):
            assert part in text, f"{page.name} lacks {part}"
