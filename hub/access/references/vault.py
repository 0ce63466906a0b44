"""References to the key-value engine of HashiCorp Vault, version 2: `vault:MOUNT/PATH#FIELD`."""

from __future__ import annotations

from hub.access.references.types import EXAMPLES, Reference
from hub.access.types import VaultError
from hub.keys.services.vault import VaultService
from hub.settings import Settings


def from_vault(reference: Reference, settings: Settings) -> str:
    """The field of the newest version."""
    mount, _, path = reference.name.partition("/")
    if not path or reference.field is None:
        raise VaultError(f"the secret reference {reference}: expected MOUNT/PATH#FIELD, as in {EXAMPLES['vault']}")
    answer = VaultService(settings).call("GET", f"{mount}/data/{path}")
    held = answer.body.get("data") or {}
    fields = held.get("data") if answer.status == 200 else None
    if not isinstance(fields, dict):
        raise VaultError(f"the secret reference {reference} names nothing in Vault; write it there with `vault kv put`")
    found = fields.get(reference.field)
    if not isinstance(found, str):
        raise VaultError(f"the secret reference {reference}: what Vault holds has no text field {reference.field}")
    return found
