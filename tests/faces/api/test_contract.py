"""Whatever is sent to a route, the answer is one that its description names, and never the hub's own failure.

schemathesis makes the requests out of /openapi.json, the same ones each time: every boundary of the description from
within and from beyond. They go to a server of its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.access import Scope
from hub.access.types import PERSONAL
from tests.faces.api.conftest import Site, build

SETTINGS = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429]
"""
"""A body that is too large is refused for that, before anybody looks what else is wrong with it."""
LEFT_OUT = {
    "ignored_auth": "sends each request twice more; tests of access walk every route without a key",
    "use_after_free": "nothing of what these routes name is deleted",
    "positive_data_acceptance": "a mapping or run of a made-up name is not there, and a description cannot say so",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`hub serve` in a process of its own, over the clinic of the demo."""
    home = tmp_path_factory.mktemp("contract")
    hub, clinic, truth, model = build(home)
    places = {"HUB_HOME": str(hub.settings.home), "HUB_LOG_FORMAT": "json", "HUB_API_RATE": "100000"}
    command = [Path(sys.executable).with_name("hub"), "serve", "--port", "0", "--no-worker"]
    log = home / "serve.log"
    with (
        log.open("w") as told,
        subprocess.Popen(command, stderr=told, text=True, env={**os.environ, **places}, cwd=home) as process,
    ):
        try:
            yield Site(hub, f"http://127.0.0.1:{_port(log, process)}", clinic, truth, model)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    hub.close()
    assert "request failed" not in log.read_text()


def _port(log: Path, process: subprocess.Popen[str]) -> str:
    from threading import Event

    pause = Event()
    for _ in range(600):
        if found := re.search(r'"port": (\d+)', log.read_text()):
            return found[1]
        assert process.poll() is None, log.read_text()
        pause.wait(0.1)
    raise AssertionError("the server did not begin to listen")


@pytest.mark.timeout(300)
def test_every_answer_is_one_that_is_described(served: Site) -> None:
    key = served.key(*(each for each in Scope if each not in PERSONAL))
    Path(served.hub.settings.home, "schemathesis.toml").write_text(SETTINGS)
    command = [
        *(Path(sys.executable).with_name("schemathesis"), "run", f"{served.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {key}", "--mode", "all", "--phases", "examples,coverage"),
        *("--exclude-checks", ",".join(LEFT_OUT), "--continue-on-failure", "--no-shrink"),
        *("--seed", "1", "--generation-deterministic"),
        *("--request-timeout", "30", "--warnings", "off", "--no-color"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=served.hub.settings.home)
    assert done.returncode == 0, done.stdout.replace(key, "KEY") + done.stderr
    assert not re.search(r"\b0 (?:generated|selected)", done.stdout)
