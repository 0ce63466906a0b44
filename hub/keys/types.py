"""What the key ring asks of whoever holds the key-encryption key, and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

DIRECTLY = "hub.keys.directly"
"""In the `info` of a column: it is sealed directly under the key-encryption key, with the identity this tells."""


class KeyringError(Exception):
    """The key is missing, wrong or unsafe; the hub must not start. The message says what to put right."""


class SealedError(Exception):
    """A sealed value does not open: altered, moved to another place, or sealed under a key that is not ours."""


class Wrapped(NamedTuple):
    """A data key under some version of a key-encryption key."""

    version: int
    content: bytes


class KekProvider(Protocol):
    """Holds key-encryption keys, one per version, and never gives one out. `bound` is what a wrapped key is for.

    UnavailableError of `hub.sdk` where a key service does not answer.
    """

    @property
    def id(self) -> str:
        """Names the key over all its versions, at most 200 ASCII characters."""
        ...

    @property
    def place(self) -> str:
        """Where the key is, for the person who has to look after it."""
        ...

    @property
    def version(self) -> int:
        """The version that wraps now, looked up anew; every earlier one still unwraps."""
        ...

    def wrap(self, key: bytes, bound: Mapping[str, str]) -> Wrapped:
        """A 32-byte key, wrapped under the current version."""
        ...

    def unwrap(self, wrapped: Wrapped, bound: Mapping[str, str]) -> bytes:
        """The inverse of `wrap`. SealedError where anything differs."""
        ...

    def rewrap(self, wrapped: Wrapped, bound: Mapping[str, str]) -> Wrapped:
        """The same key under the current version; where a service holds the key, without leaving it."""
        ...

    def renew(self) -> int:
        """Makes a new version the current one; its number. KeyringError where versions are made elsewhere."""
        ...

    def forget(self, below: int) -> str | None:
        """Destroys the versions below one; what a person still has to do, where that is not in our hands."""
        ...


def directly(identity: Callable[[Mapping[str, Any]], Mapping[str, str]]) -> dict[str, object]:
    """The `info` of such a column; `identity` is told the row by the names of its columns."""
    return {DIRECTLY: identity}
