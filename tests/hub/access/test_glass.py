"""Breaking the glass: for an hour and once, by a person with a reason; another person confirms it within a day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from hub.access import Actor, ActorKind, Caller, Rights, Role, Scope, local_caller
from hub.access.approvals import ApprovalError, Approvals, ApprovalState
from hub.access.types import PERSONAL, WHOLE
from hub.audit import Action, AuditLog, Outcome
from hub.database import Database
from hub.logs import Log, begin
from tests.clocks import SetClock
from tests.hub.access.asking import ANNA, BERT, CARLA, CONTENT, ask, use

WHY = "nobody else on call, and scores are wrong"


@pytest.fixture(autouse=True)
def clock(any_database: Database) -> SetClock:
    any_database.clock = made = SetClock()
    return made


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the room logs, whatever level a test before has set."""
    begin()
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0), cache_logger_on_first_use=False)
    monkeypatch.setattr("hub.access.approvals.approvals.log", Log("approvals"))
    with structlog.testing.capture_logs() as found:
        yield found
    structlog.configure(**before)


def unconfirmed(approvals: Approvals, database: Database) -> int:
    with database.read() as session:
        return approvals.unconfirmed(session)


def test_the_right_to_break_it_is_the_administrators_and_no_programs() -> None:
    assert [each for each in Role if Scope.GLASS in each.scopes] == [Role.ADMIN]
    assert Scope.APPROVE not in Role.ADMIN.scopes
    assert Scope.GLASS in PERSONAL & WHOLE


def test_an_author_lets_it_through_in_no_other_way_and_it_is_used_once(
    approvals: Approvals, any_database: Database
) -> None:
    asked = ask(approvals, any_database)
    with pytest.raises(ApprovalError, match="somebody else must approve"):
        approvals.approve(asked.id, ANNA)
    broken = approvals.break_glass(asked.id, ANNA, WHY)
    assert broken.glass is not None
    assert (broken.state, broken.approved, broken.unconfirmed) == (ApprovalState.APPROVED, True, True)
    assert (broken.glass.by, broken.glass.why, broken.decided_by) == ("human:anna", WHY, None)
    used = use(approvals, any_database)
    assert used is not None
    assert used.state is ApprovalState.USED
    assert use(approvals, any_database) is None


def test_it_lets_nothing_else_through(approvals: Approvals, any_database: Database) -> None:
    approvals.break_glass(ask(approvals, any_database).id, ANNA, WHY)
    assert use(approvals, any_database, {**CONTENT, "to": 3}) is None


def test_it_holds_for_an_hour_whatever_is_confirmed(
    approvals: Approvals, any_database: Database, clock: SetClock
) -> None:
    asked = ask(approvals, any_database)
    assert approvals.break_glass(asked.id, ANNA, WHY).expires_at == clock.moment + timedelta(hours=1)
    clock.moment += timedelta(hours=1, seconds=1)
    assert approvals.get(asked.id).state is ApprovalState.EXPIRED
    assert use(approvals, any_database) is None
    assert [each.id for each in approvals.list()] == [asked.id], "it was broken, and somebody has to look at it"
    approvals.approve(asked.id, BERT)
    assert use(approvals, any_database) is None
    assert approvals.list() == []


@pytest.mark.parametrize("why", ["", "  "])
def test_it_takes_a_reason(approvals: Approvals, any_database: Database, why: str) -> None:
    asked = ask(approvals, any_database)
    with pytest.raises(ApprovalError, match="reason: say why nobody else could be asked"):
        approvals.break_glass(asked.id, ANNA, why)
    assert approvals.get(asked.id).state is ApprovalState.PENDING


def test_it_takes_a_person(approvals: Approvals, any_database: Database, audit: AuditLog) -> None:
    asked = ask(approvals, any_database)
    program = Caller(Actor(ActorKind.SERVICE, "nightly"), "carla", Rights(frozenset(Scope)), "a key")
    with pytest.raises(ApprovalError, match="service:nightly is a program; only a person breaks the glass"):
        approvals.break_glass(asked.id, program, WHY)
    assert approvals.get(asked.id).state is ApprovalState.PENDING
    (told,) = audit.events(action=Action.ACCESS_DENIED)
    assert (told.event.actor, told.event.subject) == ("service:nightly", f"approval:{asked.id}")


def test_there_is_none_to_break_where_nothing_waits(approvals: Approvals, any_database: Database) -> None:
    asked = ask(approvals, any_database)
    approvals.refuse(asked.id, BERT)
    with pytest.raises(ApprovalError, match="is refused; there is no glass to break"):
        approvals.break_glass(asked.id, CARLA, WHY)
    again = ask(approvals, any_database)
    approvals.break_glass(again.id, CARLA, WHY)
    with pytest.raises(ApprovalError, match="is approved; there is no glass to break"):
        approvals.break_glass(again.id, ANNA, WHY)
    with pytest.raises(ApprovalError, match="there is no approval nope"):
        approvals.break_glass("nope", CARLA, WHY)


@pytest.mark.parametrize("verb", ["approve", "refuse"])
def test_another_person_and_no_author_has_a_word_on_it_afterwards(
    approvals: Approvals, any_database: Database, verb: str
) -> None:
    asked = ask(approvals, any_database)
    approvals.break_glass(asked.id, CARLA, WHY)
    use(approvals, any_database)
    assert unconfirmed(approvals, any_database) == 1
    for who in (ANNA, CARLA, replace(BERT, actor=Actor(ActorKind.SERVICE, "nightly"))):
        with pytest.raises(ApprovalError, match=r"somebody else must approve|a person must approve"):
            getattr(approvals, verb)(asked.id, who)
    decided = getattr(approvals, verb)(asked.id, BERT, "looked at")
    assert (decided.state, decided.unconfirmed, decided.decided_by) == (ApprovalState.USED, False, "human:bert")
    assert unconfirmed(approvals, any_database) == 0
    assert approvals.list() == []
    with pytest.raises(ApprovalError, match="nobody decides it again"):
        approvals.approve(asked.id, local_caller("dora"))


