"""What every test may use: databases of its own, real services where they run, and no network beyond this machine."""

from __future__ import annotations

import ipaddress
import os
import socket
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from sqlalchemy import URL, create_engine, make_url, text

from hub.database import Database
from hub.migrations.upgrade import stores

stores()  # `create_all` makes the tables of the stores that are imported, and rooms import theirs late

pytest_plugins = ["hub.sdk.testing.plugin"]

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

POSTGRESQL = make_url(os.environ.get("HUB_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"))
MARIADB = make_url(os.environ.get("HUB_TEST_MARIADB", "mysql+pymysql://root@127.0.0.1:3306/"))
REDIS = os.environ.get("HUB_TEST_REDIS", "redis://127.0.0.1:6379/5")
RABBITMQ = os.environ.get("HUB_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672//")
PLACES = {
    "postgresql": (POSTGRESQL.host, POSTGRESQL.port or 5432),
    "mariadb": (MARIADB.host, MARIADB.port or 3306),
    "redis": ("127.0.0.1", 6379),
    "rabbitmq": ("127.0.0.1", 5672),
}

hypothesis_settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=60, database=None)
hypothesis_settings.register_profile("ci", deadline=None, max_examples=300, print_blob=True)
hypothesis_settings.load_profile(os.environ.get("HUB_TEST_PROFILE", "fixed"))


@cache
def answers(service: str) -> bool:
    """Whether a server listens where the service is expected."""
    try:
        socket.create_connection(PLACES[service], timeout=1).close()
    except OSError:
        return False
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what this machine cannot run, with the reason, unless the machine is required to run it."""
    required = os.environ.get("HUB_TEST_REQUIRE_SERVICES") == "1"
    for item in items:
        for mark in item.iter_markers("service"):
            for name in mark.args:
                if name not in PLACES:
                    raise pytest.UsageError(f"{item.nodeid}: {name} is no service; there is {', '.join(PLACES)}")
                if not required and not answers(name):
                    item.add_marker(pytest.mark.skip(reason=f"{name} does not answer at {PLACES[name]}"))
        if item.get_closest_marker("shared_data") and not (SHARED / "data").is_dir():
            item.add_marker(pytest.mark.skip(reason="the real data sets do not stand beside the checkout"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where services are required, an absent one fails the test that asks for it."""
    for mark in item.iter_markers("service"):
        for name in mark.args:
            if not answers(name):
                pytest.fail(f"{name} does not answer at {PLACES[name]}, and HUB_TEST_REQUIRE_SERVICES=1", pytrace=False)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network beyond this machine fails, whoever in it does."""
    connect = socket.socket.connect
    connect_ex = socket.socket.connect_ex

    def check(address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else None
        if host is None or host in {"localhost", ""}:
            return
        try:
            inside = ipaddress.ip_address(host).is_loopback
        except ValueError:
            inside = False
        if not inside:
            pytest.fail(f"the test tried to reach {host}; tests stay on this machine")

    def guarded(self: socket.socket, address: Any) -> None:
        check(address)
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        check(address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)


@pytest.fixture(autouse=True)
def _no_ambient_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests do not reach them."""
    for name in list(os.environ):
        if name.startswith("HUB_") and not name.startswith("HUB_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets; mark the test `shared_data` as well."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data sets do not stand beside the checkout")
    return SHARED / "data"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A hub database on SQLite, with the tables of every store."""
    made = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    made.create_all()
    yield made
    made.close()


@pytest.fixture
def postgresql_url() -> Iterator[URL]:
    """A PostgreSQL database of the test's own, dropped afterwards."""
    yield from _own_database(POSTGRESQL, 'drop database "{}" with (force)')


@pytest.fixture
def mariadb_url() -> Iterator[URL]:
    """A MariaDB database of the test's own, dropped afterwards."""
    yield from _own_database(MARIADB, "drop database {}")


@pytest.fixture(scope="session")
def _hub_on_postgresql() -> Iterator[URL]:
    """One PostgreSQL database of this session: making one costs a third of a second, emptying it a hundredth."""
    yield from _own_database(POSTGRESQL, 'drop database "{}" with (force)')


@pytest.fixture
def postgresql_database(_hub_on_postgresql: URL) -> Iterator[Database]:
    """A hub database on PostgreSQL, with the tables of every store and nothing in them."""
    made = Database(_hub_on_postgresql)
    with made.engine.begin() as connection:
        others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
        connection.execute(text(f"{others} and pid <> pg_backend_pid()"))
        connection.execute(text("drop schema public cascade"))
        connection.execute(text("create schema public"))
    made.create_all()
    yield made
    made.close()


@pytest.fixture
def mariadb_database(mariadb_url: URL) -> URL:
    """A far system on MariaDB; the hub does not keep its own state there."""
    return mariadb_url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def any_database(request: pytest.FixtureRequest) -> Database:
    """The test on each database the hub can keep its state in."""
    found: Database = request.getfixturevalue("database" if request.param == "sqlite" else "postgresql_database")
    return found


@pytest.fixture
def redis_prefix() -> str:
    """A prefix for all keys of the test in the shared Redis."""
    return f"hubtest:{uuid.uuid4().hex[:12]}:"


@pytest.fixture
def redis_url() -> str:
    """The Redis database for tests; keys are told apart by `redis_prefix`."""
    return REDIS


@pytest.fixture
def rabbitmq_url() -> str:
    """The RabbitMQ for tests; queues are told apart by their names."""
    return RABBITMQ


def _own_database(server: URL, drop: str) -> Iterator[URL]:
    name = f"hubtest_{uuid.uuid4().hex[:12]}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    try:
        yield server.set(database=name)
    finally:
        with engine.connect() as connection:
            connection.execute(text(drop.format(name)))
        engine.dispose()
