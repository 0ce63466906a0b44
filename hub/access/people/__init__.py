"""People: who they are by their identity provider, the sessions they have, and the one account that needs no provider.

Owns persons, sessions, logins under way and the setup secret. Refuses to know anybody by an e-mail address, to keep a
cookie or a password, and to let a password in once an administrator came by the provider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.access.people.types import (
    ABSOLUTE,
    IDLE,
    Guest,
    Login,
    Opened,
    Person,
    ProviderError,
    SignInError,
    StaleLoginError,
    TooOftenError,
    Visit,
)
from hub.deferred import deferred

if TYPE_CHECKING:
    from hub.access.people.oidc import ProviderSettings
    from hub.access.people.people import People

__all__ = [
    "ABSOLUTE",
    "IDLE",
    "Guest",
    "Login",
    "Opened",
    "People",
    "Person",
    "ProviderError",
    "ProviderSettings",
    "SignInError",
    "StaleLoginError",
    "TooOftenError",
    "Visit",
]

__getattr__ = deferred(
    __name__, {"People": "hub.access.people.people", "ProviderSettings": "hub.access.people.oidc.provider"}
)
