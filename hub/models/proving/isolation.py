"""A process of its own for a file that a stranger may have made: no network, no environment, no writes, and limits.

`python -m hub.models.proving.isolation` is the child. Parent and child speak JSON and Arrow, never pickle.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import polars as pl

    from hub.models.proving.proof import Proven, Wish
    from hub.models.runtimes.native import Sample

SECONDS: Final = 900
MEMORY: Final = 16 << 30
"""Address space, most of which its libraries reserve and never touch."""

COMMAND: Final = (sys.executable, "-I", "-m", "hub.models.proving.isolation")

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000


def prove_apart(content: bytes, sample: Sample, truth: pl.Series | None, wish: Wish) -> Proven:
    """Proves a file in a fresh process. ModelRefusedError also where that process dies or takes too long."""
    from hub.models import artefact
    from hub.models.types import ModelRefusedError

    request = artefact.pack(_request(content, sample, truth, wish))
    environment = {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603  (our own interpreter and module)
            COMMAND, input=request, capture_output=True, env=environment, cwd="/", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ModelRefusedError(f"the file could not be read and proven within {SECONDS} seconds") from None
    if done.returncode != 0:
        raise ModelRefusedError(
            "the process that read the file died: it is damaged, or needs more memory or time than a model may"
        )
    return _read_answer(artefact.unpack(done.stdout, artefact.digest_of(done.stdout)))


def _request(content: bytes, sample: Sample, truth: pl.Series | None, wish: Wish) -> dict[str, bytes]:
    parts = {"model": content, "sample.arrow": _to_arrow(sample.frame)}
    if truth is not None:
        parts["truth.arrow"] = _to_arrow(truth.to_frame())
    stated = {
        "native": sample.native.to_json(),
        "task": wish.task,
        "positive": wish.positive,
        "tolerance": wish.tolerance,
    }
    return {**parts, "stated.json": json.dumps(stated).encode()}


def _to_arrow(frame: pl.DataFrame) -> bytes:
    target = io.BytesIO()
    frame.write_ipc(target)
    return target.getvalue()


def _read_answer(parts: dict[str, bytes]) -> Proven:
    from hub.models import types
    from hub.models.proving.proof import Proven

    told: dict[str, Any] = json.loads(parts.pop("told.json"))
    if "refused" in told:
        raise types.ModelRefusedError(told["refused"])
    if "sample" in told:
        raise types.SampleError(told["sample"])
    return Proven(
        parts=parts,
        signature=types.Signature.from_json(told["signature"]),
        runtime=told["runtime"],
        way=types.Way(told["way"]),
        largest_difference=told["largest_difference"],
        rows_compared=told["rows_compared"],
        tried=told["tried"],
        measured=told["measured"],
    )


def _answer(request: bytes) -> dict[str, bytes]:
    """What the child does."""
    import polars as pl

    from hub.models import artefact
    from hub.models.proving.proof import Wish, prove_file
    from hub.models.runtimes.native import Native, Sample
    from hub.models.types import ModelRefusedError, SampleError, Task

    parts = artefact.unpack(request, artefact.digest_of(request))
    stated = json.loads(parts["stated.json"])
    sample = Sample(pl.read_ipc(io.BytesIO(parts["sample.arrow"])), Native.from_json(stated["native"]))
    truth = pl.read_ipc(io.BytesIO(parts["truth.arrow"])).to_series() if "truth.arrow" in parts else None
    task = Task(stated["task"]) if stated["task"] else None
    try:
        proven = prove_file(parts["model"], sample, truth, Wish(task, stated["positive"], stated["tolerance"]))
    except ModelRefusedError as error:
        return {"told.json": json.dumps({"refused": str(error)}).encode()}
    except SampleError as error:
        return {"told.json": json.dumps({"sample": str(error)}).encode()}
    told = {
        "signature": proven.signature.to_json(),
        "runtime": proven.runtime,
        "way": proven.way.value,
        "largest_difference": proven.largest_difference,
        "rows_compared": proven.rows_compared,
        "tried": dict(proven.tried),
        "measured": dict(proven.measured),
    }
    return {**proven.parts, "told.json": json.dumps(told).encode()}


def confine() -> None:
    """Gives up what reading a model does not need; before any other import, while there is one thread only."""
    # Refused where the kernel allows no user namespaces; the limits below hold all the same.
    ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER | _NEW_NET)
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def main() -> None:
    """Reads one request, writes one answer."""
    confine()
    # Libraries may print; the answer keeps the real standard output for itself.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from hub.models import artefact

    out.write(artefact.pack(_answer(sys.stdin.buffer.read())))
    out.close()


if __name__ == "__main__":
    main()
