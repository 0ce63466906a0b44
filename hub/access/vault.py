"""The vault: secrets of connections as sealed versions, or as references to where they are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy.orm import Session

from hub.access import store
from hub.access.references import Reference, follow
from hub.access.types import VaultError
from hub.keys import KeyRing, SealedError
from hub.logs import conceal
from hub.sdk import Secret
from hub.settings import Settings

MAX_SECRET_BYTES = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", re.ASCII)
_OF_CONNECTION = re.compile(r"connection/(?P<connection>[^/]+)/(?P<setting>.+)")


class Vault:
    """The only way to a stored secret is `open_secret`, for handing it to a connector that is being opened."""

    def __init__(self, keys: KeyRing, settings: Settings, *, environment: Mapping[str, str] | None = None) -> None:
        self._keys = keys
        self._settings = settings
        self._environment = environment

    def put_secret(self, session: Session, name: str, secret: Secret | Reference) -> int:
        """A new version of a secret; the number of that version. A reference is tried at once: VaultError.

        The version before still opens, by its number, for `secret_overlap_seconds`; then it is destroyed.
        """
        if not _NAME.fullmatch(name):
            raise VaultError("a secret's name is letters, digits and . _ / -, at most 200 of them")
        if isinstance(secret, Reference):
            self._follow(name, secret)
            kind, plain = "reference", str(secret).encode()
        else:
            kind, plain = "stored", secret.reveal().encode()
        if not 1 <= len(plain) <= MAX_SECRET_BYTES:
            raise VaultError(f"{_told(name)} is empty or has more than {MAX_SECRET_BYTES} bytes")
        version = store.last_version(session, name) + 1
        sealed = self._keys.seal(plain, store.secret_identity(name, version, kind), directly=True)
        store.add_secret(session, name, version, kind, sealed)
        overlap = timedelta(seconds=self._settings.secret_overlap_seconds)
        store.replace_secret(session, name, version, store.moment(session) + overlap)
        return version

    def open_secret(self, session: Session, name: str, version: int | None = None) -> Secret:
        """The newest version, or one that was replaced and still opens.

        VaultError where it is missing, destroyed, altered, or not where its reference points; UnavailableError where
        the service that keeps it, or its key, does not answer.
        """
        found = store.secret(session, name, version)
        if found is None:
            which = "" if version is None else f", version {version}"
            raise VaultError(f"there is no {_told(name)}{which}; put it in place with `hub connections secret`")
        try:
            identity = store.secret_identity(name, found.version, found.kind)
            text = self._keys.open(found.sealed, identity, directly=True).decode()
        except SealedError as error:
            raise VaultError(f"{_told(name)} does not open: {error}") from None
        if found.kind == "stored":
            return conceal(Secret(text))
        reference = Reference.parse(text)
        assert reference is not None
        return self._follow(name, reference)

    def destroy_secret(self, session: Session, name: str) -> int:
        """Destroys every version; how many there were."""
        return store.destroy_secret(session, name)

    def overdue(self, session: Session) -> bool:
        """Whether a version that was replaced is past its time and not destroyed yet."""
        return store.overdue_secrets(session)

    def destroy_overdue(self, session: Session) -> list[tuple[str, int]]:
        """Destroys what was replaced and is past its time; name and version of each."""
        return store.destroy_overdue(session)

    def _follow(self, name: str, reference: Reference) -> Secret:
        try:
            text = follow(reference, self._settings, self._environment)
        except VaultError as error:
            raise VaultError(f"{_told(name)}: {error}") from error
        if len(text.encode()) > MAX_SECRET_BYTES:
            raise VaultError(f"{_told(name)}: what {reference} names has more than {MAX_SECRET_BYTES} bytes")
        return conceal(Secret(text))


def _told(name: str) -> str:
    """A secret as its connection's admin knows it."""
    found = _OF_CONNECTION.fullmatch(name)
    return f"secret {found['setting']} of connection {found['connection']}" if found else f"secret {name}"
