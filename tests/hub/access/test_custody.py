"""In production no one person withdraws a key, shortens the trail or ends a legal hold; each takes two, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import update

from hub.access import Actor, ActorKind
from hub.access.approvals import ApprovalError, Approvals, ApprovalState, Custody
from hub.audit import Action, AuditError, AuditLog, Hold, Retention
from hub.database import Database
from hub.keys import KeyringError, open_ring, rewrap_some, rotate
from hub.keys.store import KeyRootRow
from hub.settings import Settings, load_settings

ANNA, BERT, CARL = (Actor(ActorKind.HUMAN, name) for name in ("anna", "bert", "carl"))
KEEP = 400


class House(NamedTuple):
    """What custody is about, in one installation."""

    settings: Settings
    database: Database
    audit: AuditLog
    approvals: Approvals
    retention: Retention
    custody: Custody


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    return make(database, tmp_path, production=True)


def make(database: Database, home: Path, *, production: bool) -> House:
    settings = load_settings(home=home / "hub")
    keys, audit = open_ring(settings, database), AuditLog(database)
    approvals, retention = Approvals(database, keys, audit), Retention(database, audit)
    custody = Custody(database, audit, approvals, retention, production=production)
    return House(settings, database, audit, approvals, retention, custody)


def approve(house: House, who: Actor = BERT) -> None:
    (asked,) = house.approvals.list()
    house.approvals.approve(asked.id, who)


def test_how_long_the_trail_is_kept_takes_two(house: House) -> None:
    with pytest.raises(ApprovalError, match="takes two people"):
        house.custody.keep(KEEP, ANNA)
    with pytest.raises(ApprovalError, match="its author"):
        approve(house, ANNA)
    assert house.retention.kept_days() is None
    approve(house)
    with pytest.raises(ApprovalError, match="takes two people"):
        house.custody.keep(KEEP - 1, ANNA)
    assert house.retention.kept_days() is None


def test_an_approval_of_retention_serves_once(house: House) -> None:
    with pytest.raises(ApprovalError):
        house.custody.keep(KEEP, ANNA)
    approve(house)
    house.custody.keep(KEEP, ANNA)
    assert house.retention.kept_days() == KEEP
    (used,) = house.approvals.list(closed=True)
    assert (used.state, used.decided_by) == (ApprovalState.USED, "human:bert")
    with pytest.raises(ApprovalError, match="takes two people"):
        house.custody.keep(KEEP, ANNA)


def test_less_than_the_law_asks_for_is_not_even_asked_for(house: House) -> None:
    with pytest.raises(AuditError, match="183 days"):
        house.custody.keep(100, ANNA)
    assert house.approvals.list(closed=True) == []


def test_a_legal_hold_is_set_by_one_and_ended_by_two(house: House) -> None:
    house.retention.hold(Hold("case-17", "Request of the court", run="r1"), str(ANNA))
    with pytest.raises(ApprovalError, match="the legal hold case-17 would end, which takes two people"):
        house.custody.end_hold("case-17", ANNA)
    assert [each.name for each in house.retention.holds()] == ["case-17"]
    approve(house)
    house.custody.end_hold("case-17", CARL)
    assert house.retention.holds() == []
    house.retention.hold(Hold("case-17", "Another matter"), str(ANNA))
    with pytest.raises(ApprovalError, match="takes two people"):
        house.custody.end_hold("case-17", ANNA)
    with pytest.raises(AuditError, match="no hold case-18"):
        house.custody.end_hold("case-18", ANNA)


def test_a_key_is_withdrawn_by_two(house: House) -> None:
    ring = rotate(house.settings, house.database)
    while rewrap_some(ring, house.database):
        pass
    with house.database.begin() as session:
        session.execute(update(KeyRootRow).values(rotated_at=datetime.now(UTC) - timedelta(hours=1)))
    with pytest.raises(ApprovalError, match="versions of the key below 2 would be withdrawn"):
        house.custody.retire_key(ring, ANNA)
    assert house.audit.events(action=Action.KEY_RETIRE) == []
    approve(house)
    house.custody.retire_key(ring, ANNA)
    (told,) = house.audit.events(action=Action.KEY_RETIRE)
    assert (told.event.actor, told.event.detail) == ("human:anna", {"version": 2})
    with pytest.raises(ApprovalError, match="takes two people"):
        house.custody.retire_key(ring, ANNA)


def test_an_approval_to_withdraw_is_not_used_where_something_is_left(house: House) -> None:
    ring = rotate(house.settings, house.database)
    with pytest.raises(ApprovalError):
        house.custody.retire_key(ring, ANNA)
    approve(house)
    with pytest.raises(KeyringError, match="not everything is under version 2"):
        house.custody.retire_key(ring, ANNA)
    (kept,) = house.approvals.list()
    assert kept.state is ApprovalState.APPROVED


def test_outside_of_production_one_person_does_it_and_nothing_is_asked(database: Database, tmp_path: Path) -> None:
    house = make(database, tmp_path, production=False)
    house.custody.keep(KEEP, ANNA)
    house.retention.hold(Hold("case-17", "Request of the court"), str(ANNA))
    house.custody.end_hold("case-17", ANNA)
    assert (house.retention.kept_days(), house.retention.holds()) == (KEEP, [])
    assert house.approvals.list(closed=True) == []
