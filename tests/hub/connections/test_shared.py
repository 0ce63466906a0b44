"""What the workers of one connection share, in one process and across several."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.connections.shared import DatabaseShared
from hub.database import Database
from hub.keys import open_ring
from hub.sdk import Secret, Token, UnavailableError
from hub.sdk.shared import RETRIES, Budget, LocalShared, Shared
from hub.settings import load_settings

Two = tuple[Shared, Shared]
LATER = datetime.now(UTC) + timedelta(days=300)


@pytest.fixture(params=["local", "sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Two:
    """The same connection as two workers see it."""
    if request.param == "local":
        one = LocalShared()
        return one, one
    name = "database" if request.param == "sqlite" else "postgresql_database"
    database: Database = request.getfixturevalue(name)
    keys = open_ring(load_settings(home=tmp_path / "home"), database)
    return DatabaseShared(database, keys, "crm"), DatabaseShared(database, keys, "crm")


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
    taken = [two[at % 2].spend(10, reserve=50) for at in range(8)]
    assert taken == [True] * 5 + [False] * 3
    assert two[1].budget() == Budget(1000, 950)


def test_an_answer_that_was_overtaken_does_not_give_calls_back(two: Two) -> None:
    two[0].learn(Budget(1000, 600))
    two[1].learn(Budget(1000, 598))
    assert two[0].budget() == Budget(1000, 600)
    two[1].learn(Budget(1000, 3))  # a new day
    assert two[0].budget() == Budget(1000, 3)


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
