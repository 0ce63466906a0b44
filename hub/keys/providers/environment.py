"""Key-encryption keys in a setting, for platforms that hand secrets to a process as variables."""

from __future__ import annotations

import base64
import binascii

from hub.keys.providers.local import KEY_BYTES, LocalKek
from hub.keys.types import KeyringError

NAME = "HUB_KEK_KEYS"
EXPECTED = (
    f"{NAME}: expected 1:BASE64 or 1:BASE64,2:BASE64, each {KEY_BYTES} random bytes, as `openssl rand -base64 32` makes"
)


class EnvironmentKek(LocalKek):
    """The versions that the setting holds; the highest one wraps."""

    def __init__(self, text: str | None) -> None:
        super().__init__("environment", _keys(text), NAME)

    def renew(self) -> int:
        """A process cannot change what it was started with."""
        raise KeyringError(f"{NAME} holds no newer version: add one after a comma, start the processes anew, rotate")


def _keys(text: str | None) -> dict[int, bytes]:
    if not text:
        raise KeyringError(f"HUB_KEK is environment, but {EXPECTED.replace(': ', ' is empty: ', 1)}")
    keys: dict[int, bytes] = {}
    for each in text.split(","):
        number, colon, key = each.strip().partition(":")
        try:
            version, raw = int(number), base64.b64decode(key, validate=True)
        except (ValueError, binascii.Error):
            raise KeyringError(EXPECTED) from None
        if not colon or version < 1 or version in keys or len(raw) != KEY_BYTES:
            raise KeyringError(EXPECTED)
        keys[version] = raw
    return keys
