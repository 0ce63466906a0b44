"""A record that fails is found and set aside, the rest pass; a fault that is not theirs stops everything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hub.audit import Action
from hub.runs import RunKind, RunState, Worker, replay, resume
from hub.sdk import UnavailableError
from tests.hub.runs.site import ME, Site
from tests.hub.runs.test_standing import by
from tests.system.drill import until

Make = Callable[..., Site]


def test_a_record_whose_page_fails_is_found_by_bisecting_and_parked(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(40, page_rows=40)
    monkeypatch.setenv("HUB_FAULT", "raise:before score@000013")
    run = site.run()
    assert (run.state, by(run)) == (RunState.DONE_WITH_REJECTS, {"applied": 39, "parked": 1})
    assert site.standing("000013")["state"] == "parked"
    [event] = site.events(Action.RECORD_PARK)
    assert event.event.detail["records"] == 1
    again = site.run()  # it is not tried again as it is: the fault is armed still
    assert (by(again), len(site.events(Action.RECORD_PARK))) == ({"skipped": 39, "parked": 1}, 1)
    monkeypatch.delenv("HUB_FAULT")
    assert by(site.carry(replay(site.hub, "risk", str(ME), ("parked",)))) == {"applied": 1}


def test_a_fault_of_all_records_holds_the_run_and_does_not_park_them_all(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(30, page_rows=2)
    monkeypatch.setenv("HUB_FAULT", "raise:after score")
    held = site.run()
    assert held.state is RunState.HELD
    assert by(held) == {}


def test_ten_records_parked_in_a_row_are_a_fault_of_something_else(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(14, page_rows=1)
    from hub.mappings import Pipeline

    def fail(*_: object) -> None:
        raise ArithmeticError("a secret value")

    monkeypatch.setattr(Pipeline, "decide", fail)
    held = site.run()
    assert held.state is RunState.HELD
    assert by(held) == {"parked": 10}
    assert "the fault is not theirs" in (held.reason or "")


def test_a_far_side_that_is_away_costs_no_tries_and_no_parked_record(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub.connections.guard import GuardedDestination

    write, calls = GuardedDestination.write, []

    def away(self: GuardedDestination, changes: object, **more: object) -> object:
        calls.append(changes)
        if len(calls) <= 6:
            raise UnavailableError("the far side restarts", retry_after=0.0)
        return write(self, changes, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(GuardedDestination, "write", away)
    run = site.run()
    assert (run.state, by(run)) == (RunState.DONE, {"applied": 20})


def test_an_answer_that_never_comes_is_read_back_before_anything_is_sent_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub.connections.guard import GuardedDestination
    from hub.runs.pages.landing import unanswered

    write, sent = GuardedDestination.write, []

    def lose_the_answer(self: GuardedDestination, changes: object, **more: object) -> object:
        sent.append(changes)
        write(self, changes, **more)  # type: ignore[arg-type]
        return unanswered(len(changes), "timed out")  # type: ignore[arg-type]

    monkeypatch.setattr(GuardedDestination, "write", lose_the_answer)
    run = site.run()
    assert (run.state, by(run)) == (RunState.DONE, {"applied": 20})
    assert len(sent) == 3  # one call a page, none repeated
    assert site.writes() == 20


def test_a_write_that_landed_before_its_answer_was_lost_is_told_whatever_a_colleague_did_since(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub.connections.guard import GuardedDestination

    site = make_site(20, page_rows=20)
    write, sent = GuardedDestination.write, []

    def lose_the_worker(self: GuardedDestination, changes: object, **more: object) -> object:
        answer = write(self, changes, **more)  # type: ignore[arg-type]
        sent.append(changes)
        if len(sent) == 1:
            site.ask("delete from PERSON where ID = '000003'")
            site.ask("update PERSON set BAND = 'mine', STAMP = '2026-03-01' where ID = '000005'")
            raise RuntimeError("lost after the write")
        return answer

    monkeypatch.setattr(GuardedDestination, "write", lose_the_worker)
    run = site.run()
    assert by(run) == {"applied": 18, "rejected": 1, "conflict": 1}
    assert site.writes() == 20
    with site.hub.database.read() as session:
        [segment] = site.hub.log.segments(session, mapping="risk")
    reasons = site.hub.log.results(segment.id)["reason"].drop_nulls().to_list()
    assert len(reasons) == 2
    assert all("an earlier try, whose answer was lost, may have written it" in each for each in reasons)
    assert [each.event.detail["maybe_written"] for each in site.events(Action.WRITE_OUTCOME)] == [2]


def test_a_model_with_a_pool_is_scored_without_credentials_and_scores_the_same(make_site: Make) -> None:
    light, heavy = make_site(30), make_site(30, parts={"use": "'3'"})
    light.run()
    run = heavy.order()
    scorer = Worker(heavy.hub, "gpu", "gpu/1")
    opened: list[str] = []
    open_, entities = heavy.hub.connections.open, heavy.hub.connections.entities
    while True:
        moved = heavy.worker().work(run)
        heavy.hub.connections.open = lambda name, *_a, **_k: opened.append(name)  # type: ignore[assignment,method-assign]
        heavy.hub.connections.entities = lambda name, *_a: opened.append(name)  # type: ignore[assignment,method-assign]
        scored = scorer.work(run)
        heavy.hub.connections.open, heavy.hub.connections.entities = open_, entities  # type: ignore[method-assign]
        if not moved and not scored:
            break
    ended = heavy.look(run)
    assert (ended.state, by(ended), opened) == (RunState.DONE, {"applied": 30}, [])
    assert heavy.scores() == light.scores()
    again = heavy.order(RunKind.FULL)
    while heavy.worker().work(again) or scorer.work(again):
        pass
    assert by(heavy.look(again)) == {"skipped": 30}


def test_a_record_that_fails_in_the_pool_is_parked_and_the_rest_pass(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(20, parts={"use": "'3'"}, page_rows=10)
    monkeypatch.setenv("HUB_FAULT", "raise:after score@000013")
    run, scorer, light = site.order(), Worker(site.hub, "gpu", "gpu/1"), site.worker()
    # Nothing to claim for a moment is no end: on a busy machine a slice may have to wait.
    until(lambda: not light.work(run) and not scorer.work(run) and site.look(run).state.final)
    ended = site.look(run)
    assert (ended.state, by(ended)) == (RunState.DONE_WITH_REJECTS, {"applied": 19, "parked": 1})


def test_a_staged_run_ahead_writes_nothing_before_all_is_scored(make_site: Make) -> None:
    site = make_site(100, parts={"use": "'3'", "run": "  ahead: true\n"})
    run, scorer, light = site.order(), Worker(site.hub, "gpu", "gpu/1"), site.worker()
    while True:
        scored = scorer.work(run)
        with site.hub.database.read() as session:
            [state] = {site.hub.ledger.slices(session, run)}
        if not light.work(run) and not scored:
            break
        assert state[0] == 0 or site.writes() == 100
    assert by(site.look(run)) == {"applied": 100}


@pytest.mark.parametrize("point", ["before write", "after write"])
def test_a_record_whose_write_fails_is_found_in_parts_and_the_rest_is_written_once(
    point: str, make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(40, page_rows=40)
    monkeypatch.setenv("HUB_FAULT", f"raise:{point}@000013;raise:{point}@000033")
    run = site.run()
    landed = point == "after write"  # the far side had them, as reading back shows: there is nothing to explain
    expected = {"applied": 40} if landed else {"applied": 38, "parked": 2}
    assert (run.state, by(run)) == (RunState.DONE if landed else RunState.DONE_WITH_REJECTS, expected)
    assert (site.writes(), site.decisions()) == (expected["applied"], 40)
    [intent], [outcome] = site.events(Action.WRITE_INTENT), site.events(Action.WRITE_OUTCOME)
    assert (intent.event.digest, outcome.event.detail["counts"]) == (outcome.event.digest, expected)
    assert by(site.run()) == ({"skipped": 40} if landed else {"skipped": 38, "parked": 2})
    monkeypatch.delenv("HUB_FAULT")
    if not landed:
        told = site.hub.log.results(int(intent.event.detail["segment"])).filter(state="parked")
        assert set(told["reason"]) == {"writing this record ended its process 3 times on its own"}
        assert by(site.carry(replay(site.hub, "risk", str(ME), ("parked",)))) == {"applied": 2}


def test_a_write_that_fails_for_every_record_holds_the_run_and_does_not_park_them_all(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(30, page_rows=30)
    monkeypatch.setenv("HUB_FAULT", "raise:before write")
    held = site.carry(site.order())
    assert "so the fault is not theirs" in (held.reason or "")
    assert site.writes() == 0
    monkeypatch.delenv("HUB_FAULT")
    resume(site.hub, held.id, str(ME))
    assert by(site.carry(held.id)) == {"applied": 20, "parked": 10}


def test_a_page_that_cannot_be_settled_holds_the_run(make_site: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(6)
    monkeypatch.setenv("HUB_FAULT", "raise:before commit of Trip.settle")
    held = site.carry(site.order())
    assert "storing what the far side answered" in (held.reason or "")
    monkeypatch.delenv("HUB_FAULT")
    resume(site.hub, held.id, str(ME))
    assert (by(site.carry(held.id)), site.writes()) == ({"applied": 6}, 6)
