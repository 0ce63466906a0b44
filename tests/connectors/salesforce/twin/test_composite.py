"""Several calls in one: references between them, all or none, and how each is counted."""

from __future__ import annotations

from typing import Any

from connectors.salesforce.twin import Twin
from tests.connectors.salesforce.twin.conftest import Rest

DATA = "/services/data/v59.0"


def part(name: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """One subrequest."""
    made = {"method": method, "url": f"{DATA}/{path}", "referenceId": name}
    return made if body is None else {**made, "body": body}


def test_a_later_part_takes_what_an_earlier_one_answered(twin: Twin, rest: Rest) -> None:
    parts = [
        part("account", "POST", "sobjects/Account", {"Name": "Referred"}),
        part("contact", "POST", "sobjects/Contact", {"LastName": "R", "AccountId": "@{account.id}"}),
        part("found", "GET", "query?q=SELECT+Id,Name+FROM+Contact+WHERE+AccountId='@{account.id}'"),
        part("read", "GET", "sobjects/Contact/@{found.records[0].Id}?fields=Account.Name"),
        part("changed", "PATCH", "sobjects/Account/@{account.id}", {"Phone": "1"}),
    ]
    made = rest("POST", "composite", json={"compositeRequest": parts}).json()["compositeResponse"]
    assert [each["httpStatusCode"] for each in made] == [201, 201, 200, 200, 204]
    assert [each["referenceId"] for each in made] == [each["referenceId"] for each in parts]
    assert made[0]["httpHeaders"] == {"Location": f"{DATA}/sobjects/Account/{made[0]['body']['id']}"}
    assert made[3]["body"]["Account"]["Name"] == "Referred"
    assert made[4]["body"] is None
    assert [each["counted"] for each in twin.control.calls(kind="composite")] == [1]


def test_a_reference_to_what_failed_halts_the_part_that_needs_it(rest: Rest) -> None:
    parts = [
        part("account", "POST", "sobjects/Account", {}),
        part("contact", "POST", "sobjects/Contact", {"LastName": "R", "AccountId": "@{account.id}"}),
        part("other", "POST", "sobjects/Account", {"Name": "Other"}),
    ]
    made = rest("POST", "composite", json={"compositeRequest": parts}).json()["compositeResponse"]
    assert [each["httpStatusCode"] for each in made] == [400, 400, 201]
    assert made[1]["body"][0]["errorCode"] == "PROCESSING_HALTED"


def test_all_or_none_takes_everything_back(twin: Twin, rest: Rest) -> None:
    before = twin.control.count("Account")
    seen: list[Any] = []
    twin.site.org.store.listeners.append(seen.extend)
    parts = [part("first", "POST", "sobjects/Account", {"Name": "A"}), part("second", "POST", "sobjects/Account", {})]
    given = {"allOrNone": True, "compositeRequest": parts}
    made = rest("POST", "composite", json=given).json()["compositeResponse"]
    twin.site.org.store.listeners.remove(seen.extend)
    assert [each["body"][0]["errorCode"] for each in made] == ["PROCESSING_HALTED", "REQUIRED_FIELD_MISSING"]
    assert twin.control.count("Account") == before
    assert seen == []


def test_names_of_parts_are_told_apart(rest: Rest) -> None:
    parts = [part("same", "GET", "limits"), part("same", "GET", "limits")]
    assert rest.refused("POST", "composite", json={"compositeRequest": parts}) == (400, "INVALID_INPUT")
    dashed = [part("with-dash", "GET", "limits")]
    assert rest.refused("POST", "composite", json={"compositeRequest": dashed}) == (400, "INVALID_INPUT")


def test_five_collections_ride_in_one_call(twin: Twin, rest: Rest) -> None:
    ids = twin.control.create("Lead", [{"LastName": f"L{n}", "Company": "C"} for n in range(1000)])
    bodies = [
        {
            "allOrNone": False,
            "records": [{"attributes": {"type": "Lead"}, "id": each, "Score__c": 9} for each in ids[n : n + 200]],
        }
        for n in range(0, 1000, 200)
    ]
    parts = [part(f"part{n}", "PATCH", "composite/sobjects", each) for n, each in enumerate(bodies)]
    made = rest("POST", "composite", json={"compositeRequest": parts}).json()["compositeResponse"]
    assert all(one["success"] for each in made for one in each["body"])
    assert {each["Score__c"] for each in twin.control.find("Lead", "Id", ids)} == {9.0}
    (call,) = twin.control.calls(kind="composite")
    assert (call["counted"], call["detail"]["records"], call["detail"]["failed"]) == (1, 1000, 0)


def test_a_part_may_have_headers_of_its_own_but_no_login(twin: Twin, rest: Rest) -> None:
    given = {"LastName": "Same", "Company": "C", "Email": "same@composite.example"}
    twin.control.create("Lead", [given])
    twin.control.rule("duplicates", "Lead", "own", {"fields": ["Email"], "action": "alert"})
    own = {"Sforce-Duplicate-Rule-Header": "allowSave=true", "Authorization": "Bearer nobody"}
    parts = [
        part("plain", "POST", "sobjects/Lead", given),
        {**part("own", "POST", "sobjects/Lead", given), "httpHeaders": own},
    ]
    made = rest("POST", "composite", json={"compositeRequest": parts}).json()["compositeResponse"]
    twin.control.rule("duplicates", "Lead", "own", None)
    assert [each["httpStatusCode"] for each in made] == [400, 201]
    assert made[0]["body"][0]["errorCode"] == "DUPLICATES_DETECTED"


def test_a_batch_counts_each_of_its_parts(twin: Twin, rest: Rest) -> None:
    parts = [
        {"method": "GET", "url": "v59.0/sobjects/Lead/describe"},
        {"method": "GET", "url": "v59.0/sobjects/Nothing/describe"},
        {"method": "POST", "url": "v59.0/sobjects/Lead", "richInput": {"LastName": "B", "Company": "C"}},
    ]
    made = rest("POST", "composite/batch", json={"batchRequests": parts}).json()
    assert made["hasErrors"] is True
    assert [each["statusCode"] for each in made["results"]] == [200, 404, 201]
    assert [each["counted"] for each in twin.control.calls(kind="composite_batch")] == [3]


def test_a_collection_is_read_in_the_order_that_was_asked(twin: Twin, rest: Rest, lead: str) -> None:
    other = twin.control.create("Lead", [{"LastName": "Other", "Company": "C"}])[0]
    missing = "00QTw0000000zzzAAA"
    given = {"ids": [other, missing, lead], "fields": ["Id", "Name"]}
    found = rest("POST", "composite/sobjects/Lead", json=given).json()
    assert [each and each["Name"] for each in found] == ["Other", None, "Own"]


def test_a_collection_upserts_by_key_and_says_what_it_created(twin: Twin, rest: Rest) -> None:
    def records(*keys: str | None) -> dict[str, Any]:
        base = {"attributes": {"type": "Lead"}, "LastName": "U", "Company": "C"}
        return {"records": [{**base, "Key__c": each} for each in keys]}

    first = rest("PATCH", "composite/sobjects/Lead/Key__c", json=records("c1", "c2")).json()
    assert [each["created"] for each in first] == [True, True]
    second = rest("PATCH", "composite/sobjects/Lead/Key__c", json=records("c2", "c3", None)).json()
    assert [each.get("created") for each in second] == [False, True, None]
    assert second[0]["id"] == first[1]["id"]
    assert second[2]["errors"][0]["statusCode"] == "MISSING_ARGUMENT"


def test_a_collection_takes_away_what_it_is_told(twin: Twin, rest: Rest, lead: str) -> None:
    answer = rest("DELETE", f"composite/sobjects?ids={lead},{lead[:15]},x").json()
    assert [each["success"] for each in answer] == [True, False, False]
    assert [each["errors"][0]["statusCode"] for each in answer[1:]] == ["ENTITY_IS_DELETED", "MALFORMED_ID"]
    assert twin.control.read(lead)["IsDeleted"] == 1
