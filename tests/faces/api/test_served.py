"""`hub serve` as it is run: a process of its own that answers, carries runs with its worker, and ends when told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

import httpx

from hub.access import Scope
from hub.runs import RunState
from tests.faces.api.conftest import PATIENTS, Site, build


def test_hub_serve_answers_carries_runs_and_ends_when_told(tmp_path: Path) -> None:
    hub, clinic, truth, model = build(tmp_path)
    home = str(hub.settings.home)
    environment = {**os.environ, "HUB_HOME": home, "HUB_POLL_SECONDS": "0.2", "HUB_LOG_FORMAT": "json"}
    command = [Path(sys.executable).with_name("hub"), "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as served:
        try:
            assert served.stderr is not None
            port = next(found[1] for line in served.stderr if (found := re.search(r'"port": (\d+)', line)))
            site = Site(hub, f"http://127.0.0.1:{port}", clinic, truth, model)
            with site.client(Scope.SCORE, Scope.WRITE, Scope.RUN, Scope.READ, Scope.RECORDS) as opened:
                assert opened.get("/readyz").status_code == 200
                asked = {"keys": [{"PATNR": "00842302"}], "write": True}
                (told,) = opened.post("/v1/score/patient_risk", json=asked).json()["decisions"]
                assert told["state"] == "applied"
                place = opened.post("/v1/runs", json={"mapping": "patient_risk"}).headers["location"]
                assert _ended(opened, place) == RunState.DONE
                counts = opened.get(place).json()["counts"]
                assert counts == {"read": PATIENTS, "skipped": 1, "applied": PATIENTS - 1}
            stored = dict(site.query("select PATNR, RISK_SCORE from PATIENT"))
            assert stored == {key: round(100 * chance) for key, chance in truth.items()}
        finally:
            served.send_signal(signal.SIGTERM)
            rest = served.stderr.read() if served.stderr is not None else ""
            assert served.wait(60) == 0, rest
    hub.close()
    assert "hub_dev_" not in rest
    assert "00842302" not in rest


def _ended(opened: httpx.Client, place: str) -> str:
    pause = Event()
    for _ in range(300):
        state = str(opened.get(place).json()["state"])
        if state not in ("queued", "running"):
            return state
        pause.wait(0.1)
    return state
