"""HashiCorp Vault (or OpenBao) over its HTTP interface; `hvac` would bring no more than the five calls made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from hub.keys.services.logins import login_file
from hub.keys.services.web import Answer, call
from hub.sdk import UnauthorizedError
from hub.settings import Settings

TOKEN = "a file with a token, as Vault Agent keeps it renewed"  # noqa: S105  (what to put there, not a token)


class VaultService:
    """Calls one Vault with the token that `HUB_VAULT_LOGIN` names."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """The answer to a path below `/v1/`. UnauthorizedError where the token may not, or names no such place."""
        settings = self._settings
        if not settings.vault_url:
            raise UnauthorizedError("HUB_VAULT_URL is not set: expected the https address of Vault")
        headers = {"X-Vault-Token": login_file("HUB_VAULT_LOGIN", settings.vault_login, TOKEN)}
        headers |= {"X-Vault-Request": "true"}
        if settings.vault_namespace:
            headers["X-Vault-Namespace"] = settings.vault_namespace
        url = f"{settings.vault_url.rstrip('/')}/v1/{quote(path)}"
        answer = call(method, url, authorities=settings.service_authorities, headers=headers, json_body=body)
        if answer.status == 403:
            raise UnauthorizedError(f"Vault refuses {path}: give the policy of the token in HUB_VAULT_LOGIN that path")
        return answer
