"""Callers that were met a moment ago: known without a look, and not for a moment longer than they may be."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import event, text

from hub.access import Access, Actor, ActorKind, Caller, Scope, Shown, UnauthenticatedError
from hub.access.callers import KNOWN_SECONDS, KnownCallers, bump
from hub.access.callers.store import epoch
from hub.access.oauth import Presented
from hub.audit import AuditLog
from hub.database import Database, DatabaseError, Glance
from hub.keys import KeyRing, open_ring
from hub.settings import load_settings

ANNA = Actor(ActorKind.HUMAN, "anna")


@pytest.fixture
def keys(any_database: Database, tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return open_ring(load_settings(home=tmp_path_factory.mktemp("home")), any_database)


@pytest.fixture
def access(any_database: Database, keys: KeyRing) -> Access:
    return process(any_database, keys)


def process(database: Database, keys: KeyRing) -> Access:
    """Access as another process of the installation has it."""
    return Access(database, keys, AuditLog(database), environment="test")


def key(access: Access, name: str = "crm") -> tuple[str, str]:
    made, secret = access.create_token(name, owner="anna", scopes=[Scope.READ], actor=ANNA)
    return made.id, secret.reveal()


def token(access: Access) -> tuple[str, str]:
    made, secret = access.clients.add("erp", owner="anna", scopes=[Scope.READ], actor=ANNA)
    assert secret is not None
    shown = Presented({"grant_type": "client_credentials"}, basic=(made.id, secret.reveal()))
    return made.id, str(access.clients.token(shown)["access_token"])


def statements(database: Database, access: Access, text_: str) -> int:
    """How many statements the engine carries out while a caller is known."""
    seen: list[str] = []

    def note(*given: object) -> None:
        seen.append(str(given[2]))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        access.authenticate(text_)
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    return len(seen)


def test_who_was_met_costs_no_transaction(access: Access, any_database: Database) -> None:
    for _, shown in (key(access), token(access)):
        assert statements(any_database, access, shown) > 0
        assert statements(any_database, access, shown) == 0


def test_what_another_process_ends_opens_nothing_from_then_on(
    access: Access, any_database: Database, keys: KeyRing
) -> None:
    (first, one), (second, two) = key(access), token(access)
    for shown in (one, two):
        access.authenticate(shown)
    other = process(any_database, keys)
    other.revoke_token(first, actor=ANNA)
    with pytest.raises(UnauthenticatedError, match="was revoked"):
        access.authenticate(one)
    access.authenticate(two)
    other.clients.revoke(second, actor=ANNA)
    with pytest.raises(UnauthenticatedError, match="was ended"):
        access.authenticate(two)


def test_what_was_shown_elsewhere_is_looked_at_anew(access: Access) -> None:
    made = access.create_token("held", owner="anna", scopes=[Scope.READ], actor=ANNA, addresses=["10.0.0.0/8"])[1]
    access.authenticate(made.reveal(), "10.1.2.3")
    with pytest.raises(UnauthenticatedError):
        access.authenticate(made.reveal(), "192.0.2.1")


def test_a_caller_is_remembered_no_longer_than_it_lives_and_a_minute(
    any_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [1000.0]
    monkeypatch.setattr("hub.access.callers.known.time.monotonic", lambda: moment[0])
    known = KnownCallers(any_database)
    caller = Caller(ANNA, "anna", rights=None)  # type: ignore[arg-type]
    with any_database.read() as session:
        now = any_database.now(session)
    known.remember(Shown("long"), caller, None, now, now + timedelta(days=1))
    known.remember(Shown("short"), caller, None, now, now + timedelta(seconds=5))
    known.remember(Shown("over"), caller, None, now, now - timedelta(seconds=1))
    assert [known.find(Shown(each), None) for each in ("long", "short", "over")] == [caller, caller, None]
    moment[0] += 5
    assert known.find(Shown("short"), None) is None
    moment[0] += KNOWN_SECONDS
    assert known.find(Shown("long"), None) is None


def test_the_number_moves_with_what_is_committed_and_only_then(any_database: Database) -> None:
    glance = Glance(any_database, epoch())
    assert glance.read() is None
    with any_database.begin() as session:
        bump(session)
        assert glance.read() is None
    assert glance.read() == 1
    with any_database.begin() as session:
        bump(session)
    assert glance.read() == 2


def test_a_lost_connection_is_made_anew_and_a_lost_database_is_told(any_database: Database) -> None:
    glance = Glance(any_database, epoch())
    glance.read()
    glance._connection.close()
    assert glance.read() is None
    glance._statement = "select no_such_column"
    with pytest.raises(DatabaseError, match="does not answer"):
        glance.read()


def test_a_key_is_not_kept_in_clear(access: Access) -> None:
    _, shown = key(access)
    access.authenticate(shown)
    assert shown not in repr(vars(access._known))
    assert not any(shown.encode() in each for each in access._known._met)


def test_the_last_use_is_noted_again_after_a_minute(access: Access, any_database: Database) -> None:
    _, shown = key(access)
    access.authenticate(shown)
    with any_database.begin() as session:
        session.execute(text("update access_token set last_used_at = '2020-01-01 00:00:00+00:00'"))
        bump(session)
    access.authenticate(shown)
    noted = access.list_tokens()[0].last_used_at
    assert noted is not None
    assert noted.year > 2020
