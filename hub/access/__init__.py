"""Who may do what, and the vault that holds what they must never see.

Owns callers, their API keys and scopes, and the secrets of connections. Refuses whatever is not allowed by name, gives
no way to read a secret back save opening a connection, and never falls back to the hub's own credentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.access.types import (
    AccessError,
    Actor,
    ActorKind,
    Caller,
    DeniedError,
    Scope,
    Token,
    UnauthenticatedError,
    VaultError,
)
from hub.deferred import deferred

if TYPE_CHECKING:
    from hub.access.tokens import Access
    from hub.access.vault import Reference, Vault, local_caller

__all__ = [
    "Access",
    "AccessError",
    "Actor",
    "ActorKind",
    "Caller",
    "DeniedError",
    "Reference",
    "Scope",
    "Token",
    "UnauthenticatedError",
    "Vault",
    "VaultError",
    "local_caller",
]

__getattr__ = deferred(
    __name__,
    {
        "Access": "hub.access.tokens",
        "Reference": "hub.access.vault",
        "Vault": "hub.access.vault",
        "local_caller": "hub.access.vault",
    },
)
