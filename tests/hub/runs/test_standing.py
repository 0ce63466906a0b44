"""What a second look at the same records leads to: one edit, one score, one write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import polars as pl
import pytest

from hub.audit import Action
from hub.decisions import drop, release
from hub.runs import Run, RunError, RunKind, RunState, replay
from tests.hub.runs.site import IN_PLACE, ME, Site, document

Make = Callable[..., Site]


def by(run: Run) -> dict[str, int]:
    return {name: number for name, number in run.counts.by.items() if number}


def test_a_second_run_writes_nothing_and_an_edit_leads_to_one_score_and_one_write(site: Site) -> None:
    first = site.run()
    assert (first.state, by(first)) == (RunState.DONE, {"applied": 20})
    scores = site.scores()
    assert sorted(score for score, _ in scores.values()) == [score for score, _ in scores.values()]
    assert by(site.run()) == {"skipped": 20}
    assert (site.writes(), site.decisions()) == (20, 20)
    site.ask("update PERSON set X = 99 where ID = '000003'")
    assert by(site.run()) == {"skipped": 19, "applied": 1}
    assert (site.writes(), site.decisions()) == (21, 21)
    assert site.scores()["000003"] != scores["000003"]


def test_a_small_difference_is_not_worth_a_write(make_site: Make) -> None:
    site = make_site(parts={"write": IN_PLACE + "  when_changed: { SCORE: 3 }\n"})
    site.run()
    site.ask("update PERSON set X = X + 0.5 where ID = '000003'")
    assert by(site.run()) == {"skipped": 19, "unchanged": 1}
    assert site.writes() == 20


def test_who_edits_the_target_between_read_and_write_wins_and_the_record_is_scored_again(site: Site) -> None:
    run = site.order()
    worker = site.worker()
    original = site.hub.log.catalogue

    def edit_then(session: object, segment: object) -> None:
        # Between the read and the write of the first page somebody gives 000001 a score by hand.
        if site.ask("select SCORE from PERSON where ID = '000001'") == [[None]]:
            site.ask("update PERSON set SCORE = 77 where ID = '000001'")
        original(session, segment)  # type: ignore[arg-type]

    site.hub.log.catalogue = edit_then  # type: ignore[assignment,method-assign]
    ended = site.carry(run, worker)
    site.hub.log.catalogue = original  # type: ignore[method-assign]
    assert (ended.state, by(ended)) == (RunState.DONE_WITH_REJECTS, {"applied": 19, "conflict": 1})
    assert site.scores()["000001"][0] == 77
    assert site.standing("000001")["why"] == "conflict"
    again = site.run()
    assert (again.state, by(again)) == (RunState.DONE, {"skipped": 19, "applied": 1})
    assert site.scores()["000001"][0] != 77


def test_a_rejected_record_is_due_again_later_and_is_parked_after_five_and_replay_touches_only_it(site: Site) -> None:
    site.ask("insert into REFUSED values ('000004')")
    for attempt in range(1, 6):
        run = site.run() if attempt == 1 else site.carry(replay(site.hub, "risk", str(ME), ("rejected",)))
        assert by(run) == ({"applied": 19, "rejected": 1} if attempt == 1 else {"rejected": 1})
        stands = site.standing("000004")
        assert stands["attempts"] == attempt
        if attempt < 5:
            assert stands["due"] - stands["at"] == timedelta(minutes=2 ** (attempt - 1))
    assert (stands["state"], stands["due"]) == ("parked", None)
    assert len(site.events(Action.RECORD_PARK)) == 1
    assert by(site.run()) == {"skipped": 19, "parked": 1}
    site.ask("delete from REFUSED")
    writes = site.writes()
    mended = site.carry(replay(site.hub, "risk", str(ME), ("parked",)))
    assert (mended.state, by(mended), site.writes()) == (RunState.DONE, {"applied": 1}, writes + 1)
    with pytest.raises(RunError, match="no state to replay"):
        replay(site.hub, "risk", str(ME), ("aplied",))


def test_a_record_that_leaves_keeps_its_score_or_loses_it_once(make_site: Make) -> None:
    for leaves in ("keep", "clear"):
        site = make_site(parts={"read": f"  leaves: {leaves}\n"})
        site.run()
        before = site.scores()
        site.ask("update PERSON set LIVES = 0 where ID = '000002'")
        site.ask("delete from PERSON where ID = '000005'")
        gone = site.run()
        assert gone.state is RunState.DONE
        assert site.scores()["000002"] == (before["000002"] if leaves == "keep" else (None, None))
        assert site.states()["left"] == 2
        writes = site.writes()
        assert by(site.run()) == {"skipped": 18}
        assert site.writes() == writes
        site.ask("update PERSON set LIVES = 1 where ID = '000002'")
        site.run()
        assert site.scores()["000002"] == before["000002"]


def test_a_held_record_waits_for_a_person_and_is_written_once_or_dropped(make_site: Make) -> None:
    site = make_site(parts={"decide": '  hold: "x >= 18"\n'})
    assert by(site.run()) == {"applied": 18, "held": 2}
    assert by(site.run()) == {"skipped": 18, "held": 2}
    keys = pl.DataFrame({"ID": ["000018", "000019"]}).to_struct("_key")
    with site.hub.database.begin() as session:
        now = site.hub.database.now(session)
        release(session, site.hub.standing, "risk", keys[:1], now)
        drop(session, site.hub.standing, "risk", keys[1:])
    released = site.run()
    assert (released.state, by(released)) == (RunState.DONE, {"skipped": 19, "applied": 1})
    assert site.scores()["000018"][0] is not None
    assert site.scores()["000019"][0] is None
    assert by(site.run()) == {"skipped": 20}


def test_an_invalid_record_is_counted_by_every_run_and_scored_when_mended(make_site: Make) -> None:
    site = make_site(parts={"decide": ""})
    site.ask("update PERSON set X = null where ID = '000006'")
    first = site.run()
    assert first.counts.read == 20
    state = "invalid" if first.counts["invalid"] else "applied"
    assert by(site.run()).get("invalid", 0) == first.counts["invalid"]
    site.ask("update PERSON set X = 6 where ID = '000006'")
    assert by(site.run())["applied"] == 1
    assert state == "invalid"


def test_a_score_expires_and_is_cleared_once_the_record_is_no_longer_read(make_site: Make) -> None:
    site = make_site(parts={"write": IN_PLACE + "  expires: { after: 1d, then: clear }\n"})
    site.run()
    due = site.standing("000001")["due"]
    assert due is not None
    assert site.standing("000001")["why"] == "expired"
    stale = make_site(parts={"write": IN_PLACE + "  expires: { after: 1d, then: keep }\n"})
    stale.run()
    assert stale.standing("000001")["due"] is None


def test_a_new_model_or_a_new_version_of_the_mapping_makes_every_record_due(site: Site) -> None:
    site.run()
    before = site.scores()
    site.hub.registry.set_alias("risk", "champion", 2, str(ME))
    assert by(site.run()).get("skipped", 0) == 0
    assert site.scores() != before
    site.hub.registry.rollback("risk", "champion", str(ME))
    site.run()
    assert site.scores() == before
    decisions = site.decisions()
    site.publish(document().replace("title: Risk", "title: Other risk"))
    assert by(site.run()) == {"unchanged": 20}
    assert site.decisions() == decisions + 20


def test_an_incremental_run_reads_what_moved_ties_included_and_a_refresh_reads_everything(make_site: Make) -> None:
    site = make_site(parts={"read": "  changed_by: STAMP\n  refresh: 1d\n"})
    first = site.run()
    assert first.kind is RunKind.FULL
    idle = site.run()
    assert idle.kind is RunKind.INCREMENTAL
    assert set(by(idle)) <= {"skipped"}
    site.ask("update PERSON set X = 80 where ID = '000001'")  # an edit with the very stamp of the head
    site.ask("update PERSON set X = 90, STAMP = '2026-02-01 10:00:00' where ID in ('000007', '000002')")
    moved = site.run()
    assert moved.kind is RunKind.INCREMENTAL
    assert moved.counts["applied"] in {2, 3}
    with site.hub.database.begin() as session:
        from sqlalchemy import text

        session.execute(text("update run set logical_at = '2026-01-01 00:00:00.000000' where kind = 'full'"))
    assert site.run().kind is RunKind.FULL
    assert site.scores()["000001"][0] == site.scores()["000001"][0]
    assert by(site.run()).get("applied", 0) == 0
