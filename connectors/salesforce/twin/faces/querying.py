"""SOQL by REST: one page at a time, the rest behind a locator that expires; deleted records by queryAll."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Select, delete, func, insert, literal, select, update

from connectors.salesforce.twin.faces.call import Answer, Call, Route, route
from connectors.salesforce.twin.org.problems import RefusedError
from connectors.salesforce.twin.org.tables import cursor_rows, cursors
from connectors.salesforce.twin.soql.compile import Compiled, Compiler
from connectors.salesforce.twin.soql.nested import nest
from connectors.salesforce.twin.soql.parser import parse
from connectors.salesforce.twin.soql.shape import as_record
from connectors.salesforce.twin.soql.tree import Query

LARGEST, SMALLEST = 2000, 200
"""Records of one page: at most, and the least that can be asked for."""
CURSOR_SECONDS = 2 * 86_400.0
MOST_CURSORS = 10
"""Locators one user may have open; the one longest unused gives way."""


def routes() -> list[Route]:
    """Query, and the next page of one."""
    data = "services/data/v{version}"
    made = []
    for name in ("query", "queryAll"):
        made.append(route("GET", f"{data}/{name}", query, f"query.{name}"))
        made.append(route("GET", f"{data}/{name}/{{locator}}", more, "query.more"))
    return [*made, route("GET", f"{data}/tooling/query", tooling_query, "tooling.query")]


def query(call: Call) -> Answer:
    """GET …/query?q=SELECT…"""
    return Answer(answer(call, parse(_asked(call)), deleted=_all(call)))


def tooling_query(call: Call) -> Answer:
    """GET …/tooling/query?q=SELECT…"""
    found = answer(call, parse(_asked(call)), tooling=True)
    return Answer({"size": found["totalSize"], **found, "entityTypeName": "CustomField", "queryLocator": None})


def more(call: Call) -> Answer:
    """GET …/query/01g…-2000: the next page."""
    name, _, start = call.names["locator"].rpartition("-")
    org = call.site.org
    now = org.clock.seconds()
    with org.store.writing() as unit:
        kept = unit.connection.execute(select(cursors).where(cursors.c.id == name)).mappings().first()
        if kept is None or not start.isdigit() or not _open_to(call, dict(kept), now):
            raise RefusedError("INVALID_QUERY_LOCATOR", "invalid query locator")
        unit.connection.execute(update(cursors).where(cursors.c.id == name).values(used=now))
    compiled = _compiled(call, parse(kept["query"]), deleted=bool(kept["deleted"]))
    return Answer(_page(call, compiled, dict(kept), int(start)))


def _open_to(call: Call, kept: dict[str, Any], now: float) -> bool:
    """Whether this call may go on with a query: it is its user's, and has not been left alone for too long."""
    if call.site.locators_end_with_session and kept["session"] != _mark(call.token):
        return False
    return bool(kept["user"] == call.user and now - kept["used"] <= call.site.cursor_seconds)


def answer(call: Call, tree: Query, *, deleted: bool = False, tooling: bool = False) -> dict[str, Any]:
    """What a query answers: the first page, or groups, or a count."""
    compiled = _compiled(call, tree, deleted=deleted, tooling=tooling)
    if tree.counting:
        return {"totalSize": _count(call, compiled), "done": True, "records": []}
    if tree.aggregated:
        return _groups(call, compiled)
    return _first_page(call, compiled, deleted=deleted)


def batch_size(call: Call) -> int:
    """Records of a page, by Sforce-Query-Options."""
    for each in call.headers.get("sforce-query-options", "").split(","):
        name, _, number = each.partition("=")
        if name.strip().lower() == "batchsize" and number.strip().isdigit():
            return min(LARGEST, max(SMALLEST, int(number)))
    return LARGEST


def _asked(call: Call) -> str:
    text = call.query.get("q")
    if not text:
        raise RefusedError("MALFORMED_QUERY", "A query string has to be specified")
    call.detail["soql"] = text[:300]
    return text


def _all(call: Call) -> bool:
    return call.path.rstrip("/").endswith("queryAll")


def _compiled(call: Call, tree: Query, *, deleted: bool = False, tooling: bool = False) -> Compiled:
    org = call.site.org
    compiler = Compiler(org.schema, org.store, org.access.of(call.user), org.clock.now().date(), tooling=tooling)
    compiled = compiler.compile(tree, deleted=deleted)
    nest(org, call.user, compiled, call.version)
    return compiled


