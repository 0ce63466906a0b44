"""`hub twin` runs a far system until it is ended, and says what a connection to it needs."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.faces.cli.conftest import Shell


@contextmanager
def running(folder: Path, *options: str) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """A twin in a process of its own, and what it printed."""
    line = [sys.executable, "-m", "hub.cli", "twin", "salesforce", "--json", "--folder", str(folder), *options]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=folder.parent)
    try:
        assert process.stdout is not None
        printed = ""
        for piece in process.stdout:
            printed += piece
            if piece == "}\n":
                break
        yield json.loads(printed), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        process.stdout.close()


def count_of_leads(told: dict[str, Any]) -> int:
    """Logs in with what was printed and counts."""
    with httpx.Client(base_url=told["url"], verify=_trust(told), trust_env=False, timeout=30) as client:
        keys = {"client_id": told["consumer_key"], "client_secret": told["consumer_secret"]}
        token = client.post("/services/oauth2/token", data={"grant_type": "client_credentials", **keys}).json()
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        asked = client.get("/services/data/v59.0/query", params={"q": "SELECT COUNT() FROM Lead"}, headers=headers)
        return int(asked.json()["totalSize"])


def _trust(told: dict[str, Any]) -> Any:
    import ssl

    return ssl.create_default_context(cafile=told["authority"])


def test_a_twin_serves_with_what_it_printed_and_goes_on_where_it_was(tmp_path: Path) -> None:
    with running(tmp_path / "twin", "--records", "12", "--history", "0") as (told, process):
        assert count_of_leads(told) == 12
        httpx.post(
            f"{told['control']}/seed", json={"leads": 3, "seed": 9}, trust_env=False, timeout=30
        ).raise_for_status()
    assert process.returncode == 0
    with running(tmp_path / "twin", "--records", "12", "--history", "0") as (again, _):
        assert again["consumer_secret"] == told["consumer_secret"]
        assert count_of_leads(again) == 15


def test_a_port_that_is_taken_is_said(bare: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert bare(f"twin salesforce --port {port}", 1).problem == f"port {port} of this machine is taken"


def test_a_twin_that_is_not_installed_is_said(bare: Shell) -> None:
    assert bare("twin siebel", 1).problem.startswith("no twin is called siebel; installed: salesforce")


def test_two_twins_do_not_share_a_folder(tmp_path: Path, bare: Shell) -> None:
    with running(tmp_path / "twin") as _:
        refused = bare(["twin", "salesforce", "--folder", str(tmp_path / "twin")], 1)
        assert refused.problem == f"another twin is at work in {tmp_path / 'twin'}"
