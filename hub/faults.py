"""Named points at which a test lets this process die, hang or fail, so that nothing about recovery is taken on trust.

They stand before and after every commit to the hub's database, named after the code whose unit of work it is, and
every call that leaves the process: `before commit of Worker.work`, `after write`.

`HUB_FAULT` arms some of them, separated by `;`: `ACTION:POINT`, with `*N` for the N-th time it is reached and `@KEY`
for a page that holds that record. The actions are exit, hang, stop (until SIGCONT, as on a machine that sleeps), raise,
away (the far side cannot be reached) and full (the disk is); `note:FILE` lists every point that is reached. Without it
every point is a look into the environment and nothing more.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

VARIABLE = "HUB_FAULT"
DIED = 137
"""The exit status of a process that was killed."""

BETWEEN = frozenset({__name__, "hub.database", "contextlib"})
"""Modules whose frames lie between a unit of work and the point that is named after it."""

_reached: Counter[str] = Counter()
_whole: list[AbstractContextManager[Any]] = []


class FaultError(Exception):
    """A fault that a test asked for."""


def reach(point: str, keys: pl.Series | None = None) -> None:
    """Does what is armed at this point. `keys` (struct) are the records of the page at hand."""
    armed = os.environ.get(VARIABLE)
    if armed is None:
        return
    for each in armed.split(";"):
        _act(each, point, keys)


@contextmanager
def around(call: str, keys: pl.Series | None = None) -> Iterator[None]:
    """The points before and after a call that leaves this process; the second is not reached where it fails."""
    reach(f"before {call}", keys)
    yield
    reach(f"after {call}", keys)


def stop_outside(turn: AbstractContextManager[Any]) -> None:
    """No thread but the one that reaches the point is stopped within `turn`, a lock that its holder may take again.

    SQLite's write lock would stay with a stopped process, and nobody could go on before that is killed: another fault
    than the one asked for, which happened or not by chance.
    """
    if VARIABLE in os.environ:
        _whole.append(turn)


def commit(work: Callable[..., Any] | None = None) -> str | None:
    """The name of the commit that whoever called the database asks for; None while nothing is armed.

    It is class and function of the caller, or module and function, and the name of `work` where that has one.
    """
    if VARIABLE not in os.environ:
        return None
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__") in BETWEEN and frame.f_back is not None:
        frame = frame.f_back
    place = frame.f_code.co_qualname.partition(".<locals>")[0]
    named = getattr(work, "__name__", "<lambda>")
    inner = "" if named == "<lambda>" else f".{named}"
    module = "" if "." in place else f"{str(frame.f_globals.get('__name__')).rpartition('.')[2]}."
    return f"commit of {module}{place}{inner}"


def _act(armed: str, point: str, keys: pl.Series | None) -> None:
    action, _, spec = armed.partition(":")
    if action == "note":
        _note(spec, point)
        return
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
    if action == "stop":
        if _reached[armed] == int(times or 1):  # once: whoever thaws it wants to see it go on
            with ExitStack() as turns:
                for each in _whole:
                    turns.enter_context(each)
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread: it is stopped in this call
        return
    if action == "away":
        from hub.sdk import UnavailableError  # every command of the hub imports this module, and few need polars

        raise UnavailableError(f"armed at {point}")
    if action == "full":
        raise OSError(errno.ENOSPC, f"armed at {point}")
    raise FaultError(f"armed at {point}")


def _note(file: str, point: str) -> None:
    descriptor = os.open(file, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, f"{point}\n".encode())
    finally:
        os.close(descriptor)


def _holds(keys: pl.Series | None, key: str) -> bool:
    return keys is not None and any(key in map(str, each.values()) for each in keys.to_list())
