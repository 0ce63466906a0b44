"""Records named by a unique external id: made, found again, taken back, and told apart as the org does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hub.mappings import MappingError
from hub.runs import RunState, undo
from hub.sdk import Mode, Selection
from hub.sdk.testing.records import Change, records
from hub.sdk.testing.suite.steps import reading, rows, seed, write
from tests.connectors.salesforce.harness import BulkHarness, TwinHarness
from tests.connectors.salesforce.orgs import ME, LeadSite, document

Make = Callable[..., LeadSite]
AWKWARD = ("a/b?c#d", "50 % & more", "x+y=z;'\"\\", "Ünï/çødé 日本", "..", "%41", "line,with,commas")
WRITE = """  mode: {mode}
  entity: Account
  key: {{ Lead_Id__c: Id }}
  set: {{ Score__c: score, Name: band }}"""


@pytest.fixture(params=[TwinHarness, BulkHarness], ids=["rest", "bulk"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TwinHarness]:
    made: TwinHarness = request.param(tmp_path)
    made.entity = made.entity.keyed_by(["Ours__c"])
    yield made
    made.close()


def by(run: Any) -> dict[str, int]:
    return {name: count for name, count in run.counts.by.items() if count}


def accounts(site: LeadSite) -> dict[str, tuple[Any, Any]]:
    found = site.twin.control.find("Account", "IsDeleted", [0])
    return {each["Lead_Id__c"]: (each["Name"], each["Score__c"]) for each in found if each["Lead_Id__c"]}


def org(make_org: Make, records: int = 8) -> LeadSite:
    site = make_org(records, way={"objects": ["Lead", "Account"]})
    site.twin.control.add_field("Account", "Lead_Id__c string 18 unique external")
    site.twin.control.add_field("Account", "Score__c double 3,0")
    return site


def test_a_mapping_makes_records_finds_them_again_and_an_undo_empties_them_and_says_so(make_org: Make) -> None:
    site = org(make_org)
    site.publish(write=WRITE.format(mode="upsert"))

    first = site.carry(site.order())

    assert (first.state, by(first)) == (RunState.DONE, {"applied": 8})
    assert set(accounts(site)) == {each["Id"] for each in site.leads()}
    assert by(site.carry(site.order())) == {"skipped": 8}
    taken = site.carry(undo(site.hub, first.id, ME))
    assert (taken.state, by(taken)) == (RunState.DONE, {"applied": 8})
    # No record is deleted, and a name cannot be empty.
    assert {score for _, score in accounts(site).values()} == {None}
    assert len(accounts(site)) == 8
    with site.hub.database.read() as session:
        (segment,) = site.hub.log.segments(session, run=taken.id)
    (why,) = site.hub.log.frame(segment.id)["_reason"].unique()
    assert why.endswith("so they are emptied where they can be, and the record stays")


def test_creating_never_overwrites_what_stands(make_org: Make) -> None:
    site = org(make_org)
    lead = site.leads()[0]["Id"]
    site.twin.control.create("Account", [{"Name": "Theirs", "Lead_Id__c": lead, "Score__c": 1}])
    site.publish(write=WRITE.format(mode="create"))

    ended = site.carry(site.order())

    assert by(ended) == {"applied": 7, "conflict": 1}
    assert accounts(site)[lead] == ("Theirs", 1)


def test_updating_by_an_external_id_makes_nothing(make_org: Make) -> None:
    site = org(make_org)
    lead = site.leads()[0]["Id"]
    site.twin.control.create("Account", [{"Name": "Theirs", "Lead_Id__c": lead}])
    before = site.twin.control.count("Account")
    site.publish(write=WRITE.format(mode="update"))

    ended = site.carry(site.order())

    assert by(ended) == {"applied": 1, "rejected": 7}
    assert accounts(site)[lead][1] is not None
    assert site.twin.control.count("Account") == before


def test_the_mapping_is_told_which_keys_there_are_and_asks_for_the_right_to_make_records(make_org: Make) -> None:
    site = org(make_org)
    text = document(write=WRITE.format(mode="upsert").replace("Lead_Id__c:", "Id:"))
    with pytest.raises(MappingError, match=r"takes upsert by another key only; give write\.key as one of Lead_Id__c"):
        site.publish(text)
    grant = site.hub.mappings.publish(document(write=WRITE.format(mode="upsert")), ME)
    compiled = site.hub.mappings.compile_published(grant)
    with site.hub.connections.open("crm", compiled.grants["crm"]) as far:
        assert "<allowCreate>true</allowCreate>" in far.plan()
    site.twin.control.revoke("Account", ["create"])
    with pytest.raises(MappingError, match="takes update only, not upsert"):
        site.publish(document(name="again", write=WRITE.format(mode="upsert")))


@pytest.mark.parametrize("mode", [Mode.UPSERT, Mode.CREATE])
def test_an_external_id_may_hold_what_an_address_may_not(harness: TwinHarness, mode: Mode) -> None:
    values = {"LastName": "L", "Company": "C"}
    batch = [Change({"Ours__c": each}, {**values, "NumberOfEmployees": n}) for n, each in enumerate(AWKWARD)]
    for _ in range(2):
        assert [each["state"] for each in write(harness, batch, mode=mode)] == ["applied"] * len(AWKWARD)
    for number, each in enumerate(AWKWARD):
        found = harness.stored("Lead", {"Ours__c": each})
        assert found is not None
        assert found["NumberOfEmployees"] == number
    assert harness.count("Lead") == len(AWKWARD)


def test_external_ids_that_differ_by_case_alone_are_one_record_and_the_last_word_counts(harness: TwinHarness) -> None:
    batch = [
        Change({"Ours__c": each}, {"LastName": each, "Company": "C"}) for each in ("abc", "ABC", "other", " padded ")
    ]
    results = write(harness, batch, mode=Mode.UPSERT)
    assert [each["state"] for each in results] == ["applied", "applied", "applied", "rejected"]
    assert "trim it" in (results[3]["reason"] or "")
    assert harness.count("Lead") == 2
    assert [each["LastName"] for each in harness.twin.control.find("Lead", "LastName", ["abc"])] == ["ABC"]


def test_an_id_of_15_characters_names_the_record_it_is_the_short_form_of(harness: TwinHarness) -> None:
    harness.entity = harness.entity.keyed_by(["Id"])
    harness.entity = type(harness)(harness.folder / "second").entity
    made = seed(harness, records(harness, 4))
    short = str(made[1]["Id"])[:15]
    with reading(harness) as source:
        wanted = Selection("Lead", ("Id", "LastName"))
        (found,) = rows(source.lookup(wanted, pl.DataFrame({"Id": [short]})))
    assert (found["Id"], found["LastName"], found["_key"]) == (short, made[1]["LastName"], {"Id": made[1]["Id"]})
    (told,) = write(harness, [Change({"Id": short}, {"LastName": "Short"})])
    assert told["state"] == "applied"
    stored = harness.stored("Lead", {"Id": made[1]["Id"]})
    assert stored is not None
    assert stored["LastName"] == "Short"
