"""A hub in a folder of its own, driven by command lines in this process, and a small ward to connect it to."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hub.cli.main import run

DOCUMENT = """\
format: 1
mapping: ward_risk
title: Risk
owner: ward
purpose: Tried by the tests of the command line

read:
  connection: ward
  entity: PATIENT

features:
  age: { is: "AGE", title: Age }
  marker: { is: "cast(MARKER as real)", title: Marker }

model: { name: ward_risk }

decide:
  score: "round(100 * probability)"
  hold: "age > 95"

write:
  mode: update
  set: { SCORE: score }
  with: { WHY: "reasons(1)" }
"""
PEOPLE = 40


@dataclass(frozen=True)
class Done:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.out)

    @property
    def problem(self) -> str:
        """The one sentence of a refusal: the whole of standard error, one line."""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")


class Shell:
    """Types command lines in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, line: str | Sequence[str], code: int = 0) -> Done:
        """Carries out `hub LINE` and expects that exit code."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            got = run(shlex.split(line) if isinstance(line, str) else line)
        done = Done(got, out.getvalue(), err.getvalue())
        assert got == code, done
        return done

    def write(self, text: str, name: str = "mapping.yaml") -> str:
        """A file in the folder; its name."""
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def look(self, query: str) -> list[tuple[Any, ...]]:
        """Reads the ward's database; no connection of the hub is open meanwhile."""
        with closing(sqlite3.connect(f"file:{self.folder / 'ward.db'}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()

    def edit(self, statement: str) -> None:
        """Changes the ward's database."""
        with closing(sqlite3.connect(self.folder / "ward.db")) as connection, connection:
            connection.execute(statement)


def make_ward(path: Path) -> None:
    """Forty patients, a log without a key, a view."""
    rows = [(f"{n:04d}", 20 + n, f"{n / 10:.1f}") for n in range(PEOPLE)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            "CREATE TABLE PATIENT (NR CHAR(4) NOT NULL PRIMARY KEY, AGE INTEGER, MARKER VARCHAR(8),"
            " SCORE INTEGER, WHY VARCHAR(60));"
            "CREATE TABLE VISIT (NR CHAR(4), AGE INTEGER, MARKER VARCHAR(8), SCORE INTEGER, WHY VARCHAR(60));"
            "CREATE TABLE BARE (NR CHAR(4) NOT NULL PRIMARY KEY, AGE INTEGER, MARKER VARCHAR(8));"
        )
        connection.executemany("INSERT INTO PATIENT (NR, AGE, MARKER) VALUES (?, ?, ?)", rows)


def make_model(folder: Path) -> None:
    """A fitted model with its sample, as files."""
    import numpy as np
    import pandas as pd
    import skops.io
    from sklearn.linear_model import LogisticRegression

    source = np.random.default_rng(3)
    sample = pd.DataFrame({"age": source.integers(18, 95, 200).astype(float), "marker": source.normal(2, 1, 200)})
    truth = (sample["age"] / 50 + sample["marker"] > 3).astype(int)
    skops.io.dump(LogisticRegression().fit(sample, truth), folder / "ward_risk.skops")
    sample.to_csv(folder / "sample.csv", index=False)


def furnish(shell: Shell) -> Shell:
    """Connects the ward and registers the model, by the commands a user types."""
    make_ward(shell.folder / "ward.db")
    make_model(shell.folder)
    shell.write(DOCUMENT)
    shell("connections add ward sql dialect=sqlite path=ward.db")
    shell(
        "models register ward_risk ward_risk.skops --sample sample.csv --owner anna --positive 1"
        " --metric auc=0.9 --alias champion"
    )
    return shell


@contextlib.contextmanager
def shell_in(folder: Path) -> Iterator[Shell]:
    """A shell whose working directory and hub are in that folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HUB_HOME", str(folder / ".hub"))
        patch.setenv("HUB_POLL_SECONDS", "0.2")
        patch.setenv("HUB_LOG_LEVEL", "error")
        yield Shell(folder)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Shell]:
    """An empty hub."""
    with shell_in(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a hub that is connected and has a model."""
    folder = tmp_path_factory.mktemp("hub")
    with shell_in(folder) as made:
        furnish(made)
    return folder


@pytest.fixture
def hub(furnished: Path, tmp_path: Path) -> Iterator[Shell]:
    """A hub of this test alone, connected and with a model."""
    folder = tmp_path / "hub"
    shutil.copytree(furnished, folder)
    with shell_in(folder) as made:
        yield made


@pytest.fixture
def standing(furnished: Path) -> Iterator[Shell]:
    """The hub that all tests share which only make it refuse: nothing has changed in it when the test ends."""
    with shell_in(furnished) as made:
        before = _state(made)
        yield made
        assert _state(made) == before, "a refusal left something behind"


def _state(shell: Shell) -> list[Any]:
    listed = ("connections list", "models list", "mappings list", "runs list", "access token list")
    return [*(shell(f"{each} --json").answer for each in listed), shell.look("SELECT * FROM PATIENT")]
