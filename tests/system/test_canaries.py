"""Nothing that the hub leaves behind holds a secret or a value of a record in clear."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.cli.reference import verbs
from tests.system.canary_story import CANARIES, PASSWORD
from tests.system.secret_story import SENT, STAYING, STORED

ROOT = Path(__file__).resolve().parents[2]


def _spellings(canary: str) -> Iterator[bytes]:
    """The forms in which a text hides in a file: encodings, hexadecimal, Base64 at each of its three offsets."""
    plain = canary.encode()
    yield from (plain, canary.encode("utf-16-le"), plain.hex().encode(), plain.hex().upper().encode())
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + plain)
        yield coded[4 if offset else 0 : -4]


REFERENCED = "canary-referenced-Passw0rd-51d0"
KEK = "canary-key-encryption-key-32byte"


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What every verb and every route answered, what was logged, exported and stored, and how it crashed."""
    folder = tmp_path_factory.mktemp("doors")
    told = {"HUB_HOME": str(folder / "home"), "HUB_LOG_LEVEL": "debug", "HUB_SECRET_CANARY": REFERENCED}
    told |= {
        "HUB_KEK": "environment",
        "HUB_KEK_KEYS": f"1:{base64.b64encode(KEK.encode()).decode()}",
        "TMPDIR": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.secret_story", str(folder)],
        env={**os.environ, **told},
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    files = {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    return {**files, "standard output": done.stdout, "standard error": done.stderr}


def test_every_door_was_opened(walked: dict[str, bytes]) -> None:
    told, failed = walked["standard output"].decode(), walked["standard error"].decode()
    seen = {line.partition("verb ")[2].rpartition(":")[0] for line in told.splitlines() if line.startswith("verb ")}
    assert {name for name, _ in verbs()} - seen == set(STAYING), failed[-3000:]
    fine = [line for line in told.splitlines() if line.startswith("verb ") and line.endswith(": 0")]
    assert len(fine) > len(seen) / 2, fine
    routes = [line for line in told.splitlines() if line.startswith("route ")]
    assert len(routes) > 20
    assert any(line.endswith(": 200") for line in routes)
    assert not any(line.endswith(": 500") for line in routes), routes
    assert failed.count("builtins.RuntimeError (message withheld") == 2, failed[-3000:]
    assert b"audit.writer.open" in walked["exported"]


@pytest.mark.parametrize("secret", [STORED, REFERENCED, SENT, KEK])
def test_no_door_gives_a_secret_back(walked: dict[str, bytes], secret: str) -> None:
    found = [
        (name, content[max(0, at - 60) : at + 60])
        for name, content in walked.items()
        for spelling in _spellings(secret)
        if (at := content.find(spelling)) >= 0
    ]
    assert not found


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file and every line that a hub left behind, by name; the far side's own file is not the hub's."""
    folder = tmp_path_factory.mktemp("canary")
    (folder / "temporary").mkdir()
    places = {"TMPDIR": str(folder / "temporary"), "HUB_HOME": str(folder / "home"), "HUB_LOG_LEVEL": "debug"}
    told = subprocess.run(
        [sys.executable, "-m", "tests.system.canary_story", str(folder)],
        env={**os.environ, **places},
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr.decode()[-3000:]
    files = {
        str(each.relative_to(folder)): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file() and not each.name.startswith("far.db")
    }
    return {**files, "standard output": told.stdout, "standard error": told.stderr}


def test_the_story_did_what_it_is_about(left_behind: dict[str, bytes]) -> None:
    told = left_behind["standard output"].decode()
    assert "done with rejects {'read': 5, 'invalid': 2, 'applied': 1, 'rejected': 2}" in told
    assert "'parked': 1" in told
    assert b"page failed" in left_behind["standard error"]
    assert told.count("] 0 ") >= 6, told
    assert any(name.startswith("home/segments") for name in left_behind), sorted(left_behind)
    assert any(name.endswith("hub.db") for name in left_behind), sorted(left_behind)


@pytest.mark.parametrize("canary", CANARIES)
def test_no_canary_is_left_behind(left_behind: dict[str, bytes], canary: str) -> None:
    found = [
        (name, content[max(0, at - 60) : at + 60])
        for name, content in left_behind.items()
        for spelling in _spellings(canary)
        if (at := content.find(spelling)) >= 0
    ]
    assert not found


def test_a_canary_would_be_found(left_behind: dict[str, bytes]) -> None:
    told = {**left_behind, "planted": b"..." + base64.b64encode(b"ab" + PASSWORD.encode()) + b"..."}
    assert [name for name, content in told.items() if any(each in content for each in _spellings(PASSWORD))] == [
        "planted"
    ]
