"""One record at a time: create, read, update, delete, and the same by an external id."""

from __future__ import annotations

from typing import Any

from connectors.salesforce.twin.faces.call import Answer, Call, Route, route
from connectors.salesforce.twin.faces.described import visible
from connectors.salesforce.twin.org.ids import whole_id
from connectors.salesforce.twin.org.problems import RefusedError, no_such_column
from connectors.salesforce.twin.org.schema import Field, ObjectType
from connectors.salesforce.twin.org.writing import Outcome, Writer, refuse_alone
from connectors.salesforce.twin.soql.compile import Compiler
from connectors.salesforce.twin.soql.shape import as_record
from connectors.salesforce.twin.soql.tree import Comparison, Path, Query, Value

_GONE = "Provided external ID field does not exist or is not accessible: {}"


def routes() -> list[Route]:
    """Records by Id and by external id."""
    of = "services/data/v{version}/sobjects/{name}"
    return [
        route("POST", of, create, "record.create"),
        route("GET", f"{of}/{{id}}", read, "record.read"),
        route("PATCH", f"{of}/{{id}}", update, "record.update"),
        route("DELETE", f"{of}/{{id}}", delete, "record.delete"),
        route("GET", f"{of}/{{key}}/{{value}}", read_by_key, "record.read"),
        route("PATCH", f"{of}/{{key}}/{{value}}", upsert, "record.upsert"),
        route("DELETE", f"{of}/{{key}}/{{value}}", delete_by_key, "record.delete"),
    ]


def create(call: Call) -> Answer:
    """POST …/sobjects/Lead."""
    kind = visible(call)
    done = writer(call, kind).create([call.json_object()])[0]
    refuse_alone(done)
    place = f"{call.root()}/sobjects/{kind.name}/{done.id}"
    return Answer({"id": done.id, "success": True, "errors": []}, 201, {"Location": place})


def read(call: Call) -> Answer:
    """GET …/sobjects/Lead/00Q…?fields=Id,Name."""
    kind = visible(call)
    name = _known_id(call, kind)
    return Answer(_fetch(call, kind, "Id", name))


def update(call: Call) -> Answer:
    """PATCH …/sobjects/Lead/00Q…"""
    kind = visible(call)
    name = _known_id(call, kind)
    given = call.json_object()
    if any(each.lower() == "id" for each in given):
        words = "The Id field should not be specified in the sobject data."
        raise RefusedError("INVALID_FIELD", words, fields=["Id"])
    _refuse(writer(call, kind).update([{**given, "Id": name}])[0], name)
    return Answer(status=204)


def delete(call: Call) -> Answer:
    """DELETE …/sobjects/Lead/00Q…"""
    kind = visible(call)
    name = _known_id(call, kind)
    _refuse(writer(call, kind).delete([name])[0], name)
    return Answer(status=204)


def read_by_key(call: Call) -> Answer:
    """GET …/sobjects/Lead/Key__c/value."""
    kind = visible(call)
    key = _key(call, kind)
    found = _matches(call, kind, key)
    if len(found) > 1:
        return _choices(call, kind, found)
    if not found:
        raise RefusedError("NOT_FOUND", "The requested resource does not exist")
    return Answer(_fetch(call, kind, "Id", found[0]))


def upsert(call: Call) -> Answer:
    """PATCH …/sobjects/Lead/Key__c/value: 201 where it created, 200 where it updated, 300 where several match."""
    kind = visible(call)
    key = _key(call, kind)
    given = call.json_object()
    if any(each.lower() in {"id", key.name.lower()} for each in given):
        words = f"The {key.name} field should not be specified in the sobject data."
        raise RefusedError("INVALID_FIELD", words, fields=[key.name])
    if key.type == "id":
        return _by_id(call, kind, given)
    found = _matches(call, kind, key)
    if len(found) > 1:
        return _choices(call, kind, found)
    if call.query.get("updateOnly", "").lower() == "true" and not found:
        raise RefusedError("NOT_FOUND", "The requested resource does not exist")
    done = writer(call, kind).upsert([{**given, key.name: call.names["value"]}], key)[0]
    refuse_alone(done)
    body: dict[str, Any] = {"id": done.id, "success": True, "errors": [], "created": done.created}
    return Answer(body, 201 if done.created else 200)


