"""Settings of a connection to a SQL database, and what this connector is, without importing any driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from hub.sdk import Config, Limits, Right, Secret, Spec, setting

_PORTS: Mapping[str, int] = {"postgresql": 5432, "mariadb": 3306}


class SqlConfig(Config):
    """Which database, as whom, and what may be done there. There is no URL and no driver option to pass through."""

    dialect: Literal["sqlite", "postgresql", "mariadb"] = setting(title="Kind of database")
    path: str | None = setting(None, title="File of a SQLite database", max_length=4096)
    host: str | None = setting(None, title="Host", max_length=255, pattern=r"^[A-Za-z0-9_.:\-]+$")
    port: int | None = setting(None, title="Port", ge=1, le=65535)
    database: str | None = setting(None, title="Database", max_length=128)
    user: str | None = setting(None, title="User", max_length=128)
    password: Secret | None = setting(None, title="Password")
    tls: Literal["verify", "off"] = setting("verify", title="TLS: verify the server's name and certificate, or off")
    private: bool = setting(
        False, title="The host may stand in a private network, as a database in the house does", reaches_private=True
    )
    tls_ca: str | None = setting(None, title="File of the certificate authority (default: the system's)")
    schemas: tuple[str, ...] = setting((), title="Schemas to show; the first one's tables go by their bare names")
    keys: Mapping[str, tuple[str, ...]] = setting({}, title="Key of each table or view that declares none")
    changed_by: Mapping[str, tuple[str, ...]] = setting({}, title="Columns per table that move with every change")
    side_tables: Mapping[str, str] = setting({}, title="Own table for the scores of a table that must not be altered")
    provision: bool = setting(False, title="May create score columns and side tables")
    read_only: bool = setting(False, title="Never write, whatever the rights")
    connect_seconds: int = setting(10, title="Seconds to wait for a connection", ge=1, le=300)
    statement_seconds: int = setting(120, title="Seconds one statement may take", ge=1, le=86_400)
    lock_seconds: int = setting(10, title="Seconds to wait for a lock", ge=1, le=3600)

    late_seconds: int = setting(60, title="Seconds a transaction may be in flight after its stamp", ge=0, le=86_400)

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002
        """Says which setting is missing or out of place for this kind of database."""
        wanted: tuple[str, ...] = ("host", "database", "user")
        useless: tuple[str, ...] = ("path",)
        if self.dialect == "sqlite":
            wanted = ("path",)
            useless = ("host", "port", "database", "user", "password", "private", "tls_ca", "schemas")
        for name in wanted:
            if not getattr(self, name):
                raise ValueError(f"{name}: needed for {self.dialect}")
        for name in useless:
            if getattr(self, name):
                raise ValueError(f"{name}: has no meaning for {self.dialect}; leave it out")
        if self.read_only and (self.provision or self.side_tables):
            raise ValueError("read_only: contradicts provision and side_tables; set one of them")

    @property
    def effective_port(self) -> int:
        """The port given, else the product's own."""
        return self.port or _PORTS[self.dialect]


SPEC = Spec(
    name="sql",
    title="SQL database (SQLite, PostgreSQL, MariaDB)",
    kind="database",
    config=SqlConfig,
    factory="connectors.sql.connector:SqlConnector",
    roles=frozenset({"source", "destination", "provisioner"}),
    rights=(
        Right("SELECT", "reads the columns a mapping uses"),
        Right("UPDATE", "writes the score columns", mandatory=False),
        Right("INSERT", "makes new records, or rows of a side table", mandatory=False),
        Right("CREATE", "makes score columns or a side table, where the connection may", mandatory=False),
    ),
    limits=Limits(page_rows=50_000, write_rows=10_000, lookup_keys=10_000),
)
