"""Writes the next revision from what the stores say and the last revision lacks: `python -m hub.migrations.revise`."""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from hub.database import Database
from hub.migrations.upgrade import stores, upgrade


def revise(message: str) -> Path:
    """The file of the new revision, to be read and corrected by a person: moved values are not seen."""
    with tempfile.TemporaryDirectory() as folder, as_file(files("hub.migrations")) as scripts:
        database = Database(f"sqlite:///{folder}/empty.db")
        config = Config()
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        known = list(ScriptDirectory.from_config(config).walk_revisions())
        if known:
            upgrade(database)
        with database.engine.begin() as connection:
            config.attributes.update(connection=connection, stores=stores())
            made = command.revision(config, message, autogenerate=True, rev_id=f"{len(known) + 1:04}")
        database.close()
        assert made is not None
        assert not isinstance(made, list)
        return Path(made.path)


if __name__ == "__main__":
    sys.stdout.write(f"{revise(' '.join(sys.argv[1:]) or 'Change the tables')}\n")
