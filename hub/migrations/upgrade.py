"""Brings the hub's database to the newest revision, once, however many processes start together."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.resources import as_file, files

from sqlalchemy import Connection, MetaData, text

import hub
from hub.audit.store import make_append_only
from hub.database import Base, Database

UPGRADE_LOCK = 0x6875_6202
"""The advisory lock under which PostgreSQL is migrated by one process at a time."""


class MigrationError(Exception):
    """The database cannot be brought to this version of the hub."""


def stores() -> MetaData:
    """The tables of every room; imports each `hub.<room>.store` that there is, and no room without one."""
    for room in pkgutil.iter_modules(hub.__path__):
        if room.ispkg and (files("hub") / room.name / "store.py").is_file():
            importlib.import_module(f"hub.{room.name}.store")
    return Base.metadata


def upgrade(database: Database) -> str:
    """Applies every revision that is missing, in one transaction; the revision reached."""
    from alembic import command
    from alembic.config import Config

    with as_file(files(__package__)) as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        with database.engine.begin() as connection:
            _hold_others_back(connection)
            _refuse_newer(config, connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            make_append_only(connection)
    reached = current(database)
    assert reached is not None
    return reached


def current(database: Database) -> str | None:
    """The revision of the database, or None where there is no schema yet."""
    from alembic.runtime.migration import MigrationContext

    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The revision that this version of the hub works with."""
    from alembic.script import ScriptDirectory

    with as_file(files(__package__)) as folder:
        head = ScriptDirectory(folder).get_current_head()
    assert head is not None
    return head


def _hold_others_back(connection: Connection) -> None:
    """SQLite holds the write lock from the start of the transaction; PostgreSQL is asked for a lock of this name."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})


def _refuse_newer(config: object, connection: Connection) -> None:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    assert isinstance(config, Config)
    known = {each.revision for each in ScriptDirectory.from_config(config).walk_revisions()}
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in known:
        raise MigrationError(f"the database is at revision {found}, which a newer hub made; install that version")
