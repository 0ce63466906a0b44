"""What Salesforce refuses, the twin refuses: one row per refusal, with its status and its error code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.salesforce.twin import Twin
from tests.connectors.salesforce.twin.conftest import Rest

NEW = {"LastName": "X", "Company": "Y"}
WRITES: dict[str, tuple[dict[str, Any], str]] = {
    "a field that is not there": ({**NEW, "Foo__c": 1}, "INVALID_FIELD"),
    "a required field that is missing": ({"LastName": "X"}, "REQUIRED_FIELD_MISSING"),
    "a text that is too long": ({**NEW, "City": "x" * 41}, "STRING_TOO_LONG"),
    "a number out of range": ({**NEW, "Score__c": 1000}, "NUMBER_OUTSIDE_VALID_RANGE"),
    "a value that a restricted picklist lacks": (
        {**NEW, "Band__c": "Lukewarm"},
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
    ),
    "an address that is none": ({**NEW, "Email": "not an address"}, "INVALID_EMAIL_ADDRESS"),
    "a text for a number": ({**NEW, "Score__c": "many"}, "JSON_PARSER_ERROR"),
    "a text for a date": ({**NEW, "EmailBouncedDate": "x"}, "INVALID_FIELD"),
    "a compound name": ({**NEW, "Name": "X Y"}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
    "a stamp": ({**NEW, "SystemModstamp": "2026-01-01T00:00:00Z"}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
    "an id of its own": ({**NEW, "Id": "00QTw00000000m2MAA"}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
    "an owner that is no id": ({**NEW, "OwnerId": "me"}, "MALFORMED_ID"),
    "an owner of another object": ({**NEW, "OwnerId": "001Tw0000000001IAA"}, "FIELD_INTEGRITY_EXCEPTION"),
    "an owner that is not there": ({**NEW, "OwnerId": "005Tw0000000zzz"}, "INVALID_CROSS_REFERENCE_KEY"),
}
QUERIES: dict[str, tuple[str, str]] = {
    "no query": ("", "MALFORMED_QUERY"),
    "no SELECT": ("Id FROM Lead", "MALFORMED_QUERY"),
    "SQL's star": ("SELECT * FROM Lead", "MALFORMED_QUERY"),
    "an open string": ("SELECT Id FROM Lead WHERE Name = 'x", "MALFORMED_QUERY"),
    "IS NULL": ("SELECT Id FROM Lead WHERE Name IS NULL", "MALFORMED_QUERY"),
    "AND and OR without brackets": (
        "SELECT Id FROM Lead WHERE Name = 'a' AND Name = 'b' OR Name = 'c'",
        "MALFORMED_QUERY",
    ),
    "an unknown escape": (r"SELECT Id FROM Lead WHERE Name = '\x'", "MALFORMED_QUERY"),
    "an unknown object": ("SELECT Id FROM Nothing", "INVALID_TYPE"),
    "an unknown field": ("SELECT Foo__c FROM Lead", "INVALID_FIELD"),
    "an unknown field to filter by": ("SELECT Id FROM Lead WHERE Foo__c = 1", "INVALID_FIELD"),
    "an unknown relationship": ("SELECT Parent.Name FROM Lead", "INVALID_FIELD"),
    "a field twice": ("SELECT Id, Id FROM Lead", "INVALID_FIELD"),
    "a text beside a number": ("SELECT Id FROM Lead WHERE Score__c = '5'", "INVALID_FIELD"),
    "a number beside a text": ("SELECT Id FROM Lead WHERE Company = 5", "INVALID_FIELD"),
    "a date beside a moment": ("SELECT Id FROM Lead WHERE CreatedDate > 2026-01-01", "INVALID_FIELD"),
    "a text beside a moment": ("SELECT Id FROM Lead WHERE CreatedDate > '2026-01-01T00:00:00Z'", "INVALID_FIELD"),
    "an id that is none": ("SELECT Id FROM Lead WHERE Id = 'x'", "INVALID_QUERY_FILTER_OPERATOR"),
    "a long text to filter by": ("SELECT Id FROM Lead WHERE Description = 'x'", "INVALID_FIELD"),
    "a long text to sort by": ("SELECT Id FROM Lead ORDER BY Description", "MALFORMED_QUERY"),
    "a compound to filter by": ("SELECT Id FROM Lead WHERE Address = 'x'", "INVALID_FIELD"),
    "an offset beyond 2,000": ("SELECT Id FROM Lead OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE"),
    "all fields of all records": ("SELECT FIELDS(ALL) FROM Lead", "MALFORMED_QUERY"),
    "a field that is not grouped": ("SELECT Name, COUNT(Id) FROM Lead GROUP BY Company", "MALFORMED_QUERY"),
    "a field to sort groups by that is not grouped": (
        "SELECT Industry, COUNT(Id) FROM Lead GROUP BY Industry ORDER BY Company",
        "MALFORMED_QUERY",
    ),
    "a count in some order": ("SELECT COUNT() FROM Lead ORDER BY Company", "MALFORMED_QUERY"),
    "the sum of texts": ("SELECT SUM(Company) FROM Lead", "MALFORMED_QUERY"),
    "one name for two aggregates": ("SELECT COUNT(Id) n, COUNT(Name) n FROM Lead", "MALFORMED_QUERY"),
    "a moment to group by": ("SELECT CreatedDate, COUNT(Id) FROM Lead GROUP BY CreatedDate", "MALFORMED_QUERY"),
    "the tooling API's objects": ("SELECT Id FROM CustomField", "INVALID_TYPE"),
    "100,001 characters": ("SELECT Id FROM Lead" + " " * 100_000, "MALFORMED_QUERY"),
}
BULK_QUERIES = {
    "groups": "SELECT Industry, COUNT(Id) FROM Lead GROUP BY Industry",
    "a compound": "SELECT Address FROM Lead",
    "children": "SELECT Id, (SELECT Id FROM Contacts) FROM Account",
    "an offset": "SELECT Id FROM Lead OFFSET 5",
}


@pytest.mark.parametrize(("given", "code"), WRITES.values(), ids=WRITES)
def test_a_record_is_refused_alone_and_in_a_collection(rest: Rest, given: dict[str, Any], code: str) -> None:
    assert rest.refused("POST", "sobjects/Lead", json=given) == (400, code)
    record = {"attributes": {"type": "Lead"}, **given}
    answer = rest("POST", "composite/sobjects", json={"records": [record]})
    told = answer.json()[0]
    assert code == (told["errorCode"] if answer.status_code == 400 else told["errors"][0]["statusCode"])


def test_json_takes_no_fraction_for_a_whole_number(rest: Rest) -> None:
    assert rest.refused("POST", "sobjects/Lead", json={**NEW, "NumberOfEmployees": 1.5}) == (400, "JSON_PARSER_ERROR")
    assert rest("POST", "sobjects/Lead", json={**NEW, "NumberOfEmployees": 2, "AnnualRevenue": 1.5}).status_code == 201


@pytest.mark.parametrize(("given", "code"), WRITES.values(), ids=WRITES)
def test_a_row_of_a_file_is_refused(twin: Twin, rest: Rest, given: dict[str, Any], code: str) -> None:
    job = rest("POST", "jobs/ingest", json={"operation": "insert", "object": "Lead"}).json()["id"]
    lines = [",".join(given), ",".join(str(each) for each in given.values())]
    rest("PUT", f"jobs/ingest/{job}/batches", data="\n".join(lines), headers={"Content-Type": "text/csv"})
    rest("PATCH", f"jobs/ingest/{job}", json={"state": "UploadComplete"})
    twin.site.jobs.wait()
    if code == "INVALID_FIELD":
        told = rest("GET", f"jobs/ingest/{job}").json()
        assert (told["state"], told["errorMessage"].startswith("InvalidBatch : Field name not found")) == (
            "Failed",
            True,
        )
        return
    failed = rest("GET", f"jobs/ingest/{job}/failedResults").text.splitlines()
    expected = "INVALID_TYPE_ON_FIELD_IN_RECORD" if code == "JSON_PARSER_ERROR" else code
    assert failed[1].split('","')[1].startswith(f"{expected}:")


@pytest.mark.parametrize(("text", "code"), QUERIES.values(), ids=QUERIES)
def test_a_query_is_refused(rest: Rest, text: str, code: str) -> None:
    if len(text) > 10_000:
        assert rest.refused("POST", "jobs/query", json={"operation": "query", "query": text}) == (400, code)
    elif text == "SELECT Id FROM Lead OFFSET 2001":
        assert rest.refused("GET", "query", params={"q": text}) == (400, code)
    else:
        assert rest.refused("GET", "query", params={"q": text}) == (400, code)
        assert rest.refused("POST", "jobs/query", json={"operation": "query", "query": text}) == (400, code)


@pytest.mark.parametrize("text", BULK_QUERIES.values(), ids=BULK_QUERIES)
def test_bulk_refuses_what_rest_answers(rest: Rest, text: str) -> None:
    assert rest("GET", "query", params={"q": text}).status_code == 200
    assert rest.refused("POST", "jobs/query", json={"operation": "query", "query": text}) == (400, "API_ERROR")


def test_addresses_that_lead_nowhere_are_not_found(rest: Rest) -> None:
    for path in (
        "sobjects/Nothing",
        "sobjects/Nothing/describe",
        "nothing",
        "sobjects/Lead/Key__c/a/b",
        "jobs/ingest/750x",
    ):
        assert rest.refused("GET", path) == (404, "NOT_FOUND")
    assert rest.refused("GET", "/services/data/v99.0/sobjects") == (404, "NOT_FOUND")
    assert rest.refused("GET", "sobjects/Lead/Company/x") == (404, "NOT_FOUND")
    answer = rest("PATCH", "sobjects/Lead", json={})
    words = "HTTP Method 'PATCH' not allowed. Allowed are HEAD,GET,POST"
    assert (answer.status_code, answer.json()) == (405, [{"message": words, "errorCode": "METHOD_NOT_ALLOWED"}])


def test_more_than_a_call_may_carry_is_refused(rest: Rest) -> None:
    many = [{"attributes": {"type": "Lead"}, **NEW}] * 201
    assert rest.refused("POST", "composite/sobjects", json={"records": many}) == (400, "EXCEEDED_ID_LIMIT")
    part = {"method": "GET", "url": "/services/data/v59.0/limits"}
    parts = [{**part, "referenceId": f"r{n}"} for n in range(26)]
    answer = rest("POST", "composite", json={"compositeRequest": parts})
    assert answer.json()["compositeResponse"][0]["body"][0]["errorCode"] == "LIMIT_EXCEEDED"
    query = {"method": "GET", "url": "/services/data/v59.0/query?q=SELECT+Id+FROM+Lead+LIMIT+1"}
    heavy = [{**query, "referenceId": f"r{n}"} for n in range(6)]
    answer = rest("POST", "composite", json={"compositeRequest": heavy})
    assert answer.json()["compositeResponse"][0]["body"][0]["errorCode"] == "LIMIT_EXCEEDED"
    assert rest("POST", "composite", json={"compositeRequest": heavy[:5]}).status_code == 200


def test_an_address_and_headers_beyond_16_kb_are_refused(rest: Rest) -> None:
    ids = ",".join(f"'00QTw{n:010d}AAA'" for n in range(700))
    short = rest("GET", "query", params={"q": f"SELECT Id FROM Lead WHERE Id IN ({ids})"})
    assert short.status_code == 414
    assert rest("GET", "limits", headers={"X-Long": "x" * 17_000}).status_code == 431


def test_a_locator_that_is_unknown_expired_or_of_somebody_else_is_refused(twin: Twin, rest: Rest) -> None:
    assert rest.refused("GET", "query/01gTw0000000zzzAAA-200") == (400, "INVALID_QUERY_LOCATOR")
    first = rest("GET", "query?q=SELECT+Id+FROM+Lead", headers={"Sforce-Query-Options": "batchSize=200"}).json()
    assert (len(first["records"]), first["done"]) == (200, False)
    assert Rest(twin, user="admin").refused("GET", first["nextRecordsUrl"]) == (400, "INVALID_QUERY_LOCATOR")
    assert rest("GET", first["nextRecordsUrl"]).status_code == 200
    twin.control.cursor_seconds(-1)
    assert rest.refused("GET", first["nextRecordsUrl"]) == (400, "INVALID_QUERY_LOCATOR")
    twin.control.cursor_seconds(3600)


def test_the_eleventh_locator_closes_the_first(rest: Rest) -> None:
    options = {"Sforce-Query-Options": "batchSize=200"}
    found = [rest("GET", "query?q=SELECT+Id+FROM+Lead", headers=options).json()["nextRecordsUrl"] for _ in range(11)]
    assert rest.refused("GET", found[0]) == (400, "INVALID_QUERY_LOCATOR")
    assert rest("GET", found[1]).status_code == 200


def test_a_locator_may_end_with_the_session_that_opened_it(twin: Twin, rest: Rest) -> None:
    options = {"Sforce-Query-Options": "batchSize=200"}
    where = rest("GET", "query?q=SELECT+Id+FROM+Lead", headers=options).json()["nextRecordsUrl"]
    assert Rest(twin)("GET", where).status_code == 200
    twin.control.bind_locators()
    assert rest("GET", where).status_code == 200
    assert Rest(twin).refused("GET", where) == (400, "INVALID_QUERY_LOCATOR")


@pytest.fixture
def restored(twin: Twin) -> Iterator[Twin]:
    """The twin, given back whatever the test takes away."""
    yield twin
    for name in ("Lead", "Lead.Score__c", "Lead.Company"):
        twin.control.restore(name)
    for kind in ("validation", "duplicates", "trigger"):
        twin.control.rule(kind, "Lead", "own", None)


def test_a_hidden_field_is_as_if_it_were_not_there(restored: Twin, rest: Rest, lead: str) -> None:
    restored.control.hide("Lead.Score__c")
    names = {each["name"] for each in rest("GET", "sobjects/Lead/describe").json()["fields"]}
    assert "Score__c" not in names
    assert "Score__c" not in rest("GET", f"sobjects/Lead/{lead}").json()
    assert rest.refused("GET", "query?q=SELECT+Score__c+FROM+Lead") == (400, "INVALID_FIELD")
    assert rest.refused("GET", "query?q=SELECT+Id+FROM+Lead+WHERE+Score__c=1") == (400, "INVALID_FIELD")
    assert rest.refused("PATCH", f"sobjects/Lead/{lead}", json={"Score__c": 1}) == (400, "INVALID_FIELD")
    assert Rest(restored, user="admin")("PATCH", f"sobjects/Lead/{lead}", json={"Score__c": 1}).status_code == 204


def test_a_field_that_may_only_be_read_refuses_writes(restored: Twin, rest: Rest, lead: str) -> None:
    restored.control.read_only("Lead.Score__c")
    described = {each["name"]: each for each in rest("GET", "sobjects/Lead/describe").json()["fields"]}
    assert (described["Score__c"]["createable"], described["Score__c"]["updateable"]) == (False, False)
    assert rest("GET", "query?q=SELECT+Score__c+FROM+Lead+LIMIT+1").status_code == 200
    answer = rest("PATCH", f"sobjects/Lead/{lead}", json={"Score__c": 1})
    assert answer.json()[0]["errorCode"] == "INVALID_FIELD_FOR_INSERT_UPDATE"
    assert answer.json()[0]["fields"] == ["Score__c"]


def test_an_object_that_may_not_be_changed_refuses_writes(restored: Twin, rest: Rest, lead: str) -> None:
    restored.control.revoke("Lead", ["edit"])
    assert rest("GET", "sobjects/Lead/describe").json()["updateable"] is False
    code = "INSUFFICIENT_ACCESS_OR_READONLY"
    assert rest.refused("PATCH", f"sobjects/Lead/{lead}", json={"City": "Lyon"}) == (403, code)
    restored.control.revoke("Lead", ["create"])
    assert rest.refused("POST", "sobjects/Lead", json=NEW) == (400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY")
    restored.control.revoke("Lead", ["delete"])
    assert rest.refused("DELETE", f"sobjects/Lead/{lead}") == (403, code)
    restored.control.revoke("Lead", ["read"])
    assert rest.refused("GET", "sobjects/Lead/describe") == (404, "NOT_FOUND")
    assert rest.refused("GET", "query?q=SELECT+Id+FROM+Lead") == (400, "INVALID_TYPE")


def test_a_validation_rule_refuses_in_its_own_words(restored: Twin, rest: Rest, lead: str) -> None:
    rule = {"when": "Score__c > 90 AND Industry = null", "message": "Say the industry first", "fields": ["Industry"]}
    restored.control.rule("validation", "Lead", "own", rule)
    answer = rest("PATCH", f"sobjects/Lead/{lead}", json={"Score__c": 95})
    assert answer.status_code == 400
    assert answer.json() == [
        {
            "message": "Say the industry first",
            "errorCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION",
            "fields": ["Industry"],
        }
    ]
    assert rest("PATCH", f"sobjects/Lead/{lead}", json={"Score__c": 95, "Industry": "Energy"}).status_code == 204


def test_a_duplicate_rule_blocks_or_lets_itself_be_overruled(restored: Twin, rest: Rest, lead: str) -> None:
    given = {**NEW, "Email": "same@mail.example"}
    assert rest("POST", "sobjects/Lead", json=given).status_code == 201
    save = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
    restored.control.rule("duplicates", "Lead", "own", {"fields": ["Email"], "action": "alert"})
    answer = rest("POST", "sobjects/Lead", json=given)
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "DUPLICATES_DETECTED")
    assert answer.json()[0]["duplicateResut"]["allowSave"] is True
    assert rest("POST", "sobjects/Lead", json=given, headers=save).status_code == 201
    assert Rest(restored, "51.0").refused("POST", "sobjects/Lead", json=given, headers=save)[1] == "DUPLICATES_DETECTED"
    # An update of a field that the rule does not look at passes.
    assert rest("PATCH", f"sobjects/Lead/{lead}", json={"Score__c": 3}).status_code == 204
    restored.control.rule("duplicates", "Lead", "own", {"fields": ["Email"], "action": "block"})
    assert rest.refused("POST", "sobjects/Lead", json=given, headers=save) == (400, "DUPLICATES_DETECTED")


def test_a_record_that_somebody_holds_refuses_and_so_do_the_details_of_a_master(restored: Twin, rest: Rest) -> None:
    master = restored.control.create("Account", [{"Name": "Master"}])[0]
    detail = restored.control.create("Contact", [{"LastName": "Detail", "AccountId": master}])[0]
    restored.control.lock([master])
    for path, given in ((f"sobjects/Account/{master}", {"Phone": "1"}), (f"sobjects/Contact/{detail}", {"Phone": "1"})):
        assert rest.refused("PATCH", path, json=given) == (400, "UNABLE_TO_LOCK_ROW")
    restored.control.unlock()
    assert rest("PATCH", f"sobjects/Contact/{detail}", json={"Phone": "1"}).status_code == 204


def test_a_share_of_rows_finds_its_record_locked(restored: Twin, rest: Rest) -> None:
    restored.control.lock_rate(0.3)
    record = {"attributes": {"type": "Lead"}, **NEW}
    done = rest("POST", "composite/sobjects", json={"records": [record] * 100}).json()
    failed = [each for each in done if not each["success"]]
    assert 10 < len(failed) < 60
    assert {each["errors"][0]["statusCode"] for each in failed} == {"UNABLE_TO_LOCK_ROW"}


def test_all_or_none_writes_none(restored: Twin, rest: Rest) -> None:
    before = restored.control.count("Lead")
    record = {"attributes": {"type": "Lead"}, **NEW}
    given = {"allOrNone": True, "records": [record, {**record, "City": "x" * 50}, record]}
    codes = [each["errors"][0]["statusCode"] for each in rest("POST", "composite/sobjects", json=given).json()]
    assert codes == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "STRING_TOO_LONG", "ALL_OR_NONE_OPERATION_ROLLED_BACK"]
    assert restored.control.count("Lead") == before


def test_a_converted_lead_is_left_as_it_is(twin: Twin, rest: Rest, lead: str) -> None:
    twin.control.shift(lead, {"IsConverted": 1})
    assert rest.refused("PATCH", f"sobjects/Lead/{lead}", json={"Score__c": 1})[1] == "CANNOT_UPDATE_CONVERTED_LEAD"


def test_a_key_is_unique_and_written_as_one_part_of_the_path(twin: Twin, rest: Rest) -> None:
    spaced = "a b/c+d"
    assert rest("PATCH", "sobjects/Lead/Key__c/a%20b%2Fc+d", json=NEW).status_code == 201
    assert twin.control.find("Lead", "Key__c", [spaced])[0]["LastName"] == "X"
    # A plus is a plus in a path, not a space.
    assert rest("GET", "sobjects/Lead/Key__c/a+b%2Fc+d").status_code == 404
    assert rest("GET", "sobjects/Lead/Key__c/a%20b/c+d").status_code == 404
    assert rest.refused("POST", "sobjects/Lead", json={**NEW, "Key__c": spaced.upper()}) == (400, "DUPLICATE_VALUE")


def test_the_day_s_calls_come_to_an_end(twin: Twin, rest: Rest) -> None:
    twin.control.budget(most=10, used=9)
    assert rest("GET", "limits").headers["Sforce-Limit-Info"] == "api-usage=10/10"
    answer = rest("GET", "limits")
    assert answer.status_code == 403
    assert answer.json() == [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]
    twin.control.advance(86_401)
    assert rest.refused("GET", "limits")[1] == "INVALID_SESSION_ID"
    twin.control.advance(-86_401)
    twin.control.budget(most=15_000, used=0)
