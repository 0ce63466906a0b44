"""simple-salesforce works on the twin as it does on Salesforce: every login, reading, writing, bulk, and its errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceExpiredSession,
    SalesforceMalformedRequest,
    SalesforceMoreThanOneRecord,
    SalesforceResourceNotFound,
)

from connectors.salesforce.twin import Twin
from tests.connectors.salesforce.orgs import key_pair
from tests.connectors.salesforce.twin.conftest import session_to


@pytest.fixture(scope="module", name="key_pair")
def made_key_pair() -> tuple[str, str]:
    return key_pair()


def test_client_credentials_log_in(salesforce: Salesforce) -> None:
    assert salesforce.query("SELECT COUNT() FROM Lead")["totalSize"] >= 300
    assert salesforce.query("SELECT COUNT() FROM Lead LIMIT 7")["totalSize"] == 7


def test_a_signed_assertion_logs_in(twin: Twin, key_pair: tuple[str, str]) -> None:
    private, public = key_pair
    twin.control.certificate(public)
    told = twin.control.credentials()
    made = Salesforce(
        username=told["users"]["integration"]["username"],
        consumer_key=told["consumer_key"],
        privatekey=private,
        session=session_to(twin),
    )
    assert made.is_sandbox() is True


def test_an_assertion_of_another_key_is_refused(twin: Twin, key_pair: tuple[str, str]) -> None:
    other = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    private = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    twin.control.certificate(key_pair[1])
    told = twin.control.credentials()
    with pytest.raises(SalesforceAuthenticationFailed, match="invalid_grant"):
        Salesforce(
            username=told["users"]["integration"]["username"],
            consumer_key=told["consumer_key"],
            privatekey=private.decode(),
            session=session_to(twin),
        )


def test_name_password_and_security_token_log_in_by_soap(twin: Twin) -> None:
    user = twin.control.credentials()["users"]["integration"]
    made = Salesforce(**user, session=session_to(twin))
    assert made.sf_instance == twin.host
    assert made.query("SELECT Id FROM Lead LIMIT 1")["totalSize"] == 1


def test_a_wrong_password_is_refused_by_soap(twin: Twin) -> None:
    user = twin.control.credentials()["users"]["integration"]
    with pytest.raises(SalesforceAuthenticationFailed, match="INVALID_LOGIN"):
        Salesforce(**{**user, "password": "wrong"}, session=session_to(twin))


def test_name_and_password_with_the_keys_of_an_app_log_in(twin: Twin) -> None:
    told = twin.control.credentials()
    user = told["users"]["integration"]
    made = Salesforce(
        username=user["username"],
        password=user["password"] + user["security_token"],
        consumer_key=told["consumer_key"],
        consumer_secret=told["consumer_secret"],
        session=session_to(twin),
    )
    assert made.limits()["DailyApiRequests"]["Max"] == 15_000


def test_wrong_keys_of_an_app_are_refused(twin: Twin) -> None:
    with pytest.raises(SalesforceAuthenticationFailed, match="invalid_client_id"):
        Salesforce(consumer_key="x", consumer_secret="y", domain="twin.my", session=session_to(twin))


def test_a_session_that_died_is_renewed_and_the_call_repeated(twin: Twin, salesforce: Salesforce) -> None:
    before = salesforce.session_id
    assert twin.control.kill_tokens() >= 1
    assert salesforce.query("SELECT Id FROM Lead LIMIT 1")["totalSize"] == 1
    assert salesforce.session_id != before


def test_a_session_that_nobody_can_renew_is_expired(twin: Twin) -> None:
    made = Salesforce(session_id="00Dnone!x", instance_url=twin.url, session=session_to(twin))
    with pytest.raises(SalesforceExpiredSession) as caught:
        made.query("SELECT Id FROM Lead")
    assert caught.value.content == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]


def test_every_record_comes_through_the_pages(twin: Twin, salesforce: Salesforce) -> None:
    twin.control.seed(2300, seed=5)
    found = salesforce.query_all("SELECT Id, Account.Name FROM Contact")["records"]
    assert len({each["Id"] for each in found}) == len(found) == twin.control.count("Contact")
    leads = salesforce.query_all("SELECT Id FROM Lead ORDER BY SystemModstamp, Id")["records"]
    assert len({each["Id"] for each in leads}) == twin.control.count("Lead")
    assert [each["kind"] for each in twin.control.calls(kind="query.more")] == ["query.more"]


def test_a_record_is_made_read_changed_and_taken_away(twin: Twin, salesforce: Salesforce) -> None:
    made = salesforce.Lead.create({"LastName": "Öz", "Company": "Çelik & Söhne", "AnnualRevenue": 12_000_000.5})
    read = salesforce.Lead.get(made["id"])
    assert (read["Name"], read["Company"], read["AnnualRevenue"]) == ("Öz", "Çelik & Söhne", 12_000_001.0)
    assert salesforce.Lead.update(made["id"], {"Score__c": 83, "FirstName": "Ada"}) == 204
    assert salesforce.Lead.get(made["id"])["Name"] == "Ada Öz"
    assert salesforce.Lead.delete(made["id"]) == 204
    with pytest.raises(SalesforceResourceNotFound) as caught:
        salesforce.Lead.delete(made["id"])
    assert caught.value.content[0]["errorCode"] == "ENTITY_IS_DELETED"
    assert twin.control.read(made["id"])["IsDeleted"] == 1
    asked = f"SELECT Id FROM Lead WHERE Id = '{made['id']}'"
    assert salesforce.query_all(asked)["totalSize"] == 0
    assert salesforce.query_all(asked, include_deleted=True)["totalSize"] == 1


def test_an_upsert_creates_once_and_then_updates(twin: Twin, salesforce: Salesforce) -> None:
    given = {"LastName": "Upsert", "Company": "Test"}
    assert salesforce.Lead.upsert("Key__c/up-1", given) == 201
    assert salesforce.Lead.upsert("Key__c/up-1", {**given, "Score__c": 7}) == 200
    (stored,) = twin.control.find("Lead", "Key__c", ["up-1"])
    assert stored["Score__c"] == 7


def test_several_records_for_one_key_are_listed(twin: Twin, salesforce: Salesforce) -> None:
    twin.control.add_field("Lead", "Loose__c string 40 external")
    ids = twin.control.create("Lead", [{"LastName": "A", "Company": "B", "Loose__c": "same"}] * 2)
    with pytest.raises(SalesforceMoreThanOneRecord) as caught:
        salesforce.Lead.get_by_custom_id("Loose__c", "same")
    assert caught.value.content == [f"/services/data/v59.0/sobjects/Lead/{each}" for each in ids]
    twin.control.drop_field("Lead", "Loose__c")


def test_bulk_writes_and_tells_what_became_of_each_row(twin: Twin, salesforce: Salesforce) -> None:
    rows = [
        {"Key__c": f"bulk-{n}", "LastName": "B", "Company": "C", "Score__c": "5000" if n == 3 else str(n)}
        for n in range(450)
    ]
    (done,) = salesforce.bulk2.Lead.upsert(records=rows, external_id_field="Key__c", wait=0.05)
    assert (done["numberRecordsProcessed"], done["numberRecordsFailed"]) == (450, 1)
    failed = salesforce.bulk2.Lead.get_failed_records(done["job_id"]).splitlines()
    assert failed[0].startswith('"sf__Id","sf__Error",')
    assert failed[1].startswith('"","NUMBER_OUTSIDE_VALID_RANGE:')
    assert len(salesforce.bulk2.Lead.get_successful_records(done["job_id"]).splitlines()) == 450
    assert len(salesforce.bulk2.Lead.get_unprocessed_records(done["job_id"]).splitlines()) == 1
    assert twin.control.find("Lead", "Key__c", ["bulk-7"])[0]["Score__c"] == 7


def test_bulk_reads_in_pages(twin: Twin, salesforce: Salesforce) -> None:
    pages = list(salesforce.bulk2.Lead.query("SELECT Id, Description FROM Lead", max_records=200))
    assert len(pages) > 1
    assert all(page.startswith('"Id","Description"\n') for page in pages)
    assert sum(page.count('"00Q') for page in pages) == twin.control.count("Lead")


def test_a_refused_record_comes_as_the_error_that_simple_salesforce_knows(salesforce: Salesforce) -> None:
    with pytest.raises(SalesforceMalformedRequest) as caught:
        salesforce.Lead.create({"LastName": "X"})
    assert caught.value.content == [
        {
            "message": "Required fields are missing: [Company]",
            "errorCode": "REQUIRED_FIELD_MISSING",
            "fields": ["Company"],
        }
    ]


def test_the_budget_is_told_with_every_answer(twin: Twin, login: Callable[..., Salesforce]) -> None:
    twin.control.budget(most=1000, used=400)
    made = login()
    made.query("SELECT Id FROM Lead LIMIT 1")
    assert made.api_usage["api-usage"] == (401, 1000)
    assert made.limits()["DailyApiRequests"] == {"Max": 1000, "Remaining": 599}
    twin.control.budget(most=15_000)
