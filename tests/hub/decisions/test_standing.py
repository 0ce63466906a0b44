"""Standing is found as it was put, whether in a block or laid over one, and costs nothing where nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import func, select

from hub.database import Database
from hub.decisions import DecisionError, Standing, drop, held, key_hash, release
from hub.decisions.standing import blocks
from hub.decisions.standing import standing as rules
from hub.decisions.store import StandingBlockRow, StandingRow
from hub.keys import KeyRing

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
Placed = Callable[..., pl.DataFrame]
Put = Callable[[pl.DataFrame], None]
MAPPING = "lead_score"


def _keys(*ids: str) -> pl.Series:
    return pl.DataFrame({"Id": list(ids)}, schema={"Id": pl.String}).to_struct("_key")


def _many(count: int, start: int = 0) -> pl.Series:
    return _keys(*(f"00Q{number:06}" for number in range(start, start + count)))


def _all(frames: Iterator[pl.DataFrame]) -> list[str]:
    return [key["Id"] for frame in frames for key in frame["_key"].to_list()]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 100)
    monkeypatch.setattr(blocks, "SPLIT_ROWS", 75)


def test_what_was_never_put_is_null(standing: Standing) -> None:
    frame = standing.view(MAPPING, _keys("a", "b")).frame
    assert frame.height == 2
    assert frame["state"].null_count() == frame["values"].null_count() == 2


def test_what_was_put_is_found_in_the_order_asked_for(standing: Standing, placed: Placed, put: Put) -> None:
    keys = _many(20)
    updates = placed(keys, version=[f"v{at}" for at in range(20)])
    put(updates)
    asked = pl.concat([keys.reverse(), _keys("unknown"), keys[:1]])
    frame = standing.view(MAPPING, asked).frame
    assert frame["version"].to_list() == [f"v{at}" for at in range(19, -1, -1)] + [None, "v0"]
    assert (
        frame.head(20)
        .reverse()
        .select(updates.columns[1:])
        .equals(updates.drop("_key").cast({"row": pl.UInt32, "attempts": pl.UInt32}))
    )


def test_keys_may_be_given_as_a_frame_of_their_fields(standing: Standing, placed: Placed, put: Put) -> None:
    put(placed(_keys("a")).unnest("_key").select("Id", pl.exclude("Id")).with_columns(_key=_keys("a")))
    assert standing.view(MAPPING, pl.DataFrame({"Id": ["a"]})).frame["state"].to_list() == ["applied"]


def test_values_come_in_the_fields_asked_for(standing: Standing, placed: Placed, put: Put) -> None:
    put(placed(_keys("a")))
    put(placed(_keys("b"), values=pl.DataFrame({"Score__c": [1.0], "Age__c": [7]}).to_struct("values")))
    put(placed(_keys("c"), values=pl.Series([None], dtype=pl.Struct({"Score__c": pl.Float64}))))
    wanted = {"Score__c": pl.Float64(), "Age__c": pl.Int64()}
    found = standing.view(MAPPING, _keys("a", "b", "c", "d"), wanted).frame["values"]
    assert found.dtype == pl.Struct(wanted)
    assert found.to_list() == [{"Score__c": 50.0, "Age__c": None}, {"Score__c": 1.0, "Age__c": 7}, None, None]


def test_a_value_kept_in_another_type_is_unknown(standing: Standing, placed: Placed, put: Put) -> None:
    put(placed(_keys("a", "b")))
    put(placed(_keys("b"), values=pl.DataFrame({"Score__c": ["high"]}).to_struct("values")))
    found = standing.view(MAPPING, _keys("a", "b"), {"Score__c": pl.String()}).frame["values"]
    assert found.to_list() == [{"Score__c": None}, {"Score__c": "high"}]
    found = standing.view(MAPPING, _keys("a", "b"), {"Score__c": pl.Float64()}).frame["values"]
    assert found.to_list() == [{"Score__c": None}, {"Score__c": None}]


def test_a_rolled_back_put_never_was(any_database: Database, standing: Standing, placed: Placed, put: Put) -> None:
    put(placed(_keys("a")))
    view = standing.view(MAPPING, _keys("a", "b"))
    with any_database.sessions() as session:
        standing.put(session, view, placed(_keys("a", "b"), state=["held", "held"]))
        session.rollback()
    assert standing.view(MAPPING, _keys("a", "b")).frame["state"].to_list() == ["applied", None]
    put(placed(_keys("b"), state=["invalid"]))
    assert standing.states(MAPPING) == {"applied": 1, "invalid": 1}


@pytest.mark.usefixtures("small_blocks")
def test_blocks_split_where_they_grow_and_rows_are_laid_over_where_few_change(
    any_database: Database, standing: Standing, placed: Placed, put: Put
) -> None:
    put(placed(_many(1000)))
    scattered = _many(1000).gather_every(100)
    put(placed(scattered, state=["rejected"] * 10))
    with any_database.read() as session:
        assert session.scalar(select(func.count()).select_from(StandingBlockRow)) == 14
        assert session.scalars(select(StandingRow.rows)).all() == [10]
    assert standing.states(MAPPING) == {"applied": 990, "rejected": 10}
    assert _all(standing.in_state(MAPPING, "rejected")) == [each["Id"] for each in scattered.to_list()]


@pytest.mark.usefixtures("small_blocks")
def test_many_keys_that_lie_scattered_are_found_as_among_all(standing: Standing, placed: Placed, put: Put) -> None:
    everyone = _many(5_000)
    put(placed(everyone, version=[f"v{at}" for at in range(5_000)]))
    put(placed(everyone.gather_every(250), version=["newer"] * 20))
    asked = pl.concat([everyone.gather_every(10).reverse(), _keys("unknown")])
    assert sum(each.rows for each in standing.view(MAPPING, asked).snapshot.blocks) > rules.SPARSE * len(asked)
    some = standing.view(MAPPING, asked).frame
    among_all = standing.view(MAPPING, pl.concat([asked, everyone])).frame.head(len(asked))
    assert some.equals(among_all)
    assert some["version"].to_list()[-2:] == ["newer", None]
    assert some["version"].to_list().count("newer") == 20


@pytest.mark.usefixtures("small_blocks")
def test_scattered_keys_open_their_blocks_once_until_something_is_written(
    standing: Standing, placed: Placed, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(placed(_many(10_000)))
    asked = _many(10_000).gather_every(10)
    before = standing.view(MAPPING, asked).frame
    loads: list[object] = []
    load = rules.store.load_blobs
    monkeypatch.setattr(rules.store, "load_blobs", lambda *given: loads.append(given) or load(*given))
    assert standing.view(MAPPING, asked.gather_every(2).reverse()).frame.equals(before.gather_every(2).reverse())
    assert not loads
    put(placed(asked.head(1), version=["newer"]))
    assert standing.view(MAPPING, asked).frame["version"].to_list() == ["newer", *before["version"].to_list()[1:]]
    assert standing.view(MAPPING, _many(10_000).gather_every(9)).frame["version"].to_list()[0] == "newer"
    assert loads


@pytest.mark.usefixtures("small_blocks")
def test_rewriting_a_block_takes_in_what_was_laid_over_it(
    any_database: Database, standing: Standing, placed: Placed, put: Put
) -> None:
    put(placed(_many(1000)))
    put(placed(_many(1000).gather_every(100), state=["rejected"] * 10))
    while standing.fold(MAPPING, most=3):
        assert standing.states(MAPPING) == {"applied": 990, "rejected": 10}
    with any_database.read() as session:
        assert session.scalar(select(func.count()).select_from(StandingRow)) == 0
    put(placed(_many(1000)))
    assert standing.states(MAPPING) == {"applied": 1000}


@pytest.mark.usefixtures("small_blocks")
def test_many_single_rows_are_gathered(any_database: Database, standing: Standing, placed: Placed, put: Put) -> None:
    put(placed(_many(1000)))
    for number in range(rules.OVER_COUNT + 5):
        put(placed(_many(1, start=number * 7), state=["held"], attempts=[number]))
    with any_database.read() as session:
        assert session.scalar(select(func.count()).select_from(StandingRow)) < 10
    assert standing.states(MAPPING)["held"] == rules.OVER_COUNT + 5
    assert standing.view(MAPPING, _many(1, start=7)).frame["attempts"].to_list() == [1]


def test_another_process_sees_what_was_put(
    any_database: Database, keys: KeyRing, standing: Standing, placed: Placed, put: Put
) -> None:
    other = Standing(any_database, keys)
    assert other.view(MAPPING, _keys("a")).frame["state"].to_list() == [None]
    put(placed(_many(50)))
    put(placed(_keys("a")))
    assert other.view(MAPPING, _keys("a", "00Q000001")).frame["state"].to_list() == ["applied", "applied"]
    assert other.states(MAPPING) == standing.states(MAPPING) == {"applied": 51}


def test_an_unchanged_page_writes_nothing(any_database: Database, standing: Standing, placed: Placed, put: Put) -> None:
    put(placed(_many(50)))
    before = standing.view(MAPPING, _many(50)).snapshot
    put(placed(_many(50)).clear())
    assert standing.prepare(standing.view(MAPPING, _many(50)), placed(_many(0))) is None
    assert standing.view(MAPPING, _many(50)).snapshot is before


@pytest.mark.usefixtures("small_blocks")
def test_due_records_come_with_their_reason_from_blocks_and_from_rows_over_them(
    standing: Standing, placed: Placed, put: Put
) -> None:
    put(placed(_many(300)))
    instant = pl.Datetime("us", "UTC")
    soon = pl.Series([NOW, NOW + timedelta(hours=1)], dtype=instant)
    put(placed(_many(2, start=150), due=soon, why=["rejected", "expired"]))
    assert list(standing.due(MAPPING, NOW - timedelta(seconds=1))) == []
    (found,) = standing.due(MAPPING, NOW)
    assert found.select(pl.col("_key").struct.field("Id"), "why").rows() == [("00Q000150", "rejected")]
    assert len(_all(standing.due(MAPPING, NOW + timedelta(hours=1)))) == 2
    put(placed(_many(2, start=150)))
    assert list(standing.due(MAPPING, NOW + timedelta(hours=2))) == []


@pytest.mark.usefixtures("small_blocks")
def test_records_a_full_run_did_not_see_are_the_leavers(standing: Standing, placed: Placed, put: Put) -> None:
    put(placed(_many(300)))
    put(placed(_keys("late")))
    put(placed(_many(1, start=5), state=["left"]))
    seen = key_hash(_many(290))
    assert _all(standing.unseen(MAPPING, seen)) == [f"00Q{at:06}" for at in range(290, 300)] + ["late"]
    assert _all(standing.unseen(MAPPING, seen[:0]))[:6] == [f"00Q{at:06}" for at in (0, 1, 2, 3, 4, 6)]


def test_cleared_and_removed_records_are_gone(
    any_database: Database, keys: KeyRing, standing: Standing, placed: Placed, put: Put
) -> None:
    other = Standing(any_database, keys)
    put(placed(_many(50)))
    put(placed(_keys("00Q000003"), state=["held"]))
    assert other.states(MAPPING) == {"applied": 49, "held": 1}
    with any_database.begin() as session:
        assert standing.remove(session, MAPPING, _keys("00Q000003", "00Q000004", "nobody")) == 2
    assert other.view(MAPPING, _keys("00Q000003", "00Q000004", "00Q000005")).frame["state"].to_list() == [
        None,
        None,
        "applied",
    ]
    with any_database.begin() as session:
        standing.clear(session, MAPPING)
    assert other.states(MAPPING) == standing.states(MAPPING) == {}
    put(placed(_keys("z")))
    assert other.states(MAPPING) == {"applied": 1}


def test_mappings_do_not_see_each_other(any_database: Database, standing: Standing, placed: Placed, put: Put) -> None:
    put(placed(_keys("a")))
    with any_database.begin() as session:
        standing.put(session, standing.view("other", _keys("a")), placed(_keys("a"), state=["held"]))
    assert standing.states(MAPPING) == {"applied": 1}
    assert standing.states("other") == {"held": 1}


def test_the_type_of_the_keys_is_known_while_some_record_stands(
    any_database: Database, standing: Standing, placed: Placed, put: Put
) -> None:
    keys = pl.DataFrame({"Id": range(100)}, schema={"Id": pl.Int32}).to_struct("_key")
    assert standing.key_type(MAPPING) is None
    put(placed(keys))
    assert standing.key_type(MAPPING) == keys.dtype
    put(placed(keys[:1]))  # one of so many is laid over them
    assert standing.key_type(MAPPING) == keys.dtype
    with any_database.begin() as session:
        standing.remove(session, MAPPING, keys)
    assert standing.key_type(MAPPING) is None


def test_a_key_that_changed_its_type_is_told_apart_in_words(standing: Standing, placed: Placed, put: Put) -> None:
    put(placed(pl.DataFrame({"Id": [1, 2]}).to_struct("_key")))
    with pytest.raises(DecisionError, match="changed its type"):
        put(placed(_keys("1", "2")))


@pytest.mark.parametrize(
    ("change", "message"), [({"state": ["done"]}, "done is no state"), ({"why": None}, "needs the column why")]
)
def test_wrong_updates_are_refused_by_name(
    put: Put, placed: Placed, change: dict[str, list[str] | None], message: str
) -> None:
    updates = placed(_keys("a"))
    wrong = updates.drop("why") if change.get("why", "") is None else updates.with_columns(state=pl.lit("done"))
    with pytest.raises(DecisionError, match=message):
        put(wrong)


def test_a_person_releases_or_drops_what_is_held(
    any_database: Database, standing: Standing, placed: Placed, put: Put
) -> None:
    put(placed(_keys("a", "b", "c"), state=["held", "held", "applied"]))
    assert _all(held(standing, MAPPING)) == ["a", "b"]
    with any_database.begin() as session:
        assert release(session, standing, MAPPING, _keys("a"), NOW) == 1
    (due,) = standing.due(MAPPING, NOW)
    assert due.select("state", "why").rows() == [("held", "released")]
    assert _all(held(standing, MAPPING)) == ["b"]
    with any_database.begin() as session:
        drop(session, standing, MAPPING, _keys("b"))
    assert standing.states(MAPPING) == {"applied": 1, "dropped": 1, "held": 1}
    for verb in (lambda session: release(session, standing, MAPPING, _keys("a", "c"), NOW),):
        with pytest.raises(DecisionError, match="2 of 2 records are not held"), any_database.begin() as session:
            verb(session)


def test_nothing_about_a_record_stands_in_clear(placed: Placed, put: Put, tmp_path: Path) -> None:
    put(placed(_keys("Jane-Planted-Doe"), why=["Jane-Planted-Doe"]))
    put(placed(_many(40)))
    put(placed(_keys("Jane-Planted-Doe"), version=["Jane-Planted-Doe"]))
    assert b"Jane-Planted-Doe" not in b"".join(each.read_bytes() for each in tmp_path.rglob("hub.db*"))
