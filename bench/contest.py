"""One contestant in a process of its own: gets ready, works, and prints how long that took and the most memory held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.places import Place

Measured = dict[str, Any]
"""`seconds`, `cpu_seconds` and `peak_mb`, and of the hub the `counts` of its run."""


def measure(name: str, made: Place, *more: str) -> Measured:
    """Seconds and CPU seconds of the work alone, and the peak of the whole process in MB."""
    return answer(begin(name, made, *more))


def begin(name: str, made: Place, *more: str) -> subprocess.Popen[str]:
    """Starts a contestant, to be asked for its `answer`."""
    command = [sys.executable, "-m", "bench.contest", name, made.url, made.own, str(made.folder), *more]
    from hub.worker.supervisor import LIBRARIES  # a contestant imports this module, too, and is not to pay for ours

    # The hub's worker has its libraries set as the supervisor sets them, a script as it likes.
    environment = {**LIBRARIES, **os.environ} if name in {"hub", "twice", "worker"} else None
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def twice(made: Place, between: Callable[[], None]) -> tuple[Measured, Measured]:
    """Two runs of the hub by one worker that stays, with something done to the table in between."""
    process = begin("twice", made)
    assert process.stdin is not None
    assert process.stdout is not None
    told = process.stdout.readline()
    if not told:
        answer(process)
        raise SystemExit("the first run said nothing")
    first: Measured = json.loads(told)
    print(json.dumps({"contestant": "first", **first}), file=sys.stderr)
    between()
    process.stdin.write("\n")
    return first, answer(process)


def answer(process: subprocess.Popen[str]) -> Measured:
    """What a contestant printed last. SystemExit where it failed."""
    told, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{process.args!r} ended with {process.returncode}")
    found: Measured = json.loads(told.splitlines()[-1])
    print(json.dumps({"contestant": process.args[3], **found}), file=sys.stderr)  # type: ignore[index]
    return found


def line(name: str, ours: float, theirs: float, limit: float, **more: Any) -> dict[str, Any]:
    """A comparison of two rates: `ratio` is ours over theirs, `limit` the least that we accept."""
    return {
        "name": name,
        "ours": round(ours),
        "theirs": round(theirs),
        "limit": limit,
        "ratio": round(ours / theirs, 3),
        **more,
    }


def main(name: str, url: str, own: str, folder: str, *more: str) -> None:
    """Prints one JSON object."""
    from bench import ours, peers

    place = Path(folder)
    if name == "install":
        ours.install(place / "home", url, own, place, mapping=Path(more[0]).read_text("utf-8"))
        print("{}")
        return
    ready: Any = {
        "hub": lambda: ours.ordered(place / "home", own),
        "twice": lambda: ours.ordered(place / "home", own),
        "worker": lambda: ours.joined(place / "home", own, more[0]),
        "pandas": lambda: peers.pandas_script(url, place),
        "bare": lambda: peers.bare_script(url, place),
    }
    work = ready[name]()
    print(json.dumps(_timed(work)), flush=True)
    if name == "twice":
        sys.stdin.readline()
        print(json.dumps(_timed(work)), flush=True)


def _timed(work: Callable[[], dict[str, Any] | None]) -> Measured:
    start, before = time.perf_counter(), time.process_time()
    told = work() or {}
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "cpu_seconds": time.process_time() - before, "peak_mb": peak_mb(), **told}


def peak_mb() -> float:
    """The most memory that this process held, in MB."""
    # getrusage would tell the parent's peak where that is higher: it survives exec.
    status = Path("/proc/self/status").read_text("ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
