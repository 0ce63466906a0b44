"""What a run remembers of its lookups: the same answers as without, and each key asked for once."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.runs.pages import remembered
from hub.runs.pages.remembered import Remembered

SCHEMA = {"code": pl.String(), "name": pl.Int64()}
CODES = st.sampled_from(["a", "A", "b", "B", "c", "d"])


class Far:
    """A far side that folds case, as many do, and answers in pages of two."""

    def __init__(self, rows: list[tuple[str | None, int]]) -> None:
        self.rows = rows
        self.asked: list[str] = []

    def ask(self, keys: pl.DataFrame) -> Iterator[pl.DataFrame]:
        self.asked += keys["code"].to_list()
        wanted = {each.lower() for each in keys["code"]}
        found = [row for row in self.rows if row[0] is None or row[0].lower() in wanted]
        for start in range(0, max(1, len(found)), 2):
            yield pl.DataFrame(found[start : start + 2], schema=SCHEMA, orient="row")


def exact(pages: Iterator[pl.DataFrame], keys: pl.DataFrame) -> tuple[list[tuple[str, int]], bool]:
    """The rows of these very keys, and whether one was met whose key cannot be read."""
    frame = pl.concat([pl.DataFrame(schema=SCHEMA), *pages])
    return sorted(frame.join(keys, on="code", how="semi").rows()), bool(frame["code"].is_null().any())


@given(
    rows=st.lists(st.tuples(st.none() | CODES, st.integers(0, 3)), max_size=12),
    turns=st.lists(st.lists(CODES, min_size=1, max_size=4, unique=True), max_size=8),
    most=st.sampled_from([3, 8, 100]),
)
def test_the_answers_are_those_of_a_far_side_that_is_asked_each_time(
    rows: list[tuple[str | None, int]], turns: list[list[str]], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(remembered, "MOST_ROWS", most)
        known = Remembered(Far(rows).ask)
        for turn in turns:
            keys = pl.DataFrame({"code": turn})
            assert exact(known.read(keys), keys) == exact(Far(rows).ask(keys), keys)


def test_a_key_is_asked_for_once_whether_it_has_rows_or_none() -> None:
    far = Far([("a", 1), ("a", 2), ("b", 3)])
    known = Remembered(far.ask)
    for turn in (["a", "x"], ["a", "b", "x"], ["b"], ["x"]):
        keys = pl.DataFrame({"code": turn})
        assert exact(known.read(keys), keys) == exact(Far(far.rows).ask(keys), keys)
    assert far.asked == ["a", "x", "b"]


def test_what_was_not_read_to_its_end_is_asked_for_again() -> None:
    far = Far([("a", 1), ("a", 2), ("a", 3)])
    known = Remembered(far.ask)
    keys = pl.DataFrame({"code": ["a"]})
    for _ in known.read(keys):
        break
    assert exact(known.read(keys), keys) == ([("a", 1), ("a", 2), ("a", 3)], False)


def test_no_more_is_kept_than_a_worker_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_ROWS", 5)
    far = Far([(code, number) for code in "abcd" for number in range(2)])
    known = Remembered(far.ask)
    for code in ("a", "b", "b", "a"):
        keys = pl.DataFrame({"code": [code]})
        assert len(exact(known.read(keys), keys)[0]) == 2
    assert far.asked == ["a", "b", "a"]
