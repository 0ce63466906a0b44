"""The nouns of connections, and the ways in which one is refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from hub.sdk import Json


@dataclass(frozen=True, slots=True)
class Connection:
    """One configured system. `secrets` names the secret settings that are kept in the vault, never what they hold."""

    name: str
    connector: str
    settings: Mapping[str, Json]
    secrets: tuple[str, ...]
    paused: bool
    created_by: str
    created_at: datetime


class ConnectionsError(Exception):
    """A connection cannot be used as asked; the message names the fix."""


class UnknownConnectionError(ConnectionsError):
    """There is no connection of that name."""


class UnknownConnectorError(ConnectionsError):
    """No installed connector has that name, or it cannot be loaded."""


class InvalidConnectionError(ConnectionsError):
    """A name, a setting or a secret is wrong, or what is stored was altered."""


class PausedConnectionError(ConnectionsError):
    """The connection is paused: a person has to resume it."""


class GrantError(ConnectionsError):
    """Something outside the grant was asked of a far system; nothing was sent. The message names what is missing."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A tail for an error message: the existing name closest to a wrong one, or those there are."""
    names = sorted(known)
    if not names:
        return "; there is none yet"
    found = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {found[0]}?" if found else f"; there is {', '.join(names[:10])}"