def _bounded(compiled: Compiled) -> Select[Any]:
    made = compiled.statement
    if compiled.query.limit is not None:
        made = made.limit(compiled.query.limit)
    return made.offset(compiled.query.offset) if compiled.query.offset is not None else made


def _count(call: Call, compiled: Compiled) -> int:
    with call.site.org.store.reading() as connection:
        found = int(connection.execute(compiled.statement).scalar() or 0) - (compiled.query.offset or 0)
    call.detail["records"] = 0
    limit = compiled.query.limit
    return max(0, found if limit is None else min(found, limit))


def _groups(call: Call, compiled: Compiled) -> dict[str, Any]:
    about = {"attributes": {"type": "AggregateResult"}}
    with call.site.org.store.reading() as connection:
        rows = connection.execute(_bounded(compiled)).all()
    if len(rows) > LARGEST:
        raise RefusedError(
            "EXCEEDED_ID_LIMIT",
            "Aggregate query does not support queryMore(), use LIMIT to restrict the results to a single batch",
        )
    records = [{**about, **dict(zip(compiled.names, row, strict=True))} for row in rows]
    return {"totalSize": len(records), "done": True, "records": records}


def _first_page(call: Call, compiled: Compiled, *, deleted: bool) -> dict[str, Any]:
    size = batch_size(call)
    limit = compiled.query.limit
    reach = size + 1 if limit is None else min(size + 1, limit)
    with call.site.org.store.reading() as connection:
        rows = connection.execute(_bounded(compiled).limit(reach)).all()
    if len(rows) <= size:
        return {"totalSize": len(rows), "done": True, "records": _records(call, compiled, rows)}
    kept = _open(call, compiled, size, deleted=deleted)
    return _page(call, compiled, kept, 0)


def _open(call: Call, compiled: Compiled, size: int, *, deleted: bool) -> dict[str, Any]:
    """Keeps which records the query found, in their order, for the pages to come."""
    store = call.site.org.store
    name = store.new_ids("01g", 1)[0]
    # The id is the first column of every query for records.
    ids = _bounded(compiled).with_only_columns(compiled.table.c.Id.label("record")).subquery()
    numbered = select(literal(name), func.row_number().over() - 1, ids.c.record)
    with store.writing() as unit:
        _close_oldest(call)
        unit.connection.execute(insert(cursor_rows).from_select(["cursor", "position", "record"], numbered))
        total = unit.connection.execute(select(func.count()).where(cursor_rows.c.cursor == name)).scalar()
        kept = {
            "id": name,
            "user": call.user,
            "session": _mark(call.token),
            "query": compiled.query.text,
            "deleted": int(deleted),
            "size": total,
            "batch": size,
            "used": call.site.org.clock.seconds(),
        }
        unit.connection.execute(insert(cursors), [kept])
    return kept


def _mark(token: str) -> str:
    """What a session is known again by; the token itself is kept in one place alone."""
    return hashlib.sha256(token.encode()).hexdigest()


def _close_oldest(call: Call) -> None:
    chosen = select(cursors.c.id).where(cursors.c.user == call.user).order_by(cursors.c.used.desc())
    with call.site.org.store.writing() as unit:
        for name in unit.connection.execute(chosen.offset(MOST_CURSORS - 1)).scalars().all():
            unit.connection.execute(delete(cursors).where(cursors.c.id == name))
            unit.connection.execute(delete(cursor_rows).where(cursor_rows.c.cursor == name))


def _page(call: Call, compiled: Compiled, kept: dict[str, Any], start: int) -> dict[str, Any]:
    after = start + kept["batch"]
    statement = compiled.statement.where(
        compiled.table.c.Id == cursor_rows.c.record,
        cursor_rows.c.cursor == kept["id"],
        cursor_rows.c.position >= start,
        cursor_rows.c.position < after,
    )
    with call.site.org.store.reading() as connection:
        rows = connection.execute(statement.order_by(None).order_by(cursor_rows.c.position)).all()
    made: dict[str, Any] = {"totalSize": kept["size"], "done": after >= kept["size"]}
    if not made["done"]:
        made["nextRecordsUrl"] = f"{call.root()}/query/{kept['id']}-{after}"
    return {**made, "records": _records(call, compiled, rows)}


def _records(call: Call, compiled: Compiled, rows: Iterable[Any]) -> list[dict[str, Any]]:
    made = [as_record(compiled.node, row, call.version) for row in rows]
    call.detail["records"] = len(made)
    return made
