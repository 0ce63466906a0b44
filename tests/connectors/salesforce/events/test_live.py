"""Change events over a real stream: what comes, what does not, and what is told when something may be missing."""

from __future__ import annotations

import base64
import time
from datetime import timedelta

import pytest
from simple_salesforce import Salesforce

from connectors.salesforce.connector import SalesforceConnector
from connectors.salesforce.twin.events.bus import replay_id
from connectors.salesforce.twin.org.notation import field_from
from hub.sdk import (
    AllOf,
    Compare,
    Context,
    Cursor,
    Mode,
    Operator,
    Selection,
    UnauthorizedError,
    UnavailableError,
)
from hub.sdk.testing.records import Change, changes
from hub.sdk.testing.suite.steps import JournalInMemory
from tests.connectors.salesforce.events.conftest import Site
from tests.connectors.salesforce.twin.conftest import session_to


def test_an_edit_comes_with_the_record_as_it_stands_and_soon(site: Site) -> None:
    lead = site.lead(City="Bergen", Industry="Banking")
    following = site.follow()
    began = time.monotonic()
    site.control.edit(lead, {"City": "Oslo"})
    (row,) = following.rows()
    assert time.monotonic() - began < 5.0
    assert (row["Id"], row["City"], row["Industry"], row["_key"]) == (lead, "Oslo", "Banking", {"Id": lead})
    assert row["_version"] is not None
    assert (row["_deleted"], row["_invalid"]) == (False, None)


def test_new_records_and_deleted_ones_come(site: Site) -> None:
    following = site.follow()
    lead = site.lead(City="Bergen")
    assert following.rows()[0]["City"] == "Bergen"
    site.control.remove(lead)
    (row,) = following.rows()
    assert (row["_key"], row["_deleted"], row["City"]) == ({"Id": lead}, True, None)


