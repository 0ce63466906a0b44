"""Requests that are written back: the values a program gives win over those read, a null given too."""

from __future__ import annotations

from pathlib import Path

from hub.runs import Scoring
from tests.system.small import Small


def test_a_value_given_wins_over_the_one_read_and_a_null_given_is_not_replaced_by_it(tmp_path: Path) -> None:
    small = Small(tmp_path, ("create table T (id integer primary key, X real, open integer, S integer)",))
    small.sql("insert into T values (?, ?, 1, null)", [(1, 1.0), (2, 2.0), (3, 3.0)])
    small.connect()
    small.model()
    small.publish()
    given = [{"id": 1, "X": 7.0}, {"id": 2, "X": None}, {"id": 3}]

    Scoring(small.hub).score_and_write("m", given, str(small.me))

    assert small.sql("select id, S from T order by id") == [[1, 7], [2, None], [3, 3]]
