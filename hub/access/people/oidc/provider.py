"""The identity provider as its issuer describes it: addresses and keys, fetched from there and nowhere else."""

from __future__ import annotations

import base64
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from hub.access.jose import PublicKey, public_keys
from hub.access.people.types import ProviderError
from hub.access.types import AccessError
from hub.sdk import ConnectorError, Context, Secret
from hub.sdk.http import Bounds, Http
from hub.settings import Settings

SECONDS = 10.0
MOST_BYTES = 1024 * 1024
KEPT_SECONDS = 3600.0
"""How long a description and keys are used before they are fetched again."""
ASKED_AGAIN_SECONDS = 30.0
"""The least time between two looks for a key that was not there."""
CALLBACK = "/login/callback"
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What an administrator says of the provider. `roles`: group of the provider → `ROLE` or `ROLE RESOURCE`."""

    issuer: str
    client_id: str
    redirect_uri: str
    client_secret: Secret | None = None
    algorithms: tuple[str, ...] = ("RS256",)
    scopes: str = "openid profile"
    name_claim: str = "preferred_username"
    roles_claim: str = "groups"
    roles: Mapping[str, str] = field(default_factory=dict)
    step_up_acr: str | None = None
    authorities: Path | None = None
    private: bool = False


def configured(settings: Settings) -> ProviderSettings | None:
    """The provider that the settings name."""
    if settings.oidc_issuer is None or settings.oidc_client_id is None or settings.public_url is None:
        return None
    secret = settings.oidc_client_secret
    return ProviderSettings(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        redirect_uri=settings.public_url.rstrip("/") + CALLBACK,
        client_secret=Secret(secret) if secret else None,
        algorithms=tuple(settings.oidc_algorithms.split()),
        scopes=settings.oidc_scopes,
        name_claim=settings.oidc_name_claim,
        roles_claim=settings.oidc_roles_claim,
        roles=settings.oidc_roles,
        step_up_acr=settings.oidc_step_up_acr,
        authorities=settings.oidc_authorities,
        private=settings.allows_private(settings.oidc_issuer),
    )


class Provider:
    """Safe to share between threads. Every answer is fetched from the issuer's own words, over verified TLS."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self._trust: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._described: tuple[dict[str, str], float] | None = None
        self._known: tuple[dict[str, PublicKey], float] | None = None

    def endpoint(self, name: str) -> str:
        """An address of the provider, one of `ENDPOINTS`. ProviderError."""
        return self._description()[name]

    @property
    def tells_issuer(self) -> bool:
        """Whether every answer of the provider names it (RFC 9207), so that one that does not is not its own."""
        return self._description()["tells_issuer"] == "yes"

    def keys(self, *, anew: bool = False) -> dict[str, PublicKey]:
        """The keys that it signs with now, by `kid`; `anew` fetches them again unless that was just done."""
        with self._lock:
            known = self._known
        age = time.monotonic() - known[1] if known is not None else None
        if known is not None and age is not None and age < (ASKED_AGAIN_SECONDS if anew else KEPT_SECONDS):
            return known[0]
        try:
            found = public_keys(self._fetch("GET", self.endpoint("jwks_uri")))
        except ProviderError:
            raise
        except AccessError as error:
            raise ProviderError("the identity provider publishes no key that signs") from error
        with self._lock:
            self._known = (found, time.monotonic())
        return found

    def redeem(self, code: str, verifier: str) -> str:
        """The ID token for an authorization code. ProviderError where there is none for it."""
        given = self.settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": given.redirect_uri,
            "code_verifier": verifier,
        }
        headers = {"Accept": "application/json"}
        if given.client_secret is None:
            form["client_id"] = given.client_id
        else:
            # RFC 6749, 2.3.1: each part is form-encoded before they are joined.
            pair = f"{quote(given.client_id, safe='')}:{quote(given.client_secret.reveal(), safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        answer = self._fetch("POST", self.endpoint("token_endpoint"), headers=headers, form=form)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderError("the identity provider answered without an ID token")
        return token

    def _description(self) -> dict[str, str]:
        with self._lock:
            described = self._described
        if described is not None and time.monotonic() - described[1] < KEPT_SECONDS:
            return described[0]
        issuer = self.settings.issuer
        told = self._fetch("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
        found = _checked(told, issuer)
        with self._lock:
            self._described = (found, time.monotonic())
        return found

    def _fetch(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        parts = urlsplit(url)
        context = Context()
        context.deadline = context.clock.monotonic() + SECONDS
        bounds = Bounds(connect_seconds=SECONDS, read_seconds=SECONDS, most_bytes=MOST_BYTES)
        host = f"{parts.hostname}:{parts.port or 443}"
        try:
            with Http(context, [host], bounds=bounds, trust=self._trusted(), private=self.settings.private) as http:
                answer = http.send(method, url, repeatable=method == "GET", **more)
                told = answer.json() if answer.is_success else None
        except (ConnectorError, ValueError) as error:
            raise ProviderError(f"the identity provider does not answer as it must: {_said(error)}") from error
        if not isinstance(told, dict):
            raise ProviderError(f"the identity provider answered with status {answer.status_code}")
        return told

    def _trusted(self) -> ssl.SSLContext:
        with self._lock:
            if self._trust is None:
                file = self.settings.authorities
                self._trust = ssl.create_default_context(cafile=str(file) if file is not None else None)
            return self._trust


def _said(error: Exception) -> str:
    return error.message if isinstance(error, ConnectorError) else "its answer is no JSON"


def _checked(told: Mapping[str, Any], issuer: str) -> dict[str, str]:
    if told.get("issuer") != issuer:
        raise ProviderError("the identity provider calls itself something else than HUB_OIDC_ISSUER")
    methods = told.get("code_challenge_methods_supported", ["S256"])
    if not isinstance(methods, list) or "S256" not in methods:
        raise ProviderError("the identity provider does not take PKCE with S256")
    found = {name: told.get(name) for name in ENDPOINTS}
    for name, url in found.items():
        if not isinstance(url, str) or not url.startswith("https://"):
            raise ProviderError(f"the identity provider tells no https address as {name}")
    tells = told.get("authorization_response_iss_parameter_supported") is True
    return {**{name: str(url) for name, url in found.items()}, "tells_issuer": "yes" if tells else "no"}
