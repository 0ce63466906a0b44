"""Key-encryption keys in Vault's transit engine: a derived key, so that the context decides which key it is.

Vault takes `associated_data` on encrypt and not on rewrap; a derived key takes its `context` on both.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from hub.keys.canonical import canonical
from hub.keys.services.vault import VaultService
from hub.keys.types import KeyringError, SealedError, Wrapped
from hub.sdk import UnauthorizedError
from hub.settings import Settings


class VaultKek:
    """One key of the transit engine, with the versions that Vault keeps."""

    def __init__(self, settings: Settings) -> None:
        mount, slash, name = settings.vault_transit.rpartition("/")
        if not slash:
            raise KeyringError("HUB_VAULT_TRANSIT: expected MOUNT/KEY, such as transit/hub")
        self._mount, self._name = mount, name
        self._service = VaultService(settings)
        self.id = f"vault/{mount}/{name}"
        self.place = f"the transit key {mount}/{name} of Vault"

    @property
    def version(self) -> int:
        """The newest version. KeyringError where the key is not derived: then nothing would bind what it wraps."""
        found = self._call("GET", f"keys/{self._name}", None)
        if found.get("derived") is not True:
            raise KeyringError(f"{self.place} is not derived; make one with `vault write -f … derived=true`")
        return int(found["latest_version"])

    def wrap(self, key: bytes, bound: Mapping[str, str]) -> Wrapped:
        """Encrypted by Vault under its newest version."""
        told = {"plaintext": _text(key), "context": _text(canonical(bound))}
        return _parsed(self._call("POST", f"encrypt/{self._name}", told)["ciphertext"])

    def unwrap(self, wrapped: Wrapped, bound: Mapping[str, str]) -> bytes:
        """Decrypted by Vault."""
        told = {"ciphertext": _written(wrapped), "context": _text(canonical(bound))}
        return base64.b64decode(self._call("POST", f"decrypt/{self._name}", told)["plaintext"])

    def rewrap(self, wrapped: Wrapped, bound: Mapping[str, str]) -> Wrapped:
        """Encrypted anew by Vault, without leaving it."""
        told = {"ciphertext": _written(wrapped), "context": _text(canonical(bound))}
        return _parsed(self._call("POST", f"rewrap/{self._name}", told)["ciphertext"])

    def renew(self) -> int:
        """Has Vault make a version."""
        self._call("POST", f"keys/{self._name}/rotate", {})
        return self.version

    def forget(self, below: int) -> str | None:
        """Has Vault refuse what is older; it keeps the versions until somebody trims the key."""
        self._call("POST", f"keys/{self._name}/config", {"min_decryption_version": below})
        return f"Vault refuses the versions below {below} now; trim {self.place} to destroy them"

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
        answer = self._service.call(method, f"{self._mount}/{path}", body)
        if answer.status == 400 and path.startswith(("decrypt/", "rewrap/")):
            raise SealedError("a sealed value was altered, moved, or sealed under another key")
        if answer.status >= 400:
            raise UnauthorizedError(f"Vault does not know {self.place} or refuses {path}: status {answer.status}")
        data = answer.body.get("data")
        return data if isinstance(data, dict) else {}


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _parsed(ciphertext: str) -> Wrapped:
    """`vault:v3:BASE64`, kept as bytes: the same bytes have several spellings in Base64."""
    _, version, coded = ciphertext.split(":", 2)
    return Wrapped(int(version.removeprefix("v")), base64.b64decode(coded))


def _written(wrapped: Wrapped) -> str:
    return f"vault:v{wrapped.version}:{_text(wrapped.content)}"
