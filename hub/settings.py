"""The hub's own settings, from HUB_* variables and hub.toml, checked once at start."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

PREFIX = "HUB_"
FILE_NAME = "hub.toml"
SECRET_SETTINGS = ("database_url", "broker_url", "audit_anchor_webhook", "audit_anchor_timestamp")
"""Settings that may hold a password, so that each can also be named by a file: HUB_DATABASE_URL_FILE."""


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
    secrets: Path = Field(Path(), description="The only folder that a secret reference `file:` may name.")
    secret_prefix: str = Field(
        "HUB_SECRET_", min_length=4, description="How a variable must begin to be named by a secret reference `env:`."
    )
    environment: str = Field(
        "dev", pattern=r"^[a-z][a-z0-9]{1,11}$", description="Short name of this installation, part of its API keys."
    )
    production: bool = Field(False, description="Refuse what is only fit for trying the hub out.")
    lease_seconds: float = Field(60, ge=1, le=3600, description="How long a worker holds a slice without a heartbeat.")
    record_seconds: float = Field(600, gt=0, description="Hard limit for one step of a slice; then the worker goes.")
    poll_seconds: float = Field(5.0, ge=0.05, le=300, description="How often a worker looks for work by itself.")
    page_rows: int = Field(25_000, ge=1, le=1_000_000, description="Records in one page.")
    workers: int = Field(1, ge=1, le=256, description="Worker processes of one supervisor.")
    followers: int = Field(4, ge=0, le=64, description="Live sources one supervisor follows, with a process for each.")
    worker_memory_mb: int = Field(1500, ge=200, description="A worker above this is replaced after its slice.")
    api_host: str = Field("127.0.0.1", min_length=1, description="Address the API listens on.")
    api_port: int = Field(8700, ge=0, le=65_535, description="Port the API listens on; 0 picks a free one.")
    api_rate: float = Field(200, gt=0, description="Requests a second that one API key may make of one API process.")
    audit_anchor_file: Path | None = Field(
        None, description="A file outside the hub's reach to which checkpoints of the audit log are appended."
    )
    audit_anchor_webhook: str | None = Field(
        None, repr=False, description="An https address to which checkpoints of the audit log are posted."
    )
    audit_anchor_timestamp: str | None = Field(
        None, repr=False, description="The https address of a time-stamping authority (RFC 3161) for checkpoints."
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

    @field_validator("audit_anchor_webhook", "audit_anchor_timestamp")
    @classmethod
    def _secure_address(cls, value: str | None) -> str | None:
        if value and not value.startswith("https://"):
            raise ValueError("expected an https:// address")
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
        placed["database_url"] = placed.get("database_url") or f"sqlite:///{home / 'hub.db'}"
        return placed

    @model_validator(mode="after")
    def _production_is_strict(self) -> Self:
        if self.production and self.environment == "dev":
            raise ValueError("HUB_ENVIRONMENT must name the installation when HUB_PRODUCTION is on")
        if self.poll_seconds > self.lease_seconds:
            raise ValueError("HUB_POLL_SECONDS must not be above HUB_LEASE_SECONDS")
        return self


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
