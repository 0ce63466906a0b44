"""What the twin answers has the shape of what Salesforce was recorded to answer, member by member."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from connectors.salesforce.twin import Twin
from connectors.salesforce.twin.org.standard import standard_objects
from tests.connectors.salesforce.twin.conftest import Rest

pytestmark = pytest.mark.shared_data
NEW = {"LastName": "X", "Company": "Y"}
COMPARED = (
    "compoundFieldName",
    "createable",
    "defaultedOnCreate",
    "filterable",
    "groupable",
    "idLookup",
    "length",
    "nillable",
    "permissionable",
    "precision",
    "referenceTo",
    "relationshipName",
    "scale",
    "soapType",
    "sortable",
    "type",
    "updateable",
)
"""What decides how a client reads and writes a field; labels are the org's own."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Twin]:
    """A twin whose objects are the recorded ones."""
    from tests.conftest import SHARED

    contracts = SHARED / "data" / "contracts" / "salesforce"
    if not contracts.is_dir():
        pytest.skip("the recorded documents do not stand beside the checkout")
    with Twin(tmp_path_factory.mktemp("twin"), contracts=contracts, records=6) as made:
        made.control.add_field("Lead", "Key__c string 40 external unique")
        yield made


def document(contracts: Path, name: str) -> Any:
    return json.loads((contracts / name).read_text(encoding="utf-8"))


