"""What the key ring asks of whoever holds the key-encryption key, and how it fails."""

from __future__ import annotations

from typing import Protocol


class KeyringError(Exception):
    """The key is missing, wrong or unsafe; the hub must not start. The message says what to put right."""


class SealedError(Exception):
    """A sealed value does not open: altered, moved to another place, or sealed under a key that is not ours."""


class KekProvider(Protocol):
    """Holds key-encryption keys, one per version, and never gives one out. AAD binds what a wrapped key is for."""

    @property
    def id(self) -> str:
        """Names the key over all its versions, at most 32 ASCII characters."""
        ...

    @property
    def version(self) -> int:
        """The version that wraps now; every earlier one still unwraps."""
        ...

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        """A 32-byte key, wrapped under the current version."""
        ...

    def unwrap(self, wrapped: bytes, version: int, aad: bytes) -> bytes:
        """The inverse of `wrap`. SealedError where anything differs."""
        ...
