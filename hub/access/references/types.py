"""A secret that is kept outside the hub: where, and how one that cannot be found is told of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

EXAMPLES = {
    "env": "env:HUB_SECRET_CRM",
    "file": "file:crm/password",
    "vault": "vault:kv/hub/crm#password",
    "aws-sm": "aws-sm:hub/crm#password",
    "gcp-sm": "gcp-sm:my-project/crm-password",
    "azure-kv": "azure-kv:crm-password",
}
LOCAL = ("env", "file")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is kept outside the hub: `env:HUB_SECRET_CRM`, `vault:kv/hub/crm#password`.

    What follows `#` is the field of a secret that has several.
    """

    scheme: str
    place: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.place}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The reference that a text is, or None where it is something else."""
        scheme, colon, place = text.partition(":")
        return cls(scheme, place) if colon and place and scheme in EXAMPLES else None

    @property
    def name(self) -> str:
        """The place without the field."""
        return self.place.partition("#")[0]

    @property
    def field(self) -> str | None:
        """The field of the secret, where one is named."""
        return self.place.partition("#")[2] or None
