"""Exchanges the long-lived credentials of an org for a session, where they are kept: no worker sees them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from connectors.salesforce.client import Client
from connectors.salesforce.config import SalesforceConfig
from hub.sdk import Config, Context, Grant, Token


class SalesforceMinter:
    """JWT bearer, client credentials, or a password; what a session allows is what its user may do."""

    def scopes(self, config: Config, grant: Grant) -> Sequence[str]:  # noqa: ARG002
        """None: neither flow takes a scope, and the permission set that `plan` prints narrows the user instead."""
        return ()

    def mint(self, config: Config, grant: Grant, context: Context) -> Token:  # noqa: ARG002
        """A session of the configured user, and the host it is valid at."""
        assert isinstance(config, SalesforceConfig)
        with closing(Client(config, context)) as client:
            return client.log_in()
