"""One number, asked of the hub's database on an event loop: no thread has to be woken, and whoever asks while an answer
is awaited shares the next question.

Policy: the loop itself waits for no lock, file or server. Who is told DatabaseError asks in a thread.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, Protocol

from sqlalchemy import Select
from sqlalchemy.exc import SQLAlchemyError

from hub.database import Database, DatabaseError

AWAY_SECONDS = 1.0
"""How long no line is opened after one could not be, or broke."""


class _Wire(Protocol):
    async def read(self) -> int | None: ...

    def close(self) -> None: ...


class Line:
    """A connection of one event loop, opened when it is first asked and again after it broke. Not for threads."""

    def __init__(self, database: Database, statement: Select[tuple[int]]) -> None:
        self._database = database
        self._statement = str(statement.compile(database.engine))
        self._failures: type[Exception] = database.engine.dialect.loaded_dbapi.Error
        self._wire: _Wire | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shut_until = 0.0
        database.close_with_it(self)

    async def read(self) -> int | None:
        """The number as it is committed after this was called; None where there is no row.

        DatabaseError where there is no answer, or no line yet: the reason is for whoever asks in a thread to find.
        """
        loop = asyncio.get_running_loop()
        if self._wire is None or self._loop is not loop:
            self._wire = await self._opened(loop)
        wire = self._wire
        try:
            return await wire.read()
        except self._failures as error:
            if self._wire is wire:
                self.close()
            raise DatabaseError("the hub's database does not answer") from error

    def close(self) -> None:
        """Gives the connection back; harmless when repeated."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def _opened(self, loop: asyncio.AbstractEventLoop) -> _Wire:
        if self._loop is not loop:
            self.close()
            self._loop, self._shut_until = loop, 0.0
        if time.monotonic() < self._shut_until:
            raise DatabaseError("the line to the hub's database is not open")
        self._shut_until = math.inf
        try:
            connection = await asyncio.to_thread(self._connection)
        except (self._failures, SQLAlchemyError) as error:
            raise DatabaseError("the hub's database does not answer") from error
        finally:
            self._shut_until = time.monotonic() + AWAY_SECONDS
        if self._database.sqlite:
            return _File(connection, self._statement)
        return _Server(connection, loop, self._failures)

    def _connection(self) -> Any:
        made = self._database.engine.raw_connection()
        connection = made.driver_connection
        made.detach()
        assert connection is not None
        if self._database.sqlite:
            # A reader waits for nobody but one who repairs the file or takes it away, and the loop waits for neither.
            connection.execute("PRAGMA busy_timeout = 0")
        else:
            connection.pgconn.prepare(_Server.NAME, self._statement.encode())
        return connection


class _File:
    """SQLite answers from this process's own memory."""

    def __init__(self, connection: Any, statement: str) -> None:
        self._connection = connection
        self._statement = statement

    async def read(self) -> int | None:
        rows = self._connection.execute(self._statement).fetchall()
        return int(rows[0][0]) if rows else None

    def close(self) -> None:
        self._connection.close()


class _Server:
    """PostgreSQL, in the words of libpq: a tenth of what the driver's own connection for event loops takes."""

    NAME = b"hub_line"

    def __init__(self, connection: Any, loop: asyncio.AbstractEventLoop, failures: type[Exception]) -> None:
        self._connection = connection
        self._pg = connection.pgconn
        self._socket = self._pg.socket
        self._loop = loop
        self._failures: type[Exception] = failures
        self._asked: list[asyncio.Future[int | None]] = []
        self._waiting: list[asyncio.Future[int | None]] = []
        loop.add_reader(self._socket, self._came)

    async def read(self) -> int | None:
        answer: asyncio.Future[int | None] = self._loop.create_future()
        self._waiting.append(answer)
        if not self._asked:
            self._ask()
        return await answer

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
        self._fail(DatabaseError("the line to the hub's database was closed"))
        self._connection.close()

    def _ask(self) -> None:
        # An answer that was on its way before somebody asked may be older than what he has just been told elsewhere.
        self._asked, self._waiting = self._waiting, []
        try:
            self._pg.send_query_prepared(self.NAME, None, result_format=1)
            self._pg.flush()
        except self._failures as error:
            self._fail(error)

    def _came(self) -> None:
        try:
            self._pg.consume_input()
            if self._pg.is_busy():
                return
            number = self._answer()
        except self._failures as error:
            # Else a socket that the server has closed calls for ever.
            self._loop.remove_reader(self._socket)
            self._fail(error)
            return
        answered, self._asked = self._asked, []
        for each in answered:
            if not each.done():
                each.set_result(number)
        if self._waiting:
            self._ask()

    def _answer(self) -> int | None:
        number: int | None = None
        while (result := self._pg.get_result()) is not None:
            if result.error_message:
                raise self._failures(result.error_message.decode("utf-8", "replace"))
            if result.ntuples:
                number = int.from_bytes(result.get_value(0, 0), "big", signed=True)
        return number

    def _fail(self, error: Exception) -> None:
        failed, self._asked, self._waiting = self._asked + self._waiting, [], []
        for each in failed:
            if not each.done():
                each.set_exception(error)
