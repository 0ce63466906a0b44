"""A person decides in a browser what somebody else asked for, and not before they proved anew who they are."""

from __future__ import annotations

import secrets
import time

import httpx
from sqlalchemy import text

from hub.access import Resource, Role, local_caller
from hub.access.approvals import Approval, ApprovalKind, ApprovalState
from hub.audit import Action
from hub.sdk import Json
from tests.faces.api.conftest import ME
from tests.faces.console.conftest import Browser, House

CONTENT: dict[str, Json] = {"model": "fna_malignancy", "alias": "<b>champion</b>", "to": 2}


def ask(house: House, author: str = "lea", subject: str = "model:fna_malignancy") -> Approval:
    """Something that waits for a second person; whatever waited before about it is void."""
    with house.hub.database.begin() as session:
        content = {**CONTENT, "nonce": secrets.token_hex(4)}
        return house.hub.approvals.request(session, ApprovalKind.MODEL, subject, content, local_caller(author))


def approver(house: House, sub: str, name: str) -> Browser:
    return house.known(sub=sub, preferred_username=name, groups=["eyes"])


def step_up(house: House, browser: Browser, place: str = "/account") -> httpx.Response:
    begun = browser.post("/account/step-up", {"next": place})
    return browser.ask("GET", "/login/callback", params=house.twin.authorize(begun.json()["next"]))


def denials(house: House) -> int:
    return len(house.hub.audit.events(action=Action.ACCESS_DENIED, limit=10_000))


def state(house: House, asked: Approval) -> ApprovalState:
    return house.hub.approvals.get(asked.id).state


def test_an_approver_decides_right_after_they_proved_anew_who_they_are(house: House) -> None:
    asked = ask(house)
    place = f"/approvals/{asked.id}"
    browser = approver(house, "0101", "kim")
    assert place in browser.get("/approvals").text
    page = browser.get(place).text
    assert asked.digest in page
    assert "&lt;b&gt;champion" in page
    before = denials(house)
    for verb in ("approve", "refuse"):
        stale = browser.post(f"{place}/{verb}", {"reason": "fine"})
        assert (stale.status_code, stale.json()["code"]) == (403, "stale_login")
    assert denials(house) == before + 2
    assert state(house, asked) is ApprovalState.PENDING
    assert step_up(house, browser, place).headers["location"] == place
    done = browser.post(f"{place}/approve", {"reason": "fine"})
    assert (done.status_code, done.json()) == (200, {"next": place})
    found = house.hub.approvals.get(asked.id)
    assert (found.state, found.decided_by, found.why) == (ApprovalState.APPROVED, "human:kim", "fine")
    assert 'action="/approvals' not in browser.get(place).text


def test_a_login_that_was_fresh_is_not_for_ever(house: House) -> None:
    asked = ask(house)
    browser = approver(house, "0102", "lou")
    step_up(house, browser)
    with house.hub.database.begin() as session:
        rows = session.execute(
            text("select id, authenticated_at from access_session where authenticated_at is not null")
        )
        for row in rows.all():
            earlier = {"id": row.id, "at": row.authenticated_at.replace("2", "1", 1)}
            session.execute(text("update access_session set authenticated_at = :at where id = :id"), earlier)
    refused = browser.post(f"/approvals/{asked.id}/approve", {})
    assert (refused.status_code, refused.json()["code"]) == (403, "stale_login")
    assert state(house, asked) is ApprovalState.PENDING


def test_a_login_whose_moment_the_provider_does_not_tell_is_not_fresh_and_one_that_it_tells_is(house: House) -> None:
    asked = ask(house)
    browser = house.known(sub="0103", preferred_username="max", groups=["eyes"], auth_time=int(time.time()) - 3600)
    assert browser.post(f"/approvals/{asked.id}/refuse", {}).status_code == 403
    house.log_in(browser, sub="0103", preferred_username="max", groups=["eyes"], auth_time=int(time.time()) + 10**6)
    guest = house.hub.people.enter(next(iter(browser.cookies.values())))
    assert guest is not None
    assert guest.visit.login.authenticated_at is not None
    assert guest.visit.login.authenticated_at <= guest.visit.seen_at
    assert browser.post(f"/approvals/{asked.id}/refuse", {}).status_code == 200
    assert state(house, asked) is ApprovalState.REFUSED


def test_nobody_decides_what_they_asked_for_however_fresh_their_login(house: House) -> None:
    browser = approver(house, "0104", "nina")
    asked = ask(house, "nina")
    step_up(house, browser)
    refused = browser.post(f"/approvals/{asked.id}/approve", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "approval")
    assert state(house, asked) is ApprovalState.PENDING


def test_an_administrator_lets_it_through_alone_with_a_reason_and_an_approver_confirms_it(house: House) -> None:
    asked = ask(house)
    place = f"/approvals/{asked.id}"
    browser = house.known(sub="0106", preferred_username="pia", groups=["admins"])
    assert place in browser.get("/approvals").text
    page = browser.get(place).text
    assert f'action="{place}/break-glass"' in page
    assert f'action="{place}/approve"' not in page
    assert browser.post(f"{place}/break-glass", {"reason": "night"}).json()["code"] == "stale_login"
    step_up(house, browser, place)
    assert browser.post(f"{place}/approve", {"reason": "night"}).status_code == 403
    assert browser.post(f"{place}/break-glass", {"reason": ""}).status_code == 409
    assert state(house, asked) is ApprovalState.PENDING
    assert browser.post(f"{place}/break-glass", {"reason": "nobody else is there"}).status_code == 200
    assert house.hub.approvals.get(asked.id).unconfirmed
    other = approver(house, "0107", "quinn")
    assert "approved, unconfirmed" in other.get("/approvals").text
    step_up(house, other)
    assert other.post(f"{place}/break-glass", {"reason": "me too"}).status_code == 403
    assert other.post(f"{place}/approve", {"reason": "it was right"}).status_code == 200
    found = house.hub.approvals.get(asked.id)
    assert (found.unconfirmed, found.decided_by) == (False, "human:quinn")


def test_what_is_not_theirs_to_decide_is_as_unknown_as_what_there_is_not(house: House) -> None:
    asked = ask(house)
    browser = house.known(sub="0105", preferred_username="olga")
    assert browser.get("/approvals").status_code == 403
    house.hub.access.roles.grant("olga", Role.APPROVER, Resource.mapping("patient_risk"), actor=ME)
    step_up(house, browser)
    assert asked.id not in browser.get("/approvals").text
    answers = [browser.get(f"/approvals/{each}") for each in (asked.id, "0" * 16)]
    answers += [browser.post(f"/approvals/{each}/approve", {}) for each in (asked.id, "0" * 16)]
    assert [each.status_code for each in answers] == [404] * 4
    assert answers[0].text == answers[1].text
    assert answers[2].json() == answers[3].json()
    assert state(house, asked) is ApprovalState.PENDING
