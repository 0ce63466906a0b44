"""Tells a machine that has too little of something from everything else that goes wrong."""

from __future__ import annotations

import errno
import re

from sqlalchemy.exc import DBAPIError

from hub.database import lacks_space

MEMORY, DISK = "memory", "disk space"

_STARVED = re.compile(
    r"can't start new thread|bad_alloc|memory allocation|failed to allocate|Os \{ code: 1[12]\b", re.IGNORECASE
)
"""A new thread needs memory for its stack; Rust and C++ libraries tell of theirs in words alone."""


def lacking(error: BaseException) -> str | None:
    """What this machine has too little of, where that is the error; None where it is something else."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return MEMORY
    if isinstance(error, DBAPIError):
        return DISK if lacks_space(error) else MEMORY if isinstance(error.orig, MemoryError) else None
    return MEMORY if isinstance(error, MemoryError) or _STARVED.search(str(error)) else None
