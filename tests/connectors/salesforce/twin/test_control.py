"""Faults happen as they were asked for, facts hold at once, and the journal tells of every call."""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import requests
from simple_salesforce import Salesforce

from connectors.salesforce.twin import Twin
from connectors.salesforce.twin.org.store import Change
from tests.connectors.salesforce.twin.conftest import Rest

QUERY = "query?q=SELECT+Id+FROM+Lead+LIMIT+1"


@pytest.mark.parametrize("what", ["503", "429", "limit"])
def test_a_storm_asks_to_wait_and_notes_who_does_not(twin: Twin, rest: Rest, what: str) -> None:
    twin.control.fault(what, times=1, retry_after=30)
    answer = rest("GET", QUERY)
    assert (answer.status_code, answer.headers["Retry-After"]) == ({"503": 503, "429": 429, "limit": 403}[what], "30")
    assert answer.json()[0]["errorCode"] == ("SERVER_UNAVAILABLE" if what == "503" else "REQUEST_LIMIT_EXCEEDED")
    assert rest("GET", QUERY).status_code == 200
    told = twin.control.calls()
    assert [(each["fault"], each["inside_wait"]) for each in told] == [(what, 0), (None, 1)]
    assert twin.control.summary()["inside_wait"] == 1
    twin.control.advance(31)
    assert rest("GET", QUERY).status_code == 200
    assert twin.control.calls()[-1]["inside_wait"] == 0
    twin.control.advance(-31)


def test_a_wait_is_also_told_as_a_date(twin: Twin, rest: Rest) -> None:
    twin.control.fault("503", times=1, retry_after=30, as_date=True)
    told = email.utils.parsedate_to_datetime(rest("GET", QUERY).headers["Retry-After"])
    assert 27 <= (told - datetime.now(UTC)).total_seconds() <= 31


def test_a_fault_meets_the_calls_that_it_is_meant_for(twin: Twin, rest: Rest) -> None:
    twin.control.fault("503", only="collections", skip=1, times=2)
    body: dict[str, Any] = {"records": []}
    seen = [rest("POST", "composite/sobjects", json=body).status_code for _ in range(4)]
    assert seen == [200, 503, 503, 200]
    twin.control.fault("503", rate=0.5)
    assert {rest("GET", QUERY).status_code for _ in range(20)} == {200, 503}


@pytest.mark.parametrize(("what", "written"), [("cut", False), ("cut_after", True), ("half", True)])
def test_a_cut_connection_has_or_has_not_written(twin: Twin, rest: Rest, lead: str, what: str, written: bool) -> None:
    twin.control.fault(what, times=1, only="collections")
    body = {"records": [{"attributes": {"type": "Lead"}, "id": lead, "City": "Cut"}]}
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        rest("PATCH", "composite/sobjects", json=body)
    assert (twin.control.read(lead)["City"] == "Cut") is written
    assert rest("GET", QUERY).status_code == 200


def test_tokens_die_in_the_middle_and_by_themselves(twin: Twin, rest: Rest) -> None:
    twin.control.fault("401", times=1)
    assert rest.refused("GET", QUERY) == (401, "INVALID_SESSION_ID")
    again = Rest(twin)
    twin.control.token_seconds(60)
    assert again("GET", QUERY).status_code == 200
    twin.control.advance(50)
    assert again("GET", QUERY).status_code == 200
    twin.control.advance(61)
    assert again.refused("GET", QUERY) == (401, "INVALID_SESSION_ID")
    twin.control.advance(-111)
    twin.control.token_seconds(7200)


def test_each_change_is_told_with_who_and_what(twin: Twin, rest: Rest, lead: str) -> None:
    told: list[Change] = []
    store = twin.site.org.store
    before = store.replay_bounds()[1]
    store.listeners.append(told.extend)
    rest("PATCH", f"sobjects/Lead/{lead}", json={"City": "Oslo", "LastName": "Own"})
    twin.control.edit(lead, {"Score__c": 4})
    twin.control.remove(lead)
    store.listeners.remove(told.extend)
    users = twin.site.org.users
    assert [(each.kind, each.record, each.user) for each in told] == [
        ("UPDATE", lead, users["integration"]),
        ("UPDATE", lead, users["sales"]),
        ("DELETE", lead, users["sales"]),
    ]
    assert [set(each.values) for each in told] == [
        {"City", "LastModifiedDate"},
        {"Score__c", "LastModifiedDate"},
        set(),
    ]
    assert [each.replay for each in told] == sorted({each.replay for each in told})
    assert store.changes_after(before, ["Lead"]) == told
    listed = twin.control.told("Lead", after=before)
    assert listed["last"] == told[-1].replay
    assert [(each["record"], each["kind"], each["fields"]) for each in listed["events"]] == [
        (each.record, each.kind, sorted(each.values)) for each in told
    ]
    assert {each["by"] for each in listed["events"]} <= set(twin.site.org.users)
    assert twin.control.told("Lead", after=listed["last"]) == {"events": [], "last": listed["last"]}


def test_what_is_forgotten_leaves_the_numbers_growing(twin: Twin, lead: str) -> None:
    store = twin.site.org.store
    last = store.replay_bounds()[1]
    store.forget_changes(last)
    assert store.replay_bounds() == (0, 0)
    twin.control.edit(lead, {"Score__c": 1})
    assert store.replay_bounds()[0] > last


