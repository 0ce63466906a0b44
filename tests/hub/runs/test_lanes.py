"""The threads of a worker: jobs in order, none after one that failed, items made where they belong."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import pytest

from hub.runs.execution.lanes import Lane, Lanes, SkippedError, made_by


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    made = Lanes()
    yield made
    made.close()


def fail() -> None:
    raise ValueError("this one")


def test_jobs_are_done_in_order_and_none_after_one_that_failed(lanes: Lanes) -> None:
    lane, done = Lane(lanes.writing), list[int]()
    given = [lane.give(done.append, 1), lane.give(fail), lane.give(done.append, 2)]
    assert given[0].exception() is None
    assert isinstance(given[1].exception(), ValueError)
    assert isinstance(given[2].exception(), SkippedError)
    assert done == [1]
    assert Lane(lanes.writing).give(done.append, 3).result() is None  # the next slice begins anew on the same thread
    assert done == [1, 3]


@pytest.mark.parametrize("ahead", [True, False])
def test_items_are_made_and_closed_by_their_thread_whether_all_are_taken_or_not(lanes: Lanes, ahead: bool) -> None:
    seen: set[int] = set()
    closed = []

    def items() -> Generator[int]:
        try:
            for each in range(5):
                seen.add(threading.get_ident())
                yield each
        finally:
            closed.append(threading.get_ident())

    assert list(made_by(lanes.reading, items(), ahead=ahead)) == [0, 1, 2, 3, 4]
    some = made_by(lanes.reading, items(), ahead=ahead)
    assert next(some) == 0
    some.close()
    assert seen == {*closed} == {lanes.reading.submit(threading.get_ident).result()}
    assert len(closed) == 2


def test_an_error_while_an_item_is_made_reaches_whoever_takes_it(lanes: Lanes) -> None:
    def items() -> Generator[int]:
        yield 1
        fail()

    found = made_by(lanes.reading, items(), ahead=True)
    assert next(found) == 1
    with pytest.raises(ValueError, match="this one"):
        next(found)
