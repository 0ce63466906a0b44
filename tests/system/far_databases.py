"""The far side of the tests in a database of each product, asked in one way: through SQLAlchemy, beside the hub."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from hub.logs import configure
from hub.runs import open_installation
from hub.settings import load_settings
from tests.hub.runs.far_side import FarSide
from tests.hub.runs.site import ME, Site

_PERSON = """
create table PERSON (ID varchar(8) primary key, X {real}, Y {real}, LIVES integer not null default 1, STAMP {moment},
  SCORE integer, BAND varchar(8), SCORED_AT {moment});
create table NOTE (PERSON_ID varchar(8) primary key, SCORE integer, BAND varchar(8));
create table WRITES (NO {counted}, ID varchar(8), SCORE integer);
"""
_JOURNAL = {
    "postgresql": """
create function note() returns trigger language plpgsql as
  $$ begin insert into WRITES(ID, SCORE) values (new.ID, new.SCORE); return new; end $$;
create trigger COUNT_WRITES after update of SCORE on PERSON for each row execute function note();
""",
    "mysql": """
create trigger COUNT_WRITES after update on PERSON for each row insert into WRITES(ID, SCORE)
  select new.ID, new.SCORE from dual where not (new.SCORE <=> old.SCORE);
""",
}
_TYPES = {
    "postgresql": {"real": "double precision", "moment": "timestamp", "counted": "serial primary key"},
    "mysql": {"real": "double", "moment": "datetime(6)", "counted": "integer auto_increment primary key"},
}


class Server(FarSide):
    """A far side on PostgreSQL or MariaDB, in the words that `FarSide` takes; names in capitals are quoted."""

    def __init__(self, url: sa.URL) -> None:
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        self.url = url

    def ask(self, path: Path, statement: str, *values: Any) -> list[Any]:
        if statement == "tables":
            kind = self._engine.dialect.name
            made = _PERSON.format(**_TYPES[kind]).split(";")
            for each in [*made, *([_JOURNAL[kind]] if kind == "postgresql" else [_JOURNAL[kind].rstrip("; \n")])]:
                if each.strip():
                    self.ask(path, each)
            return []
        quote = self._engine.dialect.identifier_preparer.quote_identifier
        text = re.sub(r"\b(?:[A-Z][A-Z_]+|[XY])\b", lambda found: quote(found[0]), statement).replace("?", "%s")
        given: Any = [tuple(each) for each in values[0]] if values and isinstance(values[0], list) else tuple(values)
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql(text, given or None)
            return [list(row) for row in found] if found.returns_rows else []

    def settings(self, port: int | None = None) -> dict[str, Any]:
        """What a connection of the hub is told to reach this database, through `port` where a proxy stands there."""
        return {
            "dialect": "postgresql" if self.url.get_backend_name() == "postgresql" else "mariadb",
            "host": self.url.host,
            "port": port or self.url.port,
            "database": self.url.database,
            "user": self.url.username,
            "tls": "off",
            "private": True,
            "late_seconds": 0,
        }

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def site_on(
    server: Server, home: Path, model_home: Path, records: int, *, port: int | None = None, **settings: Any
) -> Iterator[Site]:
    """An installation whose far side is that database; as `make_site` does for SQLite."""
    shutil.copytree(model_home, home)
    given = {"lease_seconds": 5, "poll_seconds": 0.5, "page_rows": 8, "log_level": "error", "slices": 8, **settings}
    configured = load_settings(home=home, **given)
    configure(configured, process="test")
    with open_installation(configured) as hub:
        site = Site(hub, home / "unused", server)
        site.ask("tables")
        site.fill(records)
        hub.connections.create("far", "sql", server.settings(port), {}, ME)
        site.publish()
        try:
            yield site
        finally:
            server.close()
