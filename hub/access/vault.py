"""The vault: secrets of connections as sealed versions, or as references to where they are kept."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlalchemy.orm import Session

from hub.access import store
from hub.access.types import Actor, ActorKind, Caller, Scope, VaultError
from hub.keys import KeyRing, SealedError
from hub.sdk import Secret
from hub.settings import Settings

MAX_SECRET_BYTES = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is kept outside the hub: `env:HUB_SECRET_CRM` or `file:crm/password`."""

    scheme: str
    place: str

    SCHEMES = ("env", "file")

    def __str__(self) -> str:
        return f"{self.scheme}:{self.place}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The reference that a text is, or None where it is something else."""
        scheme, colon, place = text.partition(":")
        return cls(scheme, place) if colon and place and scheme in cls.SCHEMES else None


class Vault:
    """The only way to a stored secret is `open_secret`, for handing it to a connector that is being opened."""

    def __init__(self, keys: KeyRing, settings: Settings, *, environment: Mapping[str, str] | None = None) -> None:
        self._keys = keys
        self._folder = settings.secrets
        self._prefix = settings.secret_prefix
        self._environment = os.environ if environment is None else environment

    def put_secret(self, session: Session, name: str, secret: Secret | Reference) -> int:
        """A new version of a secret; the number of that version. A reference is tried at once: VaultError."""
        if not _NAME.fullmatch(name):
            raise VaultError("a secret's name is letters, digits and . _ / -, at most 200 of them")
        if isinstance(secret, Reference):
            self._follow(secret)
            kind, plain = "reference", str(secret).encode()
        else:
            kind, plain = "stored", secret.reveal().encode()
        if not 1 <= len(plain) <= MAX_SECRET_BYTES:
            raise VaultError(f"secret {name} is empty or has more than {MAX_SECRET_BYTES} bytes")
        version = store.last_version(session, name) + 1
        store.add_secret(session, name, version, kind, self._keys.seal(plain, _identity(name, version, kind)))
        return version

    def open_secret(self, session: Session, name: str) -> Secret:
        """The newest version. VaultError where it is missing, destroyed, altered, or not where its reference points."""
        found = store.secret(session, name)
        if found is None:
            raise VaultError(f"there is no secret {name}; put it in place first")
        version, kind, sealed = found
        try:
            text = self._keys.open(sealed, _identity(name, version, kind)).decode()
        except SealedError as error:
            raise VaultError(f"secret {name} does not open: {error}") from None
        if kind == "stored":
            return Secret(text)
        reference = Reference.parse(text)
        assert reference is not None
        return self._follow(reference)

    def destroy_secret(self, session: Session, name: str) -> int:
        """Destroys every version; how many there were."""
        return store.destroy_secret(session, name)

    def _follow(self, reference: Reference) -> Secret:
        text = self._from_environment(reference) if reference.scheme == "env" else self._from_file(reference)
        if not text:
            raise VaultError(f"the secret reference {reference} is empty")
        return Secret(text)

    def _from_environment(self, reference: Reference) -> str:
        # Any variable at all would let whoever may write a connection send the hub's own credentials to himself.
        if not reference.place.startswith(self._prefix):
            raise VaultError(f"the secret reference {reference} must name a variable that begins with {self._prefix}")
        try:
            return self._environment[reference.place]
        except KeyError:
            raise VaultError(f"the secret reference {reference} names a variable that is not set") from None

    def _from_file(self, reference: Reference) -> str:
        root = self._folder.resolve()
        path = (root / Path(reference.place)).resolve()
        if not path.is_relative_to(root):
            raise VaultError(f"the secret reference {reference} points outside the folder HUB_SECRETS")
        try:
            if path.stat().st_size > MAX_SECRET_BYTES:
                raise VaultError(f"the secret reference {reference} has more than {MAX_SECRET_BYTES} bytes")
            return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError):
            raise VaultError(f"the secret reference {reference} names a file that cannot be read") from None


def local_caller(name: str) -> Caller:
    """Whoever runs the command line on the hub's own machine: he holds its key and its database already."""
    return Caller(Actor(ActorKind.HUMAN, name), name, frozenset({Scope.ADMIN, Scope.APPROVE}))


def _identity(name: str, version: int, kind: str) -> dict[str, str]:
    return {"table": "access_secret", "name": name, "version": str(version), "kind": kind}
