"""How a run is limited, held, resumed, cancelled, taken back and started by its schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from hub.audit import Action
from hub.runs import (
    PreflightError,
    RunError,
    RunKind,
    RunState,
    Scoring,
    cancel,
    keep_up,
    left_alone,
    progress,
    resume,
    tick,
    undo,
)
from hub.runs.execution.lanes import SkippedError
from hub.runs.planning.preflight import needed_rights
from hub.sdk import CheckReport, Grant, Mode, RightStatus
from tests.hub.runs.site import IN_PLACE, ME, Site, document
from tests.hub.runs.test_standing import by

Make = Callable[..., Site]


def test_the_limit_holds_the_run_before_the_page_that_would_cross_it_and_a_person_raises_it(site: Site) -> None:
    held = site.carry(site.order(changed_limit=15))
    assert held.state is RunState.HELD
    assert "limit of 15 changes" in (held.reason or "")
    assert (held.counts["applied"], site.writes()) == (8, 8)
    assert held.counts.balanced
    resume(site.hub, held.id, str(ME), changed_limit=20)
    ended = site.carry(held.id)
    assert (ended.state, by(ended), site.writes()) == (RunState.DONE, {"applied": 20}, 20)
    with pytest.raises(RunError, match="only a held run"):
        resume(site.hub, held.id, str(ME))


def test_pages_are_no_larger_than_their_connector_says(make_site: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(page_rows=1_000)
    catalogue = site.hub.connections.catalogue
    spec = catalogue.spec("sql")
    smaller = replace(spec, limits=replace(spec.limits, page_rows=7))
    monkeypatch.setattr(catalogue, "spec", {"sql": smaller}.__getitem__)
    site.run()
    read = [each.event.detail["records"] for each in site.hub.audit.events(action=Action.PAGE_READ)]
    assert sorted(read) == [6, 7, 7]


def test_too_many_rejects_stop_the_run_what_is_written_stays_and_undo_is_offered(make_site: Make) -> None:
    site = make_site(40, parts={"run": "  limits: { rejected: 2% }\n"}, page_rows=10)
    site.ask("insert into REFUSED select ID from PERSON where ID in ('000001', '000002', '000003')")
    stopped = site.run()
    assert stopped.state is RunState.STOPPED
    assert f"hub runs undo {stopped.id}" in (stopped.reason or "")
    assert 7 <= stopped.counts["applied"] < 37
    assert site.writes() == stopped.counts["applied"]
    undone = site.carry(undo(site.hub, stopped.id, ME))
    assert undone.counts["applied"] == stopped.counts["applied"]
    assert set(site.scores().values()) == {(None, None)}


def test_a_run_ahead_scores_everything_before_it_writes_anything(make_site: Make) -> None:
    site = make_site(parts={"run": "  ahead: true\n"})
    site.run()
    site.ask("update PERSON set X = X + 30, SCORE = SCORE")
    writes = site.writes()
    with site.hub.database.begin() as session:  # records that are due meet the pages that have them already
        import polars as pl

        view = site.hub.standing.view("risk", pl.DataFrame({"ID": ["000001", "000002"]}))
        now = site.hub.database.now(session)
        keys = pl.DataFrame({"ID": ["000001", "000002"]}).to_struct("_key")
        rows = view.frame.with_columns(keys, due=pl.lit(now).cast(pl.Datetime("us", "UTC")))
        site.hub.standing.put(session, view, rows)
    run = site.order(changed_limit=19)
    held = site.carry(run)
    assert (held.state, site.writes()) == (RunState.HELD, writes)
    resume(site.hub, run, str(ME), lift=True)
    ended = site.carry(run)
    assert (ended.state, by(ended), site.writes()) == (RunState.DONE, {"applied": 20}, writes + 20)
    assert by(site.run()) == {"skipped": 20}


def test_a_dry_run_counts_everything_once_and_writes_nothing(site: Site) -> None:
    planned = site.run(dry=True)
    assert (planned.state, by(planned), site.writes(), site.decisions()) == (RunState.DONE, {"planned": 20}, 0, 0)
    site.run()
    assert by(site.run(dry=True)) == {"skipped": 20}


def test_a_cancelled_run_leaves_what_it_wrote_and_the_next_one_does_the_rest(site: Site) -> None:
    run = site.order(changed_limit=8)
    site.carry(run)
    cancel(site.hub, run, str(ME))
    assert site.look(run).state is RunState.CANCELLED
    with pytest.raises(RunError, match="cancelled already"):
        cancel(site.hub, run, str(ME))
    assert by(site.run()) == {"skipped": 8, "applied": 12}


def test_a_paused_mapping_starts_no_run_and_holds_the_one_that_waits(site: Site) -> None:
    run = site.order()
    site.hub.mappings.pause("risk", ME, "audit")
    with pytest.raises(RunError, match="is paused"):
        site.order()
    held = site.carry(run)
    assert (held.state, site.writes()) == (RunState.HELD, 0)
    with pytest.raises(RunError, match="is paused"):
        resume(site.hub, run, str(ME))
    site.hub.mappings.resume("risk", ME)
    resume(site.hub, run, str(ME))
    assert site.carry(run).state is RunState.DONE


def test_a_paused_connection_holds_the_run_at_once(site: Site) -> None:
    run = site.order()
    site.hub.connections.pause("far", ME)
    held = site.carry(run)
    assert (held.state, held.reason) == (
        RunState.HELD,
        "connection far is paused; resume it with hub connections resume far",
    )
    cancel(site.hub, run, str(ME))
    with pytest.raises(PreflightError, match="hub connections resume far"):
        site.order()


def test_a_renamed_column_holds_the_run_and_a_new_version_carries_it_on(site: Site) -> None:
    run = site.order(changed_limit=8)
    site.carry(run)
    site.ask("alter table PERSON rename column Y to Z")
    with pytest.raises(PreflightError, match="Y"):
        resume(site.hub, run, str(ME), lift=True)
    site.ask("alter table PERSON rename column Z to Y")
    resume(site.hub, run, str(ME), lift=True)
    site.ask("alter table PERSON rename column Y to Z")
    held = site.carry(run, site.worker())
    assert held.state is RunState.HELD
    assert "the mapping no longer fits" in (held.reason or "")
    assert "Y" in (held.reason or "")
    site.publish(document().replace('y: "Y"', 'y: "Z"'))
    resume(site.hub, run, str(ME))
    ended = site.carry(run)
    assert (ended.state, by(ended)) == (RunState.DONE, {"applied": 20})
    assert all(score is not None for score, _ in site.scores().values())


def test_a_held_run_does_not_go_on_under_a_version_that_reads_something_else(site: Site) -> None:
    run = site.order(changed_limit=0)
    site.carry(run)
    site.publish(read="  changed_by: STAMP\n")
    with pytest.raises(RunError, match="another entity"):
        resume(site.hub, run, str(ME))


def test_a_run_keeps_the_model_it_began_with(site: Site) -> None:
    run = site.order(changed_limit=8)
    site.carry(run)
    before = site.look(run).model
    first = {key: score for key, (score, _) in site.scores().items() if score is not None}
    with site.hub.database.begin() as session:
        site.hub.ledger.resume(session, run, None, raise_limit=True)
    site.hub.registry.set_alias("risk", "champion", 2, str(ME))
    site.carry(run)
    assert site.look(run).model == before
    scores = [score for score, _ in (site.scores()[key] for key in sorted(site.scores()))]
    assert len(first) == 8
    assert scores == sorted(scores)  # the other model's scores fall where these rise


def test_undo_puts_back_what_was_there_null_too_and_lists_what_somebody_edited(site: Site) -> None:
    site.ask("update PERSON set SCORE = 5, BAND = 'Old' where ID < '000003'")
    before = site.scores()
    run = site.run()
    site.ask("update PERSON set SCORE = 66 where ID = '000010'")
    with pytest.raises(RunError, match="no run"):
        undo(site.hub, "nothing", ME)
    undone = site.carry(undo(site.hub, run.id, ME))
    assert (undone.state, by(undone)) == (RunState.DONE_WITH_REJECTS, {"applied": 19, "conflict": 1})
    after = site.scores()
    assert after.pop("000010")[0] == 66
    before.pop("000010")
    assert after == before
    assert [each["key"] for each in left_alone(site.hub, undone.id, str(ME))] == [{"ID": "000010"}]
    assert site.hub.mappings.get("risk").paused
    with pytest.raises(RunError, match="itself an undo"):
        undo(site.hub, undone.id, ME)


def test_undo_refuses_a_run_that_goes_on_and_leaves_the_mapping_as_it_was(site: Site) -> None:
    first = site.run()
    site.ask("update PERSON set X = X + 1")
    second = site.order()
    for run in (first.id, second):
        with pytest.raises(RunError, match=r"active run|queued; end it by `hub runs cancel \S+`, then undo it"):
            undo(site.hub, run, ME)
    assert not site.hub.mappings.get("risk").paused


def test_a_partial_run_can_be_undone(site: Site) -> None:
    run = site.order(changed_limit=8)
    site.carry(run)
    cancel(site.hub, run, str(ME))
    undone = site.carry(undo(site.hub, run, ME))
    assert by(undone) == {"applied": 8}
    assert set(site.scores().values()) == {(None, None)}


def test_a_request_beside_a_run_loses_no_update(make_site: Make) -> None:
    """The page is decided, then a request scores and writes the same record, then the page is written."""
    write = '  entity: NOTE\n  key: { PERSON_ID: "ID" }\n  set: { SCORE: score, BAND: band }\n'
    site = make_site(8, parts={"write": write, "mode": "upsert"})
    run = site.order()
    scoring = Scoring(site.hub)
    catalogue, once = site.hub.log.catalogue, []

    def request_between(session: object, segment: object) -> None:
        catalogue(session, segment)  # type: ignore[arg-type]
        once.append(segment)

    site.hub.log.catalogue = request_between  # type: ignore[assignment,method-assign]
    worker = site.worker()
    from hub.runs.pages.trip import Trip

    send = Trip.send

    def late(self: Trip, *given: object, **more: object) -> object:
        if self.run.id == run and len(once) == 1:
            site.ask("update PERSON set X = 95 where ID = '000001'")
            scoring.score_and_write("risk", [{"ID": "000001"}], str(ME), "keys")
        return send(self, *given, **more)  # type: ignore[arg-type]

    Trip.send = late  # type: ignore[assignment,method-assign]
    try:
        site.carry(run, worker)
    finally:
        Trip.send = send  # type: ignore[method-assign]
    site.run()
    [[stale]] = site.ask("select SCORE from NOTE where PERSON_ID = '000000'")
    [[fresh]] = site.ask("select SCORE from NOTE where PERSON_ID = '000001'")
    assert fresh > stale + 10
    assert by(site.run()) == {"skipped": 8}


def test_a_schedule_starts_runs_in_its_time_zone_and_drops_ticks_that_meet_one(make_site: Make) -> None:
    parts = {"read": "  timezone: Asia/Kolkata\n", "run": '  schedule: "0 * * * *"\n'}
    site = make_site(parts=parts)
    with site.hub.database.read() as session:
        now = site.hub.database.now(session)
    # A full hour in Kolkata is half past in UTC.
    half = (now + timedelta(hours=1)).replace(minute=30, second=0, microsecond=0)
    for early in tick(site.hub, half - timedelta(seconds=1)):  # the tick of the hour before, where one lay between
        site.carry(early)
    [run] = tick(site.hub, half)
    assert tick(site.hub, half) == []
    assert tick(site.hub, half + timedelta(hours=1)) == []  # it meets the run
    assert site.carry(run).state is RunState.DONE
    assert site.look(run).actor == "service:schedule"
    with site.hub.database.read() as session:
        assert site.hub.ledger.last_tick(session, "risk") == (half + timedelta(hours=1), 1)
    [later] = tick(site.hub, half + timedelta(hours=5))  # three were missed, nobody looked
    site.carry(later)
    site.hub.mappings.pause("risk", ME, "audit")
    assert tick(site.hub, half + timedelta(hours=6)) == []
    with site.hub.database.read() as session:
        assert site.hub.ledger.last_tick(session, "risk") == (half + timedelta(hours=6), 5)
    assert [each.event.detail["why"] for each in site.events(Action.RUN_SKIP)] == ["paused", "missed", "running"]


def test_progress_is_honest(site: Site) -> None:
    first = progress(site.hub, site.run().id)
    assert (first["slices"], first["seconds_left"], first["adds_up"]) == ("3/3", None, True)
    assert first["rate"] > 0
    site.ask("update PERSON set X = X + 20")
    run = site.order(changed_limit=8)
    held = site.carry(run)
    assert held.expected == 20
    assert progress(site.hub, run)["seconds_left"] is None  # it waits for a person, nobody knows how long


def test_rights_are_those_the_mapping_needs_no_more_and_no_less() -> None:
    grant = Grant(
        reads={"dbo.PERSON": frozenset({"ID", "X"})},
        writes={"dbo.PERSON": frozenset({"SCORE"})},
        modes={"dbo.PERSON": frozenset({Mode.UPDATE})},
    )
    report = CheckReport(
        "hub",
        "SQL",
        (
            RightStatus("SELECT", True, "dbo.PERSON"),
            RightStatus("SELECT", False, "dbo.PERSON.X"),
            RightStatus("SELECT", False, "dbo.PERSON.SECRET"),
            RightStatus("UPDATE", True, "dbo.PERSON"),
            RightStatus("INSERT", True, "dbo.PERSON"),
            RightStatus("DELETE", False, "dbo.PERSON"),
            RightStatus("SELECT", True, "dbo.SALARY"),
            RightStatus("API", False),
        ),
    )
    missing, excess = needed_rights(grant, report)
    assert missing == ["SELECT dbo.PERSON.X", "API"]
    assert excess == ["INSERT dbo.PERSON", "SELECT dbo.SALARY"]


def test_the_start_of_a_run_names_rights_beyond_its_need_and_a_missing_one_refuses_it(site: Site) -> None:
    site.run()
    [started] = site.events(Action.RUN_START)
    assert "far: SELECT NOTE" in started.event.detail["excess_rights"]
    assert "far: INSERT PERSON" in started.event.detail["excess_rights"]


def test_upkeep_closes_what_an_ended_run_left_behind(site: Site) -> None:
    run = site.order(changed_limit=100)
    from hub.runs.pages.trip import Trip

    send = Trip.send

    def stop(*_: object, **__: object) -> None:
        if site.look(run).state is RunState.RUNNING:
            cancel(site.hub, run, str(ME))
        raise SkippedError

    Trip.send = stop  # type: ignore[method-assign]
    try:
        site.worker().work(run)
    finally:
        Trip.send = send  # type: ignore[method-assign]
    assert site.look(run).state is RunState.CANCELLED
    from sqlalchemy import text

    with site.hub.database.begin() as session:
        session.execute(text("update run set finished_at = '2026-01-01 00:00:00.000000'"))
    intents = len(site.events(Action.WRITE_INTENT))
    assert intents >= 1
    assert keep_up(site.hub)
    assert not keep_up(site.hub)
    assert len(site.events(Action.WRITE_OUTCOME)) == intents
    with site.hub.database.read() as session:
        assert session.execute(text("select count(*) from page")).scalar_one() == 0
    assert by(site.run()) == {"applied": 20}


def test_kinds_of_runs_are_what_was_asked(make_site: Make) -> None:
    site = make_site(parts={"read": "  changed_by: STAMP\n", "write": IN_PLACE})
    with pytest.raises(RunError, match="no earlier full run"):
        site.order(RunKind.INCREMENTAL)
    assert site.run(RunKind.FULL).kind is RunKind.FULL


def test_what_a_run_put_up_with_is_told_in_the_right_number() -> None:
    from hub.runs.planning.describing import sentences

    assert sentences({"locked": (1, 1.0), "left": (2, 5.0), "waited": (1, 2.0)}) == [
        "waited once for the far side, 2 s in all",
        "sent 1 record again that somebody else had locked",
        "sent 5 records again that a job of the far side had left unprocessed",
    ]
