"""One record a request over HTTP: the hub's API beside the server that tutorials have and a bare echo."""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench import dataset
from bench.places import fill, place

CONTESTANTS = ("hub", "tutorial", "echo")
CALLERS = (1, 32)
LIMITS: dict[tuple[str, int], float | None] = {("tutorial", 1): 1.0, ("tutorial", 32): 0.2}
"""The largest share of the tutorial server's median latency that the hub may take with one caller, and the largest rate
of it, as a share of the hub's, with 32."""
WARM = 50
ROUNDS = 5


@dataclass(frozen=True)
class Server:
    """Where a contestant listens, and how it is asked for one record."""

    port: int
    path: str
    headers: dict[str, str]
    process: psutil.Process

    def request(self, record: dict[str, Any]) -> bytes:
        """The bytes of one request."""
        given = json.dumps({"records": [record]} if "Authorization" in self.headers else record).encode()
        lines = [f"POST {self.path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return ("\r\n".join([*lines, f"Content-Length: {len(given)}"]) + "\r\n\r\n").encode() + given


def compare(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line per number of callers and peer; the servers take turns on the same records, one under load at a time."""
    for state in arguments.state:
        with tempfile.TemporaryDirectory() as made, place(state, [dataset.rows(10)]) as beside:
            yield from _compared(Path(made), state, beside.own, arguments.seconds)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--seconds", type=float, default=10, help="of load, per server and number of callers")
    states = ["sqlite", "postgresql"]
    parser.add_argument("--state", nargs="+", default=["sqlite"], choices=states, help="where the hub keeps its state")


def _compared(folder: Path, state: str, own: str, seconds: float) -> Iterator[dict[str, Any]]:
    trained = dataset.train(folder)
    trained.sample.write_parquet(folder / "sample.parquet")
    records = dataset.rows(2_000, seed=3).drop("score").to_dicts()
    taken: dict[tuple[str, int], list[Load]] = {(name, callers): [] for name in CONTESTANTS for callers in CALLERS}
    memory: dict[tuple[str, int], float] = {}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(_serving(name, folder, own)) for name in CONTESTANTS}
        for server in servers.values():
            asyncio.run(_load(server, records, 1, count=WARM))
        for _ in range(ROUNDS):
            for callers in CALLERS:
                for name, server in servers.items():
                    taken[name, callers].append(asyncio.run(_load(server, records, callers, seconds=seconds / ROUNDS)))
                    memory[name, callers] = server.process.memory_info().rss / 1024**2
    for callers in CALLERS:
        for peer in CONTESTANTS[1:]:
            yield _line(state, callers, peer, taken, memory)


def _line(
    state: str,
    callers: int,
    peer: str,
    taken: dict[tuple[str, int], list[Load]],
    memory: dict[tuple[str, int], float],
) -> dict[str, Any]:
    ours, theirs = _summed(taken["hub", callers]), _summed(taken[peer, callers])
    told = {
        "p50_ms": {"ours": ours["p50"], "theirs": theirs["p50"]},
        "p99_ms": {"ours": ours["p99"], "theirs": theirs["p99"]},
        "per_second": {"ours": ours["rate"], "theirs": theirs["rate"]},
        "memory_mb": {"ours": round(memory["hub", callers]), "theirs": round(memory[peer, callers])},
    }
    alone = callers == 1
    what = f"hub/{peer}, p50 ms" if alone else f"{peer}/hub, requests a second"
    measure = "p50" if alone else "rate"
    ratio = ours["p50"] / theirs["p50"] if alone else theirs["rate"] / ours["rate"]
    return {
        "name": f"real time, state in {state}, {callers} callers, {what}",
        "ours": ours[measure],
        "theirs": theirs[measure],
        "limit": LIMITS.get((peer, callers)),
        "ratio": round(ratio, 3),
        **told,
    }


@dataclass(frozen=True)
class Load:
    """What became of one turn: the seconds that each request took, and those of the whole turn."""

    taken: list[float]
    seconds: float


def _summed(turns: list[Load]) -> dict[str, float]:
    """Median and 99th percentile over all requests, in milliseconds, and the median rate of the turns."""
    p50, p99 = np.percentile([each for turn in turns for each in turn.taken], [50, 99]) * 1000
    rate = np.median([len(turn.taken) / turn.seconds for turn in turns])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 1), "rate": round(float(rate))}


async def _load(
    server: Server, records: list[dict[str, Any]], callers: int, *, seconds: float = 600, count: int | None = None
) -> Load:
    """The latencies of callers that each wait for one answer before the next question."""
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def call(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        at = number
        while time.perf_counter() < until and (count is None or len(taken) < count):
            asked = server.request(records[at % len(records)])
            at += callers
            start = time.perf_counter()
            writer.write(asked)
            head = await reader.readuntil(b"\r\n\r\n")
            status, _, rest = head.partition(b"\r\n")
            length = next(line for line in rest.lower().split(b"\r\n") if line.startswith(b"content-length"))
            body = await reader.readexactly(int(length.split(b":")[1]))
            taken.append(time.perf_counter() - start)
            if b" 200 " not in status:
                raise SystemExit(f"{status.decode()}: {body.decode()}")
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(call(number) for number in range(callers)))
    return Load(taken, time.perf_counter() - start)


@contextmanager
def _serving(name: str, folder: Path, own: str) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "bench.real_time", name, str(port), str(folder), own]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        try:
            await_port(port)
            yield Server(port, told["path"], told["headers"], psutil.Process(process.pid))
        finally:
            process.terminate()


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int) -> None:
    """Returns when a server listens there. OSError where none does within a minute."""
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def _serve_hub(port: int, folder: Path, own: str) -> None:
    """The hub as it is installed: every answer is authenticated, mapped, and remembered before it is given."""
    from bench import ours
    from hub.access import Resource, Scope
    from hub.api import serve

    url = f"sqlite:///{folder / 'customer.db'}"
    fill(url, dataset.rows(1_000), new=True)
    hub = ours.install(folder / "home", url, own, folder, port)
    _, text = hub.access.create_token(
        "bench", owner="bench", scopes=[Scope.SCORE], actor=ours.ME, only=[Resource.mapping("bench")]
    )
    _tell("/v1/score/bench", {"Authorization": f"Bearer {text.reveal()}"})
    serve(hub)


def _serve_tutorial(port: int, folder: Path, _own: str) -> None:
    """`joblib.load`, one data frame of one row, `predict_proba`: as nearly every tutorial has it."""
    import joblib
    import pandas as pd
    import uvicorn
    from fastapi import FastAPI

    model = joblib.load(folder / "model.joblib")
    app = FastAPI()

    @app.post("/predict")
    def predict(record: dict[str, Any]) -> dict[str, float]:
        frame = pd.DataFrame([record])
        return {"score": float(model.predict_proba(frame[dataset.FEATURES])[0, 1])}

    _tell("/predict", {})
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def _serve_echo(port: int, _folder: Path, _own: str) -> None:
    """The limit of the server and its framework: a checked body and an answer, and no model."""
    import pydantic
    import uvicorn
    from fastapi import FastAPI

    kinds: dict[str, Any] = dict.fromkeys(dataset.TEXTS, (str, ...)) | dict.fromkeys(dataset.NUMBERS, (float, ...))
    record_type = pydantic.create_model("Record", id=(int, ...), **kinds)
    app = FastAPI()

    async def predict(record: Any) -> dict[str, float]:
        return {"score": record.n0}

    predict.__annotations__["record"] = record_type
    app.post("/predict")(predict)
    _tell("/predict", {})
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def _tell(path: str, headers: dict[str, str]) -> None:
    print(json.dumps({"path": path, "headers": headers}), flush=True)


if __name__ == "__main__":
    name, port, folder, own = sys.argv[1:]
    {"hub": _serve_hub, "tutorial": _serve_tutorial, "echo": _serve_echo}[name](int(port), Path(folder), own)
