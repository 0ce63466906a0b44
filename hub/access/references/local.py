"""References to a variable of this process, and to a file in the one folder that is meant for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hub.access.references.types import Reference
from hub.access.types import VaultError

MOST_BYTES = 64 * 1024


def from_environment(reference: Reference, prefix: str, environment: Mapping[str, str]) -> str:
    """The value of the variable."""
    # Any variable at all would let whoever may write a connection send the hub's own credentials to himself.
    if not reference.place.startswith(prefix):
        raise VaultError(f"the secret reference {reference} must name a variable that begins with {prefix}")
    try:
        return environment[reference.place]
    except KeyError:
        raise VaultError(f"the secret reference {reference} names a variable that is not set") from None


def from_file(reference: Reference, folder: Path) -> str:
    """The content of the file, without the end of its line."""
    root = folder.resolve()
    path = (root / Path(reference.place)).resolve()
    if not path.is_relative_to(root):
        raise VaultError(f"the secret reference {reference} points outside the folder HUB_SECRETS")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise VaultError(f"the secret reference {reference} has more than {MOST_BYTES} bytes")
        return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError):
        raise VaultError(f"the secret reference {reference} names a file that cannot be read") from None
