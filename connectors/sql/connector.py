"""The contract over one database connection."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Self

from connectors.sql.client import Client
from connectors.sql.config import SPEC, SqlConfig
from connectors.sql.provisioning import SqlProvisioner
from connectors.sql.reading import SqlSource
from connectors.sql.rights import check, plan, verify
from connectors.sql.tables import Relation, relations, visible
from connectors.sql.writing import SqlDestination
from hub.sdk import CheckReport, Context, Entity, Grant, RightsReport, Spec


class SqlConnector:
    """One configured connection; opens nothing before the first verb."""

    spec: ClassVar[Spec] = SPEC

    def __init__(self, config: SqlConfig, context: Context) -> None:
        self._config = config
        self._client = _client(config, context)
        self._known: dict[str, Relation] | None = None

    def check(self, names: Collection[str] | None = None) -> CheckReport:  # noqa: ARG002  (all costs what some do)
        """Logs in and tells which rights are held, by table."""
        return check(self._client, self._relations(fresh=True))

    def entities(self, names: Collection[str] | None = None) -> Sequence[Entity]:
        """The tables and views of the schemas shown, described anew with every call."""
        found = self._relations(fresh=True)
        return [each.entity for name, each in found.items() if names is None or name in names]

    def plan(self, grant: Grant, *, login: str | None = None) -> str:
        """GRANT statements, column by column."""
        return plan(self._client, self._relations(), self._config, grant, login)

    def verify(self, grant: Grant) -> RightsReport:
        """What the login holds in the whole database, held against the grant."""
        tables, schema = self._client.tables(), self._client.default_schema
        found = relations(tables, visible(tables, self._config, schema), schema)
        return verify(self._client, found, grant)

    def source(self) -> SqlSource:
        return SqlSource(self._client, self._relations, self.spec.limits)

    def destination(self) -> SqlDestination | None:
        if self._config.read_only:
            return None
        return SqlDestination(self._client, self._relations, self.spec.limits)

    def live(self) -> None:
        return None

    def provisioner(self) -> SqlProvisioner | None:
        return SqlProvisioner(self._client, self._relations, self._config) if self._config.provision else None

    def close(self) -> None:
        """Gives the socket back."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _relations(self, *, fresh: bool = False) -> Mapping[str, Relation]:
        if self._known is None or fresh:
            self._known = relations(self._client.tables(), self._config, self._client.default_schema)
        return self._known


def _client(config: SqlConfig, context: Context) -> Client:
    if config.dialect == "sqlite":
        from connectors.sql.sqlite import SqliteClient

        return SqliteClient(config, context)
    if config.dialect == "postgresql":
        from connectors.sql.postgresql import PostgresClient

        return PostgresClient(config, context)
    from connectors.sql.mariadb import MariaClient

    return MariaClient(config, context)
