"""A mapping that follows its live source: each edit scored and written once, and others let by."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from hub.api.metrics import Metrics
from hub.mappings import MappingError
from hub.runs import Run, RunKind, RunState, Worker, cancel, keep_following, keep_up, progress, start_following, undo
from hub.runs.following import GAP
from hub.runs.pages import Trip
from hub.runs.types import STAYED_OPEN
from tests.hub.runs.site import ME, Site, document
from tests.hub.runs.telling import ECHO
from tests.system.drill import runs, work_by_turns

Make = Callable[..., Site]
FOLLOWS = {"read": "  changed_by: STAMP\n", "run": '  schedule: "0 0 1 1 *"\n  follow: true\n'}
NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def site(make_site: Make) -> Site:
    """Twenty persons whose far side tells of edits, followed from the start and reconciled once."""
    made = make_site(20, parts=FOLLOWS, connector="telling")
    keep_following(made.hub)
    settle(made)
    return made


def work(site: Site, over: Callable[[], Any]) -> None:
    """Workers until `over`, of names that nobody had before."""
    site.names += 1
    work_by_turns(site.hub, f"test/{site.names}", over)


def settle(site: Site) -> None:
    """Until what following owes is ordered and carried."""
    with site.hub.database.read() as session:
        followed = site.hub.ledger.following(session, "risk")
    assert followed is not None

    def settled() -> bool:
        with site.hub.database.read() as session:
            owed = site.hub.ledger.owed(session, followed)
        return not owed and not site.hub.pending()

    work(site, settled)


def following(site: Site) -> Run:
    """The newest run that follows."""
    return next(each for each in reversed(runs(site)) if each.kind is RunKind.FOLLOW)


def batches(site: Site) -> list[Run]:
    """Every run that does not follow."""
    return [each for each in runs(site) if each.kind is not RunKind.FOLLOW]


def edit(site: Site, key: str, x: float) -> None:
    """What a colleague does."""
    site.ask(f"update PERSON set X = ?, STAMP = {NOW} where ID = ?", x, key)


def writes_of(site: Site, key: str) -> int:
    return int(site.ask("select count(*) from WRITES where ID = ?", key)[0][0])


def test_following_begins_with_one_run_over_all_records(site: Site) -> None:
    (full,) = batches(site)
    assert (full.kind, full.state, full.counts["applied"]) == (RunKind.FULL, RunState.DONE, 20)
    run = following(site)
    assert (run.state, run.counts.read) == (RunState.RUNNING, 0)


def test_an_edit_is_scored_once_and_written_once(site: Site) -> None:
    before = site.scores()["000003"]
    edit(site, "000003", 95.0)
    work(site, lambda: following(site).counts["applied"])
    assert site.scores()["000003"] != before
    assert (writes_of(site, "000003"), site.writes()) == (2, 21)
    assert following(site).counts.to_json() == {"read": 1, "applied": 1}
    assert site.standing("000003")["state"] == "applied"
    assert len(batches(site)) == 1


def test_word_of_our_own_write_starts_no_new_score(site: Site) -> None:
    site.ask(ECHO)
    edit(site, "000003", 95.0)
    work(site, lambda: following(site).counts["skipped"])
    assert following(site).counts.to_json() == {"read": 2, "skipped": 1, "applied": 1}
    assert writes_of(site, "000003") == 2


def test_an_edit_that_moves_no_input_is_a_count_and_nothing_more(site: Site) -> None:
    decisions = site.decisions()
    site.ask("update PERSON set X = X where ID = '000004'")
    work(site, lambda: following(site).counts["skipped"])
    assert (site.decisions(), writes_of(site, "000004")) == (decisions, 1)


def test_a_record_that_leaves_the_selection_is_cleared_at_once_where_the_mapping_says_so(make_site: Make) -> None:
    parts = {**FOLLOWS, "read": "  changed_by: STAMP\n  leaves: clear\n"}
    site = make_site(20, parts=parts, connector="telling")
    keep_following(site.hub)
    settle(site)
    site.ask(f"update PERSON set LIVES = 0, STAMP = {NOW} where ID = '000005'")
    work(site, lambda: following(site).counts["applied"])
    assert site.scores()["000005"] == (None, None)


def test_a_newcomer_is_scored_and_a_deleted_record_noted(site: Site) -> None:
    site.ask(f"insert into PERSON(ID, X, Y, STAMP) values ('new', 3, 1, {NOW})")
    site.ask("delete from PERSON where ID = '000006'")
    work(site, lambda: following(site).counts["applied"] and following(site).counts["unchanged"])
    assert site.scores()["new"][0] is not None
    assert site.standing("000006")["state"] == "left"


def test_each_page_has_its_own_time(site: Site) -> None:
    edit(site, "000003", 95.0)
    work(site, lambda: following(site).counts["applied"] == 1)
    edit(site, "000004", 96.0)
    work(site, lambda: following(site).counts["applied"] == 2)
    first, second = (site.standing(key)["written_at"] for key in ("000003", "000004"))
    assert following(site).logical_at < first < second


def test_another_run_of_the_mapping_is_let_by_and_following_goes_on_after_it(site: Site) -> None:
    edit(site, "000003", 95.0)
    work(site, lambda: following(site).counts["applied"] == 1)
    full = site.order(RunKind.FULL)
    edit(site, "000004", 96.0)
    work(site, lambda: site.look(full).state.final and writes_of(site, "000004") == 2)
    assert site.look(full).state is RunState.DONE
    edit(site, "000005", 97.0)
    work(site, lambda: writes_of(site, "000005") == 2)
    assert [writes_of(site, f"00000{each}") for each in (3, 4, 5)] == [2, 2, 2]


def test_a_gap_is_reconciled_and_nothing_is_lost(site: Site) -> None:
    edit(site, "000003", 95.0)
    work(site, lambda: following(site).counts["applied"] == 1)
    edit(site, "000004", 96.0)
    edit(site, "000005", 97.0)
    site.ask("delete from TOLD where NO <= (select NO from TOLD where ID = '000004')")
    settled = len(batches(site))
    work(site, lambda: len(batches(site)) > settled and batches(site)[-1].state.final)
    found = batches(site)[-1]
    assert (found.kind, found.state, found.actor) == (RunKind.INCREMENTAL, RunState.DONE, "service:follower")
    happened = progress(site.hub, following(site).id)["happened"]
    assert happened == ["heard once that changes may never be told, and had a run look for them"]
    edit(site, "000006", 98.0)
    work(site, lambda: writes_of(site, "000006") == 2)
    assert [writes_of(site, f"00000{each}") for each in (3, 4, 5)] == [2, 2, 2]


def test_a_write_that_met_a_newer_one_is_settled_by_another_run_where_no_event_will_come(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else wrote the score itself while ours was on its way: of that their far side tells nobody."""
    monkeypatch.setattr("hub.runs.execution.following.OPEN_SECONDS", 0.2)
    send, met = Trip.send, []

    def late(self: Trip, *given: Any, **more: Any) -> Any:
        if not met:
            met.append(self.run.id)
            site.ask(f"update PERSON set SCORE = 1, BAND = 'Low', STAMP = {NOW} where ID = '000003'")
        return send(self, *given, **more)

    monkeypatch.setattr(Trip, "send", late)
    edit(site, "000003", 95.0)
    work(site, lambda: following(site).counts["conflict"])
    settle(site)
    assert met == [following(site).id]
    _, replayed = batches(site)
    assert (replayed.kind, replayed.actor, replayed.counts.to_json()) == (
        RunKind.REPLAY,
        "service:follower",
        {"read": 1, "applied": 1},
    )
    assert site.scores()["000003"][1] == "High"
    assert site.states().get("conflict") is None


