"""The whole conformance suite on SQLite, PostgreSQL and MariaDB."""

import pytest

from hub.sdk.testing.suite import ConformanceSuite
from tests.connectors.sql.far_sides import MariaHarness, PostgresHarness, SqliteHarness


class TestSqlite(ConformanceSuite):
    harness_class = SqliteHarness


@pytest.mark.service("postgresql")
class TestPostgresql(ConformanceSuite):
    harness_class = PostgresHarness


@pytest.mark.service("mariadb")
class TestMariadb(ConformanceSuite):
    harness_class = MariaHarness
