"""Pages in a browser: how one gets in and out, what each page shows to whom, and what no page ever lets through."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import text

from hub.access import Role, Scope
from hub.api.access import LOGINS_BURST
from hub.audit import Action, Outcome
from hub.console import add_to
from hub.console.cookies import LOGIN, SESSION
from hub.runs import Scoring
from tests.faces.api.conftest import ME, serving
from tests.faces.console.conftest import OWN, Browser, House, code_of

RECEIPT = "/receipts/patient_risk?key=00842302"
APPROVAL = "/approvals/0123abcd"
PAGES = (
    *("/", "/login", "/setup", "/account", RECEIPT, "/approvals", APPROVAL, "/login/callback"),
    *("/static/console.css", "/static/console.js"),
)
CALLS = {
    "/login": {"next": "/account"},
    "/login/password": {"name": "root", "password": "x", "code": "y"},
    "/setup/enrol": {"setup": "x", "name": "root"},
    "/setup": {"setup": "x", "name": "root", "password": "a long password", "code": "y"},
    "/account/step-up": {"next": "/account"},
    "/account/end-session": {"session": "x"},
    f"{APPROVAL}/approve": {"reason": "looked at"},
    f"{APPROVAL}/refuse": {"reason": "looked at"},
    f"{APPROVAL}/break-glass": {"reason": "nobody else is there"},
    "/logout": {},
}
"""Every call that a page makes, with a body that is as described."""


def _events(house: House, action: Action) -> int:
    return len(house.hub.audit.events(action=action, limit=10_000))


def test_every_route_of_the_pages_is_known_here(house: House) -> None:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_to(app)
    found = {(method, each.path) for each in iter_route_contexts(app.routes) for method in each.methods or ()}
    asked = [("GET", path) for path in PAGES] + [("POST", path) for path in CALLS]
    named = {"patient_risk": "{mapping}", "0123abcd": "{approval}"}

    def plain(path: str) -> str:
        return re.sub("|".join(named), lambda at: named[at[0]], path.partition("?")[0])

    assert found == {(method, plain(path)) for method, path in asked}


def test_a_person_logs_in_sees_who_they_are_and_logs_out(house: House) -> None:
    browser = house.browser()
    sent = browser.get("/account")
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2Faccount")
    before = _events(house, Action.SESSION_OPEN)
    back = house.log_in(browser, groups=["ops"])
    assert (back.status_code, back.headers["location"]) == (303, "/account")
    assert _events(house, Action.SESSION_OPEN) == before + 1
    assert set(browser.cookies) == {SESSION}
    page = browser.get("/account")
    assert page.status_code == 200
    assert "human:anna" in page.text
    assert "operator" in page.text
    assert "Anna &lt;b&gt;Berg&lt;/b&gt;" in page.text
    assert "<b>Berg" not in page.text
    kept = dict(browser.cookies)
    assert browser.post("/logout").json() == {"next": "/login"}
    assert browser.cookies == {}
    browser.cookies = kept
    assert browser.get("/account").status_code == 303


def test_a_cookie_is_new_at_each_login_and_at_a_step_up(house: House) -> None:
    browser = house.known()
    first = browser.cookies[SESSION]
    house.log_in(browser)
    second = browser.cookies[SESSION]
    begun = browser.post("/account/step-up", {"next": "/account"})
    browser.ask("GET", "/login/callback", params=house.twin.authorize(begun.json()["next"]))
    third = browser.cookies[SESSION]
    assert len({first, second, third}) == 3
    for old in (first, second):
        assert Browser(house.url, {SESSION: old}).get("/account").status_code == 303


def test_an_answer_of_the_provider_in_another_browser_is_refused_in_one_sentence(house: House) -> None:
    victim, attacker = house.browser(), house.browser()
    _, theirs = house.begin(attacker)
    before = _events(house, Action.SESSION_OPEN)
    answer = victim.ask("GET", "/login/callback", params=theirs)
    assert answer.status_code == 401
    assert "not begun in this browser" in answer.text
    assert SESSION not in victim.cookies
    assert _events(house, Action.SESSION_OPEN) == before + 1


def test_a_receipt_is_one_click_behind_a_score_for_those_who_may(house: House) -> None:
    Scoring(house.hub).score_keys("patient_risk", [{"PATNR": "00842302"}], str(ME)).result(60)
    browser = house.browser()
    sent = browser.get(RECEIPT)
    assert sent.status_code == 303
    back = house.log_in(browser, RECEIPT, groups=["ward"])
    assert back.headers["location"] == RECEIPT
    page = browser.get(back.headers["location"])
    assert page.status_code == 200
    assert "fna_malignancy" in page.text
    looker = house.known(sub="0003", preferred_username="carl", groups=["looks"])
    before = _events(house, Action.ACCESS_DENIED)
    refused = looker.get(RECEIPT)
    assert refused.status_code == 403
    assert "fna_malignancy" not in refused.text
    assert _events(house, Action.ACCESS_DENIED) == before + 1


def test_a_mapping_out_of_sight_is_as_unknown_as_one_that_is_not(house: House) -> None:
    browser = house.known(sub="0004", preferred_username="dora", groups=["ward"])
    answers = [browser.get(f"/receipts/{name}?key=1") for name in ("no_such_mapping", "another_one")]
    assert {each.status_code for each in answers} == {404}
    assert answers[0].text.replace("no_such_mapping", "another_one") == answers[1].text


def test_the_first_administrator_is_made_in_a_browser(house: House) -> None:
    for each in house.hub.people.list_people():
        if each.disabled_at is None and Role.ADMIN.value in each.claimed:  # of a test that came before
            house.hub.people.disable(each.name, actor=ME)
    setup, _ = house.hub.people.local.make_setup(actor=ME)
    browser = house.browser()
    told = browser.post("/setup/enrol", {"setup": setup.reveal(), "name": "root"}).json()
    account = {"setup": setup.reveal(), "name": "root", "password": "a long password"}
    poor = browser.post("/setup", {**account, "password": "short", "code": code_of(told["secret"])})
    assert (poor.status_code, poor.json()["detail"]) == (422, "password: 12 to 256 characters")
    made = browser.post("/setup", {**account, "code": code_of(told["secret"])})
    assert made.json() == {"next": "/account"}
    assert "admin" in browser.get("/account").text
    again = house.browser().post("/setup", {**account, "name": "second", "code": code_of(told["secret"])})
    assert again.status_code == 401
    house.known(sub="0009", preferred_username="boss", groups=["admins"])
    assert browser.get("/account").status_code == 303
    surplus = house.browser().post("/login/password", {**account, "code": "000000"})
    assert surplus.status_code == 422  # a setup secret is no part of a login
    wrong = {"name": "root", "password": "a long password", "code": code_of(told["secret"])}
    assert house.browser().post("/login/password", wrong).status_code == 401


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({**OWN, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**OWN, "Sec-Fetch-Site": "same-site"}, 403),
        ({**OWN, "Sec-Fetch-Site": "none"}, 403),
        ({"X-Hub-Console": "1"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 403),
        ({**OWN, "Content-Type": "text/plain"}, 415),
        ({**OWN, "Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({**OWN, "Content-Type": "multipart/form-data; boundary=x"}, 415),
    ],
)
def test_a_call_that_our_own_page_did_not_make_is_refused(
    house: House, known: Browser, path: str, headers: dict[str, str], status: int
) -> None:
    before = _events(house, Action.ACCESS_DENIED)
    refused = known.ask("POST", path, {"Content-Type": "application/json", **headers}, content=b'{"next": "/"}')
    assert refused.status_code == status
    assert refused.headers["content-type"] == "application/problem+json"
    assert _events(house, Action.ACCESS_DENIED) == before + 1
    assert known.get("/account").status_code == 200


@pytest.fixture(scope="module")
def known(house: House) -> Browser:
    return house.known(sub="0005", preferred_username="emil")


@pytest.mark.parametrize("path", CALLS)
def test_nothing_changes_by_a_mere_look(house: House, known: Browser, path: str) -> None:
    before = [_events(house, each) for each in (Action.SESSION_OPEN, Action.SESSION_CLOSE)]
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = known.ask(method, path, OWN, params=CALLS[path])
        assert answer.status_code in (200, 404, 405)
        assert "set-cookie" not in answer.headers
    assert [_events(house, each) for each in (Action.SESSION_OPEN, Action.SESSION_CLOSE)] == before
    assert known.get("/account").status_code == 200


def test_the_api_knows_no_cookie(house: House) -> None:
    browser = house.known(sub="0006", preferred_username="fred", groups=["ops"])
    for path in ("/v1/runs", "/metrics", "/v1/decisions?mapping=patient_risk&key=1"):
        assert browser.ask("GET", path, OWN).status_code == 401
    assert browser.ask("POST", "/v1/runs", OWN, json={"mapping": "patient_risk"}).status_code == 401


def test_a_disabled_person_is_out_with_the_next_request(house: House) -> None:
    browser = house.known(sub="0007", preferred_username="gina")
    assert browser.get("/account").status_code == 200
    house.hub.people.disable("gina", actor=ME)
    assert browser.get("/account").status_code == 303
    assert house.log_in(browser, sub="0007", preferred_username="gina").status_code == 401
    assert browser.get("/account").status_code == 303


def test_one_ends_another_session_of_ones_own_and_no_one_elses(house: House) -> None:
    here = house.known(sub="0008", preferred_username="hans")
    there = house.known(sub="0008", preferred_username="hans")
    other = house.known(sub="0010", preferred_username="ines")
    (theirs,) = re.findall(r'name="session" value="(\w+)"', here.get("/account").text)
    assert other.post("/account/end-session", {"session": theirs}).status_code == 404
    assert there.get("/account").status_code == 200
    assert here.post("/account/end-session", {"session": theirs}).status_code == 200
    assert there.get("/account").status_code == 303
    assert here.get("/account").status_code == 200


def test_a_login_goes_on_within_the_hub_alone(house: House) -> None:
    for place in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "/a\r\nX: y"):
        assert house.log_in(house.browser(), place).headers["location"] == "/account"


class Links(HTMLParser):
    """What a page would run or style inline, and where it sends."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in names) or "style" in names:
            self.inline.append(tag)
        self.inline += [name for name in names if name.startswith("on")]
        if tag == "form" and names.get("method") != "post":  # sent without the script, it would put all in the address
            self.inline.append(tag)
        for name in ("src", "href", "action"):
            if (place := names.get(name)) is not None and not place.startswith("/") and place != "data:,":
                self.outside.append(place)


