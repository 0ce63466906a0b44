"""Scores that are written to another entity than the one read: made, emptied and taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.small import Small


def _placed(folder: Path, mode: str) -> Small:
    small = Small(
        folder,
        (
            "create table T (id integer primary key, X real, open integer, P text)",
            "create table SCORE (P text primary key, S integer, note text)",
        ),
    )
    small.sql("insert into T values (?, ?, 1, ?)", [(1, 1.0, "p1"), (2, 2.0, "p2"), (3, 3.0, "p3")])
    small.connect()
    small.model()
    write = f"{{ connection: far, entity: SCORE, mode: {mode}, key: {{ P: P }}, set: {{ S: score }} }}"
    small.publish(read=', where: "open = 1", leaves: clear', write=write)
    return small


def _scores(small: Small) -> dict[str, int | None]:
    return {key: score for key, score in small.sql("select P, S from SCORE")}  # noqa: C416


@pytest.mark.parametrize("mode", ["upsert", "create"])
def test_a_run_that_made_records_can_be_taken_back(tmp_path: Path, mode: str) -> None:
    small = _placed(tmp_path, mode)
    if mode == "upsert":
        small.sql("insert into SCORE values ('p2', 77, 'by hand')")
    run = small.run()
    assert (run.state.value, run.counts["applied"]) == ("done", 3)
    assert _scores(small) == {"p1": 1, "p2": 2, "p3": 3}
    undone = small.undo(run)
    assert (undone.state.value, undone.counts["applied"]) == ("done", 3)
    assert _scores(small) == {"p1": None, "p2": 77 if mode == "upsert" else None, "p3": None}


@pytest.mark.parametrize("mode", ["upsert", "create"])
def test_a_record_that_leaves_is_emptied_and_never_made_again(tmp_path: Path, mode: str) -> None:
    small = _placed(tmp_path, mode)
    small.run()
    small.sql("update T set open = 0 where id in (1, 3)")
    small.sql("delete from SCORE where P = 'p1'")
    run = small.run()
    assert _scores(small) == {"p2": 2, "p3": None}
    assert (run.state.value, run.counts["applied"], run.counts["unchanged"]) == ("done", 1, 1)
