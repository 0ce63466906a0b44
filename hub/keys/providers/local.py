"""Key-encryption keys that this process holds itself, whoever gave them to it."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.keys.canonical import canonical
from hub.keys.types import KeyringError, SealedError, Wrapped

KEY_BYTES = 32
SALT_BYTES = 16
NONCE_BYTES = 12


class LocalKek:
    """One or more versions of a 256-bit key.

    Each wrapping uses a key derived with a fresh 128-bit salt, so that random nonces never come near their limit of
    2^32 uses, which a busy hub would reach in days.
    """

    def __init__(self, key_id: str, keys: Mapping[int, bytes], place: str) -> None:
        self._keys = dict(keys)
        self.id = key_id
        self.place = place

    @property
    def version(self) -> int:
        """The version that wraps now."""
        return max(self._keys)

    def held(self, version: int) -> bytes | None:
        """The key of a version."""
        return self._keys.get(version)

    def wrap(self, key: bytes, bound: Mapping[str, str]) -> Wrapped:
        """Salt, nonce and ciphertext of a data key."""
        version = self.version
        held = self.held(version)
        assert held is not None
        drawn = os.urandom(SALT_BYTES + NONCE_BYTES)
        cipher = AESGCM(_derived(held, drawn[:SALT_BYTES]))
        return Wrapped(version, drawn + cipher.encrypt(drawn[SALT_BYTES:], key, self._aad(version, bound)))

    def unwrap(self, wrapped: Wrapped, bound: Mapping[str, str]) -> bytes:
        """The data key. SealedError where anything differs."""
        version, content = wrapped
        held = self.held(version)
        if held is None:
            raise SealedError(f"sealed under version {version} of key {self.id}, which {self.place} does not hold")
        start = SALT_BYTES + NONCE_BYTES
        try:
            cipher = AESGCM(_derived(held, content[:SALT_BYTES]))
            return cipher.decrypt(content[SALT_BYTES:start], content[start:], self._aad(version, bound))
        except (InvalidTag, ValueError):
            raise SealedError("a sealed value was altered, moved, or sealed under another key") from None

    def rewrap(self, wrapped: Wrapped, bound: Mapping[str, str]) -> Wrapped:
        """The same data key under the current version."""
        return self.wrap(self.unwrap(wrapped, bound), bound)

    def renew(self) -> int:
        """Whoever gave us the keys makes the next one too."""
        raise KeyringError(f"a new version of the key is not the hub's to make: {self.place}")

    def forget(self, below: int) -> str | None:
        """Whoever gave us the keys takes them away."""
        kept = {version: key for version, key in self._keys.items() if version >= below}
        self._keys = kept or self._keys
        return f"take the versions below {below} out of {self.place}"

    def _aad(self, version: int, bound: Mapping[str, str]) -> bytes:
        return canonical({"kek": self.id, "version": version, "bound": bound})


def _derived(key: bytes, salt: bytes) -> bytes:
    return hmac.digest(key, b"hub.keys.wrap\x00" + salt, "sha256")
