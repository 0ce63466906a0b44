"""One record a request over HTTP: the hub's API beside the server that tutorials have, at 1 and at 32 callers."""

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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench import dataset

CALLERS = (1, 32)
LIMITS = {1: 1.0, 32: 1.0}
"""The largest share of the tutorial server's median latency that the hub may take, by callers."""
WARM = 50


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
    """One line per number of callers; the servers take turns on the same records."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        trained = dataset.train(folder)
        trained.sample.write_parquet(folder / "sample.parquet")
        records = dataset.rows(2_000, seed=3).drop("score").to_dicts()
        found: dict[tuple[str, int], dict[str, float]] = {}
        for name in ("hub", "tutorial"):
            with _serving(name, folder) as server:
                asyncio.run(_load(server, records, 1, count=WARM))
                for callers in CALLERS:
                    found[name, callers] = asyncio.run(_load(server, records, callers, seconds=arguments.seconds))
                    found[name, callers]["memory_mb"] = server.process.memory_info().rss / 1024**2
    for callers in CALLERS:
        ours, theirs = found["hub", callers], found["tutorial", callers]
        yield {
            "name": f"real time, {callers} callers, hub/tutorial, p50 ms",
            "ours": round(ours["p50"], 2),
            "theirs": round(theirs["p50"], 2),
            "limit": LIMITS[callers],
            "ratio": round(ours["p50"] / theirs["p50"], 3),
            "p99_ms": {"ours": round(ours["p99"], 1), "theirs": round(theirs["p99"], 1)},
            "per_second": {"ours": round(ours["rate"]), "theirs": round(theirs["rate"])},
            "memory_mb": {"ours": round(ours["memory_mb"]), "theirs": round(theirs["memory_mb"])},
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--seconds", type=float, default=10, help="of load, per server and number of callers")


async def _load(
    server: Server, records: list[dict[str, Any]], callers: int, *, seconds: float = 600, count: int | None = None
) -> dict[str, float]:
    """Latencies of callers that each wait for one answer before the next question."""
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
    spent = time.perf_counter() - start
    p50, p99 = np.percentile(taken, [50, 99]) * 1000
    return {"p50": float(p50), "p99": float(p99), "rate": len(taken) / spent}


@contextmanager
def _serving(name: str, folder: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bench.real_time", name, str(port), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        try:
            _await(port)
            yield Server(port, told["path"], told["headers"], psutil.Process(process.pid))
        finally:
            process.terminate()


def _await(port: int) -> None:
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


def _serve_hub(port: int, folder: Path) -> None:
    """The hub on its embedded default: every answer is authenticated, mapped, and remembered before it is given."""
    from bench import ours
    from bench.batch import fill
    from hub.access import Scope
    from hub.api import serve

    url = f"sqlite:///{folder / 'customer.db'}"
    fill(url, dataset.rows(1_000))
    hub = ours.install(folder / "home", url, f"sqlite:///{folder / 'hub.db'}", folder, port)
    _, text = hub.access.create_token("bench", owner="bench", scopes=[Scope.SCORE], actor=ours.ME, mappings=["bench"])
    _tell("/v1/score/bench", {"Authorization": f"Bearer {text.reveal()}"})
    serve(hub)


def _serve_tutorial(port: int, folder: Path) -> None:
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


def _tell(path: str, headers: dict[str, str]) -> None:
    print(json.dumps({"path": path, "headers": headers}), flush=True)


if __name__ == "__main__":
    {"hub": _serve_hub, "tutorial": _serve_tutorial}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
