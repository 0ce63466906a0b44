"""A configured system: connector, settings and credentials, opened behind a guard.

Owns the connections, the discovery of connectors and the guard. Refuses to open a connection without a grant, one that
is paused, or one whose stored settings were altered; gives out no credential, and imports no connector before its use.
"""

from hub.connections.catalogue import Catalogue
from hub.connections.connections import Connections
from hub.connections.guard import GuardedConnection, GuardedLive, GuardedSource
from hub.connections.types import (
    Connection,
    ConnectionsError,
    GrantError,
    InvalidConnectionError,
    PausedConnectionError,
    UnknownConnectionError,
    UnknownConnectorError,
)

__all__ = [
    "Catalogue",
    "Connection",
    "Connections",
    "ConnectionsError",
    "GrantError",
    "GuardedConnection",
    "GuardedLive",
    "GuardedSource",
    "InvalidConnectionError",
    "PausedConnectionError",
    "UnknownConnectionError",
    "UnknownConnectorError",
]
