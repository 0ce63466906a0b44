"""Settings of a connection to one Salesforce org, and what this connector is, without importing any client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from hub.sdk import Config, Limits, Right, Secret, Spec, setting

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "jwt": ("client_id", "private_key", "username"),
    "client_credentials": ("client_id", "client_secret"),
    "password": ("username", "password"),
}
_HOST = r"^[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?(?::\d{1,5})?$"


class SalesforceConfig(Config):
    """Which org, as whom, and how much of its daily calls may be used."""

    host: str = setting(title="My Domain host, such as acme.my.salesforce.com", max_length=255, pattern=_HOST)
    login: Literal["jwt", "client_credentials", "password"] = setting(title="How to log in")
    client_id: str | None = setting(None, title="Consumer key of the connected app", max_length=512)
    client_secret: Secret | None = setting(None, title="Consumer secret of the connected app")
    private_key: Secret | None = setting(None, title="Private key (PEM) whose certificate the connected app holds")
    username: str | None = setting(None, title="User name of the integration user", max_length=255)
    password: Secret | None = setting(None, title="Password, for orgs that take no other login")
    security_token: Secret | None = setting(None, title="Security token that goes with the password")
    sandbox: bool = setting(False, title="The org is a sandbox: its logins are judged by test.salesforce.com")
    api_version: str = setting("62.0", title="API version that is spoken", pattern=r"^\d{2,3}\.0$")
    objects: tuple[str, ...] = setting((), title="Objects to show (default: all that can be queried)")
    reserve_percent: int = setting(20, title="Share of the org's daily calls that is never touched", ge=0, le=95)
    reads: Literal["auto", "rest", "bulk"] = setting(
        "auto", title="How to read: by what costs fewer calls, or always so"
    )
    writes: Literal["auto", "collections", "bulk"] = setting("auto", title="How to write: by size, or always so")
    pass_alerts: bool = setting(True, title="Write although a duplicate rule alerts; one that blocks always does")
    late_seconds: int = setting(120, title="Seconds a transaction may be in flight after its stamp", ge=0, le=86_400)
    read_only: bool = setting(False, title="Never write, whatever the rights")
    provision: bool = setting(False, title="May create score fields and a permission set for them")
    events: bool = setting(False, title="Follow change events, where the org sends them (needs the extra grpc)")
    pubsub: str = setting(
        "api.pubsub.salesforce.com:7443", title="Host of the Pub/Sub API", max_length=255, pattern=_HOST
    )
    quiet_seconds: int = setting(
        300, title="Seconds without a word after which an event stream is opened anew", ge=1, le=3600
    )
    authority: str | None = setting(None, title="File of the certificate authority (default: the system's)")
    private: bool = setting(
        False, title="The host may stand in a private network, as a rehearsal twin does", reaches_private=True
    )
    connect_seconds: int = setting(10, title="Seconds to wait for a connection", ge=1, le=300)
    call_seconds: int = setting(120, title="Seconds one call may take", ge=1, le=900)

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002
        """Says which setting is missing or out of place for this way to log in."""
        for name in _NEEDED[self.login]:
            if not getattr(self, name):
                raise ValueError(f"{name}: needed to log in by {self.login}")
        useful = {*_NEEDED[self.login], *({"security_token", "client_id", "client_secret"} if self._old else ())}
        for name in ("client_id", "client_secret", "private_key", "username", "password", "security_token"):
            if getattr(self, name) and name not in useful:
                raise ValueError(f"{name}: has no meaning when logging in by {self.login}; leave it out")
        if not self.private and not self.pubsub.lower().partition(":")[0].endswith(".salesforce.com"):
            raise ValueError("pubsub: not a host of Salesforce's, such as api.pubsub.salesforce.com:7443")
        if ".lightning." in self.host.lower():
            raise ValueError(
                "host: sessions of the Lightning host are not valid for the API; use the my.salesforce.com one"
            )
        if self.read_only and self.provision:
            raise ValueError("read_only: contradicts provision; set one of them")

    @property
    def _old(self) -> bool:
        return self.login == "password"


SPEC = Spec(
    name="salesforce",
    title="Salesforce",
    kind="crm",
    config=SalesforceConfig,
    factory="connectors.salesforce.connector:SalesforceConnector",
    minter="connectors.salesforce.minter:SalesforceMinter",
    roles=frozenset({"source", "destination", "live", "provisioner"}),
    rights=(
        Right("read", "reads the objects and fields a mapping uses"),
        Right("update", "writes the score fields", mandatory=False),
        Right("create", "makes new records, where a mapping does", mandatory=False),
        Right("api", "may use the API at all"),
    ),
    limits=Limits(page_rows=10_000, write_rows=10_000, lookup_keys=10_000),
)