def _headers_hold(answer: httpx.Response) -> None:
    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
    policy = answer.headers["content-security-policy"]
    for rule in (
        "default-src 'none'",
        "script-src 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ):
        assert rule in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


@pytest.mark.parametrize("who", ["nobody", "somebody"])
def test_every_page_and_every_error_has_its_headers_and_nothing_inline(house: House, known: Browser, who: str) -> None:
    browser = known if who == "somebody" else house.browser()
    strange = ("/receipts/x", "/receipts/x?key=1", "/nothing", "/static/x", "/v1/runs")
    answers = [browser.get(path) for path in (*PAGES, *strange)]
    answers += [browser.ask("POST", path, {}, content=b"x") for path in (*CALLS, "/receipts/x", "/v1/runs")]
    answers += [browser.ask("PUT", path) for path in ("/login", "/account", "/healthz")]
    assert {each.status_code for each in answers} >= {200, 303, 401, 403, 404, 405}
    for each in answers:
        _headers_hold(each)
        if each.headers.get("content-type", "").startswith("text/html"):
            links = Links()
            links.feed(each.text)
            assert (links.inline, links.outside) == ([], [])


def test_what_nobody_foresaw_is_a_page_with_an_id_and_nothing_else(
    house: House, known: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError("select s3cret from /etc/hub at db.internal")

    monkeypatch.setattr(house.hub.people.sessions, "list_of", fails)
    page = known.get("/account")
    assert page.status_code == 500
    _headers_hold(page)
    assert re.search(r"<code>[0-9a-f]{16}</code>", page.text)
    for leak in ("s3cret", "/etc", "db.internal", "ZeroDivision", "Traceback", ".py"):
        assert leak not in page.text


def test_wrong_logins_are_told_when_to_come_back(house: House) -> None:
    hub = type(house.hub)(house.hub.settings, house.hub.database, house.hub.keys)
    with serving(hub, [add_to]) as url:
        browser = Browser(url)
        wrong = {"name": "nobody-here", "password": "x", "code": "y"}
        statuses = [browser.post("/login/password", wrong) for _ in range(6)]
    assert [each.status_code for each in statuses] == [401] * 5 + [429]
    assert 1 <= int(statuses[-1].headers["retry-after"]) <= 10
    assert {each.json()["detail"] for each in statuses[:5]} == {"the login failed; try again"}


def test_logins_that_are_begun_and_never_finished_are_slowed_down_and_forgotten(house: House) -> None:
    hub = type(house.hub)(house.hub.settings, house.hub.database, house.hub.keys)
    with serving(hub, [add_to]) as url:
        begun = (Browser(url).post("/login", {"next": "/account"}) for _ in range(20 * int(LOGINS_BURST)))
        refused = next(each for each in begun if each.status_code != 200)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_often")
    assert int(refused.headers["retry-after"]) >= 1
    count = text("select count(*) from access_signin")
    with hub.database.begin() as session:
        assert session.execute(count).scalar_one() >= LOGINS_BURST
        session.execute(text("update access_signin set expires_at = '2020-01-01 00:00:00.000000'"))
    assert house.browser().post("/login", {"next": "/account"}).status_code == 200
    with hub.database.read() as session:
        assert session.execute(count).scalar_one() == 1


def test_no_secret_of_a_login_is_in_an_address_of_ours(house: House) -> None:
    browser = house.browser()
    begun, answer = house.begin(browser)
    text = browser.cookies[LOGIN]
    assert text not in begun.text
    back = browser.ask("GET", "/login/callback", params=answer)
    assert browser.cookies[SESSION] not in str(back.headers.get("location"))
    found = house.hub.audit.events(action=Action.SESSION_OPEN, limit=1000)
    assert any(each.event.outcome is Outcome.DONE for each in found)
    assert all(browser.cookies[SESSION] not in str(each) for each in found)


def test_a_person_holds_no_more_than_their_roles(house: House) -> None:
    browser = house.known(sub="0011", preferred_username="jan", groups=["admins"])
    guest = house.hub.people.enter(browser.cookies[SESSION])
    assert guest is not None
    assert guest.caller.rights.anywhere(Scope.ACCESS)
    assert not guest.caller.rights.anywhere(Scope.RECORDS)
    assert browser.get(RECEIPT).status_code == 403
