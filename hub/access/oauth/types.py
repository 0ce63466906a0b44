"""The nouns of client credentials: a client, how it proves itself, what it shows, and how it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from hub.access.types import AccessError, Caller, Resource, Scope


class ClientMethod(StrEnum):
    """How a client proves who it is, by the names of RFC 8414; each client has one."""

    SECRET = "client_secret_basic"  # noqa: S105 — the name of a method
    KEY = "private_key_jwt"
    CERTIFICATE = "tls_client_auth"


class TokenGrantError(AccessError):
    """A token is refused; `code` is the error of RFC 6749, section 5.2. What part of a proof was wrong is not told."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Client:
    """A client as it is listed. `resources` None: everything; `subject` is the name in its certificate."""

    id: str
    name: str
    owner: str
    method: ClientMethod
    scopes: frozenset[Scope]
    resources: frozenset[Resource] | None
    addresses: tuple[str, ...]
    subject: str | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class Bearer(NamedTuple):
    """Whose an access token is, at which moment of the database, and until when."""

    caller: Caller
    now: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request for a token brings along.

    `form` is the body of the request, `basic` the id and the secret of its header; `certificate` is the client's
    certificate (DER), and only where a proxy vouches for it.
    """

    form: Mapping[str, str]
    basic: tuple[str, str] | None = None
    certificate: bytes | None = None
    address: str | None = None
