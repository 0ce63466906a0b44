"""Key-encryption keys in a file that only the hub's user can read; for installations without a key service."""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from hub.keys.providers.local import KEY_BYTES, LocalKek
from hub.keys.types import KeyringError


class FileKek(LocalKek):
    """Versions of a key in one file, which is looked at again when it changed: others may have renewed the key."""

    def __init__(self, path: Path, key_id: str, keys: Mapping[int, bytes]) -> None:
        super().__init__(key_id, keys, f"the key file {path}")
        self._path = path
        self._seen = _stamp(path)

    @property
    def version(self) -> int:
        """The newest version in the file."""
        self._look()
        return max(self._keys)

    def held(self, version: int) -> bytes | None:
        """The key of a version, where the file has it now."""
        self._look()
        return self._keys.get(version)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The keys of a file. KeyringError where it is missing, readable by others, or no key file."""
        stamp = _stamp(path)
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
            if raw["format"] != 1 or not keys or any(len(key) != KEY_BYTES for key in keys.values()):
                raise ValueError("unknown format or length")
            made = cls(path, str(raw["id"]), keys)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise KeyringError(f"{path} is no key file; put it back from your backup") from None
        made._seen = stamp
        return made

    @classmethod
    def create(cls, path: Path) -> Self:
        """Makes the file, whole or not at all. Where another process was first, its key is the key."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = cls(path, secrets.token_hex(8), {1: os.urandom(KEY_BYTES)})
        draft = fresh._write_draft()
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        _sync_folder(path.parent)
        return cls.load(path)

    def renew(self) -> int:
        """A new version beside the old ones, durable when this returns."""
        self._look()
        number = max(self._keys) + 1
        self._replace({**self._keys, number: os.urandom(KEY_BYTES)})
        return number

    def forget(self, below: int) -> str | None:
        """The file without the versions below one. Copies of the file keep them."""
        self._look()
        self._replace({version: key for version, key in self._keys.items() if version >= below})
        return f"back up {self._path}, and destroy the backups from before, which open what was sealed before"

    def _look(self) -> None:
        stamp = _stamp(self._path)
        if stamp is None or stamp == self._seen:
            return
        try:
            found = type(self).load(self._path)
        except KeyringError:
            return  # half written, say: what was read before still holds, and the next start tells
        if found.id == self.id:
            self._keys, self._seen = found._keys, found._seen

    def _replace(self, keys: Mapping[int, bytes]) -> None:
        changed = type(self)(self._path, self.id, keys)
        changed._write_draft().replace(self._path)
        _sync_folder(self._path.parent)
        self._keys, self._seen = dict(keys), _stamp(self._path)

    def _write_draft(self) -> Path:
        keys = {str(version): base64.b64encode(key).decode("ascii") for version, key in self._keys.items()}
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(6)}")
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump({"format": 1, "id": self.id, "keys": keys}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        return draft


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when the file is replaced; None where it is not there, and what was read of it still holds."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _sync_folder(folder: Path) -> None:
    """A new name is durable only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
