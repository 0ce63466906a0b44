"""The first administrator: no login by itself, a setup secret that counts once, two steps, throttled guessing."""

from __future__ import annotations

import base64
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.access import AccessError, Scope
from hub.access.people import Guest, Opened, SignInError, TooOftenError, local
from hub.access.people.attempts import FIRST_WAIT, FREE_OF_ACCOUNT, FREE_OF_ADDRESS, LONGEST_WAIT
from hub.audit import Action, Outcome
from tests.hub.access.people.conftest import ANNA, HERE, PASSWORD, House
from tests.system.drill import until


def _guest(house: House, cookie: str) -> Guest:
    found = house.people().enter(cookie)
    assert found is not None
    return found


def test_a_fresh_installation_lets_nobody_in(house: House) -> None:
    local = house.people().local
    for name, password in (("admin", "admin"), ("admin", ""), ("", ""), ("root", PASSWORD), ("hub", "hub")):
        with pytest.raises(SignInError):
            local.log_in(name, password, "000000", HERE)
    with pytest.raises(SignInError):
        local.set_up("", "root", PASSWORD, "000000", HERE)
    assert house.people().list_people() == []


def test_a_setup_secret_makes_one_administrator_once(house: House) -> None:
    people = house.people()
    opened = house.set_up(people)
    guest = _guest(house, opened.text)
    assert str(guest.caller.actor) == "human:root"
    assert guest.caller.rights.anywhere(Scope.ACCESS)
    assert not guest.caller.rights.anywhere(Scope.APPROVE)
    with pytest.raises(AccessError, match="root is an administrator already"):
        people.local.make_setup(actor=ANNA)
    (made,) = house.events(Action.PERSON_CREATE)
    assert made.subject == "human:root"
    assert len(house.events(Action.SETUP_MAKE)) == 1
    assert len(house.events(Action.SESSION_OPEN)) == 1


def test_a_setup_secret_counts_once_and_not_for_long(house: House) -> None:
    local = house.people().local
    first, _ = local.make_setup(actor=ANNA)
    second, _ = local.make_setup(actor=ANNA)
    with pytest.raises(SignInError, match="does not count"):
        local.enrol(first.reveal(), "root", HERE)
    local.enrol(second.reveal(), "root", HERE)
    house.clock.pass_(minutes=31)
    with pytest.raises(SignInError, match="does not count"):
        local.enrol(second.reveal(), "root", HERE)
    setup = house.set_up(house.people())
    assert setup.visit.person.name == "root"
    with pytest.raises(SignInError):
        local.set_up(second.reveal(), "other", PASSWORD, "000000", HERE)


