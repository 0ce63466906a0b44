"""Whatever is put, laid over, folded or removed in whatever order: standing is what a plain dict would be."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from hub.database import Database
from hub.decisions import Standing, key_hash
from hub.decisions.standing import blocks
from hub.decisions.standing import standing as rules
from hub.keys import KeyRing
from hub.keys.providers.file import FileKek

NOW = datetime(2026, 11, 20, tzinfo=UTC)
NAMES = ["", "a", "Zoë", "zoe", "日本", "\x00", "a\x00", "ß", "😀"]

KINDS: dict[str, tuple[dict[str, pl.DataType], list[tuple[Any, ...]]]] = {
    "text": ({"Id": pl.String()}, [(a + b,) for a in NAMES for b in ("", "1", "2", "é")]),
    "decimal": ({"nr": pl.Decimal(20, 2)}, [(Decimal(at) / 4,) for at in range(-20, 20)]),
    "uuid": ({"id": pl.String()}, [(str(UUID(int=at * 2**120)),) for at in range(40)]),
    "date": ({"day": pl.Date()}, [(date(1969, 12, 1) + timedelta(days=at),) for at in range(40)]),
    "composite": (
        {"plant": pl.String(), "nr": pl.Int64(), "on": pl.Date()},
        [(a, b, c) for a in ("", "a\x00", "é") for b in (-1, 0, 7) for c in (date(1, 1, 1), date(2026, 1, 1))],
    ),
}


class Machine(RuleBasedStateMachine):
    """Two processes put and look in turn; the dict knows what must be found."""

    kind = "text"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        self.database = Database(f"sqlite:///{path / 'hub.db'}")
        self.database.create_all()
        ring = KeyRing(FileKek.create(path / "kek"), b"r" * 32)
        self.processes = [Standing(self.database, ring), Standing(self.database, ring)]
        self.schema, self.domain = KINDS[self.kind]
        self.expected: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.count = itertools.count()

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    def keys(self, picked: list[int]) -> pl.Series:
        rows = [self.domain[at % len(self.domain)] for at in picked]
        return pl.DataFrame(rows, schema=self.schema, orient="row").to_struct("_key")

    def updates(self, keys: pl.Series, state: str, due: int | None) -> pl.DataFrame:
        number = next(self.count)
        size = len(keys)
        moment = None if due is None else NOW + timedelta(hours=due)
        return pl.DataFrame(
            {
                "_key": keys,
                "digest": [bytes([number % 256]) * 16] * size,
                "state": [state] * size,
                "values": pl.DataFrame({"s": [float(number)] * size}).to_struct("values"),
                "version": [f"v{number}"] * size,
                "segment": [number] * size,
                "row": pl.Series(range(size), dtype=pl.UInt32),
                "at": [NOW] * size,
                "written_at": [NOW] * size,
                "due": pl.Series([moment] * size, dtype=pl.Datetime("us", "UTC")),
                "why": ["refresh"] * size,
                "attempts": pl.Series([number] * size, dtype=pl.UInt32),
            }
        )

    @initialize(first=st.booleans())
    def begin(self, first: bool) -> None:
        if first:
            self.put(list(range(0, len(self.domain), 2)), "applied", None, 0)

    @rule(
        picked=st.lists(st.integers(0, 59), min_size=1, max_size=25),
        state=st.sampled_from(["applied", "held", "left"]),
        due=st.none() | st.integers(0, 3),
        process=st.integers(0, 1),
    )
    def put(self, picked: list[int], state: str, due: int | None, process: int) -> None:
        keys = self.keys(picked)
        view = self.processes[process].view("m", keys)
        updates = self.updates(keys, state, due)
        with self.database.begin() as session:
            self.processes[process].put(session, view, updates)
        self.learn(updates)

    @rule(
        mine=st.lists(st.integers(0, 59), min_size=1, max_size=15),
        theirs=st.lists(st.integers(0, 59), min_size=1, max_size=15),
        prepared=st.booleans(),
    )
    def put_after_another_moved(self, mine: list[int], theirs: list[int], prepared: bool) -> None:
        keys = self.keys(mine)
        view = self.processes[0].view("m", keys)
        updates = self.updates(keys, "applied", None)
        ready = self.processes[0].prepare(view, updates) if prepared else updates
        self.put(theirs, "held", 1, 1)
        with self.database.begin() as session:
            self.processes[0].put(session, view, ready)
        self.learn(updates)

    @rule(picked=st.lists(st.integers(0, 59), min_size=1, max_size=5))
    def put_and_roll_back(self, picked: list[int]) -> None:
        keys = self.keys(picked)
        view = self.processes[0].view("m", keys)
        with self.database.sessions() as session:
            self.processes[0].put(session, view, self.updates(keys, "rejected", 0))
            session.rollback()

    @rule(most=st.integers(1, 4))
    def fold(self, most: int) -> None:
        self.processes[1].fold("m", most)

    @rule(picked=st.lists(st.integers(0, 59), min_size=1, max_size=5))
    def remove(self, picked: list[int]) -> None:
        keys = self.keys(picked)
        with self.database.begin() as session:
            removed = self.processes[1].remove(session, "m", keys)
        gone = {tuple(key.values()) for key in keys.to_list()} & set(self.expected)
        assert removed == len(gone)
        for key in gone:
            del self.expected[key]

    @rule()
    def clear(self) -> None:
        with self.database.begin() as session:
            self.processes[0].clear(session, "m")
        self.expected.clear()

    def learn(self, updates: pl.DataFrame) -> None:
        for row in updates.to_dicts():
            self.expected[tuple(row.pop("_key").values())] = row

    @rule(process=st.integers(0, 1), picked=st.lists(st.integers(0, 59), min_size=1, max_size=5))
    def look_at_a_few(self, process: int, picked: list[int]) -> None:
        keys = self.keys(picked)
        found = self.processes[process].view("m", keys, {"s": pl.Float64()}).frame.to_dicts()
        for key, row in zip(keys.to_list(), found, strict=True):
            assert row == self.expected.get(tuple(key.values()), dict.fromkeys(row))

    @invariant()
    def everything_is_as_the_dict_has_it(self) -> None:
        for process in self.processes:
            every = pl.DataFrame(self.domain, schema=self.schema, orient="row").to_struct("_key")
            found = process.view("m", every, {"s": pl.Float64()}).frame.to_dicts()
            for key, row in zip(self.domain, found, strict=True):
                assert row == self.expected.get(key, dict.fromkeys(row))

    @invariant()
    def counts_due_and_unseen_agree(self) -> None:
        process = self.processes[0]
        states: dict[str, int] = {}
        for row in self.expected.values():
            states[row["state"]] = states.get(row["state"], 0) + 1
        assert process.states("m") == states
        now = NOW + timedelta(hours=1)
        due = {key for key, row in self.expected.items() if row["due"] is not None and row["due"] <= now}
        assert self.found(process.due("m", now)) == due
        seen = self.domain[::2]
        hashes = key_hash(pl.DataFrame(seen, schema=self.schema, orient="row").to_struct("_key"))
        leavers = {key for key, row in self.expected.items() if row["state"] != "left" and key not in set(seen)}
        assert self.found(process.unseen("m", hashes)) == leavers

    def found(self, frames: Iterator[pl.DataFrame]) -> set[tuple[Any, ...]]:
        listed = [tuple(key.values()) for frame in frames for key in frame["_key"].to_list()]
        assert len(listed) == len(set(listed))
        return set(listed)


@pytest.mark.parametrize("kind", KINDS)
def test_standing_is_what_a_dict_would_be(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 8)
    monkeypatch.setattr(blocks, "SPLIT_ROWS", 6)
    monkeypatch.setattr(rules, "SCATTERED", 0.4)
    monkeypatch.setattr(rules, "OVER_COUNT", 4)
    monkeypatch.setattr(rules, "OVER_ROWS", 12)
    monkeypatch.setattr(rules, "TIDY_EVERY", 3)
    monkeypatch.setattr(rules, "FEW_KEYS", 6)
    monkeypatch.setattr(rules, "SPARSE", 2)
    monkeypatch.setattr(rules, "KEPT_BLOCKS", 2)
    monkeypatch.setattr(rules, "PASSED_BLOCKS", 2)
    machine = type(f"Machine_{kind}", (Machine,), {"kind": kind})
    # Not shrunk: a database per attempt makes that longer than the test may take, and fifteen steps can be read.
    bounds = settings(max_examples=10, stateful_step_count=15, deadline=None, phases=[Phase.generate])
    run_state_machine_as_test(machine, settings=bounds)
