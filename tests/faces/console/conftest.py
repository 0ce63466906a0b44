"""The clinic's installation with pages and a provider, and a browser that keeps cookies as browsers must."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from hub.console import add_to
from hub.runs import Installation
from hub.sdk.testing.tls import Certificates, make_certificates
from tests.faces.api.conftest import build, serving
from tests.hub.access.people.provider_twin import ProviderTwin

OWN = {"Sec-Fetch-Site": "same-origin", "X-Hub-Console": "1"}
"""What our own script and the browser add to a call from a page of the hub."""
ROLES = {
    "ops": "operator",
    "looks": "viewer",
    "ward": "operator mapping:patient_risk",
    "admins": "admin",
    "eyes": "approver",
}


@dataclass
class Browser:
    """Keeps and sends cookies; each that it is given must have every attribute of a `__Host-` cookie."""

    url: str
    cookies: dict[str, str] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        sent = {"Cookie": "; ".join(f"{name}={text}" for name, text in self.cookies.items()), **(headers or {})}
        answer = httpx.request(
            method, self.url + path, headers={k: v for k, v in sent.items() if v}, trust_env=False, timeout=60, **more
        )
        for line in answer.headers.get_list("set-cookie"):
            self._keep(line)
        return answer

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("GET", path, headers)

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.ask("POST", path, {**OWN, **(headers or {})}, json=body if body is not None else {})

    def _keep(self, line: str) -> None:
        self.given.append(line)
        parts = [each.strip().lower() for each in line.split(";")[1:]]
        assert {"secure", "httponly", "path=/", "samesite=lax"} <= set(parts), line
        assert not any(each.startswith("domain") for each in parts), line
        ((name, morsel),) = SimpleCookie(line).items()
        assert name.startswith("__Host-")
        if morsel["max-age"] == "0":
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = morsel.value


@dataclass
class House:
    """An installation behind its server, with its provider."""

    hub: Installation
    url: str
    twin: ProviderTwin
    codes: dict[str, bytes] = field(default_factory=dict)

    def browser(self) -> Browser:
        return Browser(self.url)

    def begin(self, browser: Browser, place: str = "/account", **claims: Any) -> tuple[httpx.Response, dict[str, str]]:
        """A login that is begun: our answer, and what the provider sends the browser back with."""
        self.twin.claims = {"sub": "0001", "preferred_username": "anna", "name": "Anna <b>Berg</b>", **claims}
        begun = browser.post("/login", {"next": place})
        assert begun.status_code == 200, begun.text
        return begun, self.twin.authorize(begun.json()["next"])

    def log_in(self, browser: Browser, place: str = "/account", **claims: Any) -> httpx.Response:
        """One whole login by the provider; the answer to the callback."""
        _, answer = self.begin(browser, place, **claims)
        return browser.ask("GET", "/login/callback", params=answer)

    def known(self, **claims: Any) -> Browser:
        """A browser that is logged in."""
        browser = self.browser()
        assert self.log_in(browser, **claims).status_code == 303
        return browser


def code_of(secret: str, ahead: float = 0) -> str:
    """What an authenticator shows for a secret in base32, whose clock may be ahead by seconds."""
    return TOTP(base64.b32decode(secret), 6, SHA1(), 30).generate(time.time() + ahead).decode()


@contextmanager
def housed(home: Path, certificates: Certificates, **settings: Any) -> Iterator[tuple[Installation, ProviderTwin]]:
    """An installation of the clinic whose people log in at a provider."""
    with ExitStack() as stack:
        twin = stack.enter_context(ProviderTwin(certificates).running())
        hub, *_ = build(
            home,
            oidc_issuer=twin.issuer,
            oidc_client_id=twin.client_id,
            oidc_client_secret=twin.client_secret,
            oidc_authorities=certificates.authority,
            oidc_roles=ROLES,
            private_hosts="localhost",
            **settings,
        )
        yield stack.enter_context(hub), twin


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    certificates = make_certificates(tmp_path_factory.mktemp("tls"))
    home = tmp_path_factory.mktemp("house")
    with housed(home, certificates, api_port=0, public_url="https://hub.example") as (hub, twin), ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(
                "hub.api.access.LOGINS_BURST", 1e6
            )  # a module of tests logs in at more than a person's rate
            url = stack.enter_context(serving(hub, [add_to]))
        yield House(hub, url, twin)
