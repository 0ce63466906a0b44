"""getUpdated and getDeleted: which records changed or went away in a stretch of time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from connectors.salesforce.twin.faces.call import Answer, Call, Route, route
from connectors.salesforce.twin.faces.described import visible
from connectors.salesforce.twin.org.clock import read_moment, written
from connectors.salesforce.twin.org.problems import RefusedError

MOST_DAYS = 30
MOST_IDS = 600_000


def routes() -> list[Route]:
    """Replication."""
    of = "services/data/v{version}/sobjects/{name}"
    return [
        route("GET", f"{of}/updated", updated, "replication.updated"),
        route("GET", f"{of}/deleted", deleted, "replication.deleted"),
    ]


def updated(call: Call) -> Answer:
    """GET …/sobjects/Lead/updated?start=…&end=…"""
    rows, _, end = _between(call, deleted=False)
    if len(rows) > MOST_IDS:
        raise RefusedError("EXCEEDED_ID_LIMIT", "The number of records returned exceeds the limit")
    return Answer({"ids": [row.Id for row in rows], "latestDateCovered": written(end)})


def deleted(call: Call) -> Answer:
    """GET …/sobjects/Lead/deleted?start=…&end=…"""
    rows, _, end = _between(call, deleted=True)
    found: list[dict[str, Any]] = [{"id": row.Id, "deletedDate": row.SystemModstamp} for row in rows]
    earliest = written(call.site.org.clock.now() - timedelta(days=MOST_DAYS))
    return Answer({"deletedRecords": found, "earliestDateAvailable": earliest, "latestDateCovered": written(end)})


def _between(call: Call, *, deleted: bool) -> tuple[list[Any], datetime, datetime]:
    kind = visible(call)
    if not kind.document.get("replicateable"):
        raise RefusedError("INVALID_TYPE", f"{kind.name} is not replicateable")
    start, end = (_moment(call, name) for name in ("start", "end"))
    now = call.site.org.clock.now()
    if end <= start:
        raise RefusedError("INVALID_REPLICATION_DATE", "endDate cannot be before startDate")
    if start < now - timedelta(days=MOST_DAYS):
        raise RefusedError("INVALID_REPLICATION_DATE", "startDate before org replication enabled date")
    table = call.site.org.store.table(kind)
    chosen = select(table.c.Id, table.c.SystemModstamp).where(
        table.c.SystemModstamp >= written(start),
        table.c.SystemModstamp < written(end),
        table.c.IsDeleted == int(deleted),
    )
    with call.site.org.store.reading() as connection:
        rows = list(connection.execute(chosen.order_by(table.c.SystemModstamp, table.c.Id)))
    call.detail["records"] = len(rows)
    # What has been committed until now is covered, and no moment to come.
    return rows, start, min(end, now.replace(second=0, microsecond=0))


def _moment(call: Call, name: str) -> datetime:
    found = read_moment(call.query.get(name, ""))
    if found is None:
        raise RefusedError("INVALID_REPLICATION_DATE", f"{name} must be a dateTime with a time zone")
    # Seconds are not looked at.
    return found.replace(second=0, microsecond=0)
