"""The line to the number of one event loop: as sure as a look in a thread, and out of the way where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import event, text

from hub.access import Access, Actor, ActorKind, Caller, Scope, Shown
from hub.access.callers import bump
from hub.access.callers.line import Line
from hub.access.callers.store import epoch
from hub.audit import AuditLog
from hub.database import Database, DatabaseError
from hub.keys import open_ring
from hub.settings import load_settings

ANNA = Actor(ActorKind.HUMAN, "anna")


@pytest.fixture
def access(any_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Access:
    keys = open_ring(load_settings(home=tmp_path_factory.mktemp("home")), any_database)
    return Access(any_database, keys, AuditLog(any_database), environment="test")


def move(database: Database) -> None:
    with database.begin() as session:
        bump(session)


async def opened(database: Database) -> Line:
    line = Line(database, epoch())
    await line.read()
    return line


def test_it_tells_what_is_committed_when_it_is_asked(any_database: Database) -> None:
    async def ask() -> list[int | None]:
        line = await opened(any_database)
        told = []
        for _ in range(2):
            told.append(await line.read())
            await asyncio.to_thread(move, any_database)
        return [*told, await line.read()]

    assert asyncio.run(ask()) == [None, 1, 2]


def test_who_asks_while_an_answer_is_awaited_gets_one_that_was_asked_for_after_him(any_database: Database) -> None:
    async def ask() -> tuple[int | None, list[int | None]]:
        line = await opened(any_database)
        first = asyncio.ensure_future(line.read())
        await asyncio.sleep(0)
        move(any_database)  # before the loop can hear the answer
        rest = await asyncio.gather(*(line.read() for _ in range(20)))
        return await first, rest

    first, rest = asyncio.run(ask())
    assert first in (None, 1)
    assert rest == [1] * 20


def test_one_who_no_longer_waits_takes_no_answer_from_the_others(any_database: Database) -> None:
    move(any_database)

    async def ask() -> int | None:
        line = await opened(any_database)
        asked = [asyncio.ensure_future(line.read()) for _ in range(3)]
        await asyncio.sleep(0)
        asked[0].cancel()
        asked[1].cancel()
        return await asked[2]

    assert asyncio.run(ask()) == 1


def test_a_line_that_breaks_says_so_and_is_opened_again(
    any_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.access.callers.line.AWAY_SECONDS", 0.0)
    move(any_database)

    async def ask() -> int | None:
        line = await opened(any_database)
        connection = line._wire._connection  # type: ignore[union-attr]
        if any_database.sqlite:
            connection.close()
        else:
            with any_database.read() as other:
                other.execute(text("select pg_terminate_backend(:it, 5000)"), {"it": connection.info.backend_pid})
        with pytest.raises(DatabaseError, match="does not answer"):
            await line.read()
        return await line.read()

    assert asyncio.run(ask()) == 1


def test_another_loop_has_a_connection_of_its_own(any_database: Database) -> None:
    line = Line(any_database, epoch())
    for wanted in (None, 1):
        assert asyncio.run(line.read()) == wanted
        move(any_database)


def met(access: Access) -> tuple[str, Shown]:
    made, secret = access.create_token("crm", owner="anna", scopes=[Scope.READ], actor=ANNA)
    shown = Shown(secret.reveal())
    access.authenticate(shown.text)
    return made.id, shown


def test_who_was_met_is_known_without_a_transaction_until_the_right_ends(
    access: Access, any_database: Database
) -> None:
    made, shown = met(access)
    seen: list[object] = []

    def note(*given: object) -> None:
        seen.append(given[2])

    async def ask() -> list[Caller | None]:
        familiar = access.familiar()
        await familiar(shown)
        event.listen(any_database.engine, "before_cursor_execute", note)
        told = [await familiar(shown), await familiar(Shown("hub_test_nobody"))]
        event.remove(any_database.engine, "before_cursor_execute", note)
        await asyncio.to_thread(access.revoke_token, made, actor=ANNA)
        return [*told, await familiar(shown)]

    known, stranger, ended = asyncio.run(ask())
    assert known is not None
    assert known.credential == f"token:{made}"
    assert seen == []
    assert (stranger, ended) == (None, None)


def test_without_an_answer_nobody_is_known(access: Access, any_database: Database) -> None:
    _, shown = met(access)

    async def ask(familiar: Callable[[Shown], Awaitable[Caller | None]]) -> Caller | None:
        return await familiar(shown)

    with any_database.begin() as session:
        session.execute(text("drop table access_epoch"))
    assert asyncio.run(ask(access.familiar())) is None
