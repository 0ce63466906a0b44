"""What the login may do, what to grant it in the database's own statements, and what it holds beyond that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from connectors.sql.client import Client
from connectors.sql.config import SqlConfig
from connectors.sql.held import Need, excess, missing
from connectors.sql.tables import Relation
from hub.sdk import CheckReport, Grant, Mode, RightsReport, RightStatus, UnexpectedError

LAWLESS = "SQLite has no rights of its own: whoever can write the file can do everything in it"


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


def plan(
    client: Client, relations: Mapping[str, Relation], config: SqlConfig, grant: Grant, login: str | None = None
) -> str:
    """One GRANT per table and right, with exactly the columns that a mapping touches."""
    names = sorted({*grant.reads, *grant.writes})
    if config.dialect == "sqlite":
        verb = "write" if grant.writes else "read"
        return f"SQLite has no rights of its own: let the hub's system account {verb} the file, for {_all(names)}."
    for name in names:
        if name not in relations:
            raise UnexpectedError(f"there is no table or view {name!r} that this login may see")
    needs = [each for name in names for each in _needs(client, name, relations, grant)]
    to = client.account(login)
    lines = client.entrance({each.schema for each in needs}, to) if needs else []
    lines += [_statement(client, each, to) for each in needs]
    return "\n".join([*lines, *(f"GRANT {each} TO {to};" for each in client.counters(_inserted(needs)))])


def verify(client: Client, relations: Mapping[str, Relation], grant: Grant) -> RightsReport:
    """What the login holds, in every schema of the database, held against what the grant needs."""
    identity, found = client.identity().identity, client.held()
    if found is None:
        return RightsReport(identity, untold=(LAWLESS,))
    held, wide, untold = found
    needs = [each for name in sorted({*grant.reads, *grant.writes}) for each in _needs(client, name, relations, grant)]
    known = {
        (table.schema, table.name): [each.name for each in table.columns]
        for relation in relations.values()
        for table in (relation.table, relation.target)
    }
    return RightsReport(identity, tuple(missing(needs, held)), (*wide, *excess(needs, held, known)), untold)


def _needs(client: Client, name: str, relations: Mapping[str, Relation], grant: Grant) -> list[Need]:
    """The rights on one entity; without a relation, of a table that this login may not see at all, those by name."""
    writes, modes = grant.writes.get(name, frozenset()), grant.modes.get(name, frozenset())
    relation = relations.get(name)
    if relation is None:
        schema, _, table = name.rpartition(".")
        place = (schema or client.default_schema, table)
        read = [Need("SELECT", *place, grant.reads.get(name, frozenset()) | writes)]
        return [*read, *([Need("UPDATE", *place, writes)] if writes else [])]
    key, stamp = relation.entity.key, relation.stamp
    here, there = (relation.table.schema, relation.table.name), (relation.target.schema, relation.target.name)
    reads = {*grant.reads.get(name, ()), *key, *writes, *((stamp,) if stamp else ())}
    sided = relation.side is not None
    needs = [Need("SELECT", *here, frozenset(reads - (writes if sided else set())))]
    if sided:
        needs.append(Need("SELECT", *there, frozenset({*key, *writes})))
    if writes:
        needs.append(Need("UPDATE", *there, writes))
    if writes and (sided or modes & {Mode.UPSERT, Mode.CREATE}):
        needs.append(Need("INSERT", *there, frozenset({*key, *writes})))
    return needs


def _inserted(needs: Iterable[Need]) -> list[Need]:
    return [each for each in needs if each.right == "INSERT"]


def _statement(client: Client, need: Need, to: str) -> str:
    listed = ", ".join(client.printed(each) for each in sorted(need.columns))
    place = ".".join(client.printed(each) for each in (need.schema, need.table) if each is not None)
    return f"GRANT {need.right} ({listed}) ON {place} TO {to};"


def _all(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
