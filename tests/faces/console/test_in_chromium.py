"""The pages in a real Chromium over TLS: what a person does with a mouse, and that the browser objects to nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol
from urllib.parse import urlencode

import pytest

from hub.access.approvals import ApprovalState
from hub.console import add_to
from hub.console.cookies import SESSION
from hub.runs import Scoring
from hub.sdk.testing.tls import make_certificates
from tests.faces.api.conftest import ME, serving
from tests.faces.console.chromium import Chromium, Page, running
from tests.faces.console.conftest import House, code_of, housed
from tests.faces.console.test_approvals import ask
from tests.system.servers import free_port

RECEIPT = "/receipts/patient_risk?key=00842302"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Chromium, House]]:
    """One browser, and the hub at the address that the provider sends it back to: to a browser, two sites."""
    certificates = make_certificates(tmp_path_factory.mktemp("tls"))
    home, port = tmp_path_factory.mktemp("house"), free_port()
    with ExitStack() as stack:
        browser = stack.enter_context(running(certificates))
        hub, twin = stack.enter_context(
            housed(home, certificates, api_port=port, public_url=f"https://127.0.0.1:{port}")
        )
        url = stack.enter_context(serving(hub, [add_to], certificates))
        yield browser, House(hub, url, twin)


@pytest.fixture(scope="module")
def house(chromium: tuple[Chromium, House]) -> House:
    return chromium[1]


class Opens(Protocol):
    """Opens a page of a person's own."""

    def __call__(self) -> AbstractContextManager[Page]: ...


@pytest.fixture
def fresh(chromium: tuple[Chromium, House]) -> Opens:
    """Pages that share nothing; one that the browser complained about, without the test's expecting it, fails."""
    browser, house = chromium

    @contextmanager
    def made() -> Iterator[Page]:
        with browser.page(house.url) as page:
            yield page
            assert page.taken() == []

    return made


@pytest.fixture
def page(fresh: Opens) -> Iterator[Page]:
    with fresh() as made:
        yield made


def at_provider(house: House, page: Page, button: str, place: str) -> None:
    """Away from the hub to the provider's own page, and from there by its link to where the person wanted to go."""
    with page.leads_to(f"{house.twin.issuer}/authorize?"):
        page.click(button)
    with page.leads_to(place):
        page.click("a")


def log_in(house: House, page: Page, path: str = "/account", **claims: Any) -> None:
    """Asks for a page without a session, logs in, and is there."""
    house.twin.claims = {"sub": "0001", "preferred_username": "anna", "name": "Anna <b>Berg</b>", **claims}
    page.open(path, f"/login?{urlencode({'next': path})}")
    at_provider(house, page, 'form[action="/login"] button', path)


def fault(page: Page, action: str) -> str:
    """Waits for what a form says of its failure."""
    return str(page.see(f"document.querySelector('form[action=\"{action}\"] [data-fault][role=alert]').textContent"))


def failed(status: str, path: str) -> str:
    """What the browser itself logs of an answer that is no success."""
    return f"network: Failed to load resource: the server responded with a status of {status} {path}"


def test_the_browser_tells_what_it_objects_to(page: Page) -> None:
    page.open("/login")
    for objectionable in (
        "console.error('said so')",
        "document.head.append(Object.assign(document.createElement('style'), {textContent: 'p {}'}))",
        "try { document.body.innerHTML = '<p>'; } catch { }",
        "void setTimeout(() => { throw new Error('thrown'); })",
        "fetch('https://elsewhere.example/').catch(() => null)",
        "new Promise((told) => setTimeout(told))",
    ):
        page.value(objectionable)
    told = "\n".join(page.taken())
    for each in (
        "console.error: said so",
        "'style-src 'self''",
        "'TrustedHTML'",
        "Error: thrown",
        "connect-src 'self'",
    ):
        assert each in told
    assert told.count("ContentSecurityPolicyIssue") == 3


