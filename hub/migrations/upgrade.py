"""Brings the hub's database to the newest revision, once, however many processes start together."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.resources import as_file, files
from pathlib import Path

from sqlalchemy import Connection, MetaData, column, inspect, select, table, text

import hub
from hub.audit.store import is_append_only, make_append_only
from hub.database import Base, Database

UPGRADE_LOCK = 0x6875_6202
"""The advisory lock under which PostgreSQL is migrated by one process at a time."""

VERSION = table("alembic_version", column("version_num"))
"""Where Alembic keeps the revision of a database."""


class MigrationError(Exception):
    """The database cannot be brought to this version of the hub."""


def stores() -> MetaData:
    """The tables of every room and of the rooms within; imports each `store` that there is, and no room without one."""
    folder = Path(hub.__path__[0])
    for store in sorted([*folder.glob("*/store.py"), *folder.glob("*/*/store.py")]):
        importlib.import_module(".".join(("hub", *store.relative_to(folder).with_suffix("").parts)))
    return Base.metadata


def upgrade(database: Database) -> str:
    """Applies every revision that is missing, in one transaction; the revision reached."""
    if current(database) != newest() or not _guarded(database):
        _apply(database)
    reached = current(database)
    assert reached is not None
    return reached


def _guarded(database: Database) -> bool:
    with database.read() as session:
        return is_append_only(session.connection())


def _apply(database: Database) -> None:
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


def current(database: Database) -> str | None:
    """The revision of the database, or None where there is no schema yet."""
    with database.read() as session:
        if not inspect(session.connection()).has_table(VERSION.name):
            return None
        return session.execute(select(VERSION.c.version_num)).scalar()


def newest() -> str:
    """The revision that this version of the hub works with: the last of the files, whose names begin with theirs.

    Alembic would tell it too, but takes longer to import than many a verb to do its work.
    """
    names = [each.name for each in pkgutil.iter_modules([str(Path(__file__).with_name("versions"))])]
    return max(names).partition("_")[0]


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
