"""What is free in the heaps of the C library goes back to the system, though a piece in use lies behind it."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from hub.worker.supervisor import LIBRARIES

PIECES = 500
PIECE = 200_000
"""Bytes: below the size from which the C library asks the system for each piece by itself."""
PROGRAM = f"""
import psutil
from hub.process import give_back_memory

def resident():
    return psutil.Process().memory_info().rss

before = resident()
pieces = [bytes([1]) * {PIECE} for _ in range({PIECES})]
full = resident()
del pieces[:-1]
freed = resident()
give_back_memory()
print(full - before, full - freed, full - resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library has no malloc_trim")
def test_what_is_free_goes_back_though_a_piece_behind_it_is_in_use() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=dict(LIBRARIES)
    )
    taken, freed, given_back = map(int, done.stdout.split())
    assert taken > 0.9 * PIECES * PIECE
    assert freed < 0.1 * taken  # or there would be nothing to give back
    assert given_back > 0.9 * taken