def test_a_gap_is_noted_where_answers_stayed_open_already(site: Site) -> None:
    run = following(site).id
    with site.hub.database.begin() as session:
        claim = site.hub.ledger.claim(session, "follow", "test/owes", 60, run)
        assert claim is not None
        for why in (STAYED_OPEN, GAP, STAYED_OPEN):
            site.hub.ledger.owe(session, claim, why)
        assert site.hub.ledger.owed(session, run) == (STAYED_OPEN, GAP)
        site.hub.ledger.release(session, claim)
    settle(site)
    assert [each.kind for each in batches(site)] == [RunKind.FULL, RunKind.INCREMENTAL]


def test_a_paused_mapping_is_followed_no_more_and_goes_on_where_it_left_off(site: Site) -> None:
    first = following(site)
    site.hub.mappings.pause("risk", ME, "a test")
    work(site, lambda: site.look(first.id).state.final)
    assert site.look(first.id).state is RunState.DONE
    edit(site, "000003", 95.0)
    assert keep_following(site.hub) == []
    site.hub.mappings.resume("risk", ME)
    (second,) = keep_following(site.hub)
    work(site, lambda: site.look(second).counts["applied"])
    assert (writes_of(site, "000003"), len(batches(site))) == (2, 1)


def test_a_run_that_somebody_cancelled_is_started_again_by_somebody_alone(site: Site) -> None:
    cancel(site.hub, following(site).id, str(ME))
    assert keep_following(site.hub) == []
    edit(site, "000003", 95.0)
    run = start_following(site.hub, "risk", str(ME))
    work(site, lambda: site.look(run).counts["applied"])
    assert writes_of(site, "000003") == 2


