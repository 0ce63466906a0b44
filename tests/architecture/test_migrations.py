"""The models of all stores and the revisions describe one schema, on both databases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from hub.audit import Action, AuditLog, Event
from hub.database import Database
from hub.migrations import MigrationError, current, newest, upgrade
from hub.migrations.upgrade import stores


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without a table."""
    on_sqlite = request.param == "sqlite"
    made = Database(f"sqlite:///{tmp_path / 'hub.db'}" if on_sqlite else request.getfixturevalue("postgresql_url"))
    yield made
    made.close()


def test_models_and_revisions_agree(empty: Database) -> None:
    assert upgrade(empty) == current(empty)
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, stores()) == []


def test_the_names_of_the_revisions_tell_the_newest() -> None:
    folder = Path(newest.__code__.co_filename).parent
    assert newest() == ScriptDirectory(str(folder)).get_current_head()


def test_a_second_upgrade_changes_nothing(empty: Database) -> None:
    first = upgrade(empty)
    assert upgrade(empty) == first


def test_a_database_of_a_newer_hub_is_left_alone(empty: Database) -> None:
    upgrade(empty)
    with empty.engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = 'zz99'"))
    with pytest.raises(MigrationError, match="zz99, which a newer hub made"):
        upgrade(empty)


def test_a_migrated_trail_is_append_only_and_its_guard_is_put_back(empty: Database) -> None:
    upgrade(empty)
    with empty.engine.begin() as connection:
        on = " on audit_event" if empty.url.get_backend_name() == "postgresql" else ""
        connection.execute(text(f"drop trigger audit_event_no_delete{on}"))
    upgrade(empty)
    audit = AuditLog(empty)
    with empty.begin() as session:
        audit.record(session, Event("human:anna", Action.RUN_START, "run:1"))
    with pytest.raises(DBAPIError, match="append-only"), empty.begin() as session:
        session.execute(text("delete from audit_event"))


def test_processes_that_start_together_migrate_once(empty: Database) -> None:
    url = empty.url.render_as_string(hide_password=False)
    program = f"from hub.database import Database; from hub.migrations import upgrade; upgrade(Database({url!r}))"
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    assert current(empty) is not None
