"""What a transaction has to say last: with its COMMIT or not at all, and known to fail where it does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection as EngineConnection
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from hub.database import CommitUnknownError, Database, lacks_space
from hub.postgresql.binary import BYTEA, INT8, TEXT, TIMESTAMPTZ, array, int8, timestamptz
from hub.postgresql.connection import Connection

pytestmark = pytest.mark.service("postgresql")

ADD = b"insert into said (number, told) values ($1, $2)"


@pytest.fixture
def said(postgresql_database: Database) -> Database:
    with postgresql_database.begin() as session:
        session.execute(text("create table said (number bigint primary key, told bytea)"))
    return postgresql_database


def driver(connection: EngineConnection) -> Connection:
    found = connection.connection.driver_connection
    assert isinstance(found, Connection)
    return found


def numbers(database: Database) -> list[int]:
    with database.read() as session:
        return list(session.execute(text("select number from said order by number")).scalars())


def test_it_comes_with_what_was_said_before_and_alone(said: Database) -> None:
    with said.engine.begin() as connection:
        connection.execute(text("insert into said (number) values (1)"))
        driver(connection).say_last(ADD, [int8(2), None])
        assert numbers(said) == []
    with said.engine.begin() as connection:
        driver(connection).say_last(ADD, [int8(3), b"alone"])
        driver(connection).say_last(ADD, [int8(4), b"together"])
    assert numbers(said) == [1, 2, 3, 4]


@pytest.mark.parametrize("alone", [True, False])
def test_where_it_fails_nothing_stays_and_the_connection_goes_on(said: Database, *, alone: bool) -> None:
    with said.engine.begin() as connection:
        driver(connection).say_last(ADD, [int8(1), None])
    with said.engine.connect() as connection:
        used = driver(connection)
        if not alone:
            connection.execute(text("insert into said (number) values (2)"))
        else:
            connection.begin()
        used.say_last(ADD, [int8(3), None])
        used.say_last(ADD, [int8(1), None])
        with pytest.raises(IntegrityError) as told:
            connection.commit()
        assert getattr(told.value.orig, "sqlstate", None) == "23505"
        assert not told.value.connection_invalidated
        assert not lacks_space(told.value)
        connection.rollback()
        assert connection.execute(text("select count(*) from said")).scalar_one() == 1
    assert numbers(said) == [1]


def test_a_statement_that_the_server_does_not_understand_fails_the_transaction(said: Database) -> None:
    with said.engine.connect() as connection:
        connection.execute(text("insert into said (number) values (1)"))
        driver(connection).say_last(b"insert into no_such_table values ($1)", [None])
        with pytest.raises(DBAPIError, match="no_such_table"):
            connection.commit()
    assert numbers(said) == []  # by the same connection, out of the pool


def test_a_rollback_forgets_it(said: Database) -> None:
    with said.engine.connect() as connection:
        connection.begin()
        driver(connection).say_last(ADD, [int8(1), None])
        connection.rollback()
        connection.execute(text("insert into said (number) values (2)"))
        connection.commit()
    assert numbers(said) == [2]


def test_more_than_a_socket_holds_passes(said: Database) -> None:
    large = bytes(range(256)) * 20_000
    with said.engine.begin() as connection:
        for each in range(4):
            driver(connection).say_last(ADD, [int8(each), large])
    with said.read() as session:
        assert session.execute(text("select count(*) from said where told = :it"), {"it": large}).scalar_one() == 4


def test_a_server_that_goes_away_leaves_the_commit_in_doubt(said: Database) -> None:
    with said.engine.begin() as connection:
        driver(connection).say_last(ADD, [int8(0), None])

    def work(session: object) -> None:
        own: EngineConnection = session.connection()  # type: ignore[attr-defined]
        used = driver(own)
        used.say_last(ADD, [int8(1), None])
        with said.read() as other:
            other.execute(text("select pg_terminate_backend(:it, 5000)"), {"it": used.info.backend_pid})

    with pytest.raises(CommitUnknownError):
        said.retrying(work, attempts=2)
    assert numbers(said) == [0]


def test_an_interrupted_commit_closes_the_connection(said: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    class StopError(BaseException):
        pass

    def stop(_connection: Connection) -> None:
        raise StopError

    with said.engine.connect() as connection:
        used = driver(connection)
        connection.begin()
        used.say_last(ADD, [int8(1), None])
        monkeypatch.setattr(Connection, "_answer", stop)
        with pytest.raises(StopError):
            connection.commit()
        assert used.closed


def test_values_have_the_servers_own_binary_form(said: Database) -> None:
    moment = datetime(1999, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    later = moment + timedelta(days=20_000, microseconds=1)
    with said.engine.connect() as connection:
        pg = driver(connection).pgconn
        given = [
            array(INT8, [int8(-1), int8(2**62)]),
            array(BYTEA, [b"", b"\0\xff", None]),
            array(TEXT, ["Zoë".encode(), None]),
            array(TIMESTAMPTZ, [timestamptz(moment), timestamptz(later)]),
        ]
        shown = b"$1::int8[]::text, $2::bytea[]::text, $3::text[]::text"
        wanted = b"select " + shown + b", $4::timestamptz[] = array[$5::timestamptz, $6]"
        told = [*given, moment.isoformat().encode(), later.isoformat().encode()]
        result = pg.exec_params(wanted, told, None, [1, 1, 1, 1, 0, 0])
        assert result.error_message == b""
        assert [(result.get_value(0, each) or b"").decode() for each in range(4)] == [
            "{-1,4611686018427387904}",
            '{"\\\\x","\\\\x00ff",NULL}',
            "{Zoë,NULL}",
            "t",
        ]
