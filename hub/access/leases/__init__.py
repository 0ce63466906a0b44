"""Leases: a worker gets a credential for the work in its hands, for as long as it holds that, and no longer.

Owns the lease broker, in this process or behind a socket, what is sealed to it, and the leases a process holds. Refuses
whoever is fenced off, keeps no secret beyond its lease, and knows neither connections nor runs: both are handed to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.access.leases.types import (
    Broker,
    BrokerAwayError,
    Credential,
    Credentials,
    Ending,
    Handed,
    Holder,
    Lease,
    LeaseEndedError,
    LeaseError,
    LeaseRevokedError,
    WorkerRevokedError,
)
from hub.deferred import deferred

if TYPE_CHECKING:
    from hub.access.leases.broker import LeaseBroker, abandon_leases, live_leases, recall, retire, revoke, sweep
    from hub.access.leases.client import BorrowedRing, BrokerClient
    from hub.access.leases.holding import Held, Leases
    from hub.access.leases.sealing import SealingKey, offer, own_key, seal_to, take_in
    from hub.access.leases.server import Office, Part, Server, users_of

__all__ = [
    "BorrowedRing",
    "Broker",
    "BrokerAwayError",
    "BrokerClient",
    "Credential",
    "Credentials",
    "Ending",
    "Handed",
    "Held",
    "Holder",
    "Lease",
    "LeaseBroker",
    "LeaseEndedError",
    "LeaseError",
    "LeaseRevokedError",
    "Leases",
    "Office",
    "Part",
    "SealingKey",
    "Server",
    "WorkerRevokedError",
    "abandon_leases",
    "live_leases",
    "offer",
    "own_key",
    "recall",
    "retire",
    "revoke",
    "seal_to",
    "sweep",
    "take_in",
    "users_of",
]

__getattr__ = deferred(
    __name__,
    {
        "BorrowedRing": "hub.access.leases.client",
        "BrokerClient": "hub.access.leases.client",
        "Held": "hub.access.leases.holding",
        "LeaseBroker": "hub.access.leases.broker",
        "Leases": "hub.access.leases.holding",
        "Office": "hub.access.leases.server",
        "Part": "hub.access.leases.server",
        "SealingKey": "hub.access.leases.sealing",
        "Server": "hub.access.leases.server",
        "abandon_leases": "hub.access.leases.broker",
        "live_leases": "hub.access.leases.broker",
        "offer": "hub.access.leases.sealing",
        "own_key": "hub.access.leases.sealing",
        "recall": "hub.access.leases.broker",
        "retire": "hub.access.leases.broker",
        "revoke": "hub.access.leases.broker",
        "seal_to": "hub.access.leases.sealing",
        "sweep": "hub.access.leases.broker",
        "take_in": "hub.access.leases.sealing",
        "users_of": "hub.access.leases.server",
    },
)
