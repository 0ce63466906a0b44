"""What the server gives at most: rows inserted by so many writers in libpq's own words, and nothing else.

One statement a commit, which is a transaction by itself: one message there, one back, as pgbench does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from struct import pack
from typing import Any

LEAF, HASH = 420, 32
"""Bytes of a row, as an event of the trail has them."""

Work = Callable[[], Callable[[], object]]
"""Opens what a writer needs, in its own process; gives what it does again and again."""


def together(work: Work, rows: int, seconds: float, writers: int) -> tuple[float, float]:
    """Rows a second of several processes that begin at once, and their CPU in µs for each row."""
    # Forked, since whatever each of them imported would be timed with those that are at work already.
    context = get_context("fork")
    begin, told = context.Barrier(writers), context.SimpleQueue()
    started = [context.Process(target=_write, args=(work, rows, seconds, begin, told)) for _ in range(writers)]
    for each in started:
        each.start()
    found = [told.get() for _ in started]
    for each in started:
        each.join()
    written = sum(each[0] for each in found)
    return sum(count / taken for count, taken, _ in found), 1e6 * sum(busy for *_, busy in found) / written


def _write(work: Work, rows: int, seconds: float, begin: Any, told: Any) -> None:
    once = work()
    once()
    begin.wait()
    written, began, busy = 0, time.perf_counter(), time.process_time()
    while (taken := time.perf_counter() - began) < seconds:
        once()
        written += rows
    told.put((written, taken, time.process_time() - busy))


def _array(values: Sequence[bytes]) -> bytes:
    return pack(">iiIii", 1, 0, 17, len(values), 1) + b"".join(pack(">i", len(each)) + each for each in values)


def bare(url: str, rows: int) -> Callable[[], object]:
    """One commit of so many rows."""
    import psycopg

    connection = psycopg.connect(url, autocommit=True)
    libpq = connection.pgconn
    if rows == 1:
        libpq.prepare(b"bare", b"INSERT INTO bare (leaf, leaf_hash) VALUES ($1, $2)")
        values = [bytes(LEAF), bytes(HASH)]
    else:
        libpq.prepare(b"bare", b"INSERT INTO bare (leaf, leaf_hash) SELECT * FROM unnest($1::bytea[], $2::bytea[])")
        values = [_array([bytes(LEAF)] * rows), _array([bytes(HASH)] * rows)]
    return lambda: (connection, libpq.exec_prepared(b"bare", values, [1, 1]))