def test_a_new_version_is_followed_from_where_the_old_one_left_off_and_makes_all_records_due(site: Site) -> None:
    first = following(site)
    site.publish(**{**FOLLOWS, "use": "2"})
    work(site, lambda: site.look(first.id).state.final and len(batches(site)) == 2 and batches(site)[1].state.final)
    assert (batches(site)[1].kind, batches(site)[1].counts["applied"]) == (RunKind.FULL, 20)
    edit(site, "000003", 95.0)
    work(site, lambda: following(site).counts["applied"])
    assert following(site).version == site.hub.mappings.get("risk").digest


def test_a_far_side_that_is_away_shows_on_the_run_and_is_followed_when_it_is_back(site: Site) -> None:
    site.ask("insert into SILENT values ('x')")
    work(site, lambda: following(site).reason)
    run = following(site)
    assert (run.state, run.reason) == (RunState.RUNNING, "The far side is silent.")
    edit(site, "000003", 95.0)
    site.ask("delete from SILENT")
    work(site, lambda: following(site).counts["applied"])
    assert following(site).reason is None


def test_a_paused_connection_is_followed_again_when_it_is_resumed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.runs.execution.worker.PAUSED_SECONDS", 0.2)
    site.hub.connections.pause("far", ME)
    work(site, lambda: "paused" in (following(site).reason or ""))
    edit(site, "000003", 95.0)
    site.hub.connections.resume("far", ME)
    work(site, lambda: following(site).counts["applied"])
    assert following(site).state is RunState.RUNNING


def test_a_limit_of_changes_holds_what_follows_and_lets_other_runs_by(make_site: Make) -> None:
    parts = {**FOLLOWS, "run": FOLLOWS["run"] + "  limits: { changed: 20 }\n"}
    site = make_site(20, parts=parts, connector="telling")
    keep_following(site.hub)
    settle(site)
    site.ask(f"update PERSON set X = X + 50, STAMP = {NOW}")
    site.ask("insert into PERSON(ID, X, Y, STAMP) values ('new', 3, 1, '2026-01-01 10:00:00')")
    work(site, lambda: following(site).state is RunState.HELD)
    assert "limit of 20 changes" in (following(site).reason or "")
    assert site.run(RunKind.INCREMENTAL, changed_limit=100).state is RunState.DONE


def test_the_day_over_the_next_run_goes_on_without_reading_all_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = following(site)
    monkeypatch.setattr("hub.runs.following.MOST_PAGES", 1)
    edit(site, "000003", 95.0)
    work(site, lambda: site.look(first.id).state.final)
    assert (site.look(first.id).state, site.look(first.id).counts["applied"]) == (RunState.DONE, 1)
    assert following(site).id != first.id
    edit(site, "000004", 95.0)
    work(site, lambda: writes_of(site, "000004") == 2)
    assert len(batches(site)) == 1


def test_two_workers_never_follow_one_mapping(site: Site) -> None:
    other = Worker(site.hub, "follow", "test/other")
    refused: list[bool] = []

    def over() -> bool:
        with site.hub.database.read() as session:
            held = site.hub.ledger.holders(session)
        if held:
            refused.append(other.work())
        return bool(refused)

    work(site, over)
    assert refused == [False]


