"""Sessions end by rest, by age, by logout and by an administrator, and a new login never keeps the old cookie."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from hub.access import AccessError, Resource, Role, Scope
from hub.access.people import ABSOLUTE, IDLE, SignInError
from hub.audit import Action
from tests.hub.access.people.conftest import ANNA, HERE, PASSWORD, House


def test_a_session_ends_when_it_rests(house: House) -> None:
    people = house.people()
    opened = house.set_up(people)
    for _ in range(4):
        house.clock.pass_(minutes=29)
        assert people.enter(opened.text) is not None
    house.clock.moment += IDLE
    assert people.enter(opened.text) is None
    assert people.sessions.list_of(opened.visit.person) == []


def test_a_session_ends_by_age_however_much_it_is_used(house: House) -> None:
    people = house.people()
    opened = house.set_up(people)
    ends = house.clock.moment + ABSOLUTE
    while house.clock.moment + timedelta(minutes=20) < ends:
        house.clock.pass_(minutes=20)
        assert people.enter(opened.text) is not None
    house.clock.moment = ends
    assert people.enter(opened.text) is None


def test_a_login_gives_a_new_cookie_and_ends_the_one_before(house: House) -> None:
    people = house.people()
    first = house.set_up(people)
    house.clock.pass_(minutes=2)
    second = people.local.log_in("root", PASSWORD, house.code(), HERE, first.text)
    assert second.text != first.text
    assert people.enter(first.text) is None
    assert people.enter(second.text) is not None
    newest = house.events(Action.SESSION_OPEN)[0]
    assert newest.detail["instead"] == first.visit.id


def test_a_cookie_that_a_browser_brought_along_is_never_taken_over(house: House) -> None:
    people = house.people()
    house.set_up(people)
    house.clock.pass_(minutes=2)
    planted = "A" * 43
    assert people.local.log_in("root", PASSWORD, house.code(), HERE, planted).text != planted
    assert people.enter(planted) is None


def test_logout_ends_the_session_at_once_and_is_one_event(house: House) -> None:
    people = house.people()
    opened = house.set_up(people)
    people.sessions.close(opened.visit, actor="human:root")
    people.sessions.close(opened.visit, actor="human:root")
    assert people.enter(opened.text) is None
    assert len(house.events(Action.SESSION_CLOSE)) == 1


def test_an_administrator_ends_all_sessions_of_a_person(house: House) -> None:
    people = house.people()
    first = house.set_up(people)
    house.clock.pass_(minutes=2)
    second = people.local.log_in("root", PASSWORD, house.code(), HERE)
    assert people.end_sessions("root", actor=ANNA) == 2
    assert people.enter(first.text) is None
    assert people.enter(second.text) is None
    house.clock.pass_(minutes=2)
    assert people.local.log_in("root", PASSWORD, house.code(), HERE).visit.person.name == "root"


def test_a_disabled_person_is_out_at_once_and_stays_out(house: House) -> None:
    people = house.people()
    opened = house.set_up(people)
    assert people.disable("root", actor=ANNA) == 1
    assert people.enter(opened.text) is None
    house.clock.pass_(minutes=2)
    with pytest.raises(SignInError):
        people.local.log_in("root", PASSWORD, house.code(), HERE)
    with pytest.raises(AccessError, match="disabled already"):
        people.disable("root", actor=ANNA)
    people.enable("root", actor=ANNA)
    house.clock.pass_(minutes=2)
    assert people.local.log_in("root", PASSWORD, house.code(), HERE).visit.person.name == "root"
    with pytest.raises(AccessError, match="nobody called ghost"):
        people.disable("ghost", actor=ANNA)


def test_a_session_has_the_rights_of_this_moment(house: House) -> None:
    people = house.people()
    opened = house.set_up(people)
    mapping = Resource.mapping("risk")
    house.roles.grant("root", Role.OPERATOR, mapping, actor=ANNA)
    guest = people.enter(opened.text)
    assert guest is not None
    assert Scope.RUN in guest.caller.rights.on[mapping]
    house.roles.revoke("root", Role.OPERATOR, mapping, actor=ANNA)
    guest = people.enter(opened.text)
    assert guest is not None
    assert not guest.caller.rights.anywhere(Scope.RUN)
    assert guest.caller.credential == f"session:{opened.visit.id}"


@pytest.mark.parametrize("cookie", ["", "x", "A" * 43, "é" * 43, "A" * 10_000, "' or 1=1 --"])
def test_what_is_no_cookie_of_ours_is_nobody(house: House, cookie: str) -> None:
    assert house.people().enter(cookie) is None


def test_a_cookie_has_256_bits_and_its_row_does_not_open_the_door(house: House) -> None:
    people = house.people()
    opened = house.set_up(people)
    assert len(opened.text) == 43
    with house.database.read() as session:
        ((digest,),) = session.execute(text("select digest from access_session")).all()
    assert len(bytes(digest)) == 32
    assert people.enter(bytes(digest).hex()[:43]) is None


def test_an_approval_can_ask_for_a_fresh_login(house: House) -> None:
    opened = house.set_up(house.people())
    now = house.clock.moment
    assert opened.visit.proven_within(timedelta(minutes=5), now)
    assert not opened.visit.proven_within(timedelta(minutes=5), now + timedelta(minutes=6))
    assert not opened.visit.proven_within(timedelta(minutes=5), now, "phr")
