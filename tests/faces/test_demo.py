"""The demo does for real what it says, on a fresh folder, whatever hub its user has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HUB = str(Path(sys.executable).with_name("hub"))


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`hub demo` as its user types it, in a folder with settings of another hub."""
    (folder / "hub.toml").write_text('database_url = "postgresql://127.0.0.1:1/never"\n')
    environment = {**os.environ, "HUB_HOME": str(folder / "mine"), "HUB_BROKER_URL": "redis://127.0.0.1:1"}
    command = [HUB, "demo", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)
def test_every_claim_of_the_demo_holds_and_nothing_outside_its_folder_is_touched(tmp_path: Path) -> None:
    done = demo(tmp_path, "--folder", "clinic", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    assert len(told["claims"]) >= 40
    assert [each["claim"] for each in told["claims"] if not each["holds"]] == []
    commands = [each["command"] for step in told["steps"] for each in step["commands"]]
    for verb in (
        "twin salesforce",
        "connections provision",
        "mappings approve",
        "connections add",
        "models register",
        "mappings check",
        "mappings publish",
        "runs start",
        "runs cancel",
        "runs undo",
    ):
        assert any(each.startswith(f"hub {verb}") for each in commands), verb
    ended = [(each["command"], each["exit_code"]) for step in told["steps"] for each in step["commands"]]
    # Refused where two people are needed, to whoever wrote the mapping, and while a login may do too much; and the
    # undo that left one lead alone.
    others = [(" ".join(command.split()[:3]), code) for command, code in ended if code]
    assert others == [
        ("hub connections add", 1),
        ("hub mappings approve", 1),
        ("hub mappings publish", 1),
        ("hub access verify", 4),
        ("hub mappings publish", 1),
        ("hub access approvals", 1),
        ("hub runs watch", 3),
    ]
    assert "Fatal" not in done.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["clinic", "hub.toml"]
    environment = {**os.environ, "HUB_HOME": str(tmp_path / "clinic" / ".hub")}
    listed = subprocess.run(
        [HUB, "runs", "list", "--json"], cwd=tmp_path / "clinic", env=environment, capture_output=True, check=True
    )
    assert [each["kind"] for each in json.loads(listed.stdout)] == [
        *("undo", "full", "follow", "full", "full"),  # the leads
        *("undo", "full", "full"),  # the clinic
    ]


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "clinic").mkdir()
    (tmp_path / "clinic" / "thesis.txt").write_text("do not lose")
    done = demo(tmp_path, "--folder", "clinic")
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert (tmp_path / "clinic" / "thesis.txt").read_text() == "do not lose"
