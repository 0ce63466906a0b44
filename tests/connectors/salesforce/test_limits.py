"""What Salesforce bears of one call: an address, a body, a file, a record; and what moves without telling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from connectors.salesforce import ingest, writing
from connectors.salesforce.twin.org.org import MINIMUM
from hub.mappings import explain
from hub.runs import RunKind, RunState
from hub.sdk import Field, FieldType, Grant, Selection, UnauthorizedError, UnavailableError
from hub.sdk.testing.records import Change, records
from hub.sdk.testing.suite.steps import seed, write
from tests.connectors.salesforce.harness import BulkHarness, TwinHarness
from tests.connectors.salesforce.orgs import ME, LeadSite, document

Make = Callable[..., LeadSite]
ACCOUNTS = """lookups:
  customer:
    entity: Account
    match: { Name: Company }
    aggregate: { n: "count(*)" }
"""
WIDE = tuple(f"A_field_with_quite_a_long_name_{number:04d}__c" for number in range(340))


def test_an_object_too_wide_for_an_address_is_read_and_looked_up_all_the_same(make_org: Make) -> None:
    site = make_org(6)
    control = site.twin.control
    for name in WIDE:
        control.add_field("Lead", f"{name} string 20")
    leads = [each["Id"] for each in site.leads()]
    control.edit(leads[2], {WIDE[0]: "first", WIDE[-1]: "last"})
    names = ("Id", "LastName", *WIDE)
    with site.hub.connections.open("crm", Grant(reads={"Lead": frozenset(names)})) as far:
        source = far.source()
        assert source is not None
        control.forget_calls()
        read = pl.concat([page.frame for page in source.read(Selection("Lead", names))])
        found = pl.concat(
            [page.frame for page in source.lookup(Selection("Lead", names), pl.DataFrame({"Id": leads[1:4]}))]
        )
    for frame, keys in ((read, leads), (found, leads[1:4])):
        assert sorted(frame["Id"]) == sorted(keys)
        (row,) = frame.filter(pl.col("Id") == leads[2]).rows(named=True)
        assert (row[WIDE[0]], row[WIDE[1]], row[WIDE[-1]]) == ("first", None, "last")
    assert {each["status"] for each in control.calls()} <= {200, 201}
    assert len(control.calls(kind="query.query")) == 3  # three parts of its fields, one after the other
    assert control.calls(kind="bulk.query.create")


def test_keys_that_are_long_in_an_address_are_asked_for_in_as_many_queries_as_it_takes(make_org: Make) -> None:
    site = make_org(0)
    names = [f"{number:02d}{'日本の会社' * 50}" for number in range(12)]
    site.twin.control.create("Lead", [{"LastName": "L", "Company": each} for each in names])
    with site.hub.connections.open("crm", Grant(reads={"Lead": frozenset({"Id", "Company"})})) as far:
        source = far.source()
        assert source is not None
        asked = pl.DataFrame({"Company": names})
        found = [page.frame for page in source.lookup(Selection("Lead", ("Id", "Company")), asked)]
    assert sorted(pl.concat(found)["Company"]) == sorted(names)
    assert {each["status"] for each in site.twin.control.calls()} <= {200, 201}


def test_a_query_that_is_let_go_of_is_asked_anew_behind_the_last_page_and_not_for_ever(make_org: Make) -> None:
    site = make_org(4_500, way={"reads": "rest"})
    site.twin.control.create("Lead", [{"LastName": "Twin", "Company": "Same"}] * 2_100)
    site.twin.control.cursor_seconds(-1)
    with site.hub.connections.open("crm", Grant(reads={"Lead": frozenset({"Id", "Company"})})) as far:
        source = far.source()
        assert source is not None
        wanted = Selection("Lead", ("Id", "Company"), page_rows=900)
        read = pl.concat([page.frame for page in source.read(wanted)])
        assert read["Id"].to_list() == sorted(each["Id"] for each in site.leads())
        same = pl.concat([page.frame for page in source.lookup(wanted, pl.DataFrame({"Company": ["Same"]}))])
        assert (same.height, same["Id"].n_unique()) == (2_100, 2_100)
        site.twin.control.forget_calls()
        with pytest.raises(UnavailableError, match="does not keep a query"):
            list(source.read(replace(wanted, page_rows=5_000)))
    assert len(site.twin.control.calls(kind="query.query")) == 2


def test_a_session_that_dies_four_times_before_its_first_use_is_borne_and_no_fifth_time(make_org: Make) -> None:
    site = make_org(3, way={"reads": "rest"})
    control = site.twin.control
    with site.hub.connections.open("crm", Grant(reads={"Lead": frozenset({"Id"})})) as far:
        source = far.source()
        assert source is not None

        def read() -> int:
            return sum(page.frame.height for page in source.read(Selection("Lead", ("Id",))))

        assert read() == 3
        control.fault("401", only="query", times=4)
        assert read() == 3
        control.forget_calls()
        control.fault("401", only="query", times=5)
        with pytest.raises(UnauthorizedError, match="refuses the sessions"):
            read()
        assert len(control.calls(kind="login.oauth")) == 4


def test_a_call_that_is_made_again_is_one_of_the_day_too_and_leaves_the_reserve_alone(make_org: Make) -> None:
    site = make_org(3, way={"reads": "rest"})
    control = site.twin.control
    with site.hub.connections.open("crm", Grant(reads={"Lead": frozenset({"Id"})})) as far:
        source = far.source()
        assert source is not None

        def read() -> int:
            return sum(page.frame.height for page in source.read(Selection("Lead", ("Id",))))

        read()
        control.budget(most=100, used=77)
        read()
        control.fault("half", only="query", times=3)
        with pytest.raises(UnavailableError, match="79 of the org's 100 calls of the day are used"):
            read()
    assert control.summary()["used"] == 79


def test_an_upload_is_cut_by_its_bytes_and_every_record_is_in_one_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "MOST_BYTES", 6_000)
    harness = BulkHarness(tmp_path)
    try:
        made = seed(harness, records(harness, 40))
        text = "日本語" * 100  # three bytes a letter
        batch = [Change({"Id": each["Id"]}, {"Story__c": f"{n} {text}"}) for n, each in enumerate(made)]
        assert {each["state"] for each in write(harness, batch)} == {"applied"}
        sizes = [each["detail"]["bytes"] for each in harness.twin.control.calls(kind="bulk.ingest.upload")]
        assert len(sizes) == 7
        assert max(sizes) <= 6_000
        for change in batch:
            stored = harness.stored("Lead", change.key)
            assert stored is not None
            assert stored["Story__c"] == change.values["Story__c"]
    finally:
        harness.close()


def test_a_record_that_a_job_does_not_take_goes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BULK_CHARACTERS", 1_000)
    monkeypatch.setattr(writing, "MOST_CHARACTERS", 5_000)
    harness = BulkHarness(tmp_path)
    try:
        made = seed(harness, records(harness, 12))
        batch = [
            Change({"Id": each["Id"]}, {"Story__c": "x" * (2_000 if n % 2 else 10)}) for n, each in enumerate(made)
        ]
        batch[0] = Change(batch[0].key, {"Story__c": "#N/A"})
        assert {each["state"] for each in write(harness, batch)} == {"applied"}
        told = harness.twin.control.calls(kind="composite")
        assert [each["detail"]["records"] for each in told if each["detail"].get("records")] == [3, 2, 2]
        assert len(harness.twin.control.calls(kind="bulk.ingest.upload")) == 1
        for change in batch:
            stored = harness.stored("Lead", change.key)
            assert stored is not None
            assert stored["Story__c"] == change.values["Story__c"]
    finally:
        harness.close()


@pytest.mark.parametrize("harness_class", [TwinHarness, BulkHarness])
def test_a_record_may_have_many_long_texts(tmp_path: Path, harness_class: type[TwinHarness]) -> None:
    harness = harness_class(tmp_path)
    try:
        fields = [f"Long_{number}__c" for number in range(13)]
        for each in fields:
            harness.twin.control.add_field("Lead", f"{each} textarea 32000")
        (made,) = seed(harness, records(harness, 1))
        text = "y" * 32_000  # thirteen times that are more than 400,000
        more = tuple(Field(each, FieldType.TEXT, writable=True, length=32_000) for each in fields)
        harness.entity = replace(harness.entity, fields=(*harness.entity.fields, *more))
        (told,) = write(harness, [Change({"Id": made["Id"]}, dict.fromkeys(fields, text))])
        assert told["state"] == "applied"
        stored = harness.twin.control.read(str(made["Id"]))
        assert stored is not None
        assert {stored[each] for each in fields} == {text}
    finally:
        harness.close()


def test_a_formula_that_moves_without_a_stamp_is_found_by_the_refresh(make_org: Make) -> None:
    site = make_org(12)
    control = site.twin.control
    control.add_field("Lead", "Age__c double 18,0 fixed")
    formula = {"calculated": True, "calculatedFormula": "TODAY() - DATEVALUE(CreatedDate)"}
    control.change_field("Lead", "Age__c", formula)
    stamped = document(read="  changed_by: SystemModstamp").replace("NumberOfEmployees", "Age__c")
    told = explain(site.hub.mappings.check(stamped, ME), datetime.now(UTC))
    assert "note: Age__c (derived) can change without SystemModstamp; refresh would catch that" in told
    read = "  changed_by: SystemModstamp\n  refresh: 100ms"
    site.publish(document(read=read).replace("NumberOfEmployees", "Age__c"))
    first = site.carry(site.order())
    assert (first.kind, first.state, first.counts["applied"]) == (RunKind.FULL, RunState.DONE, 12)
    control.advance(60)
    last = site.leads()[0]["Id"]
    control.edit(last, {"City": "Oslo"})  # the stamp that the next reading begins at
    site.carry(site.order(kind=RunKind.INCREMENTAL))
    scores = {each["Id"]: each["Score__c"] for each in site.leads()}

    control.advance(30 * 24 * 3600)

    missed = site.carry(site.order(kind=RunKind.INCREMENTAL))
    assert missed.counts.read == 1
    assert {each["Id"] for each in site.leads() if each["Score__c"] != scores[each["Id"]]} <= {last}
    found = site.carry(site.order())
    assert (found.kind, found.state) == (RunKind.FULL, RunState.DONE)
    assert found.counts["applied"] > 0
    assert len([each for each in site.leads() if each["Score__c"] != scores[each["Id"]]]) > 1


def test_a_check_reads_the_limits_of_the_day_and_a_run_takes_what_each_answer_tells(make_org: Make) -> None:
    site = make_org(4)
    site.twin.control.budget(most=1_000, used=500)
    site.twin.control.forget_calls()

    report = site.hub.connections.check("crm", ME)

    told = site.twin.control.summary()
    assert report.budget_left == told["most"] * 80 // 100 - told["used"] - 10  # which are set aside for looks
    assert len(site.twin.control.calls(kind="limits")) == 1
    site.publish()
    run = site.order()
    site.carry(run)
    assert site.look(run).state is RunState.DONE
    assert len(site.twin.control.calls(kind="limits")) == 1


def test_a_login_that_may_not_view_the_setup_is_checked_all_the_same(make_org: Make) -> None:
    site = make_org(4)
    site.twin.control.set_profile(MINIMUM)
    report = site.hub.connections.check("crm", ME)
    assert report.budget_left is not None  # by the headers alone
    assert [each["status"] for each in site.twin.control.calls(kind="limits")] == [403]


def test_a_key_that_the_leads_of_many_pages_share_is_looked_up_once_in_a_run(make_org: Make) -> None:
    site = make_org(24, way={"reads": "rest", "writes": "collections"}, page_rows=8)
    control = site.twin.control
    control.create("Account", [{"Name": "Acme"}])
    for number, lead in enumerate(site.leads()):
        control.edit(lead["Id"], {"Company": "Acme" if number % 8 else f"Company {number}"})
    site.publish(document(read=ACCOUNTS).replace('y: "1"', 'y: "1.0 * customer.n"'))
    run = site.order()
    control.forget_calls()
    assert site.carry(run).counts.by == {"applied": 24}
    texts = [each["detail"]["soql"] for each in control.calls(kind="query.query")]
    asked = [each for each in texts if "FROM Account" in each]
    assert len(asked) == 3  # each page has one company of its own
    assert sum("'Acme'" in each for each in asked) == 1
