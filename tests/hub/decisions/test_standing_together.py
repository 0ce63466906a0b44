"""Several workers on one mapping at once: nothing any of them put is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from hub.database import Database
from hub.decisions import Standing
from hub.decisions.standing import blocks
from hub.keys import KeyRing

WORKERS = 4
PAGES = 6
PAGE = 60
MAPPING = "lead_score"


def _keys(numbers: range | list[int]) -> pl.Series:
    return pl.DataFrame({"Id": [f"00Q{number:06}" for number in numbers]}).to_struct("_key")


@pytest.fixture
def workers(any_database: Database, keys: KeyRing, monkeypatch: pytest.MonkeyPatch) -> list[Standing]:
    """As many as work in different processes: each knows only what it read itself."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 100)
    monkeypatch.setattr(blocks, "SPLIT_ROWS", 75)
    return [Standing(any_database, keys) for _ in range(WORKERS)]


def _together(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))


def test_adjacent_pages_of_many_workers_all_stand(
    any_database: Database, workers: list[Standing], placed: Callable[..., pl.DataFrame]
) -> None:
    start = threading.Barrier(WORKERS)

    def work(worker: int) -> None:
        start.wait()
        for page in range(PAGES):
            # Neighbouring pages belong to different workers, so that they meet in the same blocks.
            first = (page * WORKERS + worker) * PAGE
            keys = _keys(range(first, first + PAGE))
            view = workers[worker].view(MAPPING, keys)
            updates = placed(keys, version=[str(number) for number in range(first, first + PAGE)])
            ready = workers[worker].prepare(view, updates)
            any_database.retrying(lambda session, view=view, ready=ready: workers[worker].put(session, view, ready))

    _together(work)
    total = WORKERS * PAGES * PAGE
    for worker in workers:
        assert worker.states(MAPPING) == {"applied": total}
        assert worker.view(MAPPING, _keys(range(total))).frame["version"].to_list() == [str(at) for at in range(total)]


def test_single_rows_and_whole_pages_at_once_all_stand(
    any_database: Database, workers: list[Standing], placed: Callable[..., pl.DataFrame]
) -> None:
    total = 600
    everything = placed(_keys(range(total)), attempts=[0] * total)
    with any_database.begin() as session:
        workers[0].put(session, workers[0].view(MAPPING, everything["_key"]), everything)
    start = threading.Barrier(WORKERS)

    def work(worker: int) -> None:
        start.wait()
        own = [number for number in range(total) if number % WORKERS == worker]
        # Two put single records, one after the other; two put all of theirs, over every block, again and again.
        batches = [[number] for number in own[:40]] if worker % 2 else [own] * 5
        for turn, numbers in enumerate(batches, start=1):
            keys = _keys(numbers)
            view = workers[worker].view(MAPPING, keys)
            updates = placed(keys, attempts=[turn] * len(numbers), state=["held"] * len(numbers))
            any_database.retrying(lambda session, view=view, new=updates: workers[worker].put(session, view, new))
            assert workers[worker].view(MAPPING, keys).frame["attempts"].to_list() == [turn] * len(numbers)

    _together(work)
    attempts = workers[0].view(MAPPING, _keys(range(total))).frame["attempts"].to_list()
    for number, found in enumerate(attempts):
        worker, place = number % WORKERS, number // WORKERS
        expected = 5 if worker % 2 == 0 else (place + 1 if place < 40 else 0)
        assert found == expected
    assert workers[1].states(MAPPING) == workers[2].states(MAPPING) == {"applied": 220, "held": 380}


def test_a_page_prepared_before_a_block_was_split_is_merged_into_its_parts(
    any_database: Database, workers: list[Standing], placed: Callable[..., pl.DataFrame]
) -> None:
    one, two = workers[:2]
    evens, odds = _keys(range(0, 120, 2)), _keys(range(1, 120, 2))
    view = one.view(MAPPING, evens)
    prepared = one.prepare(view, placed(evens))
    with any_database.begin() as session:
        two.put(session, two.view(MAPPING, odds), placed(odds, state=["held"] * 60))
    with any_database.begin() as session:
        one.put(session, view, prepared)
    assert two.states(MAPPING) == {"applied": 60, "held": 60}
