"""Four eyes: nobody decides what he had a part in, one decision stands, and it covers what was looked at alone."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from hub.access import Actor, ActorKind, Caller, Rights, local_caller
from hub.access.approvals import ApprovalError, Approvals, ApprovalState
from hub.audit import Action, AuditLog
from hub.database import Database
from tests.clocks import SetClock
from tests.hub.access.asking import ANNA, BERT, CARLA, CONTENT, ask, use

KEY_OF_ANNA = Caller(Actor(ActorKind.SERVICE, "nightly"), "Anna ", Rights(), "a key")


def test_what_another_person_approved_is_done_once(approvals: Approvals, any_database: Database) -> None:
    asked = ask(approvals, any_database, reason="better on last week's leads")
    assert (asked.state, asked.authors) == (ApprovalState.PENDING, ("anna",))
    assert use(approvals, any_database) is None
    given = approvals.approve(asked.id, BERT, "looked at the figures")
    assert (given.state, given.decided_by, given.why) == (ApprovalState.APPROVED, "human:bert", "looked at the figures")
    used = use(approvals, any_database)
    assert used is not None
    assert (used.id, used.state) == (asked.id, ApprovalState.USED)
    assert use(approvals, any_database) is None
    assert approvals.list() == []
    assert [each.id for each in approvals.list(closed=True)] == [asked.id]


@pytest.mark.parametrize(
    ("asks", "decides"),
    [(ANNA, ANNA), (KEY_OF_ANNA, ANNA), (ANNA, local_caller("ANNA")), (CARLA, ANNA)],
    ids=["the author", "whose key it was", "by another spelling", "an editor"],
)
def test_nobody_approves_what_he_had_a_part_in(
    approvals: Approvals, any_database: Database, audit: AuditLog, asks: Caller, decides: Caller
) -> None:
    asked = ask(approvals, any_database, asks, editors=("human:anna",))
    with pytest.raises(ApprovalError, match="is its author; somebody else must approve"):
        approvals.approve(asked.id, decides)
    assert approvals.get(asked.id).state is ApprovalState.PENDING
    (told,) = audit.events(action=Action.ACCESS_DENIED)
    assert (told.event.actor, told.event.subject) == (str(decides.actor), f"approval:{asked.id}")


def test_no_program_approves_whoever_owns_it(approvals: Approvals, any_database: Database) -> None:
    asked = ask(approvals, any_database)
    key_of_bert = replace(KEY_OF_ANNA, owner="bert")
    with pytest.raises(ApprovalError, match="service:nightly is a program; a person must approve"):
        approvals.approve(asked.id, key_of_bert)


def test_of_two_decisions_at_once_one_stands(approvals: Approvals, any_database: Database) -> None:
    asked = ask(approvals, any_database)
    together = threading.Barrier(4)
    outcomes: list[str] = []

    def decide(name: str, approve: bool) -> None:
        together.wait(10)
        try:
            (approvals.approve if approve else approvals.refuse)(asked.id, local_caller(name))
            outcomes.append(name)
        except ApprovalError:
            outcomes.append("too late")

    threads = [threading.Thread(target=decide, args=(f"person {n}", n % 2 == 0)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert outcomes.count("too late") == 3
    (winner,) = set(outcomes) - {"too late"}
    assert approvals.get(asked.id).decided_by == f"human:{winner}"


@pytest.mark.parametrize("part", ["author", "editor", "decider"])
def test_the_database_itself_lets_no_author_decide(approvals: Approvals, any_database: Database, part: str) -> None:
    asked = ask(approvals, any_database)
    decision = text(
        "insert into access_approval_decision (approval, person, part, actor, approved, reason, at, mac) values"
        " (:id, 'anna', :part, 'human:anna', true, '', '2026-05-01 00:00:00', :mac)"
    )
    with pytest.raises(IntegrityError), any_database.begin() as session:
        session.execute(decision, {"id": asked.id, "part": part, "mac": b""})
    named = text("insert into access_approval_party (approval, person, part) values (:id, 'anna', 'decider')")
    with pytest.raises(IntegrityError), any_database.begin() as session:
        session.execute(named, {"id": asked.id})


def test_the_database_itself_lets_one_decision_stand(approvals: Approvals, any_database: Database) -> None:
    asked = ask(approvals, any_database)
    approvals.approve(asked.id, BERT)
    named = text("insert into access_approval_party (approval, person, part) values (:id, 'carla', 'decider')")
    with any_database.begin() as session:
        session.execute(named, {"id": asked.id})
    second = text(
        "insert into access_approval_decision (approval, person, part, actor, approved, reason, at, mac)"
        " select approval, 'carla', part, actor, approved, reason, at, mac from access_approval_decision"
    )
    with pytest.raises(IntegrityError), any_database.begin() as session:
        session.execute(second)


def test_an_edit_voids_what_was_asked_before_and_what_was_given(approvals: Approvals, any_database: Database) -> None:
    first = ask(approvals, any_database)
    approvals.approve(first.id, BERT)
    second = ask(approvals, any_database, CARLA, {**CONTENT, "to": 3})
    assert approvals.get(first.id).state is ApprovalState.VOID
    assert use(approvals, any_database) is None
    assert use(approvals, any_database, {**CONTENT, "to": 3}) is None
    assert [each.id for each in approvals.list()] == [second.id]
    with pytest.raises(ApprovalError, match="is void by human:bert; nobody decides it again"):
        approvals.approve(first.id, CARLA)


def test_the_same_asked_again_is_one_approval_with_one_more_author(
    approvals: Approvals, any_database: Database
) -> None:
    first, second = ask(approvals, any_database), ask(approvals, any_database, BERT)
    assert (second.id, second.authors) == (first.id, ("anna", "bert"))
    with pytest.raises(ApprovalError, match="somebody else must approve"):
        approvals.approve(first.id, BERT)
    assert approvals.approve(first.id, CARLA).approved


def test_what_was_refused_is_not_used_and_can_be_asked_for_anew(approvals: Approvals, any_database: Database) -> None:
    asked = ask(approvals, any_database)
    assert approvals.refuse(asked.id, BERT, "too early").state is ApprovalState.REFUSED
    assert use(approvals, any_database) is None
    again = ask(approvals, any_database)
    assert again.id != asked.id
    assert approvals.refuse(again.id, ANNA).state is ApprovalState.VOID, "whoever asked takes it back"


def test_an_approval_runs_out_given_or_not(approvals: Approvals, any_database: Database) -> None:
    any_database.clock = clock = SetClock()
    waiting, given = ask(approvals, any_database, days=1), ask(approvals, any_database, days=1, alone=False)
    assert waiting.id == given.id
    approvals.approve(given.id, BERT)
    clock.moment += timedelta(days=1, seconds=1)
    assert approvals.get(given.id).state is ApprovalState.EXPIRED
    assert use(approvals, any_database) is None
    late = ask(approvals, any_database)
    assert late.id != given.id
    clock.moment += timedelta(days=8)
    with pytest.raises(ApprovalError, match="is expired; nobody decides"):
        approvals.approve(late.id, BERT)


@pytest.mark.parametrize(
    "change",
    [
        """update access_approval set content = '{"alias": "champion", "model": "lead", "to": 9}'""",
        "update access_approval set digest = 'ff'",
        "update access_approval set expires_at = '2036-05-01 00:00:00+00:00'",
        "update access_approval_decision set actor = 'human:mallory'",
        "update access_approval_decision set approved = true",
        "update access_approval set used_at = '2026-05-01 00:00:00+00:00'",
    ],
)
def test_an_approval_that_was_altered_where_it_is_kept_is_refused(
    approvals: Approvals, any_database: Database, change: str
) -> None:
    asked = ask(approvals, any_database)
    approvals.refuse(asked.id, BERT)
    with any_database.engine.begin() as connection:
        connection.execute(text(change))
    with pytest.raises(ApprovalError, match="was altered where it is stored"):
        use(approvals, any_database)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"days": 8}, "days: an approval to .* holds 1 to 7 days, not 8"), ({"reason": "a\nb"}, "reason: at most")],
)
def test_wrong_wishes_are_refused_by_name(
    approvals: Approvals, any_database: Database, wrong: dict[str, object], told: str
) -> None:
    with pytest.raises(ApprovalError, match=told):
        ask(approvals, any_database, **wrong)


def test_an_approval_nobody_asked_for_is_unknown(approvals: Approvals) -> None:
    with pytest.raises(ApprovalError, match="there is no approval nope"):
        approvals.approve("nope", BERT)


def test_each_step_is_told_with_the_frozen_hash(approvals: Approvals, any_database: Database, audit: AuditLog) -> None:
    asked = ask(approvals, any_database)
    approvals.approve(asked.id, BERT)
    use(approvals, any_database)
    told = [each.event for each in reversed(audit.events()) if each.event.subject == "model:lead"]
    assert [(each.action, each.actor) for each in told] == [
        (Action.APPROVAL_REQUEST, "human:anna"),
        (Action.APPROVAL_APPROVE, "human:bert"),
        (Action.APPROVAL_USE, "human:anna"),
    ]
    assert {each.digest for each in told} == {asked.digest}
