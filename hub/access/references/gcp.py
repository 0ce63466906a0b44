"""References to Google Secret Manager: `gcp-sm:PROJECT/SECRET`, or with `/VERSION`; over REST, by a service account."""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import Any
from urllib.parse import quote

import jwt

from hub.access.references.fields import field_of
from hub.access.references.types import EXAMPLES, Reference
from hub.access.types import VaultError
from hub.keys.services.logins import login_file
from hub.keys.services.web import call
from hub.sdk import UnauthorizedError
from hub.settings import Settings

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
KEY = "the JSON key of a service account"
SECONDS = 300


def from_gcp(reference: Reference, settings: Settings) -> str:
    """The text of the newest version, or of the one that is named."""
    parts = reference.name.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise VaultError(f"the secret reference {reference}: expected PROJECT/SECRET, as in {EXAMPLES['gcp-sm']}")
    project, secret, version = (quote(each, safe="") for each in (*parts, "latest")[:3])
    url = (
        f"{settings.gcp_secrets_endpoint.rstrip('/')}/v1/projects/{project}/secrets/{secret}/versions/{version}:access"
    )
    answer = call(
        "GET",
        url,
        authorities=settings.service_authorities,
        headers={"Authorization": f"Bearer {_token(settings)}"},
    )
    if answer.status in (401, 403):
        raise UnauthorizedError(
            f"Google refuses {reference}: grant roles/secretmanager.secretAccessor to the account of HUB_GCP_LOGIN"
        )
    try:
        held = base64.b64decode(answer.body["payload"]["data"], validate=True).decode("utf-8")
    except (KeyError, TypeError, binascii.Error, UnicodeDecodeError):
        raise VaultError(f"the secret reference {reference} names no text in Secret Manager; add a version") from None
    return field_of(reference, held)


def _token(settings: Settings) -> str:
    """An access token for a few minutes (RFC 7523)."""
    account = _account(login_file("HUB_GCP_LOGIN", settings.gcp_login, KEY))
    now = int(time.time())
    claims = {
        "iss": account["client_email"],
        "scope": SCOPE,
        "aud": account["token_uri"],
        "iat": now,
        "exp": now + SECONDS,
    }
    try:
        assertion = jwt.encode(claims, account["private_key"], "RS256", headers={"kid": account.get("private_key_id")})
    except (ValueError, jwt.InvalidKeyError):
        raise UnauthorizedError(f"HUB_GCP_LOGIN names a file that is not {KEY}") from None
    form = {"grant_type": GRANT, "assertion": assertion}
    answer = call("POST", account["token_uri"], authorities=settings.service_authorities, form=form)
    token = answer.body.get("access_token")
    if answer.status != 200 or not isinstance(token, str):
        raise UnauthorizedError("Google does not take the service account of HUB_GCP_LOGIN; make a new key for it")
    return token


def _account(text: str) -> dict[str, Any]:
    try:
        account = json.loads(text)
        complete = all(isinstance(account[name], str) for name in ("client_email", "private_key", "token_uri"))
    except (ValueError, KeyError, TypeError):
        complete = False
    if not complete or not account["token_uri"].startswith("https://"):
        raise UnauthorizedError(f"HUB_GCP_LOGIN names a file that is not {KEY}")
    return dict(account)