def test_the_setup_secret_makes_one_administrator(house: House, page: Page, fresh: Opens) -> None:
    setup, _ = house.hub.people.local.make_setup(actor=ME)
    page.open("/setup")
    page.click('[action="/setup/enrol"] button')
    assert page.sent.count("POST /setup/enrol") == 0, "the browser asks for what is required"
    page.fill("#setup", "setup-of-somebody")
    page.fill("#name", "root")
    page.click('[action="/setup/enrol"] button')
    assert fault(page, "/setup/enrol").startswith("the setup secret does not count")
    assert page.taken() == [failed("401 (Unauthorized)", "/setup/enrol")]
    assert page.value("document.querySelector('[data-then]').checkVisibility()") is False
    page.fill("#setup", setup.reveal())
    page.click('[action="/setup/enrol"] button')
    secret = page.see("document.querySelector('[data-told=secret]').textContent")
    assert page.text("[data-told=uri]").startswith("otpauth://totp/Hub:root?")
    assert secret in page.text("[data-told=uri]")
    page.fill("#name", "chief")
    assert page.value("document.querySelector('[data-same=name]').value") == "chief"
    page.fill('[action="/setup"] [name=password]', "a long password")
    page.fill('[action="/setup"] [name=code]', "000000")
    page.click('[action="/setup"] button')
    assert fault(page, "/setup") == "the setup secret or the code does not count"
    assert page.taken() == [failed("401 (Unauthorized)", "/setup")]
    page.fill('[action="/setup"] [name=code]', code_of(secret))
    with page.leads_to("/account"):
        page.click('[action="/setup"] button')
    assert page.text("h1") == "chief"
    assert "the setup secret" in page.text()
    with fresh() as other:
        other.open("/setup")
        other.fill("#setup", setup.reveal())
        other.fill("#name", "second")
        other.click('[action="/setup/enrol"] button')
        assert fault(other, "/setup/enrol").startswith("the setup secret does not count")
        assert other.taken() == [failed("401 (Unauthorized)", "/setup/enrol")]
        log_in_locally(other, "chief", "wrong password", "000000")
        assert fault(other, "/login/password") == "the login failed; try again"
        assert other.taken() == [failed("401 (Unauthorized)", "/login/password")]
        with other.leads_to("/account"):
            log_in_locally(other, "chief", "a long password", code_of(secret, 30))
        assert other.text("h1") == "chief"


def log_in_locally(page: Page, name: str, password: str, code: str) -> None:
    page.open("/login")
    for field, text in {"name": name, "password": password, "code": code}.items():
        page.fill(f'[action="/login/password"] [name={field}]', text)
    page.click('[action="/login/password"] button')


def test_a_person_logs_in_by_the_provider_and_out_for_good(house: House, page: Page) -> None:
    log_in(house, page, groups=["ops"])
    assert page.text("h1") == "Anna <b>Berg</b>"
    assert "human:anna" in page.text()
    (cookie,) = [each for each in page.cookies() if each["domain"] == "127.0.0.1"]
    kept = {name: cookie[name] for name in ("name", "path", "secure", "httpOnly", "session", "sameSite")}
    assert kept == {"name": SESSION, "path": "/", "secure": True, "httpOnly": True, "session": True, "sameSite": "Lax"}
    with page.leads_to("/login"):
        page.click('[action="/logout"] button')
    assert page.cookies() == []
    page.back("/login?next=%2Faccount")
    assert "human:anna" not in page.text("body"), "the browser shows nothing that it kept"


def test_an_approver_decides_after_a_fresh_login(house: House, page: Page) -> None:
    asked = ask(house)
    log_in(house, page, sub="0101", preferred_username="kim", groups=["eyes"])
    with page.leads_to("/approvals"):
        page.click('a[href="/approvals"]')
    place = f"/approvals/{asked.id}"
    with page.leads_to(place):
        page.click(f'a[href="{place}"]')
    assert asked.digest in page.text()
    assert "<b>champion</b>" in page.text()
    page.fill(f'[action="{place}/approve"] [name=reason]', "looked at")
    page.click(f'[action="{place}/approve"] button')
    assert fault(page, f"{place}/approve").startswith("prove anew who you are, then decide")
    assert page.taken() == [failed("403 (Forbidden)", f"{place}/approve")]
    assert house.hub.approvals.get(asked.id).state is ApprovalState.PENDING
    at_provider(house, page, '[action="/account/step-up"] button', place)
    page.fill(f'[action="{place}/approve"] [name=reason]', "looked at <i>twice</i>")
    with page.leads_to(place):
        page.click(f'[action="{place}/approve"] button')
    found = house.hub.approvals.get(asked.id)
    assert (found.state, found.decided_by, found.why) == (ApprovalState.APPROVED, "human:kim", "looked at <i>twice</i>")
    assert "looked at <i>twice</i>" in page.text()
    assert page.value("document.querySelectorAll('main form').length") == 0


def test_a_session_is_ended_from_another_browser(house: House, page: Page, fresh: Opens) -> None:
    with fresh() as other:
        for each in (page, other):
            log_in(house, each, sub="0008", preferred_username="hans")
        with page.leads_to("/account"):
            page.open("/account")
        with page.leads_to("/account"):
            page.click('[action="/account/end-session"] button')
        assert page.value("document.querySelectorAll('[action=\"/account/end-session\"]').length") == 0
        other.click('[action="/logout"] button')
        assert fault(other, "/logout") == "log in first"
        assert other.taken() == [failed("401 (Unauthorized)", "/logout")]


