"""Named points at which a test lets this process die, hang or fail, so that nothing about recovery is taken on trust.

`HUB_FAULT` arms some of them, separated by `;`: `exit|hang|raise:POINT`, with `*N` for the N-th time it is reached and
`@KEY` for a page that holds that record. Without it every point is a look into the environment and nothing more.
"""

from __future__ import annotations

import os
import threading
from collections import Counter

import polars as pl

VARIABLE = "HUB_FAULT"
DIED = 137
"""The exit status of a process that was killed."""

POINTS = (
    "before claim",
    "after claim",
    "before read",
    "after read",
    "before score",
    "after score",
    "before first commit",
    "after first commit",
    "before write",
    "after write",
    "before second commit",
    "after second commit",
    "before end",
    "after end",
)
"""Before and after every commit of a run and every call to a far side or a model."""

_reached: Counter[str] = Counter()


class FaultError(Exception):
    """A fault that a test asked for."""


def reach(point: str, keys: pl.Series | None = None) -> None:
    """Does what is armed at this point. `keys` (struct) are the records of the page at hand."""
    armed = os.environ.get(VARIABLE)
    if armed is None:
        return
    for each in armed.split(";"):
        _act(each, point, keys)


def _act(armed: str, point: str, keys: pl.Series | None) -> None:
    action, _, spec = armed.partition(":")
    spec, _, key = spec.partition("@")
    named, _, times = spec.partition("*")
    if named != point or (key and not _holds(keys, key)):
        return
    _reached[armed] += 1
    if _reached[armed] < int(times or 1):
        return
    if action == "exit":
        os._exit(DIED)
    if action == "hang":
        threading.Event().wait()
    raise FaultError(f"armed at {point}")


def _holds(keys: pl.Series | None, key: str) -> bool:
    return keys is not None and any(key in map(str, each.values()) for each in keys.to_list())