def test_a_page_says_when_the_oldest_change_that_it_tells_of_was_committed(site: Site) -> None:
    lead, other = site.lead(), site.lead()
    before = site.follow()
    site.control.edit(lead, {"City": "Start"})
    before.rows()
    cursor = before.last.cursor
    before.stop()
    last = site.control.told("Lead")["last"]
    for record in (lead, other, lead):
        site.control.edit(record, {"City": f"Town {time.monotonic()}"})
    first, *_ = site.twin.site.org.store.changes_after(last, ["Lead"])
    following = site.follow(after=cursor)
    following.rows(2)
    assert following.last.since == first.moment.replace(microsecond=first.moment.microsecond // 1000 * 1000)
    assert following.until(lambda page: not page.frame.height).since is None


def test_many_edits_of_one_record_are_one_row(site: Site) -> None:
    lead = site.lead()
    before = site.follow()
    site.control.edit(lead, {"City": "Start"})
    before.rows()
    cursor = before.last.cursor
    before.stop()
    for number in range(250):
        site.control.edit(lead, {"City": f"Town {number}"})
    following = site.follow(after=cursor)
    rows = following.rows()
    while rows[-1]["City"] != "Town 249" or following.last.cursor == cursor:
        rows += following.rows()
    assert {row["City"] for row in rows} == {"Town 249"}
    assert len(rows) <= 3  # a hundred events are under way at once


def test_our_own_writes_do_not_come_and_somebody_elses_edit_between_them_does(site: Site) -> None:
    mine, theirs = site.lead(), site.lead()
    following = site.follow(Selection("Lead", ("Id", "City", "Score__c")))
    with SalesforceConnector(site.config(), Context(shared=site.shared)) as connector:
        (entity,) = connector.entities(["Lead"])
        destination = connector.destination()
        assert destination is not None
        for score in (10, 20):
            made = [Change({"Id": each}, {"Score__c": score}) for each in (mine, theirs)]
            destination.write(changes(entity, ["Score__c"], made, Mode.UPDATE), journal=JournalInMemory())
            if score == 10:
                site.control.edit(theirs, {"City": "Oslo"})
    site.control.edit(mine, {"City": "Last"})
    rows = following.rows(2)
    assert [(row["Id"], row["City"]) for row in rows] == [(theirs, "Oslo"), (mine, "Last")]


def test_a_change_of_fields_that_were_not_selected_does_not_come(site: Site) -> None:
    lead, other = site.lead(), site.lead()
    following = site.follow(Selection("Lead", ("Id", "City", "Industry")))
    site.control.edit(lead, {"Company": "Renamed", "LastName": "Renamed"})
    site.control.edit(other, {"City": "Oslo"})
    assert [row["Id"] for row in following.rows()] == [other]


def test_a_change_of_a_part_of_a_compound_field_comes(site: Site) -> None:
    lead = site.lead()
    following = site.follow(Selection("Lead", ("Id", "LastName")))
    site.control.edit(lead, {"City": "Nowhere"})
    site.control.edit(lead, {"LastName": "Renamed"})
    (row,) = following.rows()
    assert row["LastName"] == "Renamed"
    assert [page for page in following.stop() if page.frame.height] == []


def test_a_formula_moves_with_any_change_of_its_record(alone: Site) -> None:
    formula = {"calculated": True, "createable": False, "updateable": False}
    made = {**field_from("Age__c double 18,0"), **formula, "calculatedFormula": "TODAY() - DATEVALUE(CreatedDate)"}
    alone.control.add_field("Lead", made)
    lead = alone.lead(City="Bergen")
    following = alone.follow(Selection("Lead", ("Id", "Age__c")))
    alone.control.edit(lead, {"City": "Oslo"})
    (row,) = following.rows()
    assert (row["Id"], row["Age__c"]) == (lead, 0)


def test_a_record_that_enters_the_selection_comes_and_one_that_left_does_not(site: Site) -> None:
    lead, other = site.lead(City="Bergen"), site.lead(City="Oslo")
    chosen = AllOf((Compare("City", Operator.EQ, "Oslo"),))
    following = site.follow(Selection("Lead", ("Id", "Industry"), chosen))
    site.control.edit(other, {"City": "Bergen"})
    site.control.edit(lead, {"City": "Oslo"})
    assert [row["Id"] for row in following.rows()] == [lead]


def test_a_stream_that_begins_says_so_by_a_gap_without_records(site: Site) -> None:
    site.lead()
    page = site.follow(begun=False).gap()
    assert page.frame.height == 0


def test_a_quiet_stream_yields_empty_pages_within_ten_seconds(site: Site) -> None:
    following = site.follow()
    for _ in range(2):
        began = time.monotonic()
        page = following.until(lambda _: True)
        assert time.monotonic() - began < 10.0
        assert (page.frame.height, page.gap) == (0, False)


def test_a_follower_goes_on_from_its_cursor_and_loses_nothing(site: Site) -> None:
    lead = site.lead()
    first = site.follow()
    site.control.edit(lead, {"City": "Bergen"})
    first.rows()
    cursor = Cursor.from_json(first.last.cursor.to_json())
    first.stop()
    made = [site.lead(City=f"Town {number}") for number in range(230)]
    again = site.follow(after=cursor)
    assert [row["Id"] for row in again.rows(230)] == made
    assert again.last.cursor != cursor


def test_a_page_that_was_not_stored_comes_again(site: Site) -> None:
    """The position moves with what is stored alone: following from the cursor before a page gives that page again."""
    first = site.follow()
    lead = site.lead()
    first.rows()
    cursor = first.last.cursor
    site.control.edit(lead, {"City": "Oslo"})
    first.rows()
    first.stop()
    assert site.follow(after=cursor).rows()[0]["City"] == "Oslo"


def test_keepalives_move_the_cursor_of_a_quiet_selection(alone: Site) -> None:
    following = alone.follow()
    alone.lead()
    following.rows()
    before = following.last.cursor
    alone.control.create("Account", [{"Name": "Another object"}])
    alone.control.advance(271)
    page = following.until(lambda page: page.cursor != before)
    assert (page.frame.height, page.gap) == (0, False)


def test_after_a_long_quiet_week_the_cursor_of_a_keepalive_still_holds(alone: Site) -> None:
    following = alone.follow()
    alone.lead()
    following.rows()
    last = following.last.cursor
    alone.control.create("Account", [{"Name": "Another object"}])
    alone.control.advance(271)
    kept = following.until(lambda page: page.cursor != last).cursor
    following.stop()
    alone.control.advance(timedelta(hours=73).total_seconds())
    lead = alone.lead(City="Oslo")
    again = alone.follow(after=kept)
    assert [row["Id"] for row in again.rows()] == [lead]


def test_an_event_that_was_told_twice_is_told_once(alone: Site) -> None:
    """Replay ids come to name another place when an org is moved: what was told before is known by its own id."""
    following = alone.follow()
    alone.lead()
    first = alone.lead()
    following.rows(2)
    seen = following.last.cursor.state["seen"]
    following.stop()
    gone, _ = alone.twin.site.org.store.told_bounds()
    moved = Cursor({"replay": base64.b64encode(replay_id(gone)).decode(), "seen": seen})
    again = alone.follow(after=moved)
    other = alone.lead(City="New")
    assert [row["Id"] for row in again.rows()] == [other]
    assert first != other


@pytest.mark.parametrize("hours", [73])
def test_an_expired_place_tells_a_gap_and_the_stream_goes_on(alone: Site, hours: int) -> None:
    following = alone.follow()
    alone.lead()
    following.rows()
    old = following.last.cursor
    following.stop()
    alone.lead()
    alone.control.advance(timedelta(hours=hours).total_seconds())
    again = alone.follow(after=old)
    assert again.gap().cursor != old
    lead = alone.lead(City="Later")
    assert [row["Id"] for row in again.rows()] == [lead]
    assert len(alone.control.calls(kind="pubsub.subscribe")) == 3  # refused once, not again and again


@pytest.mark.parametrize("replay", ["AAAA", "bm90IG9uZSBvZiBvdXJz", "not base64!", "", 7, None])
def test_a_corrupted_place_tells_a_gap_and_the_stream_goes_on(site: Site, replay: object) -> None:
    following = site.follow(after=Cursor({"replay": replay, "seen": []}))  # type: ignore[dict-item]
    following.gap()
    lead = site.lead()
    assert [row["Id"] for row in following.rows()] == [lead]


def test_a_gap_event_is_read_as_a_change_of_its_records(site: Site) -> None:
    lead = site.lead(City="Bergen")
    following = site.follow()
    site.control.shift(lead, {"City": "Oslo"})
    site.control.gap("Lead", "GAP_UPDATE", [lead])
    assert following.rows()[0]["City"] == "Oslo"
    site.control.gap("Lead", "GAP_DELETE", [lead])
    assert following.rows()[0]["_deleted"] is True


def test_an_overflow_tells_a_gap_behind_what_came_before_it(site: Site) -> None:
    lead = site.lead()
    following = site.follow()
    site.control.edit(lead, {"City": "Oslo"})
    site.control.gap("Lead", "GAP_OVERFLOW")
    assert following.rows()[0]["City"] == "Oslo"
    before = following.last.cursor
    page = following.gap()
    assert page.frame.height == 0
    assert page.cursor != before


def test_a_cut_stream_is_opened_anew_where_it_was(site: Site) -> None:
    lead = site.lead()
    following = site.follow()
    site.control.edit(lead, {"City": "Before"})
    following.rows()
    site.control.cut_streams()
    site.control.edit(lead, {"City": "After"})
    assert following.rows()[0]["City"] == "After"
    assert len(following.pauses) == 1


def test_a_silent_stream_is_noticed_and_opened_anew(site: Site) -> None:
    lead = site.lead()
    following = site.follow(quiet_seconds=1)
    site.control.edit(lead, {"City": "Before"})
    following.rows()
    site.control.silence()
    site.control.edit(lead, {"City": "Unheard"})
    opened = len(site.control.calls(kind="pubsub.subscribe"))
    following.until(lambda _: len(site.control.calls(kind="pubsub.subscribe")) > opened)
    site.control.silence(on=False)
    assert following.rows()[0]["City"] == "Unheard"


def test_silence_that_does_not_end_is_an_unavailable_error(site: Site) -> None:
    site.control.silence()
    following = site.follow(quiet_seconds=1)
    with pytest.raises(UnavailableError, match="silent"):
        following.until(lambda _: False)
    assert len(following.pauses) >= 4


def test_a_service_that_is_away_for_a_while_is_tried_again_with_growing_pauses(site: Site) -> None:
    following = site.follow()
    site.lead()
    following.rows()
    site.control.fault("503", only="pubsub.subscribe", times=3)
    site.control.cut_streams()
    lead = site.lead()
    assert following.rows()[0]["Id"] == lead
    assert 0.5 + 1 + 2 + 4 <= sum(following.pauses) <= 1 + 2 + 4 + 8


def test_a_service_that_stays_away_is_an_unavailable_error(site: Site) -> None:
    following = site.follow()
    site.control.fault("503", only="pubsub.subscribe")
    site.control.cut_streams()
    with pytest.raises(UnavailableError):
        following.until(lambda _: False)


def test_too_many_streams_and_a_spent_allowance_are_waited_out_by_whoever_follows(site: Site) -> None:
    site.control.most_streams(0)
    with pytest.raises(UnavailableError) as raised:
        site.follow(begun=False).until(lambda _: False)
    assert raised.value.retry_after == 30
    site.control.most_streams(20)
    site.control.fault("limit", only="pubsub.subscribe", times=1)
    with pytest.raises(UnavailableError) as raised:
        site.follow(begun=False).until(lambda _: False)
    assert raised.value.retry_after == 900


def test_a_session_that_ends_is_renewed_once_and_nothing_is_lost(site: Site) -> None:
    following = site.follow()
    lead = site.lead()
    following.rows()
    logins = len(site.control.calls(kind="login.oauth"))
    site.control.kill_tokens()
    site.control.edit(lead, {"City": "Oslo"})
    assert following.rows()[0]["City"] == "Oslo"
    assert len(site.control.calls(kind="login.oauth")) == logins + 1


def test_sessions_that_die_one_after_the_other_are_renewed_as_long_as_each_was_good_for_something(site: Site) -> None:
    following = site.follow()
    for _ in range(4):
        opened = len(site.control.calls(kind="pubsub.subscribe"))
        site.control.kill_tokens()
        following.until(lambda _: len(site.control.calls(kind="pubsub.subscribe")) > opened)  # noqa: B023
        for _ in range(2):
            following.until(lambda _: True)
    lead = site.lead()
    assert following.rows()[0]["Id"] == lead


def test_sessions_that_end_at_once_are_not_asked_for_again_and_again(site: Site) -> None:
    following = site.follow()
    site.control.fault("401", only="pubsub.subscribe")
    site.control.cut_streams()
    with pytest.raises(UnauthorizedError):
        following.until(lambda _: False)


def test_an_object_that_is_not_captured_names_what_to_select(alone: Site) -> None:
    alone.control.capture("Lead", on=False)
    with pytest.raises(UnauthorizedError, match="Lead is not selected") as raised:
        alone.follow(begun=False).gap()
    assert raised.value.missing == ("change data capture of Lead",)


def test_an_org_without_change_events_is_not_live_and_can_still_be_polled(alone: Site) -> None:
    for each in list(alone.twin.site.org.store.captured):
        alone.control.capture(each, on=False)
    alone.lead(City="Oslo")
    with SalesforceConnector(alone.config(), Context()) as connector:
        assert connector.live() is None
        source = connector.source()
        head = source.head(Selection("Lead", ("City",), changed_by="SystemModstamp"))
        assert head is not None
        (page,) = source.read(Selection("Lead", ("City",), changed_by="SystemModstamp"), after=head)
    assert page.frame["City"].to_list() == ["Oslo"]
    with SalesforceConnector(alone.config(events=False), Context()) as connector:
        assert connector.live() is None


def test_a_failed_lookup_loses_no_event(site: Site) -> None:
    lead = site.lead()
    following = site.follow()
    site.control.edit(lead, {"City": "Bergen"})
    following.rows()
    site.control.fault("503", only="query", times=2)
    site.control.edit(lead, {"City": "Oslo"})
    assert following.rows()[0]["City"] == "Oslo"


def test_an_edit_made_by_another_peoples_client_comes(site: Site) -> None:
    told = site.control.credentials()
    following = site.follow()
    lead = site.lead()
    following.rows()
    user = told["users"]["sales"]
    others = Salesforce(
        username=user["username"],
        password=user["password"],
        security_token=user["security_token"],
        domain="twin.my",
        session=session_to(site.twin),
    )
    others.Lead.update(lead, {"City": "Oslo"})
    assert following.rows()[0]["City"] == "Oslo"
