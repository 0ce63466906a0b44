"""References to services that keep secrets: followed with the login that a setting names, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.access import Reference, Vault, VaultError
from hub.access.references import follow
from hub.database import Database
from hub.keys import open_ring
from hub.sdk import UnavailableError
from hub.sdk.testing.tls import Certificates
from hub.settings import load_settings
from tests.hub.access.clouds import AzureTwin, GoogleTwin
from tests.hub.keys.conftest import aws, certificates, vault_service
from tests.hub.keys.services import AwsTwin, VaultTwin, served

__all__ = ["aws", "certificates", "vault_service"]

PLANTED = "pl4nted-s3cret"
FIELDS = json.dumps({"password": PLANTED, "port": 5432})
Told = dict[str, Any]


@pytest.fixture
def google(certificates: Certificates, tmp_path: Path) -> Iterator[tuple[GoogleTwin, Told]]:
    """Google as far as the hub calls it, and the settings that lead there."""
    twin = GoogleTwin()
    with served(twin.answer, certificates.server()) as url:
        twin.url = url
        login = tmp_path / "google-login"
        login.write_text(twin.account())
        told = {"gcp_login": f"file:{login}", "gcp_secrets_endpoint": url}
        yield twin, {**told, "service_authorities": certificates.authority}


@pytest.fixture
def azure(certificates: Certificates, tmp_path: Path) -> Iterator[tuple[AzureTwin, Told]]:
    """Azure as far as the hub calls it, and the settings that lead there."""
    twin = AzureTwin()
    login = tmp_path / "azure-login"
    login.write_text(twin.login())
    with served(twin.answer, certificates.server()) as url:
        told = {"azure_login": f"file:{login}", "azure_vault_url": url, "azure_authority": url}
        yield twin, {**told, "service_authorities": certificates.authority}


Looks = Callable[..., str]


@pytest.fixture
def look(tmp_path: Path) -> Looks:
    """Follows a reference with these settings."""

    def followed(text: str, told: Told, references: str) -> str:
        reference = Reference.parse(text)
        assert reference is not None
        return follow(reference, load_settings(home=tmp_path, references=references, **told))

    return followed


def test_a_field_in_vault(vault_service: tuple[VaultTwin, Told], look: Looks) -> None:
    twin, told = vault_service
    twin.secrets["hub/crm"] = {"password": PLANTED}
    assert look("vault:kv/hub/crm#password", told, "vault:kv/hub/") == PLANTED
    twin.secrets["hub/crm"] = {"password": "newer"}
    assert look("vault:kv/hub/crm#password", told, "vault:kv/hub/") == "newer"


def test_a_secret_of_aws(aws: tuple[AwsTwin, Told], look: Looks) -> None:
    twin, told = aws
    twin.secrets |= {"hub/crm": FIELDS, "hub/erp": PLANTED}
    assert look("aws-sm:hub/crm#password", told, "aws-sm:hub/") == PLANTED
    assert look("aws-sm:hub/erp", told, "aws-sm:hub/") == PLANTED


def test_a_secret_of_google(google: tuple[GoogleTwin, Told], look: Looks) -> None:
    twin, told = google
    twin.secrets |= {"p/crm": ["older", FIELDS]}
    assert look("gcp-sm:p/crm#password", told, "gcp-sm:p/") == PLANTED
    assert look("gcp-sm:p/crm/1", told, "gcp-sm:p/") == "older"


def test_a_secret_of_azure(azure: tuple[AzureTwin, Told], look: Looks) -> None:
    twin, told = azure
    twin.secrets |= {"crm": PLANTED, "crm/0123": "older", "erp": FIELDS}
    assert look("azure-kv:crm", told, "azure-kv:") == PLANTED
    assert look("azure-kv:crm/0123", told, "azure-kv:") == "older"
    assert look("azure-kv:erp#password", told, "azure-kv:") == PLANTED


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("vault:kv/other/crm#password", "vault:kv/hub/"),
        ("vault:kv/hub/../other/crm#password", "vault:kv/hub/"),
        ("aws-sm:hub/crm", "vault:kv/hub/ gcp-sm:p/"),
        ("gcp-sm:q/crm", "gcp-sm:p/"),
        ("azure-kv:crm", ""),
    ],
)
def test_what_the_operator_did_not_allow_is_not_followed(text: str, allowed: str, look: Looks) -> None:
    with pytest.raises(VaultError, match="is not one of those that HUB_REFERENCES allows"):
        look(text, {}, allowed)


class TestNothingIsThere:
    """The message names the reference, the setting and the fix, and no value."""

    def test_in_vault(self, vault_service: tuple[VaultTwin, Told], look: Looks) -> None:
        twin, told = vault_service
        twin.secrets["hub/crm"] = {"password": PLANTED}
        for text, said in (
            ("vault:kv/hub/none#password", "names nothing in Vault; write it there"),
            ("vault:kv/hub/crm#none", "has no text field none"),
            ("vault:kv/hub/crm", "expected MOUNT/PATH#FIELD"),
        ):
            with pytest.raises(VaultError, match=said) as raised:
                look(text, told, "vault:kv/")
            assert text in str(raised.value)
            assert PLANTED not in str(raised.value)
        twin.denied.add("kv/data/hub/crm")
        with pytest.raises(VaultError, match="give the policy of the token in HUB_VAULT_LOGIN that path"):
            look("vault:kv/hub/crm#password", told, "vault:kv/")

    def test_at_aws(self, aws: tuple[AwsTwin, Told], look: Looks) -> None:
        twin, told = aws
        twin.secrets["crm"] = PLANTED
        with pytest.raises(VaultError, match="names nothing in Secrets Manager of eu-central-1"):
            look("aws-sm:none", told, "aws-sm:")
        with pytest.raises(VaultError, match="no JSON with a text password") as raised:
            look("aws-sm:crm#password", told, "aws-sm:")
        assert PLANTED not in str(raised.value)
        twin.denied.add("GetSecretValue")
        with pytest.raises(VaultError, match="AWS refuses to read the secret crm: AccessDeniedException"):
            look("aws-sm:crm", told, "aws-sm:")

    def test_at_google(self, google: tuple[GoogleTwin, Told], look: Looks, tmp_path: Path) -> None:
        twin, told = google
        with pytest.raises(VaultError, match="names no text in Secret Manager; add a version"):
            look("gcp-sm:p/none", told, "gcp-sm:")
        with pytest.raises(VaultError, match="expected PROJECT/SECRET"):
            look("gcp-sm:p", told, "gcp-sm:")
        twin.denied = True
        with pytest.raises(VaultError, match=r"grant roles/secretmanager\.secretAccessor"):
            look("gcp-sm:p/crm", told, "gcp-sm:")
        (tmp_path / "google-login").write_text(GoogleTwin().account())
        with pytest.raises(VaultError, match="HUB_GCP_LOGIN names a file that is not the JSON key"):
            look("gcp-sm:p/crm", told, "gcp-sm:")

    def test_at_azure(self, azure: tuple[AzureTwin, Told], look: Looks, tmp_path: Path) -> None:
        twin, told = azure
        with pytest.raises(VaultError, match="names nothing in https://localhost"):
            look("azure-kv:none", told, "azure-kv:")
        twin.denied = True
        with pytest.raises(VaultError, match="Key Vault Secrets User"):
            look("azure-kv:crm", told, "azure-kv:")
        (tmp_path / "azure-login").write_text(twin.login().replace(twin.SECRET, "wr0ng-s3cret"))
        with pytest.raises(VaultError, match="renew the secret of the application") as raised:
            look("azure-kv:crm", told, "azure-kv:")
        assert "wr0ng" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vault:kv/x#y", "HUB_VAULT_URL is not set"),
        ("aws-sm:x", "HUB_AWS_REGION is not set"),
        ("gcp-sm:p/x", "HUB_GCP_LOGIN is not set: expected file:PATH"),
        ("azure-kv:x", "HUB_AZURE_VAULT_URL is not set"),
    ],
)
def test_no_login_is_taken_from_the_surroundings(
    text: str, said: str, look: Looks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".vault-token").write_text("hvs.ambient")
    for name, value in {
        "HOME": str(tmp_path),
        "VAULT_ADDR": "https://localhost:1",
        "VAULT_TOKEN": "hvs.ambient",
        "AWS_ACCESS_KEY_ID": "AKIDAMBIENT",
        "AWS_SECRET_ACCESS_KEY": "ambient",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "google.json"),
        "AZURE_CLIENT_SECRET": "ambient",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(VaultError, match=said):
        look(text, {}, text)


def test_a_service_that_is_away_makes_whoever_asks_wait(vault_service: tuple[VaultTwin, Told], look: Looks) -> None:
    twin, told = vault_service
    twin.away = True
    with pytest.raises(UnavailableError):
        look("vault:kv/hub/crm#password", told, "vault:kv/")


def test_the_message_names_the_connection_and_its_setting(
    vault_service: tuple[VaultTwin, Told], database: Database, tmp_path: Path
) -> None:
    _, told = vault_service
    settings = load_settings(home=tmp_path, references="vault:kv/", **told)
    vault = Vault(open_ring(settings, database), settings)
    reference = Reference("vault", "kv/crm#password")
    with pytest.raises(VaultError) as raised, database.begin() as session:
        vault.put_secret(session, "connection/crm/password", reference)
    assert str(raised.value) == (
        "secret password of connection crm: the secret reference vault:kv/crm#password names nothing in Vault; "
        "write it there with `vault kv put`"
    )


def test_a_reference_opens_what_stands_there_now(
    vault_service: tuple[VaultTwin, Told], database: Database, tmp_path: Path
) -> None:
    twin, told = vault_service
    twin.secrets["crm"] = {"password": PLANTED}
    settings = load_settings(home=tmp_path, references="vault:kv/", **told)
    vault = Vault(open_ring(settings, database), settings)
    with database.begin() as session:
        vault.put_secret(session, "crm", Reference("vault", "kv/crm#password"))
    twin.secrets["crm"] = {"password": "newer-s3cret"}
    with database.read() as session:
        assert vault.open_secret(session, "crm").reveal() == "newer-s3cret"
    database.close()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"pl4nted" not in path.read_bytes()
