"""References to the Azure key vault of the settings: `azure-kv:SECRET`, or with `/VERSION`; over REST."""

from __future__ import annotations

import json
from urllib.parse import quote, urlsplit

from hub.access.references.fields import field_of
from hub.access.references.types import EXAMPLES, Reference
from hub.access.types import VaultError
from hub.keys.services.logins import login_file
from hub.keys.services.web import call
from hub.sdk import UnauthorizedError
from hub.settings import Settings

API = "7.4"
LOGIN = "JSON with tenant, client_id and client_secret"


def from_azure(reference: Reference, settings: Settings) -> str:
    """The value of the newest version, or of the one that is named."""
    if not settings.azure_vault_url:
        raise UnauthorizedError("HUB_AZURE_VAULT_URL is not set: expected https://NAME.vault.azure.net")
    parts = reference.name.split("/")
    if len(parts) > 2 or not all(parts):
        raise VaultError(f"the secret reference {reference}: expected SECRET, as in {EXAMPLES['azure-kv']}")
    url = f"{settings.azure_vault_url.rstrip('/')}/secrets/{quote('/'.join(parts))}?api-version={API}"
    headers = {"Authorization": f"Bearer {_token(settings)}"}
    answer = call("GET", url, authorities=settings.service_authorities, headers=headers)
    if answer.status in (401, 403):
        raise UnauthorizedError(
            f"Azure refuses {reference}: give the application of HUB_AZURE_LOGIN the role Key Vault Secrets User"
        )
    found = answer.body.get("value")
    if not isinstance(found, str):
        raise VaultError(f"the secret reference {reference} names nothing in {settings.azure_vault_url}; add it there")
    return field_of(reference, found)


def _token(settings: Settings) -> str:
    """An access token by client credentials, for the vault alone."""
    login = _login(login_file("HUB_AZURE_LOGIN", settings.azure_login, LOGIN))
    # https://NAME.vault.azure.net is asked for as https://vault.azure.net, in every cloud.
    audience = (urlsplit(settings.azure_vault_url or "").hostname or "").partition(".")[2]
    form = {
        "grant_type": "client_credentials",
        "client_id": login["client_id"],
        "client_secret": login["client_secret"],
        "scope": f"https://{audience}/.default",
    }
    url = f"{settings.azure_authority.rstrip('/')}/{quote(login['tenant'], safe='')}/oauth2/v2.0/token"
    answer = call("POST", url, authorities=settings.service_authorities, form=form)
    token = answer.body.get("access_token")
    if answer.status != 200 or not isinstance(token, str):
        raise UnauthorizedError("Azure does not take the login of HUB_AZURE_LOGIN; renew the secret of the application")
    return token


def _login(text: str) -> dict[str, str]:
    try:
        login = json.loads(text)
        return {name: str(login[name]) for name in ("tenant", "client_id", "client_secret")}
    except (ValueError, KeyError, TypeError):
        raise UnauthorizedError(f"HUB_AZURE_LOGIN names a file that is not {LOGIN}") from None
