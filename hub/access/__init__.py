"""Who may do what, and the vault that holds what they must never see.

Owns callers, their API keys, roles and scopes, and the secrets of connections. Refuses whatever is not allowed by name,
gives no way to read a secret back save opening a connection, and never falls back to the hub's own credentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.access.types import (
    AccessError,
    Actor,
    ActorKind,
    Caller,
    DeniedError,
    HiddenError,
    Resource,
    ResourceKind,
    Rights,
    Role,
    RoleGrant,
    Ruling,
    Scope,
    Shown,
    Token,
    UnauthenticatedError,
    VaultError,
    decide,
    local_caller,
)
from hub.deferred import deferred

if TYPE_CHECKING:
    from hub.access.references import Reference
    from hub.access.roles import Roles
    from hub.access.tokens import Access
    from hub.access.turnover import destroy_overdue, move_under_newest_key
    from hub.access.vault import Vault

__all__ = [
    "Access",
    "AccessError",
    "Actor",
    "ActorKind",
    "Caller",
    "DeniedError",
    "HiddenError",
    "Reference",
    "Resource",
    "ResourceKind",
    "Rights",
    "Role",
    "RoleGrant",
    "Roles",
    "Ruling",
    "Scope",
    "Shown",
    "Token",
    "UnauthenticatedError",
    "Vault",
    "VaultError",
    "decide",
    "destroy_overdue",
    "local_caller",
    "move_under_newest_key",
]

__getattr__ = deferred(
    __name__,
    {
        "Access": "hub.access.tokens",
        "Reference": "hub.access.references",
        "Roles": "hub.access.roles",
        "Vault": "hub.access.vault",
        "destroy_overdue": "hub.access.turnover",
        "move_under_newest_key": "hub.access.turnover",
    },
)
