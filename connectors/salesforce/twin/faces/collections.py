"""Up to 200 records in one call, each with its own result; all or none where asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors.salesforce.twin.faces.call import Answer, Call, Route, route
from connectors.salesforce.twin.faces.described import visible
from connectors.salesforce.twin.faces.records import writer
from connectors.salesforce.twin.org.ids import whole_id
from connectors.salesforce.twin.org.problems import Problem, RefusedError, not_found
from connectors.salesforce.twin.org.schema import Field, ObjectType
from connectors.salesforce.twin.org.writing import ROLLED_BACK, Outcome, Writer
from connectors.salesforce.twin.soql.compile import Compiler
from connectors.salesforce.twin.soql.shape import as_record
from connectors.salesforce.twin.soql.tree import Comparison, Path, Query

MOST_RECORDS = 200
MOST_READ = 2000
_TOO_MANY = "record limit reached. cannot submit more than {} records into this call"


def routes() -> list[Route]:
    """Collections."""
    of = "services/data/v{version}/composite/sobjects"
    return [
        route("POST", of, create, "collections.create"),
        route("PATCH", of, update, "collections.update"),
        route("DELETE", of, delete, "collections.delete"),
        route("PATCH", f"{of}/{{name}}/{{key}}", upsert, "collections.upsert"),
        route("GET", f"{of}/{{name}}", read, "collections.read"),
        route("POST", f"{of}/{{name}}", read, "collections.read"),
    ]


def create(call: Call) -> Answer:
    """POST …/composite/sobjects."""
    return _written(call, lambda one, rows: one.create(rows))


def update(call: Call) -> Answer:
    """PATCH …/composite/sobjects."""
    return _written(call, lambda one, rows: one.update(rows))


def upsert(call: Call) -> Answer:
    """PATCH …/composite/sobjects/Lead/Key__c."""
    kind = visible(call)
    key = call.site.org.access.of(call.user).field(kind, call.names["key"])
    if key is None or not (key.external or key.type == "id" or key.document.get("idLookup")):
        words = f"Provided external ID field does not exist or is not accessible: {call.names['key']}"
        raise RefusedError("NOT_FOUND", words)
    known: Field = key
    return _written(call, lambda one, rows: one.upsert(rows, known), only=kind, created=True)


def delete(call: Call) -> Answer:
    """DELETE …/composite/sobjects?ids=…&allOrNone=false."""
    ids = [each for each in call.query.get("ids", "").split(",") if each]
    _bounded(ids, MOST_RECORDS)
    everything = call.query.get("allOrNone", "").lower() == "true"
    made: list[Outcome] = []
    for each in ids:
        name = whole_id(each)
        kind = call.site.org.schema.by_prefix(each[:3])
        if name is None or kind is None:
            made.append(Outcome(each, problems=(Problem("MALFORMED_ID", f"malformed id {each}", ()),)))
        else:
            made.extend(writer(call, kind, all_or_none=everything).delete([name]))
    return _shown(call, made)


def read(call: Call) -> Answer:
    """GET …/composite/sobjects/Lead?ids=…&fields=…, or POST with both in the body; what is not there is null."""
    kind = visible(call)
    if call.method == "POST":
        given = call.json_object()
        ids, fields = list(given.get("ids") or ()), list(given.get("fields") or ())
    else:
        ids = [each for each in call.query.get("ids", "").split(",") if each]
        fields = [each.strip() for each in call.query.get("fields", "").split(",") if each.strip()]
    _bounded(ids, MOST_READ)
    org = call.site.org
    selected = tuple(Path(tuple(each.split("."))) for each in dict.fromkeys(["Id", *fields]))
    wanted = tuple(each for each in (whole_id(one) for one in ids) if each)
    tree = Query("", selected, kind.name, 1, where=Comparison(Path(("Id",)), "IN", wanted))
    compiled = Compiler(org.schema, org.store, org.access.of(call.user), org.clock.now().date()).compile(tree)
    with org.store.reading() as connection:
        rows = connection.execute(compiled.statement).all()
    found = {row[compiled.node.place]: as_record(compiled.node, row, call.version) for row in rows}
    return Answer([found.get(whole_id(each) or "") for each in ids])


def _written(
    call: Call,
    write: Callable[[Writer, Sequence[Mapping[str, Any]]], list[Outcome]],
    *,
    only: ObjectType | None = None,
    created: bool = False,
) -> Answer:
    given = call.json_object()
    records = given.get("records")
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        raise RefusedError("JSON_PARSER_ERROR", "The request must have a list of records")
    _bounded(records, MOST_RECORDS)
    everything = given.get("allOrNone") is True
    kinds = [only or _kind(call, each) for each in records]
    made: list[Outcome | None] = [None] * len(records)
    with call.site.org.store.writing():
        for kind in dict.fromkeys(each.name for each in kinds):
            places = [place for place, each in enumerate(kinds) if each.name == kind]
            done = write(writer(call, kinds[places[0]], all_or_none=everything), [records[each] for each in places])
            for place, outcome in zip(places, done, strict=True):
                made[place] = outcome
    return _shown(call, [each for each in made if each is not None], created=created)


def _kind(call: Call, record: Mapping[str, Any]) -> ObjectType:
    name = (record.get("attributes") or {}).get("type")
    if not name:
        raise RefusedError("INVALID_INPUT", "The sObject type attribute is required: attributes.type")
    kind = call.site.org.schema.get(str(name))
    if kind is None or kind.tooling or not call.site.org.access.of(call.user).sees(kind):
        raise not_found()
    return kind


def _bounded(given: Sequence[Any], most: int) -> None:
    if len(given) > most:
        raise RefusedError("EXCEEDED_ID_LIMIT", _TOO_MANY.format(most))


def _shown(call: Call, made: Sequence[Outcome], *, created: bool = False) -> Answer:
    call.detail.update(
        records=len(made), failed=sum(not each.done and each.problems[0] is not ROLLED_BACK for each in made)
    )
    return Answer([_one(each, created=created) for each in made])


def _one(done: Outcome, *, created: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {} if done.id is None else {"id": done.id}
    shown |= {"success": done.done, "errors": [each.in_collection() for each in done.problems]}
    return {**shown, "created": done.created} if created and done.done else shown