def test_what_is_refused_before_it_was_used_is_not_used(approvals: Approvals, any_database: Database) -> None:
    asked = ask(approvals, any_database)
    approvals.break_glass(asked.id, ANNA, WHY)
    assert approvals.refuse(asked.id, BERT).state is ApprovalState.REFUSED
    assert use(approvals, any_database) is None


def test_each_step_is_told_by_an_action_of_its_own_and_breaking_it_in_the_log(
    approvals: Approvals, any_database: Database, audit: AuditLog, lines: list[Any]
) -> None:
    asked = ask(approvals, any_database)
    approvals.break_glass(asked.id, CARLA, WHY)
    assert [(each["log_level"], each["event"], each["by"]) for each in lines] == [
        ("warning", "the glass was broken", "human:carla")
    ]
    use(approvals, any_database)
    approvals.approve(asked.id, BERT)
    told = [each.event for each in reversed(audit.events(subject="model:lead"))]
    assert [(each.action, each.actor) for each in told] == [
        (Action.APPROVAL_REQUEST, "human:anna"),
        (Action.APPROVAL_BREAK, "human:carla"),
        (Action.APPROVAL_USE, "human:anna"),
        (Action.APPROVAL_CONFIRM, "human:bert"),
    ]
    assert {each.digest for each in told} == {asked.digest}
    assert told[1].detail["why"] == WHY


def test_what_nobody_confirmed_within_a_day_is_told_of_once(
    approvals: Approvals, any_database: Database, audit: AuditLog, clock: SetClock, lines: list[Any]
) -> None:
    asked = ask(approvals, any_database)
    approvals.break_glass(asked.id, ANNA, WHY)
    use(approvals, any_database)
    clock.moment += timedelta(hours=23)
    assert approvals.tell_overdue() == 0
    clock.moment += timedelta(hours=1)
    lines.clear()
    assert [approvals.tell_overdue(), approvals.tell_overdue()] == [1, 0]
    assert [(each["log_level"], each["approval"], each["by"]) for each in lines] == [("error", asked.id, "human:anna")]
    (told,) = audit.events(action=Action.APPROVAL_LAPSE)
    assert (told.event.subject, told.event.outcome, told.event.digest) == ("model:lead", Outcome.FAILED, asked.digest)
    assert unconfirmed(approvals, any_database) == 1
    assert not approvals.approve(asked.id, BERT).unconfirmed, "late is better than never"


def test_what_was_confirmed_in_time_is_not_told_of(
    approvals: Approvals, any_database: Database, clock: SetClock
) -> None:
    asked = ask(approvals, any_database)
    approvals.break_glass(asked.id, ANNA, WHY)
    approvals.approve(asked.id, BERT)
    clock.moment += timedelta(days=2)
    assert approvals.tell_overdue() == 0


ALTERATIONS = {
    "somebody else broke it": "update access_approval_glass set actor = 'human:mallory'",
    "for another reason": "update access_approval_glass set reason = 'routine'",
    "later": "update access_approval_glass set at = '2026-05-09 00:00:00+00:00'",
    "it holds for longer": "update access_approval set expires_at = '2036-05-01 00:00:00+00:00'",
    "it never was, and it was used": "delete from access_approval_glass",
}


@pytest.mark.parametrize("change", ALTERATIONS.values(), ids=ALTERATIONS)
@pytest.mark.parametrize("confirmed", [False, True])
def test_a_broken_glass_that_was_altered_where_it_is_kept_is_refused(
    approvals: Approvals, any_database: Database, change: str, confirmed: bool
) -> None:
    asked = ask(approvals, any_database)
    approvals.break_glass(asked.id, CARLA, WHY)
    use(approvals, any_database)
    if confirmed:
        approvals.approve(asked.id, BERT)
    with any_database.engine.begin() as connection:
        connection.execute(text(change))
    with pytest.raises(ApprovalError, match="was altered where it is stored"):
        approvals.get(asked.id)


def test_no_row_turns_a_broken_glass_into_an_approval_of_somebody_else(
    approvals: Approvals, any_database: Database
) -> None:
    asked = ask(approvals, any_database)
    approvals.break_glass(asked.id, CARLA, WHY)
    use(approvals, any_database)
    with any_database.engine.begin() as connection:
        connection.execute(
            text("insert into access_approval_party (approval, person, part) values (:id, 'bert', 'decider')"),
            {"id": asked.id},
        )
        connection.execute(
            text(
                "insert into access_approval_decision (approval, person, part, actor, approved, reason, at, mac)"
                " select approval, 'bert', 'decider', 'human:bert', true, '', at, mac from access_approval_glass"
            )
        )
    with pytest.raises(ApprovalError, match="was altered where it is stored"):
        approvals.get(asked.id)


def test_the_database_itself_lets_nobody_confirm_what_he_let_through(
    approvals: Approvals, any_database: Database
) -> None:
    asked = ask(approvals, any_database)
    approvals.break_glass(asked.id, CARLA, WHY)
    with pytest.raises(IntegrityError), any_database.begin() as session:
        session.execute(text("update access_approval_party set part = 'decider' where person = 'carla'"))