def shape(value: Any) -> Any:
    """The names and kinds of a JSON value; of a list, those of its first member."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


@pytest.mark.parametrize("name", ["Lead", "Contact", "Account", "Opportunity"])
def test_a_recorded_describe_comes_back_member_by_member(contracts: Path, rest: Rest, name: str) -> None:
    recorded = document(contracts, f"describe/{name}.describe.json")
    found = rest("GET", f"sobjects/{name}/describe").json()
    site = re.compile(r"https://[^/]+")

    def level(value: Any) -> Any:
        text = json.dumps(value)
        return json.loads(re.sub(r"/v(\d+|xx)\.0/", "/v/", site.sub("https://site", text)))

    assert set(found) == set(recorded)
    found["fields"] = [each for each in found["fields"] if each["name"] != "Key__c"]
    for member in recorded:
        assert level(found[member]) == level(recorded[member]), member


@pytest.mark.parametrize("name", ["Lead", "Contact", "Account", "Opportunity"])
def test_a_describe_of_our_own_agrees_with_a_recorded_one(contracts: Path, name: str) -> None:
    recorded = document(contracts, f"describe/{name}.describe.json")
    theirs = {each["name"]: each for each in recorded["fields"]}
    (ours,) = [each for each in standard_objects() if each["name"] == name]
    later = {"associateEntityType", "associateParentEntity", "sobjectDescribeOption"}
    assert set(ours) | {"urls"} | later == set(recorded) | later
    different = {}
    for field in ours["fields"]:
        assert set(field) == set(theirs["Id"])
        # A recorded org may have person accounts, whose name is put together.
        if field["name"] in theirs and (name, field["name"]) != ("Account", "Name"):
            own, other = ({member: each[member] for member in COMPARED} for each in (field, theirs[field["name"]]))
            if own != other:
                different[field["name"]] = (own, other)
    assert different == {}


def test_the_list_of_objects_has_the_recorded_members(contracts: Path, rest: Rest) -> None:
    recorded = document(contracts, "describe/sobjects_global.json")
    found = rest("GET", "sobjects").json()
    assert {name: value for name, value in found.items() if name != "sobjects"} == {
        name: value for name, value in recorded.items() if name != "sobjects"
    }
    theirs = {each["name"]: each for each in recorded["sobjects"]}
    for each in found["sobjects"]:
        if each["name"] in theirs and each["name"] != "Whizbang":
            assert set(each) == set(theirs[each["name"]]), each["name"]
            assert set(each["urls"]) >= {"sobject", "describe", "rowTemplate"}


def test_errors_have_the_recorded_members_and_codes(contracts: Path, rest: Rest, lead: str) -> None:
    def recorded(name: str) -> Any:
        return document(contracts, f"errors/{name}.json")

    assert rest("GET", "sobjects/Foo/describe").json() == recorded("describe_not_found")
    anonymous = {"Authorization": "Bearer x"}
    assert rest("GET", "limits", headers=anonymous).json() == recorded("invalid_session_id_401")
    given = {**NEW, "Email": "Not a real email address"}
    assert rest("POST", "sobjects/Lead", json=given).json() == recorded("invalid_email_address_400")
    written = rest("POST", "sobjects/Lead", json={**NEW, "foo": 1}).json()
    expected = recorded("write_invalid_field")
    assert written == [{**expected[0], "message": expected[0]["message"].replace("Bar", "Lead")}]
    gone = rest("DELETE", "sobjects/Lead/rid").json()
    assert gone == recorded("delete_not_found")
    assert shape(rest("GET", "query?q=SELECT+Foo+FROM+Lead").json()) == shape(recorded("query_invalid_field"))


def test_answers_have_the_recorded_members(contracts: Path, twin: Twin, rest: Rest) -> None:
    def recorded(name: str) -> Any:
        return document(contracts, name)

    created = rest("POST", "sobjects/Lead", json=NEW).json()
    assert shape(created) == shape(recorded("dml/create_success.json"))
    empty = rest("GET", "query?q=SELECT+Id+FROM+Lead+WHERE+Company='nobody'").json()
    assert empty == recorded("query/query_empty.json")
    assert set(rest("GET", "limits").json()) >= {"DailyApiRequests", "DataStorageMB", "SingleEmail"}
    assert shape(rest("GET", "limits").json()["DailyApiRequests"]) == {"Max": "int", "Remaining": "int"}
    versions = rest("GET", "/services/data").json()
    assert shape(versions[0]) == shape(recorded("misc/services_data_versions.json")[0])
    assert versions[0] == recorded("misc/services_data_versions.json")[0]
    lead = created["id"]
    assert shape(rest("GET", f"sobjects/Lead/updated?{_span(twin)}").json()) == shape(
        recorded("replication/get_updated.json")
    )
    twin.control.remove(lead)
    assert shape(rest("GET", f"sobjects/Lead/deleted?{_span(twin)}").json()) == shape(
        recorded("replication/get_deleted.json")
    )


def _span(twin: Twin) -> str:
    from datetime import timedelta

    now = twin.site.org.clock.now()
    start, end = now - timedelta(days=1), now + timedelta(minutes=2)
    return f"start={start:%Y-%m-%dT%H:%M:%SZ}&end={end:%Y-%m-%dT%H:%M:%SZ}"


def test_composite_answers_have_the_recorded_members(contracts: Path, rest: Rest) -> None:
    recorded = document(contracts, "composite/composite_response_success.json")["compositeResponse"][0]
    part = {"method": "POST", "url": "/services/data/v38.0/sobjects/Account", "referenceId": "NewAccount"}
    given = {"compositeRequest": [{**part, "body": {"Name": "N"}}]}
    found = rest("POST", "composite", json=given).json()["compositeResponse"][0]
    assert shape(found) == shape(recorded)
    (exchange,) = document(contracts, "recorded/composite_subrequest_not_found.json")
    answer = rest("POST", "composite", json=_versioned(exchange["request"]["body"]))
    assert answer.status_code == exchange["response"]["status"]
    assert answer.json() == json.loads(exchange["response"]["body"])
    assert answer.headers["Content-Type"] == exchange["response"]["headers"]["Content-Type"]


def test_bulk_jobs_have_the_recorded_members(contracts: Path, twin: Twin, rest: Rest) -> None:
    def kinds(value: Any) -> Any:
        return {
            name: each for name, each in shape(value).items() if name not in {"externalIdFieldName", "errorMessage"}
        }

    made = rest("POST", "jobs/ingest", json={"operation": "insert", "object": "Account"}).json()
    recorded = kinds(document(contracts, "bulk2/job_info_open.json"))
    # Recorded answers differ in whether the kind of job is among the members of a new one.
    assert kinds(made) == recorded
    job = made["id"]
    content = "Name\nA\n" + "x" * 300 + "\n"
    rest("PUT", f"jobs/ingest/{job}/batches", data=content.encode(), headers={"Content-Type": "text/csv"})
    rest("PATCH", f"jobs/ingest/{job}", json={"state": "UploadComplete"})
    twin.site.jobs.wait()
    told = rest("GET", f"jobs/ingest/{job}").json()
    assert kinds(told) == kinds(document(contracts, "bulk2/job_info_processed_with_failures.json"))
    for which, file in (
        ("successfulResults", "successfulResults"),
        ("failedResults", "failedResults_UNABLE_TO_LOCK_ROW"),
    ):
        first = rest("GET", f"jobs/ingest/{job}/{which}").text.splitlines()[0]
        recorded_first = (contracts / "bulk2" / f"{file}.csv").read_text().splitlines()[0]
        assert first.split(",")[:2] == recorded_first.split(",")[:2]


def _versioned(value: Any) -> Any:
    return json.loads(json.dumps(value).replace("/vxx.0/", "/v59.0/"))


@pytest.mark.parametrize(
    "name", ["account_query_all_fields", "update_composite_sobjects", "upsert_rest_external_id_duplicate"]
)
def test_recorded_calls_are_answered_in_the_recorded_shape(contracts: Path, twin: Twin, rest: Rest, name: str) -> None:
    exchanges = [each for each in document(contracts, f"recorded/{name}.json") if "request" in each]
    assert exchanges
    ids = iter(twin.control.create("Account", [{"Name": f"Account {n}"} for n in range(60)]))
    known: dict[str, str] = {}
    for exchange in exchanges:
        request, response = _versioned(exchange["request"]), exchange["response"]
        split = urlsplit(request["uri"])
        text = json.dumps(request["body"])
        for found in re.findall(r"\"(0015\w{14}|0012\w{14})\"", text):
            known.setdefault(found, next(ids))
        for theirs, ours in known.items():
            text = text.replace(theirs, ours)
        params = {key: values[0] for key, values in parse_qs(split.query).items()}
        answer = rest(request["method"], split.path, params=params, json=json.loads(text) if request["body"] else None)
        assert answer.status_code == response["status"], answer.text
        expected = json.loads(response["body"])
        for mine, recorded in zip(_members(answer.json()), _members(expected), strict=True):
            assert mine is None or recorded is None or mine == recorded, split.path


def _members(value: Any) -> Any:
    """The members of the answer and of its first record; how many records there are is the org's affair."""
    if isinstance(value, list):
        return [set(value[0]) if value else None]
    inner = value.get("records") or value.get("sObjects") or []
    return set(value), set(inner[0]) if inner else None
