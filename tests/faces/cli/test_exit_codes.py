"""The exit code is honest: 0 done, 1 refused or failed, 2 the command line is wrong, 3 the run is not green."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faces.cli.conftest import PEOPLE, Shell


def process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`hub …` as a process of its own."""
    environment = {**os.environ, "HUB_HOME": str(folder / ".hub")}
    command = [str(Path(sys.executable).with_name("hub")), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_installed_command_ends_as_its_exit_code_says(tmp_path: Path) -> None:
    done = process(tmp_path, "connections", "list", "--json")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [], "")
    refused = process(tmp_path, "runs", "show", "none")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "error: there is no run none; `hub runs list` shows them\n"
    wrong = process(tmp_path, "runs", "shwo")
    assert wrong.returncode == 2
    assert "shwo" in wrong.stderr


def test_a_refusal_is_one_json_document_where_json_was_asked_for(bare: Shell) -> None:
    done = bare("models show churn --json", 1)
    assert done.out == ""
    problem = json.loads(done.err)
    assert problem == {
        "error": "ModelNotFoundError",
        "problems": ["there is no model churn; registered are: none"],
    }


@pytest.mark.parametrize(
    "line",
    [
        "runs show",
        "runs start",
        "runs list --limit none",
        "runs list --limit 0",
        "models register churn missing.skops --sample missing.csv --owner anna",
        "connections add x sql dialect",
        "connections add x sql dialect=sqlite --secret password=hunter2",
        "access token create x --owner anna --scope everything",
        "audit list --action nothing",
        "nothing",
        "runs list --nothing",
    ],
)
def test_a_wrong_command_line_is_2(bare: Shell, line: str) -> None:
    done = bare(line, 2)
    assert done.out == ""
    assert done.err
    assert "Traceback" not in done.err
    assert "hunter2" not in done.err


@pytest.mark.parametrize(
    "line",
    [
        "connections check erp",
        "connections pause erp",
        "connections remove erp",
        "connections add x sqll",
        "connectors describe sqll",
        "models alias churn champion 3",
        "models rollback churn",
        "models remove churn 2",
        "mappings pause lead_score",
        "mappings show lead_score",
        "mappings approve lead_score 00",
        "runs start lead_score",
        "runs cancel none",
        "runs undo none",
        "runs resume none",
        "runs watch none",
        "runs replay lead_score",
        "decisions show lead_score 1",
        "decisions held lead_score",
        "decisions release lead_score 1",
        "decisions drop lead_score 1",
        "decisions verify lead_score",
        "access token revoke none",
        "health --worker",
    ],
)
def test_what_is_not_there_is_refused_in_one_sentence(bare: Shell, line: str) -> None:
    done = bare(line, 1)
    assert done.out == ""
    assert done.problem


def test_a_setting_that_is_wrong_is_named(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_WORKERS", "none")
    assert bare("runs list", 1).problem.startswith("HUB_WORKERS: ")
    monkeypatch.delenv("HUB_WORKERS")
    monkeypatch.setenv("HUB_DATABASE_URL", "mysql://somewhere/hub")
    assert "postgresql+psycopg://" in bare("runs list", 1).problem


def test_a_run_that_ends_with_rejects_is_3_and_its_records_can_be_replayed(hub: Shell) -> None:
    hub.edit("UPDATE PATIENT SET MARKER = 'n/a' WHERE NR = '0007'")
    hub("mappings publish mapping.yaml")
    run = hub("runs start ward_risk --wait --json", 3).answer
    assert run["state"] == "done with rejects"
    assert run["counts"] == {"read": PEOPLE, "invalid": 1, "applied": PEOPLE - 1}
    assert run["adds_up"]
    hub.edit("UPDATE PATIENT SET MARKER = '1.5' WHERE NR = '0007'")
    again = hub("runs replay ward_risk --wait --json").answer
    assert again["counts"] == {"read": 1, "applied": 1}
    assert hub.look("SELECT count(*) FROM PATIENT WHERE SCORE IS NULL") == [(0,)]
    second = hub("runs start ward_risk --wait --json").answer
    assert second["counts"] == {"read": PEOPLE, "skipped": PEOPLE}
