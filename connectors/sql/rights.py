"""What the login may do, and what to grant it, in the database's own statements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from connectors.sql.client import Client
from connectors.sql.config import SqlConfig
from connectors.sql.tables import Relation
from hub.sdk import CheckReport, Grant, Mode, RightStatus, UnexpectedError


def check(client: Client, relations: Mapping[str, Relation]) -> CheckReport:
    """The identity, and per table whether we may SELECT, UPDATE and INSERT."""
    statuses = []
    for name, relation in relations.items():
        statuses.append(RightStatus("SELECT", granted=True, subject=name))
        statuses += [RightStatus("SELECT", granted=False, subject=f"{name}.{each}") for each in relation.table.hidden]
        if not relation.table.view:
            columns = relation.target.columns
            statuses.append(RightStatus("UPDATE", any(each.field.writable for each in columns), name))
            statuses.append(RightStatus("INSERT", any(each.insertable for each in columns), name))
    return replace(client.identity(), rights=tuple(statuses))


def plan(client: Client, relations: Mapping[str, Relation], config: SqlConfig, grant: Grant) -> str:
    """One GRANT per table and right, with exactly the columns that a mapping touches."""
    if config.dialect == "sqlite":
        verb = "write" if grant.writes else "read"
        named = ", ".join(sorted({*grant.reads, *grant.writes}))
        return (
            f"SQLite has no rights of its own: let the hub's system account {verb} the file, for {named or 'nothing'}."
        )
    lines = []
    for name in sorted({*grant.reads, *grant.writes}):
        relation = relations.get(name)
        if relation is None:
            raise UnexpectedError(f"there is no table or view {name!r} that this login may see")
        lines += _statements(client, config, relation, grant)
    return "\n".join(lines)


def _statements(client: Client, config: SqlConfig, relation: Relation, grant: Grant) -> list[str]:
    name, key, stamp = relation.entity.name, relation.entity.key, relation.stamp
    writes, modes = grant.writes.get(name, frozenset()), grant.modes.get(name, frozenset())
    table, target = relation.table, relation.target
    reads = {*grant.reads.get(name, ()), *key, *writes, *((stamp,) if stamp else ())}
    sided = relation.side is not None
    lines = [_grant(client, config, "SELECT", table.schema, table.name, reads - (writes if sided else set()))]
    if sided:
        lines.append(_grant(client, config, "SELECT", target.schema, target.name, {*key, *writes}))
    if writes:
        lines.append(_grant(client, config, "UPDATE", target.schema, target.name, writes))
    if writes and (sided or modes & {Mode.UPSERT, Mode.CREATE}):
        lines.append(_grant(client, config, "INSERT", target.schema, target.name, {*key, *writes}))
    return lines


def _grant(
    client: Client, config: SqlConfig, right: str, schema: str | None, table: str, columns: Iterable[str]
) -> str:
    listed = ", ".join(client.quoted(each) for each in sorted(columns))
    user = client.quoted(str(config.user))
    if config.dialect == "mariadb":
        user = f"{user}@'%'"
    return f"GRANT {right} ({listed}) ON {client.grant_name(schema, table)} TO {user};"
