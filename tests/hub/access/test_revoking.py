"""Taking leases back: at once, whoever holds what locked, and nothing that was handed out before gets past it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.orm import Session

from hub.access import Actor, ActorKind
from hub.access.leases import (
    Credential,
    Ending,
    Holder,
    LeaseBroker,
    LeaseEndedError,
    LeaseRevokedError,
    WorkerRevokedError,
    live_leases,
    revoke,
    sweep,
)
from hub.audit import Action, AuditLog
from hub.database import Database
from hub.sdk import Grant, Token

GRANT = Grant(reads={"PERSON": frozenset({"ID"})})
ME = Actor(ActorKind.HUMAN, "anna")
FIRST, SECOND = Holder("host/1", "run", 0, 1), Holder("host/1", "run", 1, 1)
WITHIN = 5.0
"""Seconds that are promised; here nothing is waited for at all."""


class Open:
    """Credentials of connections that need none."""

    def credential(self, session: Session, connection: str) -> Credential:
        return Credential("sql", {}, {}, minted=False)

    def token(self, connection: str, grant: Grant, refused: str | None, seconds: float | None) -> Token:
        raise AssertionError(f"{connection} has nothing minted, so no token of it is asked for")


def broker(database: Database, fence: Callable[[Session, Holder], float | None] = lambda *_: 60.0) -> LeaseBroker:
    return LeaseBroker(database, AuditLog(database), Open(), fence=fence)


def closed(database: Database) -> list[object]:
    return [each.event.detail["why"] for each in AuditLog(database).events(action=Action.LEASE_CLOSE)]


@pytest.mark.service("postgresql")
def test_a_worker_frozen_in_the_middle_of_a_renewal_holds_up_no_revocation(
    postgresql_database: Database,
) -> None:
    database, frozen, thaw = postgresql_database, threading.Event(), threading.Event()
    handed, other = (broker(database).open(each, "far", GRANT) for each in (FIRST, Holder("host/2")))

    def stand_still(_session: Session, _holder: Holder) -> float:
        frozen.set()
        thaw.wait()
        return 60.0

    with ThreadPoolExecutor() as threads:
        try:
            renewing = threads.submit(broker(database, stand_still).renew, [handed.id])
            assert frozen.wait(WITHIN)
            revoking = threads.submit(revoke, database, AuditLog(database), ME, connection="far")
            assert revoking.result(WITHIN) == 2
            ends = dict.fromkeys((handed.id, other.id), Ending.REVOKED)
            assert broker(database).look([*ends]) == ends
            assert live_leases(database) == []
        finally:
            thaw.set()
        renewing.result(WITHIN)
    assert broker(database).look([handed.id]) == {handed.id: Ending.REVOKED}
    assert broker(database).renew([handed.id]) == {}


@pytest.mark.service("postgresql")
def test_a_lease_does_not_turn_to_another_slice_past_a_revocation_at_the_same_moment(
    postgresql_database: Database,
) -> None:
    database = postgresql_database
    handed = broker(database).open(FIRST, "far", GRANT)

    def revoked_meanwhile(_session: Session, _holder: Holder) -> float:
        revoke(database, AuditLog(database), ME, connection="far")
        return 60.0

    fresh, _ = broker(database, revoked_meanwhile).turn(handed.id, SECOND, {})
    assert broker(database).look([fresh]) == {fresh: Ending.REVOKED}
    assert broker(database).renew([fresh]) == {}
    with pytest.raises(LeaseRevokedError):
        broker(database).turn(fresh, FIRST, {})


@pytest.mark.parametrize(
    ("named", "error"), [({"worker": "host/1"}, WorkerRevokedError), ({"connection": "far"}, LeaseRevokedError)]
)
def test_whoever_goes_on_under_a_lease_that_was_taken_back_is_told_so_and_not_that_it_ran_out(
    any_database: Database, named: dict[str, str], error: type[Exception]
) -> None:
    lends = broker(any_database)
    handed = lends.open(FIRST, "far", GRANT)
    assert revoke(any_database, AuditLog(any_database), ME, **named) == 1
    for use in (lambda: lends.turn(handed.id, SECOND, {}), lambda: lends.token(handed.id, None, None)):
        with pytest.raises(error):
            use()
    lends.close(handed.id, {})
    with pytest.raises(error):
        lends.turn(handed.id, SECOND, {})


def test_what_is_opened_after_a_revocation_holds_and_what_it_was_not_about_goes_on(any_database: Database) -> None:
    lends, audit = broker(any_database), AuditLog(any_database)
    near, far = lends.open(FIRST, "near", GRANT), lends.open(FIRST, "far", GRANT)
    assert revoke(any_database, audit, ME, connection="far") == 1
    assert revoke(any_database, audit, ME, connection="far") == 0
    threading.Event().wait(0.002)  # SQLite's clock has milliseconds, and the moment of the revocation belongs to it
    later = lends.open(SECOND, "far", GRANT)
    assert lends.look([near.id, far.id, later.id]) == {far.id: Ending.REVOKED}
    assert set(lends.renew([near.id, far.id, later.id])) == {near.id, later.id}


@pytest.mark.parametrize(
    ("named", "error"),
    [({"worker": "host/1"}, WorkerRevokedError), ({"connection": "far"}, LeaseRevokedError), ({}, LeaseRevokedError)],
)
@pytest.mark.parametrize("swept", [False, True])
def test_no_other_thread_gets_a_lease_for_the_work_whose_lease_was_taken_back(
    any_database: Database, named: dict[str, str], error: type[Exception], swept: bool
) -> None:
    lends, audit = broker(any_database), AuditLog(any_database)
    lends.open(FIRST, "far", GRANT)
    revoke(any_database, audit, ME, **named)
    threading.Event().wait(0.002)  # SQLite's clock has milliseconds, and the moment of the revocation belongs to it
    assert not swept or sweep(any_database, audit) == 1
    with pytest.raises(error):
        lends.open(FIRST, "far", GRANT)
    claimed_anew = Holder(FIRST.worker, FIRST.run, FIRST.slice, 2)
    for each in (claimed_anew, SECOND, Holder("host/1/requests")):
        assert lends.open(each, "far", GRANT).seconds > 0
    assert lends.open(FIRST, "near", GRANT).seconds > 0


def test_the_end_of_a_lease_that_was_taken_back_is_told_once(any_database: Database) -> None:
    lends, audit = broker(any_database), AuditLog(any_database)
    lends.open(FIRST, "far", GRANT)
    revoke(any_database, audit, ME)
    assert [sweep(any_database, audit), sweep(any_database, audit)] == [1, 0]
    assert closed(any_database) == ["revoked"]


def test_one_lease_turns_once(any_database: Database) -> None:
    lends = broker(any_database)
    handed = lends.open(FIRST, "far", GRANT)
    lends.turn(handed.id, SECOND, {})
    with pytest.raises(LeaseEndedError, match="replaced"):
        lends.turn(handed.id, SECOND, {})