def delete_by_key(call: Call) -> Answer:
    """DELETE …/sobjects/Lead/Key__c/value."""
    kind = visible(call)
    found = _matches(call, kind, _key(call, kind))
    if len(found) > 1:
        return _choices(call, kind, found)
    if not found:
        raise RefusedError("NOT_FOUND", "The requested resource does not exist")
    _refuse(writer(call, kind).delete(found)[0], found[0])
    return Answer(status=204)


def writer(call: Call, kind: ObjectType, *, all_or_none: bool = False) -> Writer:
    """A writer for the user of a call, as its headers ask."""
    told = call.headers.get("sforce-duplicate-rule-header", "").replace(" ", "").lower()
    # The header came with version 52.
    save = "allowsave=true" in told and float(call.version or 0) >= 52
    client = call.headers.get("sforce-call-options", "").partition("client=")[2].split(",")[0]
    origin = f"com/salesforce/api/rest/{call.version}" + (f";client={client}" if client else "")
    return Writer(call.site.org, kind, call.user, all_or_none=all_or_none, save_duplicates=save, origin=origin)


def _known_id(call: Call, kind: ObjectType) -> str:
    name = whole_id(call.names["id"])
    if name is None or not name.startswith(kind.prefix):
        raise RefusedError("NOT_FOUND", _GONE.format(call.names["id"]))
    return name


def _key(call: Call, kind: ObjectType) -> Field:
    key = call.site.org.access.of(call.user).field(kind, call.names["key"])
    if key is None or not (key.external or key.type == "id" or key.document.get("idLookup")):
        raise RefusedError("NOT_FOUND", _GONE.format(call.names["key"]))
    return key


def _by_id(call: Call, kind: ObjectType, given: dict[str, Any]) -> Answer:
    name = whole_id(call.names["value"])
    if name is None:
        raise RefusedError("MALFORMED_ID", f"malformed id {call.names['value']}", fields=["Id"])
    _refuse(writer(call, kind).update([{**given, "Id": name}])[0], name)
    return Answer({"id": name, "success": True, "errors": [], "created": False})


def _matches(call: Call, kind: ObjectType, key: Field) -> list[str]:
    value = call.names["value"]
    if key.type == "id":
        name = whole_id(value)
        return [name] if name else []
    stored = call.site.org.store.rows(kind, [value], by=key.name)
    return [each["Id"] for each in stored.values() if not each["IsDeleted"]]


def _choices(call: Call, kind: ObjectType, found: list[str]) -> Answer:
    return Answer([f"{call.root()}/sobjects/{kind.name}/{each}" for each in found], 300)


def _refuse(done: Outcome, name: str) -> None:
    if done.problems and done.problems[0].code == "INVALID_CROSS_REFERENCE_KEY" and not done.problems[0].fields:
        raise RefusedError("NOT_FOUND", _GONE.format(name))
    refuse_alone(done)


def _fetch(call: Call, kind: ObjectType, by: str, value: Value) -> dict[str, Any]:
    org = call.site.org
    rights = org.access.of(call.user)
    asked = [each.strip() for each in call.query.get("fields", "").split(",") if each.strip()]
    for each in asked:
        if "." not in each and rights.field(kind, each) is None:
            raise no_such_column(each, kind.name)
    names = asked or [each.name for each in kind if rights.to(kind, each)]
    unique = list(dict.fromkeys([*names, "Id"] if not asked else names))
    selected = tuple(Path(tuple(each.split("."))) for each in unique)
    tree = Query("", selected, kind.name, 1, where=Comparison(Path((by,)), "=", value))
    compiled = Compiler(org.schema, org.store, rights, org.clock.now().date()).compile(tree)
    with org.store.reading() as connection:
        row = connection.execute(compiled.statement).first()
    if row is None:
        raise RefusedError("NOT_FOUND", _GONE.format(value))
    return as_record(compiled.node, row, call.version)
