"""Secrets that are kept elsewhere and only referenced: one interface, a module for each kind of place."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hub.access.references.types import EXAMPLES, LOCAL, Reference
from hub.access.types import VaultError
from hub.sdk import UnauthorizedError
from hub.settings import Settings

__all__ = ["EXAMPLES", "Reference", "follow"]


def follow(reference: Reference, settings: Settings, environment: Mapping[str, str] | None = None) -> str:
    """What the reference leads to. VaultError names it and what to mend; UnavailableError where the place is away."""
    if reference.scheme not in LOCAL:
        _refuse_elsewhere(reference, settings)
    try:
        text = _followed(reference, settings, os.environ if environment is None else environment)
    except UnauthorizedError as error:
        raise VaultError(f"the secret reference {reference} cannot be followed: {error.message}") from error
    if not text:
        raise VaultError(f"the secret reference {reference} is empty")
    return text


def _followed(reference: Reference, settings: Settings, environment: Mapping[str, str]) -> str:
    # Libraries and clients of a service are imported where one of its references is followed.
    match reference.scheme:
        case "env":
            from hub.access.references.local import from_environment

            return from_environment(reference, settings.secret_prefix, environment)
        case "file":
            from hub.access.references.local import from_file

            return from_file(reference, settings.secrets)
        case "vault":
            from hub.access.references.vault import from_vault

            return from_vault(reference, settings)
        case "aws-sm":
            from hub.access.references.aws import from_aws

            return from_aws(reference, settings)
        case "gcp-sm":
            from hub.access.references.gcp import from_gcp

            return from_gcp(reference, settings)
        case "azure-kv":
            from hub.access.references.azure import from_azure

            return from_azure(reference, settings)
    raise VaultError(f"the secret reference {reference} is of no known kind")


def _refuse_elsewhere(reference: Reference, settings: Settings) -> None:
    """The hub's login may read more there than connections are meant to: what may be named is the operator's word."""
    allowed = settings.references.split()
    parts = reference.name.split("/")
    if ".." in parts or "." in parts or not str(reference).startswith(tuple(allowed) or ("\0",)):
        told = " or ".join(allowed) or f"none; to allow this one, let it hold {reference.scheme}:, better with a folder"
        raise VaultError(f"the secret reference {reference} is not one of those that HUB_REFERENCES allows: {told}")
