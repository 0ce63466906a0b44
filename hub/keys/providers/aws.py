"""Key-encryption keys in AWS KMS, which never leave it; what a data key is for stands in its encryption context."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from hub.keys.services.aws import aws_client, aws_errors
from hub.keys.types import KeyringError, SealedError, Wrapped
from hub.settings import Settings

OTHER = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


class AwsKek:
    """KMS keys by their place in `HUB_AWS_KMS_KEYS`: the first is version 1, the last one wraps.

    A key that KMS itself rotates every year stays one version here: KMS knows what it encrypted under which.
    """

    id = "aws-kms"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._names = [each.strip() for each in (settings.aws_kms_keys or "").split(",") if each.strip()]
        if not self._names:
            raise KeyringError("HUB_AWS_KMS_KEYS is empty: expected the ARN of a symmetric KMS key")

    @property
    def place(self) -> str:
        """The key that wraps."""
        return f"the KMS key {self._names[-1]}"

    @property
    def version(self) -> int:
        """How many keys the setting names."""
        return len(self._names)

    def wrap(self, key: bytes, bound: Mapping[str, str]) -> Wrapped:
        """KMS `Encrypt`."""
        with aws_errors(f"encrypt under {self._names[-1]}"):
            answer = self._client.encrypt(KeyId=self._names[-1], Plaintext=key, EncryptionContext=dict(bound))
        return Wrapped(self.version, answer["CiphertextBlob"])

    def unwrap(self, wrapped: Wrapped, bound: Mapping[str, str]) -> bytes:
        """KMS `Decrypt`, under the very key of that version."""
        name = self._named(wrapped.version)
        with aws_errors(f"decrypt under {name}"):
            try:
                answer = self._client.decrypt(KeyId=name, CiphertextBlob=wrapped.content, EncryptionContext=dict(bound))
            except self._client.exceptions.ClientError as error:
                raise _told(error) from None
        return bytes(answer["Plaintext"])

    def rewrap(self, wrapped: Wrapped, bound: Mapping[str, str]) -> Wrapped:
        """KMS `ReEncrypt`: the data key is never outside KMS."""
        name = self._named(wrapped.version)
        with aws_errors(f"re-encrypt from {name} to {self._names[-1]}"):
            try:
                answer = self._client.re_encrypt(
                    CiphertextBlob=wrapped.content,
                    SourceKeyId=name,
                    SourceEncryptionContext=dict(bound),
                    DestinationKeyId=self._names[-1],
                    DestinationEncryptionContext=dict(bound),
                )
            except self._client.exceptions.ClientError as error:
                raise _told(error) from None
        return Wrapped(self.version, answer["CiphertextBlob"])

    def renew(self) -> int:
        """KMS keys are made by who owns the account."""
        raise KeyringError(
            "HUB_AWS_KMS_KEYS names no newer key: add one after a comma, start the processes anew, rotate"
        )

    def forget(self, below: int) -> str | None:
        """Deleting a KMS key takes a week at least, and is not for the hub."""
        old = ", ".join(self._names[: below - 1])
        return (
            f"schedule the deletion of {old} in KMS; keep the place in HUB_AWS_KMS_KEYS, which counts" if old else None
        )

    @cached_property
    def _client(self) -> Any:
        return aws_client(self._settings, "kms", self._settings.aws_kms_endpoint)

    def _named(self, version: int) -> str:
        if not 1 <= version <= len(self._names):
            raise SealedError(f"sealed under version {version} of the KMS keys, which HUB_AWS_KMS_KEYS does not name")
        return self._names[version - 1]


def _told(error: Any) -> Exception:
    """Our own error where KMS says that this is not what it encrypted; else what it was."""
    if error.response.get("Error", {}).get("Code") in OTHER:
        return SealedError("a sealed value was altered, moved, or sealed under another key")
    return error  # type: ignore[no-any-return]