def test_a_receipt_is_where_a_login_that_it_asked_for_leads(house: House, page: Page) -> None:
    Scoring(house.hub).score_keys("patient_risk", [{"PATNR": "00842302"}], str(ME)).result(60)
    log_in(house, page, RECEIPT, sub="0002", preferred_username="bea", groups=["ward"])
    assert page.text("h1") == "patient_risk: 00842302"
    assert "fna_malignancy" in page.text()


def test_no_page_is_objected_to(house: House, page: Page) -> None:
    Scoring(house.hub).score_keys("patient_risk", [{"PATNR": "00842302"}], str(ME)).result(60)
    for path in ("/login", "/setup"):
        page.open(path)
    log_in(house, page, sub="0003", preferred_username="carl", groups=["eyes", "ward"])
    asked = ask(house)
    for path in ("/account", "/approvals", f"/approvals/{asked.id}", RECEIPT, "/login", "/setup"):
        page.open(path)
    page.open("/", "/account")
    assert page.taken() == []
    page.open("/receipts/patient_risk?key=unknown")
    assert page.text("h1") == "It did not work"
    assert page.taken() == [failed("404 (Not Found)", "/receipts/patient_risk")]


def test_what_a_browser_fills_in_without_telling_counts_as_well(house: House, page: Page) -> None:
    page.open("/setup")
    page.value("document.querySelector('#setup').value = 'setup-x', document.querySelector('#name').value = 'chief'")
    page.value("document.querySelector('[data-then]').hidden = false")
    page.fill('[action="/setup"] [name=password]', "a long password")
    page.fill('[action="/setup"] [name=code]', "000000")
    with page.answering(401, "application/problem+json", '{"detail": "no"}') as asked:
        page.click('[action="/setup"] button')
        assert fault(page, "/setup") == "no"
    (body,) = asked
    assert json.loads(body) == {"setup": "setup-x", "name": "chief", "password": "a long password", "code": "000000"}
    assert page.taken() == [failed("401 (Unauthorized)", "/setup")]


@pytest.mark.parametrize(
    ("status", "kind", "body", "said"),
    [
        (502, "text/html", "<h1>Bad gateway</h1>", "it failed (502); try again"),
        (200, "text/html", "<h1>Welcome to the hotel</h1>", "it failed (200); try again"),
        (422, "application/problem+json", '{"status": 422}', "it failed (422); try again"),
        (0, "", "", "the hub cannot be reached; try again"),
    ],
)
def test_an_answer_that_is_not_the_hubs_is_told_in_words(
    page: Page, status: int, kind: str, body: str, said: str
) -> None:
    page.open("/login")
    with page.answering(status, kind, body):
        page.click('[action="/login"] button')
        assert fault(page, "/login") == said
    assert len(page.taken()) == (status != 200)


def test_a_form_that_is_sent_is_not_sent_again_meanwhile(page: Page) -> None:
    page.open("/login")
    with page.answering(401, "application/problem+json", '{"detail": "no"}') as asked:
        page.value("for (const form of [document.forms[0], document.forms[0]]) form.requestSubmit()")
        assert fault(page, "/login") == "no"
        assert len(asked) == 1
        page.click('[action="/login"] button')
        page.until(lambda: len(asked) == 2, "sent anew")
        assert fault(page, "/login") == "no"
    assert page.taken() == [failed("401 (Unauthorized)", "/login")] * 2


def test_what_is_typed_is_in_no_address_where_the_script_does_not_run(page: Page) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open("/login")
    for name in ("name", "password", "code"):
        page.fill(f'[action="/login/password"] [name={name}]', "s3cret")
    page.click('[action="/login/password"] button')
    page.until(lambda: any("form-action 'none'" in each for each in page.complaints), "refused")
    assert not [each for each in page.sent if "/login/password" in each]
    assert all("form-action" in each for each in page.taken())


@pytest.mark.parametrize("key", ["M%C3%BCller+1~2,@(x)!", "9" * 400])
def test_a_login_leads_to_whatever_page_was_asked_for(house: House, page: Page, key: str) -> None:
    path = f"/receipts/patient_risk?key={key}"
    log_in(house, page, path, sub="0002", preferred_username="bea", groups=["ward"])
    assert "the mapping has never met this record" in page.text()
    assert page.taken() == [failed("404 (Not Found)", "/receipts/patient_risk")]