def test_a_document_asks_to_be_followed_only_where_its_connection_can_tell(make_site: Make) -> None:
    site = make_site(3)
    with pytest.raises(MappingError, match=r"run.follow: connection far does not tell of changes as they happen"):
        site.hub.mappings.check(document(**FOLLOWS), ME)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("  follow: true\n", "run.follow: needs schedule beside it"),
        ('  schedule: "0 * * * *"\n  follow: true\n  ahead: true\n', "run.follow: cannot stand beside ahead"),
    ],
)
def test_what_does_not_go_with_following_is_named(make_site: Make, run: str, message: str) -> None:
    site = make_site(3, connector="telling")
    with pytest.raises(MappingError, match=message):
        site.hub.mappings.check(document(run=run), ME)


def test_a_model_with_a_pool_of_its_own_is_not_followed(make_site: Make) -> None:
    site = make_site(3, connector="telling")
    with pytest.raises(MappingError, match=r"run.follow: model risk 3 is scored by the pool gpu"):
        site.hub.mappings.check(document(**{**FOLLOWS, "use": "3"}), ME)


def test_where_following_stood_outlasts_the_slices_of_its_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = following(site)
    site.hub.mappings.pause("risk", ME, "a test")
    work(site, lambda: site.look(first.id).state.final)
    for name in ("ENDED", "EVERY"):
        monkeypatch.setattr(f"hub.runs.pages.upkeep.{name}", timedelta(0))
    assert keep_up(site.hub)
    edit(site, "000003", 95.0)
    site.hub.mappings.resume("risk", ME)
    (second,) = keep_following(site.hub)
    work(site, lambda: site.look(second).counts["applied"])
    assert (writes_of(site, "000003"), len(batches(site))) == (2, 1)


def lags(site: Site) -> dict[str, float]:
    """What the metrics tell of how late edits were written: each bound, the number and the sum."""
    told = generate_latest(Metrics(site.hub).registry).decode()
    (family,) = [each for each in text_string_to_metric_families(told) if each.name == "hub_followed_lag_seconds"]
    assert {each.labels["mapping"] for each in family.samples} == {"risk"}
    return {each.labels.get("le", each.name.rpartition("_")[2]): each.value for each in family.samples}


def test_the_metrics_tell_how_long_an_edit_took_until_its_score_was_written(site: Site) -> None:
    assert (lags(site)["count"], lags(site)["sum"]) == (0, 0)
    edit(site, "000003", 95.0)
    site.ask("update TOLD set AT = AT - 90")  # made a minute and a half ago, and nobody was there to follow
    work(site, lambda: following(site).counts["applied"] == 1)
    told = lags(site)
    assert (told["count"], told["60.0"], told["300.0"]) == (1, 0, 1)
    assert 90 <= told["sum"] <= 300
    edit(site, "000004", 96.0)
    site.ask("update TOLD set AT = AT + 3600 where ID = '000004'")  # by a clock that runs ahead of ours
    work(site, lambda: following(site).counts["applied"] == 2)
    assert (lags(site)["count"], lags(site)["0.5"], lags(site)["sum"]) == (2, 1, told["sum"])
    site.ask("update PERSON set X = X where ID = '000005'")
    work(site, lambda: following(site).counts["skipped"])
    assert lags(site)["count"] == 2  # nothing was written


def test_an_undo_of_a_run_that_follows_ends_it_first_and_takes_its_writes_back(site: Site) -> None:
    before = site.scores()["000003"]
    edit(site, "000003", 95.0)
    work(site, lambda: following(site).counts["applied"])
    run = following(site)
    with site.hub.database.read() as session:
        followed = site.hub.ledger.totals(session, site.hub.database.now(session)).followed["risk"]
    assert (followed.held, followed.read, sum(followed.lags.counts)) == (False, 1, 1)

    taken = site.carry(undo(site.hub, run.id, ME))

    assert (taken.state, taken.counts["applied"]) == (RunState.DONE, 1)
    assert site.scores()["000003"] == before
    assert following(site).state is RunState.CANCELLED
    assert keep_following(site.hub) == []  # the mapping is paused
