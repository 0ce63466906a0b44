"""What the workers of one connection share, in one process and across several."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.connections.shared import DatabaseShared
from hub.database import Database
from hub.keys import open_ring
from hub.sdk import Secret, Token, UnavailableError
from hub.sdk.shared import RETRIES, Budget, LocalShared, Shared
from hub.settings import load_settings

Two = tuple[Shared, Shared]
LATER = datetime.now(UTC) + timedelta(days=300)


@pytest.fixture(params=["local", "sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Two]:
    """Another connection at each call, as two workers see it."""
    if request.param == "local":
        return lambda: (one := LocalShared(), one)
    name = "database" if request.param == "sqlite" else "postgresql_database"
    database: Database = request.getfixturevalue(name)
    keys = open_ring(load_settings(home=tmp_path / "home"), database)
    numbers = count()

    def two() -> Two:
        called = f"crm{next(numbers)}"
        return DatabaseShared(database, keys, called), DatabaseShared(database, keys, called)

    return two


@pytest.fixture
def two(fresh: Callable[[], Two]) -> Two:
    """The same connection as two workers see it."""
    return fresh()


def minter(made: list[str], ends_at: datetime | None = LATER) -> Callable[[], Token]:
    def mint() -> Token:
        made.append(f"token {len(made)}")
        return Token(Secret(made[-1]), ends_at, {"instance": "a.example"})

    return mint


def test_one_login_serves_all(two: Two) -> None:
    made: list[str] = []
    first, second = (each.token(minter(made)) for each in two)
    assert made == ["token 0"]
    assert (first.value.reveal(), second.value.reveal(), second.facts) == (
        "token 0",
        "token 0",
        {"instance": "a.example"},
    )


def test_a_refused_token_is_renewed_once_however_many_meet_the_refusal(two: Two) -> None:
    made: list[str] = []
    olds = [each.token(minter(made)) for each in two]
    news = [each.token(minter(made), refused=old).value.reveal() for each, old in zip(two, olds, strict=True)]
    assert (made, news) == (["token 0", "token 1"], ["token 1", "token 1"])


def test_of_many_that_need_a_token_at_once_one_logs_in(two: Two) -> None:
    made: list[str] = []
    start, got = threading.Barrier(6), []

    def ask(shared: Shared) -> None:
        start.wait()
        got.append(shared.token(minter(made)).value.reveal())

    threads = [threading.Thread(target=ask, args=(two[at % 2],)) for at in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (made, got) == (["token 0"], ["token 0"] * 6)


def test_a_token_that_has_run_out_is_not_given(two: Two) -> None:
    made: list[str] = []
    over = datetime.now(UTC) + timedelta(seconds=5)  # within the margin that a call needs
    assert two[0].token(minter(made, over)).value.reveal() == "token 0"
    assert two[1].token(minter(made)).value.reveal() == "token 1"


def test_a_login_that_fails_leaves_the_turn_to_the_next(two: Two) -> None:
    def refuse() -> Token:
        raise UnavailableError("away")

    with pytest.raises(UnavailableError, match="away"):
        two[0].token(refuse)
    assert two[1].token(minter([])).value.reveal() == "token 0"


def test_a_wait_asked_of_one_is_kept_by_all_and_the_longest_counts(two: Two) -> None:
    assert two[1].wait() == 0
    two[0].hold_off(500)
    two[0].hold_off(5)
    assert 490 < two[1].wait() <= 500


def test_no_two_spend_the_same_call_and_the_reserve_is_left(two: Two) -> None:
    assert two[0].spend(1)  # nothing is known yet, so nothing can be refused
    two[0].learn(Budget(most=1000, used=900))
    taken = [two[at % 2].spend(10, reserve_percent=5) for at in range(8)]
    assert taken == [True] * 4 + [False] * 4  # ten above the reserve of 50 are set aside
    assert two[1].budget() == Budget(1000, 940)


def test_an_answer_that_was_overtaken_does_not_give_calls_back(two: Two) -> None:
    two[0].learn(Budget(1000, 600))
    two[1].learn(Budget(1000, 598))
    assert two[0].budget() == Budget(1000, 600)
    two[1].learn(Budget(1000, 3))  # a new day
    assert two[0].budget() == Budget(1000, 3)


def set_clock(two: Two, monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    for each in two:
        if isinstance(each, DatabaseShared):
            monkeypatch.setattr(each._database, "now", lambda _: moment)
        else:
            monkeypatch.setattr(each, "_now", lambda: moment)


def test_of_all_that_find_the_budget_spent_one_an_hour_looks_whether_calls_came_back(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = datetime.now(UTC)

    def at(minutes: float) -> list[bool]:
        set_clock(two, monkeypatch, began + timedelta(minutes=minutes))
        return [two[turn % 2].spend(1, reserve_percent=5) for turn in range(3)]

    at(0)
    two[0].learn(Budget(1000, 945))
    assert at(59) == [False] * 3
    assert at(61) == [True, False, False]
    assert at(119) == [False] * 3
    assert at(122) == [True, False, False]
    two[1].learn(Budget(1000, 700))
    assert at(123) == [True] * 3


def test_nobody_looks_out_of_the_reserve_until_what_was_told_is_a_day_old(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = datetime.now(UTC)

    def at(hours: float) -> bool:
        set_clock(two, monkeypatch, began + timedelta(hours=hours))
        return two[1].spend(1, reserve_percent=5)

    set_clock(two, monkeypatch, began)
    two[0].learn(Budget(1000, 940))
    assert [at(hours + 0.5) for hours in range(24)] == [False] + [True] * 10 + [False] * 13
    assert two[0].budget() == Budget(1000, 950)  # the last of them was 10.5 hours after the beginning
    assert (at(34.4), at(34.6)) == (False, True)


class Org:
    """The calls of a rolling day as a far side counts them, and two workers that share a connection to it."""

    def __init__(self, two: Two, monkeypatch: pytest.MonkeyPatch, used: Budget, percent: int) -> None:
        self._two, self._monkeypatch = two, monkeypatch
        self._now, self._most, self._percent = datetime.now(UTC), used.most, percent
        self._calls = [self._now] * used.used
        self._late: Budget | None = None
        self._pass(0)
        two[0].learn(used)

    def call(self, minutes: int, calls: int, *, late: bool) -> None:
        """Somebody wants to call so much later; a late answer is overtaken by that of a call in the same minute."""
        if minutes and self._late is not None:
            self._two[0].learn(self._late)
            self._late = None
        self._pass(minutes)
        if not self._two[calls % 2].spend(calls, reserve_percent=self._percent):
            return
        self._calls = [each for each in self._calls if each > self._now - timedelta(days=1)] + [self._now] * calls
        answer = Budget(self._most, len(self._calls))
        heard, self._late = (self._late, answer) if late else (answer, self._late)
        if heard is not None:
            self._two[1].learn(heard)

    def left(self) -> int:
        return self._most - len(self._calls)

    def _pass(self, minutes: int) -> None:
        self._now += timedelta(minutes=minutes)
        set_clock(self._two, self._monkeypatch, self._now)


WAITS = st.sampled_from([0, 0, 0, 1, 59, 61, 600, 1439, 1441])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    most=st.sampled_from([4, 7, 25, 100, 101, 2_400]),
    percent=st.integers(0, 95),
    before=st.floats(0, 1),
    calls=st.lists(st.tuples(WAITS, st.integers(1, 6), st.booleans()), max_size=60),
)
def test_the_reserve_is_never_touched_whatever_the_schedule(
    most: int,
    percent: int,
    before: float,
    calls: list[tuple[int, int, bool]],
    monkeypatch: pytest.MonkeyPatch,
    fresh: Callable[[], Two],
) -> None:
    org = Org(fresh(), monkeypatch, Budget(most, int(before * Budget(most, 0).free(percent))), percent)
    for minutes, number, late in calls:
        org.call(minutes, number, late=late)
        assert org.left() * 100 >= most * percent


def test_retries_are_taken_from_one_bucket_and_earned_by_answers(two: Two) -> None:
    assert two[0].may_retry(RETRIES - 5)
    assert (two[1].may_retry(6), two[1].may_retry(5)) == (False, True)
    for _ in range(20):
        two[0].succeeded()
    assert (two[1].may_retry(20), two[1].may_retry(1)) == (True, False)


def test_no_token_stands_in_clear_in_the_database(tmp_path: Path, database: Database) -> None:
    keys = open_ring(load_settings(home=tmp_path / "home"), database)
    DatabaseShared(database, keys, "crm").token(lambda: Token(Secret("plain-canary-token")))
    database.close()
    stored = b"".join(each.read_bytes() for each in tmp_path.glob("hub.db*"))
    assert b"connection_shared" in stored
    assert b"canary" not in stored
