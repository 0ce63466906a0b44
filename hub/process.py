"""The memory of a process that holds keys and secrets: nobody else looks into it, and what is free goes back."""

from __future__ import annotations

import ctypes
import resource
import sys

SET_DUMPABLE, GET_DUMPABLE = 4, 3
"""Of prctl(2)."""


def guard_memory() -> None:
    """No core file, and on Linux no debugger nor /proc/PID/mem for anyone but root. Holds for this process alone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(SET_DUMPABLE, 0, 0, 0, 0)


def is_guarded() -> bool:
    """Whether both hold now; where there is no prctl, whether no core file is written."""
    if resource.getrlimit(resource.RLIMIT_CORE)[0] != 0:
        return False
    return sys.platform != "linux" or bool(ctypes.CDLL(None).prctl(GET_DUMPABLE, 0, 0, 0, 0) == 0)


def give_back_memory() -> None:
    """Gives the system what the C library's heaps hold free between pieces in use; takes about a millisecond.

    By itself the library gives back the end of a heap alone, and one small piece that stays keeps all before it. Where
    the library has no such call, nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
