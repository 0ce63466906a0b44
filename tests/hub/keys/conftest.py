"""A hub's key in each place where it can be kept, the services served on this machine."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hub.sdk.testing.tls import Certificates, make_certificates
from hub.settings import Settings, load_settings
from tests.hub.keys.services import AwsTwin, VaultTwin, served


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority and a certificate for this machine."""
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def aws(certificates: Certificates, tmp_path: Path) -> Iterator[tuple[AwsTwin, dict[str, Any]]]:
    """AWS as far as the hub calls it, and the settings that lead there."""
    twin = AwsTwin()
    login = tmp_path / "aws-login"
    login.write_text(f"[hub]\naws_access_key_id = {twin.KEY_ID}\naws_secret_access_key = {twin.KEY}\n")
    with served(twin.answer, certificates.server()) as url:
        yield (
            twin,
            {
                "aws_region": twin.REGION,
                "aws_login": f"file:{login}",
                "aws_kms_endpoint": url,
                "aws_secrets_endpoint": url,
                "service_authorities": certificates.authority,
            },
        )


@pytest.fixture
def vault_service(certificates: Certificates, tmp_path: Path) -> Iterator[tuple[VaultTwin, dict[str, Any]]]:
    """Vault as far as the hub calls it, and the settings that lead there."""
    twin = VaultTwin()
    login = tmp_path / "vault-token"
    login.write_text(twin.TOKEN + "\n")
    with served(twin.answer, certificates.server()) as url:
        yield (
            twin,
            {
                "vault_url": url,
                "vault_login": f"file:{login}",
                "service_authorities": certificates.authority,
            },
        )


@dataclass
class Keeper:
    """A place where the key is kept: how the hub is told of it, and how its next version comes about."""

    kind: str
    home: Path
    told: dict[str, Any] = field(default_factory=dict)
    twin: Any = None

    @property
    def settings(self) -> Settings:
        """What a process is started with now."""
        return load_settings(home=self.home, kek=self.kind, **self.told)

    def make_newer(self) -> None:
        """What a person does before a rotation, where versions are not the hub's to make."""
        if self.kind == "environment":
            self.told["kek_keys"] += f",2:{_key()}"
        if self.kind == "aws-kms":
            self.told["aws_kms_keys"] += f",{self.twin.add_key()}"


def _key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


@pytest.fixture(params=["file", "environment", "aws-kms", "vault"])
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Keeper:
    """Each of the places."""
    made = Keeper(request.param, tmp_path)
    if made.kind == "environment":
        made.told["kek_keys"] = f"1:{_key()}"
    if made.kind == "aws-kms":
        made.twin, made.told = request.getfixturevalue("aws")
        made.told["aws_kms_keys"] = made.twin.add_key()
    if made.kind == "vault":
        made.twin, made.told = request.getfixturevalue("vault_service")
        made.twin.add_key("hub")
    return made
