"""Small servers that behave as Google Secret Manager and Azure Key Vault do, with the logins that they ask for."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.hub.keys.services import Answered, Asked


class GoogleTwin:
    """Trades a signed assertion for a token, and gives out versions of secrets for it."""

    ACCOUNT = "hub@my-project.iam.gserviceaccount.com"
    TOKEN = "ya29.exampletoken"

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.secrets: dict[str, list[str]] = {}
        self.denied = False
        self.url = ""

    def account(self) -> str:
        """The JSON key of the service account."""
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        told = {"type": "service_account", "client_email": self.ACCOUNT, "private_key": pem, "private_key_id": "k1"}
        return json.dumps({**told, "token_uri": f"{self.url}/token"})

    def answer(self, asked: Asked) -> Answered:
        """As the token endpoint and `versions:access` answer."""
        if asked.path == "/token":
            return self._token(asked)
        if asked.headers.get("authorization") != f"Bearer {self.TOKEN}":
            return 401, {"error": {"status": "UNAUTHENTICATED"}}
        if self.denied:
            return 403, {"error": {"status": "PERMISSION_DENIED"}}
        found = re.fullmatch(r"/v1/projects/([^/]+)/secrets/([^/]+)/versions/([^/]+):access", asked.path)
        versions = self.secrets.get(f"{found[1]}/{found[2]}", []) if found else []
        number = len(versions) if found and found[3] == "latest" else int(found[3]) if found else 0
        if not 1 <= number <= len(versions):
            return 404, {"error": {"status": "NOT_FOUND"}}
        data = base64.b64encode(versions[number - 1].encode()).decode()
        return 200, {"name": asked.path, "payload": {"data": data}}

    def _token(self, asked: Asked) -> Answered:
        form = {name: each[0] for name, each in parse_qs(asked.body.decode()).items()}
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return 400, {"error": "unsupported_grant_type"}
        try:
            claims = jwt.decode(form["assertion"], self._key.public_key(), ["RS256"], audience=f"{self.url}/token")
        except jwt.InvalidTokenError:
            return 400, {"error": "invalid_grant"}
        fits = claims["iss"] == self.ACCOUNT and claims["exp"] - claims["iat"] <= 3600 and claims["exp"] > time.time()
        return (200, {"access_token": self.TOKEN, "expires_in": 3599}) if fits else (400, {"error": "invalid_grant"})


class AzureTwin:
    """Gives a token for client credentials, and values of secrets for it."""

    TENANT, CLIENT, SECRET = "11111111-2222", "app-1", "client-s3cret"
    TOKEN = "eyJexampletoken"

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.denied = False

    def login(self) -> str:
        """The login as the hub keeps it."""
        return json.dumps({"tenant": self.TENANT, "client_id": self.CLIENT, "client_secret": self.SECRET})

    def answer(self, asked: Asked) -> Answered:
        """As the token endpoint of version 2 and a key vault answer."""
        parts = urlsplit(asked.path)
        if parts.path == f"/{self.TENANT}/oauth2/v2.0/token":
            return self._token(asked)
        if asked.headers.get("authorization") != f"Bearer {self.TOKEN}":
            return 401, {"error": {"code": "Unauthorized"}}
        if self.denied:
            return 403, {"error": {"code": "Forbidden"}}
        found = re.fullmatch(r"/secrets/([^?]+)", parts.path)
        if "api-version" not in parse_qs(parts.query):
            return 400, {"error": {"code": "BadParameter"}}
        if found is None or found[1] not in self.secrets:
            return 404, {"error": {"code": "SecretNotFound"}}
        return 200, {"value": self.secrets[found[1]], "id": asked.path}

    def _token(self, asked: Asked) -> Answered:
        form: dict[str, Any] = {name: each[0] for name, each in parse_qs(asked.body.decode()).items()}
        right = (form.get("client_id"), form.get("client_secret")) == (self.CLIENT, self.SECRET)
        if not right or not form.get("scope", "").endswith("/.default"):
            return 401, {"error": "invalid_client"}
        return 200, {"access_token": self.TOKEN, "token_type": "Bearer", "expires_in": 3599}
