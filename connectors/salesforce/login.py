"""Logs in to an org and answers with a token that all workers of the connection share."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import jwt
from simple_salesforce.exceptions import SalesforceAuthenticationFailed
from simple_salesforce.login import SalesforceLogin

from connectors.salesforce.bridge import bridged
from connectors.salesforce.config import SalesforceConfig
from hub.sdk import Context, Secret, Token, UnauthorizedError, UnexpectedError
from hub.sdk.http import Http

ASSERTION_SECONDS = 180
ENDING = ".salesforce.com"
HOST = "host"
"""The fact of a token that says where its sessions are valid."""
OWNER = ("user_id", "preferred_username", "name", "organization_id")
"""What may be known of whose session it is."""
_IDENTITY = re.compile(r"/id/(00D\w{12,15})/(005\w{12,15})", re.ASCII)
"""The end of the address that a login is answered with: which org, and which user of it."""


class Login:
    """The three ways to log in. None of them logs out: that would end the session of every other worker."""

    def __init__(self, config: SalesforceConfig, context: Context, http: Http) -> None:
        self._config = config
        self._context = context
        self._http = http

    def mint(self) -> Token:
        """A new token. UnauthorizedError says, in Salesforce's own words, why there is none."""
        ways = {"jwt": self._by_jwt, "client_credentials": self._by_client, "password": self._by_password}
        return ways[self._config.login]()

    def _by_jwt(self) -> Token:
        """The JWT bearer flow (RFC 7523): the private key never leaves this process, and no password exists."""
        config = self._config
        assert config.private_key is not None
        now = self._context.clock.now()
        claims = {
            "iss": config.client_id,
            "sub": config.username,
            "aud": "https://test.salesforce.com" if config.sandbox else "https://login.salesforce.com",
            "exp": int((now + timedelta(seconds=ASSERTION_SECONDS)).timestamp()),
        }
        try:
            assertion = jwt.encode(claims, config.private_key.reveal(), algorithm="RS256")
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise UnauthorizedError(
                "the private key of this connection is no RSA key in PEM form", detail=type(error).__name__
            ) from None
        return self._granted({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}, {})

    def _by_client(self) -> Token:
        config = self._config
        assert config.client_secret is not None
        pair = base64.b64encode(f"{config.client_id}:{config.client_secret.reveal()}".encode()).decode()
        return self._granted({"grant_type": "client_credentials"}, {"Authorization": f"Basic {pair}"})

    def _by_password(self) -> Token:
        """The SOAP login of simple-salesforce, for orgs that know no connected app."""
        config = self._config
        assert config.password is not None
        token = config.security_token.reveal() if config.security_token is not None else ""
        try:
            session_id, host = SalesforceLogin(
                username=config.username,
                password=config.password.reveal(),
                security_token=token,
                sf_version=config.api_version,
                domain="login",
                session=bridged(self._http, stands_for=("login" + ENDING, config.host), soap=True),
            )
        except SalesforceAuthenticationFailed as error:
            raise UnauthorizedError("the login was refused", detail=str(error.code)) from None
        return self._token(session_id, f"https://{host}", None)

    def _granted(self, form: dict[str, str], headers: dict[str, str]) -> Token:
        url = f"https://{self._config.host}/services/oauth2/token"
        answer = self._http.send("POST", url, form=form, headers=headers, repeatable=True)
        told = _json(answer)
        if answer.status_code != httpx.codes.OK:
            raise UnauthorizedError(
                f"the login was refused: {told.get('error_description') or told.get('error') or answer.status_code}"
            )
        return self._token(told.get("access_token"), told.get("instance_url"), told.get("id"))

    def _token(self, value: object, instance: object, identity: object) -> Token:
        if not isinstance(value, str) or not isinstance(instance, str):
            raise UnexpectedError("the answer to a login lacks a token or the host it is for")
        parts = urlsplit(instance)
        host = parts.netloc.lower()
        if host != self._config.host.lower() and not (parts.hostname or "").endswith(ENDING):
            raise UnexpectedError("the login answered with a host that is not one of Salesforce's")
        # Salesforce does not say when a session ends: that depends on the org, and each use puts it off.
        known = _IDENTITY.search(identity) if isinstance(identity, str) else None
        owner = {"organization_id": known[1], "user_id": known[2]} if known is not None else self.owner(host, value)
        return Token(Secret(value), None, {HOST: host, **owner})

    def owner(self, host: str, value: str) -> dict[str, str]:
        """Whose session it is, by name; an app without the scope `openid` is not told, and its sessions are as good.

        It counts as a call of the day, so that it is asked only where an answer to a login left it open, or for people.
        """
        self._http.allow(host)
        headers = {"Authorization": f"Bearer {value}"}
        answer = self._http.send("GET", f"https://{host}/services/oauth2/userinfo", headers=headers)
        told = _json(answer) if answer.status_code == httpx.codes.OK else {}
        return {name: str(told[name]) for name in OWNER if told.get(name)}


def _json(answer: httpx.Response) -> dict[str, object]:
    try:
        told = answer.json()
    except ValueError:
        raise UnexpectedError("the answer to a login is no JSON", detail=f"status {answer.status_code}") from None
    return told if isinstance(told, dict) else {}
