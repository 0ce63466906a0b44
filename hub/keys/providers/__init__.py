"""Where a key-encryption key can be: a file, a setting, AWS KMS or Vault. One interface, chosen by `HUB_KEK`."""

from __future__ import annotations

from hub.keys.types import KekProvider
from hub.settings import Settings


def open_provider(settings: Settings, kind: str, *, first: bool) -> KekProvider:
    """The provider of that kind. Only the very first start may make a key, and only a file is made by the hub.

    KeyringError says what is missing. Libraries are imported where they are used.
    """
    if kind == "environment":
        from hub.keys.providers.environment import EnvironmentKek

        return EnvironmentKek(settings.kek_keys)
    if kind == "aws-kms":
        from hub.keys.providers.aws import AwsKek

        return AwsKek(settings)
    if kind == "vault":
        from hub.keys.providers.vault import VaultKek

        return VaultKek(settings)
    from hub.keys.providers.file import FileKek

    if first and not settings.key_file.exists():
        return FileKek.create(settings.key_file)
    return FileKek.load(settings.key_file)
