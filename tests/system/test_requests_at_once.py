"""Many callers of one real server at once: each its own answer, none lost when the process is killed, none too many."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from hub.access import Scope
from hub.audit import Action
from hub.runs import look_up
from tests.system.small import Small

CALLERS = 32


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    """A hub whose mapping holds back what is above 900 and takes nothing below 0."""
    made = Small(tmp_path, ("create table T (id integer primary key, X real, S integer)",))
    made.connect()
    made.model()
    made.publish(
        features='{ x: "X" }\nexpect: { x: { min: 0 } }',
        decide="{ score: 'round(value)', hold: 'value > 900' }",
    )
    with made.hub:
        yield made


@contextmanager
def serving(small: Small) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`hub serve` in a process of its own; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {"HUB_HOME": str(small.folder / "home"), "HUB_API_RATE": "100000", "HUB_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", "hub.cli", "serve", "--no-worker", "--port", str(port)]
    with subprocess.Popen(command, env={**os.environ, **told}) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _await(lambda: _answers(url))
            yield url, process
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _await(holds: Callable[[], bool], seconds: float = 90) -> None:
    until, pause = time.monotonic() + seconds, threading.Event()
    while not holds():
        assert time.monotonic() < until
        pause.wait(0.01)


def _key(small: Small, name: str) -> tuple[str, str]:
    token, text = small.hub.access.create_token(name, owner="bert", scopes=[Scope.SCORE], actor=small.me)
    return token.id, text.reveal()


def _client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=90, trust_env=False)


def _value(number: int) -> float | None:
    """Of every seven records one is held, one invalid, and one has no value."""
    return {0: 950.0 + number, 1: -1.0, 2: None}.get(number % 7, number / 4)


def test_each_of_many_callers_gets_what_a_run_decides_of_its_records(small: Small) -> None:
    _, key = _key(small, "callers")
    start = threading.Barrier(CALLERS)
    rounds = 5

    def ask(caller: int) -> list[dict[str, Any]]:
        with _client(url, key) as opened:
            start.wait()
            told = []
            for turn in range(rounds):
                first = 1 + 2 * (turn * CALLERS + caller)
                records = [{"id": number, "X": _value(number)} for number in (first, first + 1)]
                told += opened.post("/v1/score/m", json={"records": records}).json()["decisions"]
                assert [each["key"]["id"] for each in told[-2:]] == [first, first + 1]
                if caller % 5 == 0:
                    for bad in ({"X": "much"}, {"WEIGHT": 1}):
                        refused = opened.post("/v1/score/m", json={"records": [{"id": first, **bad}]})
                        assert refused.status_code == 422
                        assert refused.json()["detail"].startswith("records[0].")
            return told

    with serving(small) as (url, _), ThreadPoolExecutor(CALLERS) as callers:
        answers = [each for part in callers.map(ask, range(CALLERS)) for each in part]
    assert len({each["decision"]["segment"] for each in answers}) < CALLERS * rounds
    told = {each["key"]["id"]: each for each in answers}
    small.sql("insert into T values (?, ?, null)", [(number, _value(number)) for number in told])
    run = small.run()
    with small.hub.database.read() as session:
        segments = small.hub.log.segments(session, run=run.id)
    decided = pl.concat([small.hub.log.frame(each.id) for each in segments], how="diagonal_relaxed").to_dicts()
    assert len(decided) == len(told) == 2 * CALLERS * rounds
    for each in decided:
        answer = told[each["_key"]["id"]]
        assert (answer["state"], answer["reason"]) == (each["_state"], each["_reason"])
        assert answer["outputs"].get("value") == each["o.value"]
        assert answer["decided"].get("score") == each["d.score"]
    assert {each["_state"] for each in decided} == {"planned", "held", "invalid"}


def test_every_answer_given_before_the_process_was_killed_is_in_the_log(small: Small) -> None:
    _, key = _key(small, "callers")
    answers: list[dict[str, Any]] = []

    def ask(caller: int) -> None:
        with _client(url, key) as opened:
            for turn in range(10_000):
                record = {"id": 1 + turn * CALLERS + caller, "X": 1.0 + caller}
                try:
                    told = opened.post("/v1/score/m", json={"records": [record]})
                except httpx.TransportError:
                    return
                answers.extend(told.json()["decisions"])

    with serving(small) as (url, process), ThreadPoolExecutor(CALLERS) as callers:
        asking = [callers.submit(ask, caller) for caller in range(CALLERS)]
        _await(lambda: len(answers) >= 150)
        process.send_signal(signal.SIGKILL)
        for each in asking:
            each.result(60)
    assert small.hub.audit.verify().ok
    events = small.hub.audit.events(action=Action.SCORE_REQUEST, limit=100_000)
    recorded = {(each.event.detail["segment"], each.event.detail["row"]): each.event for each in events}
    for told in answers:
        pointer = told["decision"]
        segment = small.hub.log.segment(int(pointer["segment"]))
        assert segment.root.hex() == pointer["digest"]
        stored = small.hub.log.frame(segment.id).row(pointer["row"], named=True)
        assert (stored["_key"], stored["o.value"]) == (told["key"], told["outputs"]["value"])
        event = recorded[pointer["segment"], pointer["row"]]
        assert (event.actor, event.digest) == ("service:callers", pointer["digest"])
    for each in {int(told["decision"]["segment"]) for told in answers}:
        small.hub.log.verify(each)
    last = answers[-1]
    shown = look_up(small.hub, "m", {"id": str(last["key"]["id"])}, str(small.me))
    assert shown is not None
    assert shown.decisions[0].root.hex() == last["decision"]["digest"]


def test_a_key_revoked_and_a_mapping_paused_under_load_count_at_once(small: Small) -> None:
    """Both by another process than the one that answers."""
    kept, ended = _key(small, "kept"), _key(small, "ended")
    seen: dict[str, list[tuple[float, int]]] = {"kept": [], "ended": []}
    stop = threading.Event()

    def ask(name: str, key: str, caller: int) -> None:
        with _client(url, key) as opened:
            number = caller
            while not stop.is_set():
                number += 100
                sent = time.monotonic()
                told = opened.post("/v1/score/m", json={"records": [{"id": number, "X": 1.0}]})
                seen[name].append((sent, told.status_code))

    def after(name: str, moment: float, count: int) -> list[int]:
        _await(lambda: sum(sent > moment for sent, _ in seen[name]) >= count)
        return [status for sent, status in list(seen[name]) if sent > moment]

    with serving(small) as (url, _), ThreadPoolExecutor(16) as callers:
        for caller in range(8):
            callers.submit(ask, "kept", kept[1], caller)
            callers.submit(ask, "ended", ended[1], 50 + caller)
        try:
            assert 200 in after("kept", 0, 20)
            assert 200 in after("ended", 0, 20)
            small.hub.access.revoke_token(ended[0], actor=small.me)
            revoked = time.monotonic()
            # A key that no longer opens the door is one of the wrong keys whose number is bounded.
            assert set(after("ended", revoked, 20)) <= {401, 429}
            assert set(after("kept", revoked, 20)) == {200}
            small.hub.mappings.pause("m", small.me, "test")
            paused = time.monotonic()
            assert set(after("kept", paused, 20)) == {409}
            small.hub.mappings.resume("m", small.me)
            resumed = time.monotonic()
            assert set(after("kept", resumed, 20)) == {200}
        finally:
            stop.set()
