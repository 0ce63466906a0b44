"""The hub's own settings, from HUB_* variables and hub.toml, checked once at start."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

PREFIX = "HUB_"
FILE_NAME = "hub.toml"
SECRET_SETTINGS = (
    "database_url",
    "broker_url",
    "audit_anchor_webhook",
    "audit_anchor_timestamp",
    "oidc_client_secret",
    "kek_keys",
)
"""Settings that may hold a password, so that each can also be named by a file: HUB_DATABASE_URL_FILE."""


KekKind = Literal["file", "environment", "aws-kms", "vault"]


class SettingsError(ValueError):
    """A setting is wrong; the message names the variable and what is expected."""


class Settings(BaseSettings):
    """What one installation of the hub is told from outside. Variables win over hub.toml; unknown names are refused."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True
    )

    home: Path = Field(Path(".hub"), description="Folder of everything the hub keeps on this machine.")
    database_url: str = Field(
        "", repr=False, description="The hub's own database: sqlite:///file or postgresql+psycopg://host/name."
    )
    broker_url: str | None = Field(
        None, repr=False, description="Redis (redis://, rediss://) or RabbitMQ (amqp://, amqps://); none: embedded."
    )
    segments: Path = Field(Path(), description="Folder of the decision segments, shared by all workers.")
    key_file: Path = Field(Path(), description="The file of the key-encryption keys; readable by the hub alone.")
    kek: KekKind = Field(
        "file", description="Where the key-encryption key is: file, environment, aws-kms (extra aws) or vault."
    )
    kek_before: KekKind | None = Field(
        None, description="Where it was before, until `hub keys rewrap` has moved everything to `HUB_KEK`."
    )
    kek_keys: str | None = Field(
        None, repr=False, description="With environment: the keys, as 1:BASE64,2:BASE64, each of 32 random bytes."
    )
    aws_kms_keys: str | None = Field(
        None, description="With aws-kms: ARNs of symmetric KMS keys, oldest first, with commas; the last one wraps."
    )
    vault_transit: str = Field(
        "transit/hub", description="With vault: mount and name of a derived key of the transit engine."
    )
    aws_region: str | None = Field(None, description="Region of AWS services.")
    aws_login: str | None = Field(
        None, description="Login at AWS: file:PATH of a credentials file, or role for the role that this machine has."
    )
    aws_kms_endpoint: str | None = Field(None, description="Address of KMS, where it is not the public one.")
    aws_secrets_endpoint: str | None = Field(
        None, description="Address of AWS Secrets Manager, where it is not the public one."
    )
    vault_url: str | None = Field(None, description="https address of HashiCorp Vault or OpenBao.")
    vault_login: str | None = Field(None, description="Login at Vault: file:PATH of a token, as Vault Agent renews it.")
    vault_namespace: str | None = Field(None, description="Namespace of Vault, where it has some.")
    gcp_login: str | None = Field(
        None, description="Login at Google Cloud: file:PATH of the JSON key of a service account."
    )
    gcp_secrets_endpoint: str = Field(
        "https://secretmanager.googleapis.com", description="Address of Google Secret Manager."
    )
    azure_login: str | None = Field(
        None, description="Login at Azure: file:PATH of JSON with tenant, client_id and client_secret."
    )
    azure_vault_url: str | None = Field(None, description="Address of the key vault: https://NAME.vault.azure.net.")
    azure_authority: str = Field(
        "https://login.microsoftonline.com", description="Where Azure's tokens are minted; another in another cloud."
    )
    service_authorities: Path | None = Field(
        None, description="PEM file of the authorities that these services are trusted by; none: the system's."
    )
    references: str = Field(
        "",
        description="How references to services may begin, separated by blanks: vault:kv/hub/ aws-sm:hub/",
    )
    secret_overlap_seconds: float = Field(
        86_400, ge=0, description="How long a secret that was replaced still opens for what began with it."
    )
    secrets: Path = Field(Path(), description="The only folder that a secret reference `file:` may name.")
    secret_prefix: str = Field(
        "HUB_SECRET_", min_length=4, description="How a variable must begin to be named by a secret reference `env:`."
    )
    environment: str = Field(
        "dev", pattern=r"^[a-z][a-z0-9]{1,11}$", description="Short name of this installation, part of its API keys."
    )
    production: bool = Field(False, description="Refuse what is only fit for trying the hub out.")
    replay_limit: int = Field(
        1000,
        ge=0,
        description="In production, more records than this are tried again only after another person approved.",
    )
    lease_socket: Path | None = Field(
        None,
        description="The Unix socket of the lease broker (`hub broker`), which alone holds the key; none: embedded.",
    )
    lease_api_socket: Path | None = Field(
        None,
        description="For `hub broker`: a second socket, for processes that answer requests; it opens less to them.",
    )
    lease_users: str = Field(
        "", pattern=r"^(\d+(,\d+)*)?$", description="For `hub broker`: ids of the users it answers, beside its own."
    )
    lease_to_api: bool = Field(
        False,
        description="For `hub broker`: lend a secret that mints no tokens to processes that answer requests, too.",
    )
    lease_seconds: float = Field(60, ge=1, le=3600, description="How long a worker holds a slice without a heartbeat.")
    record_seconds: float = Field(600, gt=0, description="Hard limit for one step of a slice; then the worker goes.")
    poll_seconds: float = Field(5.0, ge=0.05, le=300, description="How often a worker looks for work by itself.")
    page_rows: int = Field(
        25_000, ge=1, le=1_000_000, description="Records in one page, or fewer where a connector says so."
    )
    workers: int = Field(1, ge=1, le=256, description="Worker processes of one supervisor.")
    slices: int = Field(
        0,
        ge=0,
        le=1024,
        description="Parts of a full run, which as many workers can share; 0: one, or two for each of several"
        " HUB_WORKERS.",
    )
    followers: int = Field(4, ge=0, le=64, description="Live sources one supervisor follows, with a process for each.")
    worker_memory_mb: int = Field(1500, ge=200, description="A worker above this is replaced after its slice.")
    api_host: str = Field("127.0.0.1", min_length=1, description="Address the API listens on.")
    api_port: int = Field(8700, ge=0, le=65_535, description="Port the API listens on; 0 picks a free one.")
    api_rate: float = Field(200, gt=0, description="Requests a second that one caller may make of all API processes.")
    api_replicas: int = Field(
        1, ge=1, le=1000, description="API processes, each of which allows its share of a rate where no Redis counts."
    )
    api_socket: Path | None = Field(
        None, description="A Unix socket that the API listens on instead of a port; whoever is let in there is a proxy."
    )
    api_proxies: str = Field(
        "",
        description="Networks of the proxies before the API, separated by blanks: whom to believe where a request came "
        "from, and which certificate it came with.",
    )
    api_certificate: Literal["client-cert", "x-ssl-client-cert"] | None = Field(
        None,
        description="The header in which those proxies hand on a caller's certificate, and which they set or clear on "
        "every request: `client-cert` (RFC 9440) or nginx's `x-ssl-client-cert`; none: no certificate counts.",
    )
    public_url: str | None = Field(
        None, description="The https address at which browsers reach the hub, without a path; logins come back to it."
    )
    oidc_issuer: str | None = Field(
        None,
        description="Issuer of the OpenID Connect provider that people log in by: an https address, to the letter.",
    )
    oidc_client_id: str | None = Field(None, description="What the provider calls the hub.")
    oidc_client_secret: str | None = Field(
        None, repr=False, description="The secret that goes with it; none for a public client, which PKCE protects."
    )
    oidc_algorithms: str = Field(
        "RS256",
        pattern=r"^(RS|PS|ES)(256|384|512)( (RS|PS|ES)(256|384|512))*$|^EdDSA$",
        description="Algorithms that its ID tokens may be signed with, separated by blanks.",
    )
    oidc_scopes: str = Field(
        "openid profile", pattern=r"^openid( [!#-\[\]-~]+)*$", description="Scopes that are asked for at a login."
    )
    oidc_name_claim: str = Field(
        "preferred_username",
        min_length=1,
        description="The claim that names a person in the trail; fixed at first login.",
    )
    oidc_roles_claim: str = Field("groups", min_length=1, description="The claim that lists the groups of a person.")
    oidc_roles: dict[str, str] = Field(
        {}, description='JSON: group of the provider to role: {"hub-ops": "operator", "ward": "viewer mapping:risk"}.'
    )
    oidc_step_up_acr: str | None = Field(
        None, description="The acr that the provider must answer with when a person proves anew who they are."
    )
    oidc_authorities: Path | None = Field(
        None, description="PEM file of the authorities that the provider is trusted by; none: the system's."
    )
    private_hosts: str = Field(
        "",
        description="Hosts named in settings that may stand in a private network, separated by blanks.",
    )
    audit_anchor_file: Path | None = Field(
        None, description="A file outside the hub's reach to which checkpoints of the audit log are appended."
    )
    audit_anchor_webhook: str | None = Field(
        None, repr=False, description="An https address to which checkpoints of the audit log are posted."
    )
    audit_anchor_timestamp: str | None = Field(
        None, repr=False, description="The https address of a time-stamping authority (RFC 3161) for checkpoints."
    )
    audit_anchor_bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$",
        description="An S3 bucket with object lock, and a prefix: bucket/prefix/. Needs the extra `aws`.",
    )
    audit_anchor_bucket_endpoint: str | None = Field(
        None, description="The https address of another object store that speaks S3; none: AWS's own."
    )
    audit_anchor_bucket_days: int = Field(
        2192, ge=1, le=36_500, description="For how many days a checkpoint in the bucket is locked; six years."
    )
    audit_anchor_authorities: Path | None = Field(
        None, description="PEM file of the authorities that those addresses are trusted by; none: the system's."
    )
    audit_anchor_seconds: float = Field(
        60, ge=1, le=86_400, description="The least time between two checkpoints that are put outside."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["text", "json"] = Field("text", description="One line of text, or one JSON object, per entry.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is passed in, then the environment, then hub.toml of the working directory."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(FILE_NAME))

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value.startswith(("postgresql://", "postgres://")):
            value = "postgresql+psycopg://" + value.partition("://")[2]
        if value and not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("expected sqlite:///file or postgresql+psycopg://user@host/name")
        return value

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str | None) -> str | None:
        if value and not value.startswith(("redis://", "rediss://", "amqp://", "amqps://")):
            raise ValueError("expected redis://, rediss://, amqp:// or amqps://")
        return value or None

    @field_validator(
        "audit_anchor_webhook",
        "audit_anchor_timestamp",
        "audit_anchor_bucket_endpoint",
        "aws_kms_endpoint",
        "aws_secrets_endpoint",
        "vault_url",
        "gcp_secrets_endpoint",
        "azure_vault_url",
        "azure_authority",
    )
    @classmethod
    def _secure_address(cls, value: str | None) -> str | None:
        if value and not value.startswith("https://"):
            raise ValueError("expected an https:// address")
        if value and "@" in value.partition("://")[2].partition("/")[0]:
            raise ValueError("expected an address with no login in it")
        return value or None

    @field_validator("oidc_issuer", "public_url")
    @classmethod
    def _secure_place(cls, value: str | None) -> str | None:
        if value and (not value.startswith("https://") or "?" in value or "#" in value or "@" in value):
            raise ValueError("expected an https:// address without a login, a query or a fragment")
        return value or None

    @model_validator(mode="before")
    @classmethod
    def _place_in_home(cls, raw: Mapping[str, object]) -> dict[str, object]:
        """Defaults that hang on `home`, and every path made absolute while the working directory is the right one."""
        placed = dict(raw)
        home = Path(str(placed.get("home") or ".hub")).absolute()
        placed["home"] = home
        for name, default in (("segments", "segments"), ("key_file", "keys/kek.json"), ("secrets", "secrets")):
            placed[name] = Path(str(placed.get(name) or home / default)).absolute()
        for name in ("lease_socket", "lease_api_socket"):
            if placed.get(name):
                placed[name] = Path(str(placed[name])).absolute()
        placed["database_url"] = placed.get("database_url") or f"sqlite:///{home / 'hub.db'}"
        return placed

    @field_validator("api_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        for each in value.split():
            ip_network(each)
        return value

    @property
    def address(self) -> str:
        """Where the hub is reached: the issuer of its tokens, and whom they are for."""
        return (self.public_url or f"http://{self.api_host}:{self.api_port}").rstrip("/")

    @model_validator(mode="after")
    def _production_is_strict(self) -> Self:
        if self.production and self.environment == "dev":
            raise ValueError("HUB_ENVIRONMENT must name the installation when HUB_PRODUCTION is on")
        if self.oidc_issuer and not (self.oidc_client_id and self.public_url):
            raise ValueError("HUB_OIDC_ISSUER needs HUB_OIDC_CLIENT_ID and HUB_PUBLIC_URL beside it")
        if self.poll_seconds > self.lease_seconds:
            raise ValueError("HUB_POLL_SECONDS must not be above HUB_LEASE_SECONDS")
        return self

    def allows_private(self, url: str) -> bool:
        """Whether the host of an address that a setting names may stand in a private network."""
        return (urlsplit(url).hostname or "") in self.private_hosts.split()


def load_settings(**given: object) -> Settings:
    """The settings of this process; `given` win over everything. SettingsError says in one sentence what is wrong."""
    _refuse_misspelt(os.environ)
    try:
        return Settings(**{**_read_files(os.environ), **given})  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{FILE_NAME} is not TOML: {error}") from None


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    reason = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return reason
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"{FILE_NAME}: {name} is not a setting{_nearest(name, list(Settings.model_fields))}"
    return f"{variable(name)}: {reason[0].lower()}{reason[1:]}"


def _refuse_misspelt(environment: Mapping[str, str]) -> None:
    """A misspelt variable would silently leave the default, say another database: near misses are refused."""
    known = [variable(name) for name in Settings.model_fields]
    allowed = {*known, *(f"{variable(name)}_FILE" for name in SECRET_SETTINGS)}
    for name in environment:
        if not name.startswith(PREFIX) or name in allowed or name.startswith(("HUB_SECRET_", "HUB_TEST_")):
            continue
        if nearest := _nearest(name, known):
            raise SettingsError(f"{name} is not a setting{nearest}")


def _nearest(name: str, known: list[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
    return f"; did you mean {found[0]}?" if found else ""


def _read_files(environment: Mapping[str, str]) -> dict[str, object]:
    """The settings given as HUB_…_FILE, which is how a container is handed a password."""
    read: dict[str, object] = {}
    for name in SECRET_SETTINGS:
        path = environment.get(f"{variable(name)}_FILE")
        if not path:
            continue
        if environment.get(variable(name)):
            raise SettingsError(f"{variable(name)} and {variable(name)}_FILE are both set; set one of them")
        try:
            read[name] = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"{variable(name)}_FILE: cannot read {path}: {error.strerror}") from None
    return read
