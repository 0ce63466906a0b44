"""The nouns of people: a person, one login of theirs, and how a login ends badly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hub.access.types import AccessError, Caller

IDLE = timedelta(minutes=30)
"""A session that nobody uses for so long has ended."""
ABSOLUTE = timedelta(hours=12)
"""A session ends so long after its login, however much it is used."""
FRESH = timedelta(minutes=5)
"""How long after a login its person may decide for others; later they prove anew who they are."""


class SignInError(AccessError):
    """Somebody could not prove who they are. The message tells no part of why; `why` is for the trail."""

    def __init__(self, why: str, message: str = "the login failed; try again") -> None:
        super().__init__(message)
        self.why = why


class TooOftenError(AccessError):
    """Too many failed logins of one account or from one address; `seconds` until the next may be tried."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many failed logins; wait and try again")
        self.seconds = seconds


class StaleLoginError(AccessError):
    """What somebody asks for wants them to prove anew, just now, who they are."""


class ProviderError(AccessError):
    """The identity provider does not answer, or not as it must; the message is for the person who set it up."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can log in. `issuer` and `subject` are the identity, `name` what the trail calls them, for good.

    `issuer` is empty for the account that the setup secret made. `claimed` are the roles that the last login brought,
    each `ROLE` or `ROLE RESOURCE`.
    """

    id: str
    name: str
    issuer: str
    subject: str
    title: str
    claimed: tuple[str, ...]
    created_at: datetime
    login_at: datetime | None
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Login:
    """How a person has proven who they are: when, and how strongly by the provider's own word (`acr`).

    `authenticated_at` is None where the provider did not say when: it may have known them since the morning.
    """

    authenticated_at: datetime | None
    acr: str | None = None
    method: str = "local"


@dataclass(frozen=True, slots=True)
class Visit:
    """One session of one person, as of now. `ends_at` is when it ends if it is not used again."""

    id: str
    person: Person
    created_at: datetime
    seen_at: datetime
    ends_at: datetime
    login: Login

    def proven_within(self, span: timedelta, now: datetime, acr: str | None = None) -> bool:
        """Whether the login is that fresh, and as strong as `acr` where one is wanted: what an approval asks."""
        at = self.login.authenticated_at
        return at is not None and now - at <= span and (acr is None or self.login.acr == acr)


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was just opened: the text for the cookie, told this once, and where to go on."""

    text: str
    visit: Visit
    next: str = "/account"


@dataclass(frozen=True, slots=True)
class Guest:
    """A visit with the caller that it stands for."""

    visit: Visit
    caller: Caller


Claims = dict[str, Any]
"""What a provider's token says of somebody, verified."""
