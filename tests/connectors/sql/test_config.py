"""The settings: a typed list, clear refusals, and nothing imported before it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.sql.config import SqlConfig
from connectors.sql.connector import SqlConnector
from hub.sdk import Context, Secret, UnavailableError, UnexpectedError

SERVER = {"dialect": "postgresql", "host": "db.example", "database": "d", "user": "u"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dialect": "sqlite"}, "path: needed for sqlite"),
        ({"dialect": "sqlite", "path": "x", "host": "h"}, "host: has no meaning for sqlite"),
        ({"dialect": "mariadb", "host": "h", "user": "u"}, "database: needed for mariadb"),
        ({**SERVER, "path": "x"}, "path: has no meaning for postgresql"),
        ({**SERVER, "host": "h;options=-c x"}, "String should match pattern"),
        ({**SERVER, "host": "h", "url": "postgresql://x"}, "Extra inputs are not permitted"),
        ({**SERVER, "dialect": "oracle"}, "Input should be 'sqlite', 'postgresql' or 'mariadb'"),
        ({**SERVER, "read_only": True, "provision": True}, "read_only: contradicts provision"),
    ],
)
def test_a_wrong_setting_is_one_clear_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        SqlConfig(**settings)


def test_the_config_imports_no_driver() -> None:
    program = (
        "import sys, connectors.sql.config; "
        "print([n for n in ('sqlalchemy', 'psycopg', 'pymysql', 'adbc_driver_manager', 'pyarrow') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"[]\n"


def test_the_password_is_shown_nowhere() -> None:
    config = SqlConfig(**SERVER, password=Secret("very-s3cret-indeed"))
    assert "s3cret" not in f"{config!r} {config.model_dump_json()} {SqlConnector(config, Context())!r}"


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    connector = SqlConnector(SqlConfig(dialect="sqlite", path=str(path)), Context())
    with connector, pytest.raises(UnavailableError, match="path: there is no such file"):
        connector.check()
    assert not path.exists()


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a%20file?mode=memory.db"
    path.write_text("hello " * 1000)
    connector = SqlConnector(SqlConfig(dialect="sqlite", path=str(path)), Context())
    with connector, pytest.raises(UnexpectedError, match="no intact SQLite database"):
        connector.check()