def test_a_trigger_stamps_the_record_that_is_referred_to(twin: Twin, rest: Rest) -> None:
    master = twin.control.create("Account", [{"Name": "M"}])[0]
    detail = twin.control.create("Contact", [{"LastName": "D", "AccountId": master}])[0]
    twin.control.shift(master, {"SystemModstamp": "2020-01-01T00:00:00.000+0000"})
    twin.control.rule("trigger", "Contact", "own", {"touch": "AccountId", "sets": {"Description": "touched"}})
    rest("PATCH", f"sobjects/Contact/{detail}", json={"Phone": "1"})
    stored = twin.control.read(master)
    assert stored["SystemModstamp"] > "2026"
    assert stored["Description"] == "touched"
    twin.control.rule("trigger", "Contact", "own", None)


def test_formulas_and_roll_ups_move_without_a_stamp(twin: Twin, rest: Rest) -> None:
    formula = {"type": "double", "calculated": True, "createable": False, "updateable": False}
    from connectors.salesforce.twin.org.documents import field_document

    def add(entity: str, name: str, text: str, kind: str = "double") -> None:
        document = field_document(name, kind, **{**formula, "type": kind, "calculatedFormula": text})
        twin.control.add_field(entity, document)

    add("Account", "Open_Amount__c", "SUM(Opportunity.AccountId.Amount)")
    add("Contact", "Account_Industry__c", "Account.Industry", "string")
    add("Contact", "Age_Days__c", "TODAY() - DATEVALUE(CreatedDate)", "int")
    master = twin.control.create("Account", [{"Name": "M", "Industry": "Energy"}])[0]
    detail = twin.control.create("Contact", [{"LastName": "D", "AccountId": master}])[0]
    deal = {"Name": "O", "StageName": "Prospecting", "CloseDate": "2030-01-01", "Amount": 10}
    stamp = twin.control.read(master)["SystemModstamp"]

    def read() -> tuple[Any, ...]:
        text = f"SELECT Account.Open_Amount__c, Account_Industry__c, Age_Days__c FROM Contact WHERE Id = '{detail}'"
        row = rest("GET", "query", params={"q": text}).json()["records"][0]
        return row["Account"]["Open_Amount__c"], row["Account_Industry__c"], row["Age_Days__c"]

    assert read() == (None, "Energy", 0)
    twin.control.create("Opportunity", [{**deal, "AccountId": master}] * 2)
    twin.control.shift(master, {"Industry": "Retail"})
    twin.control.advance(86_400 * 3)
    again = Rest(twin)
    text = f"SELECT Account.Open_Amount__c, Account_Industry__c, Age_Days__c FROM Contact WHERE Id = '{detail}'"
    row = again("GET", "query", params={"q": text}).json()["records"][0]
    assert (row["Account"]["Open_Amount__c"], row["Account_Industry__c"], row["Age_Days__c"]) == (20.0, "Retail", 3)
    twin.control.advance(-86_400 * 3)
    assert twin.control.read(master)["SystemModstamp"] == stamp
    assert rest.refused("PATCH", f"sobjects/Contact/{detail}", json={"Age_Days__c": 1})[1] == (
        "INVALID_FIELD_FOR_INSERT_UPDATE"
    )


def test_the_control_port_does_what_the_methods_do(twin: Twin, lead: str) -> None:
    def post(name: str, **given: Any) -> httpx.Response:
        return httpx.post(f"{twin.control_url}/{name}", json=given, trust_env=False, timeout=30)

    assert post("read", record=lead).json()["result"]["LastName"] == "Own"
    assert post("edit", record=lead, values={"City": "Porto"}).json() == {"result": None}
    assert twin.control.read(lead)["City"] == "Porto"
    assert post("edit", record=lead, values={"City": "x" * 41}).json()["error"] == "STRING_TOO_LONG"
    assert post("fault", what="flood").status_code == 400
    assert post("nothing").status_code == 404
    assert post("_done").status_code == 404
    plain = httpx.post(f"{twin.control_url}/kill_tokens", content=b"{}", trust_env=False, timeout=30)
    assert plain.status_code == 404
    elsewhere = {"Host": "twin.example", "Content-Type": "application/json"}
    named = httpx.post(f"{twin.control_url}/kill_tokens", content=b"{}", headers=elsewhere, trust_env=False, timeout=30)
    assert named.status_code == 404


def test_the_journal_counts_as_salesforce_counts(twin: Twin, login: Callable[..., Salesforce]) -> None:
    made = login()
    made.query("SELECT Id FROM Lead LIMIT 1")
    made.Lead.describe()
    summary = twin.control.summary()
    assert summary["kinds"] == {
        "login.oauth": {"calls": 1, "counted": 0},
        "query.query": {"calls": 1, "counted": 1},
        "describe.object": {"calls": 1, "counted": 1},
    }
    assert summary["used"] == summary["counted"] == 2
    last = twin.control.calls(after=1)[-1]
    assert (last["method"], last["status"], last["user"]) == ("GET", 200, twin.site.org.users["integration"])


def test_nothing_of_a_twin_is_reached_from_elsewhere(twin: Twin) -> None:
    import psutil

    ports = {int(twin.host.rpartition(":")[2]), int(twin.control_url.rpartition(":")[2])}
    listening = [each.laddr for each in psutil.Process().net_connections("tcp") if each.status == "LISTEN"]
    assert {each.port: each.ip for each in listening if each.port in ports} == dict.fromkeys(ports, "127.0.0.1")
