"""Programs that take short access tokens instead of keeping a key: OAuth 2.0 client credentials, and no more of it.

Owns clients, how each proves who it is, and the tokens they are given. Refuses passwords, redirects, refresh tokens and
scopes beyond those a client was registered with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.access.oauth.types import Client, ClientMethod, Presented, TokenGrantError
from hub.deferred import deferred

if TYPE_CHECKING:
    from hub.access.oauth.clients import Clients
    from hub.access.oauth.issuing import TOKEN_SECONDS, Issuer

__all__ = ["TOKEN_SECONDS", "Client", "ClientMethod", "Clients", "Issuer", "Presented", "TokenGrantError"]

__getattr__ = deferred(
    __name__,
    {
        "Clients": "hub.access.oauth.clients",
        "Issuer": "hub.access.oauth.issuing",
        "TOKEN_SECONDS": "hub.access.oauth.issuing",
    },
)