@pytest.mark.service("postgresql")
@pytest.mark.parametrize("any_database", ["postgresql"], indirect=True)
def test_a_setup_secret_shown_twice_at_once_makes_one_account(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    people, others = house.people(), house.people()
    setup, _ = people.local.make_setup(actor=ANNA)
    house.secrets["root"] = base64.b32decode(people.local.enrol(setup.reveal(), "root", HERE).secret)
    refuse, code = local._refuse_second, house.code()
    waiting = text("select count(*) from pg_locks where not granted")
    coming: list[Future[Opened]] = []

    with ThreadPoolExecutor() as threads:

        def meanwhile(session: Session) -> None:
            """The other one comes, and goes as far as it can."""
            monkeypatch.setattr(local, "_refuse_second", refuse)
            coming.append(threads.submit(others.local.set_up, setup.reveal(), "other", PASSWORD, code, HERE))
            until(lambda: coming[0].done() or session.execute(waiting).scalar_one())
            refuse(session)

        monkeypatch.setattr(local, "_refuse_second", meanwhile)
        assert people.local.set_up(setup.reveal(), "root", PASSWORD, code, HERE).visit.person.name == "root"
        with pytest.raises(SignInError):
            coming[0].result(30)
    assert [each.name for each in people.list_people()] == ["root"]


def test_a_wrong_code_makes_nobody_and_lets_the_secret_count_on(house: House) -> None:
    people = house.people()
    setup, _ = people.local.make_setup(actor=ANNA)
    people.local.enrol(setup.reveal(), "root", HERE)
    with pytest.raises(SignInError):
        people.local.set_up(setup.reveal(), "root", PASSWORD, "abcdef", HERE)
    assert people.list_people() == []
    assert people.local.enrol(setup.reveal(), "root", HERE).uri.startswith("otpauth://totp/Hub:root?")


@pytest.mark.parametrize(
    ("name", "password", "said"),
    [("root", "elevenchars", "password: 12 to 256"), ("a b", PASSWORD, "name: 1 to 64"), ("root", "x" * 257, "12 to")],
)
def test_a_poor_account_is_refused_by_its_field(house: House, name: str, password: str, said: str) -> None:
    local = house.people().local
    setup, _ = local.make_setup(actor=ANNA)
    with pytest.raises(AccessError, match=said):
        local.set_up(setup.reveal(), name, password, "000000", HERE)


def test_password_and_code_are_both_needed_and_a_code_counts_once(house: House) -> None:
    people = house.people()
    house.set_up(people)
    with pytest.raises(SignInError):  # the code that made the account is used up
        people.local.log_in("root", PASSWORD, house.code(), HERE)
    house.clock.pass_(seconds=60)
    for password, code in ((PASSWORD, "000000"), ("wrong password!", house.code()), (PASSWORD, ""), ("", "")):
        with pytest.raises(SignInError, match="the login failed"):
            people.local.log_in("root", password, code, "192.0.2.9")
    house.clock.pass_(minutes=20)
    opened = people.local.log_in("root", PASSWORD, house.code(), HERE)
    assert _guest(house, opened.text).visit.person.name == "root"
    with pytest.raises(SignInError):
        people.local.log_in("root", PASSWORD, house.code(), HERE)


def test_each_login_and_each_failure_is_one_event_that_tells_why(house: House) -> None:
    people = house.people()
    house.set_up(people)
    house.clock.pass_(seconds=60)
    for name, password, code in (("ghost", "x", "y"), ("root", "x", "y"), ("root", PASSWORD, "y")):
        with pytest.raises(SignInError):
            people.local.log_in(name, password, code, HERE)
    people.local.log_in("root", PASSWORD, house.code(), HERE)
    failed = house.events(Action.SESSION_OPEN, Outcome.FAILED)
    assert [(each.actor, each.detail["why"]) for each in reversed(failed)] == [
        ("human:unknown", "unknown"),
        ("human:root", "password"),
        ("human:root", "code"),
    ]
    assert len(house.events(Action.SESSION_OPEN, Outcome.DONE)) == 2
    assert all(HERE not in str(each.detail) for each in failed)


def test_guessing_at_one_account_is_slowed_down_from_wherever_it_comes(house: House) -> None:
    people = house.people()
    house.set_up(people)
    for number in range(FREE_OF_ACCOUNT):
        with pytest.raises(SignInError):
            people.local.log_in("root", "wrong", "000000", f"192.0.2.{number}")
    with pytest.raises(TooOftenError) as refused:
        people.local.log_in("root", PASSWORD, house.code(), "198.51.100.1")
    assert refused.value.seconds == FIRST_WAIT
    house.clock.pass_(seconds=FIRST_WAIT)
    with pytest.raises(SignInError):
        people.local.log_in("root", "wrong", "000000", HERE)
    with pytest.raises(TooOftenError) as refused:
        people.local.log_in("root", "wrong", "000000", HERE)
    assert refused.value.seconds == 2 * FIRST_WAIT
    assert len(house.events(Action.SESSION_OPEN, Outcome.FAILED)) == FREE_OF_ACCOUNT + 1
    house.clock.pass_(seconds=LONGEST_WAIT)
    assert people.local.log_in("root", PASSWORD, house.code(), HERE).visit.person.name == "root"


def test_guessing_from_one_address_is_slowed_down_whatever_the_account(house: House) -> None:
    people = house.people()
    for number in range(FREE_OF_ADDRESS):
        with pytest.raises(SignInError):
            people.local.enrol(f"setup-{number}", "root", HERE)
    with pytest.raises(TooOftenError):
        people.local.enrol("setup-x", "root", HERE)
    with pytest.raises(TooOftenError):
        people.local.log_in("root", "x", "y", HERE)
    with pytest.raises(SignInError):
        people.local.enrol("setup-x", "root", "192.0.2.2")


def test_neither_password_nor_secrets_stand_in_the_database(house: House) -> None:
    people = house.people()
    setup, _ = people.local.make_setup(actor=ANNA)
    enrolment = people.local.enrol(setup.reveal(), "root", HERE)
    with house.database.read() as session:
        stored = str(session.execute(text("select * from access_setup")).all())
    opened = house.set_up(people)
    with house.database.read() as session:
        for table in ("access_local", "access_session", "access_attempt", "access_person", "audit_event"):
            stored += str(session.execute(text(f"select * from {table}")).all())
    for secret in (PASSWORD, setup.reveal(), enrolment.secret, opened.text, "argon2", HERE):
        assert secret not in stored
