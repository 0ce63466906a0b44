"""One field of a secret that is a JSON object, where a reference names one."""

from __future__ import annotations

import json

from hub.access.references.types import Reference
from hub.access.types import VaultError


def field_of(reference: Reference, text: str) -> str:
    """The whole text, or the field that the reference names."""
    if reference.field is None:
        return text
    try:
        found = json.loads(text)[reference.field]
    except (ValueError, KeyError, TypeError, IndexError):
        found = None
    if not isinstance(found, str):
        raise VaultError(f"the secret reference {reference}: what it names is no JSON with a text {reference.field}")
    return found
