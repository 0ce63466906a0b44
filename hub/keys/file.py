"""Key-encryption keys in a file that only the hub's user can read; for installations without a key service."""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.keys.types import KeyringError, SealedError

SALT_BYTES = 16
NONCE_BYTES = 12


class FileKek:
    """One or more versions of a 256-bit key.

    Each wrapping uses a key derived with a fresh 128-bit salt, so that random nonces never come near their limit of
    2^32 uses, which a busy hub would reach in days.
    """

    def __init__(self, path: Path, key_id: str, keys: dict[int, bytes]) -> None:
        self._path = path
        self._keys = keys
        self.id = key_id
        self.version = max(keys)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The keys of a file. KeyringError where it is missing, readable by others, or no key file."""
        try:
            mode = path.stat().st_mode
            text = path.read_text(encoding="ascii")
        except FileNotFoundError:
            raise KeyringError(f"the key file {path} is missing; put it back from your backup") from None
        except (OSError, UnicodeDecodeError) as error:
            raise KeyringError(f"the key file {path} cannot be read: {error}") from None
        if stat.S_IMODE(mode) & 0o077:
            raise KeyringError(f"the key file {path} can be read by others; run chmod 600 on it")
        try:
            raw = json.loads(text)
            keys = {int(version): base64.b64decode(key, validate=True) for version, key in raw["keys"].items()}
            if raw["format"] != 1 or not keys or any(len(key) != 32 for key in keys.values()):
                raise ValueError("unknown format or length")
            return cls(path, str(raw["id"]), keys)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise KeyringError(f"{path} is no key file; put it back from your backup") from None

    @classmethod
    def create(cls, path: Path) -> Self:
        """Makes the file, whole or not at all. Where another process was first, its key is the key."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = cls(path, secrets.token_hex(8), {1: os.urandom(32)})
        draft = fresh._write_draft()
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        _sync_folder(path.parent)
        return cls.load(path)

    def renew(self) -> Self:
        """A new version beside the old ones, durable when this returns."""
        keys = {**self._keys, self.version + 1: os.urandom(32)}
        renewed = type(self)(self._path, self.id, keys)
        renewed._write_draft().replace(self._path)
        _sync_folder(self._path.parent)
        return renewed

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        """Salt, nonce and ciphertext of a data key."""
        drawn = os.urandom(SALT_BYTES + NONCE_BYTES)
        derived = hmac.digest(self._keys[self.version], b"hub.keys.wrap\x00" + drawn[:SALT_BYTES], "sha256")
        return drawn + AESGCM(derived).encrypt(drawn[SALT_BYTES:], key, aad)

    def unwrap(self, wrapped: bytes, version: int, aad: bytes) -> bytes:
        """The data key. SealedError where anything differs."""
        held = self._keys.get(version) or self._reloaded().get(version)
        if held is None:
            raise SealedError(f"sealed under version {version} of key {self.id}, which the key file does not hold")
        derived = hmac.digest(held, b"hub.keys.wrap\x00" + wrapped[:SALT_BYTES], "sha256")
        start = SALT_BYTES + NONCE_BYTES
        try:
            return AESGCM(derived).decrypt(wrapped[SALT_BYTES:start], wrapped[start:], aad)
        except (InvalidTag, ValueError):
            raise SealedError("a sealed value was altered, moved, or sealed under another key") from None

    def _reloaded(self) -> dict[int, bytes]:
        """Another process may have renewed the key since we read the file. What seals here stays until a restart."""
        found = type(self).load(self._path)
        if found.id == self.id:
            self._keys = found._keys
        return self._keys

    def _write_draft(self) -> Path:
        keys = {str(version): base64.b64encode(key).decode("ascii") for version, key in self._keys.items()}
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(6)}")
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump({"format": 1, "id": self.id, "keys": keys}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        return draft


def _sync_folder(folder: Path) -> None:
    """A new name is durable only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
