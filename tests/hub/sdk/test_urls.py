"""Whatever text there is in a name, an address leads where it should, by https, with that name in its place."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from connectors.sql.config import SqlConfig
from connectors.sql.postgresql import PostgresClient
from hub.access.references import Reference, azure, follow, gcp, vault
from hub.access.types import VaultError
from hub.keys.services import vault as vault_service
from hub.keys.services.web import Answer
from hub.sdk import Context, Secret, UnavailableError, UnexpectedError
from hub.sdk.http import Http
from hub.sdk.testing.tls import Certificates
from hub.settings import Settings, load_settings
from tests.hub.sdk.test_addresses import canary
from tests.hub.sdk.test_http import Server, certificates, server

__all__ = ["canary", "certificates", "server"]

FUZZED = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD = st.sampled_from(
    ["/", "\\", "@", ":", "#", "?", "%", "%2f", "%00", "..", ".", "&", "=", " ", "\t", "é", "[", "]", ";"]
)
NAMES = st.lists(st.one_of(ODD, st.text(max_size=4)), min_size=1, max_size=6).map("".join)


def pieces(host: str, port: int) -> st.SearchStrategy[str]:
    """Addresses made of what they are made of, in any order; some lead to `host`, some to `port` of this machine."""
    schemes = st.just("https://") | st.sampled_from(
        ["https://", "http://", "HTTPS://", "//", "https:/", "ftp://", "https:\\\\", ""]
    )
    hosts = st.sampled_from(
        [host, f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", f"127.1:{port}", "localhost"]
    )
    before = st.just("") | st.sampled_from(
        ["", "a@", "a:b@", f"{host}@", f"{host}#@", f"{host}\\@", f"{host}%2f@", f"{host}?@"]
    )
    after = st.just(("/", "")) | st.tuples(st.sampled_from(["", "/", "\\", "?", "#", "."]), NAMES)
    return st.tuples(schemes, before, hosts, after.map("".join)).map("".join)


@FUZZED
@given(data=st.data())
def test_no_spelling_of_an_address_calls_another_host(
    data: st.DataObject, server: Server, certificates: Certificates, canary: tuple[int, list[Any]]
) -> None:
    port, strangers = canary
    url = data.draw(pieces(server.host, port))
    before = len(server.seen)
    with Http(Context(), [server.host], trust=certificates.client(), private=True) as http:
        try:
            http.send("GET", url)
        except (UnexpectedError, UnavailableError):
            assert len(server.seen) == before
        else:
            (seen,) = server.seen[before:]
            assert f"\r\nHost: {server.host}\r\n".encode() in seen
    assert strangers == []


@pytest.fixture
def told(tmp_path: Path) -> Settings:
    for name in ("vault", "azure", "gcp"):
        (tmp_path / name).write_text("token")
    return load_settings(
        home=tmp_path,
        references="vault:kv/hub/ gcp-sm:mine/ azure-kv:",
        vault_url="https://vault.example",
        vault_login=f"file:{tmp_path / 'vault'}",
        azure_vault_url="https://mine.vault.azure.net",
        azure_login=f"file:{tmp_path / 'azure'}",
        gcp_login=f"file:{tmp_path / 'gcp'}",
    )


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The addresses that services would have been called at; they know of no secret."""
    seen: list[str] = []

    def note(_method: str, url: str, **_more: object) -> Answer:
        seen.append(url)
        return Answer(404, {})

    for each in (azure, gcp, vault_service):
        monkeypatch.setattr(each, "call", note)
    for one in (azure, gcp):
        monkeypatch.setattr(one, "_token", lambda _settings: "token")
    assert vault.VaultService is vault_service.VaultService
    return seen


def place_of(reference: Reference) -> tuple[str, list[str]]:
    """The host that a reference names, and the parts of the path there."""
    parts = reference.name.split("/")
    match reference.scheme:
        case "vault":
            return "vault.example", ["v1", "kv", "data", *parts[1:]]
        case "azure-kv":
            return "mine.vault.azure.net", ["secrets", *parts]
    project, secret, version = (*parts, "latest")[:3]
    where = ["v1", "projects", project, "secrets", secret, "versions", f"{version}:access"]
    return "secretmanager.googleapis.com", where


@FUZZED
@given(name=NAMES)
@pytest.mark.parametrize("begins", ["vault:kv/hub/", "gcp-sm:mine/", "azure-kv:"])
def test_a_reference_is_one_place_of_the_service_it_names(
    begins: str, name: str, told: Settings, called: list[str]
) -> None:
    called.clear()
    reference = Reference.parse(f"{begins}{name}#field")
    assert reference is not None
    with pytest.raises(VaultError):
        follow(reference, told)
    for each in called:
        url = httpx.URL(each)
        path, _, query = url.raw_path.decode().partition("?")
        assert (url.scheme, url.userinfo, url.fragment) == ("https", b"", "")
        assert (url.host, [urllib.parse.unquote(one) for one in path.split("/")[1:]]) == place_of(reference)
        assert query == ("api-version=7.4" if begins == "azure-kv:" else "")


PLAIN = NAMES.filter(lambda text: text != "" and "\0" not in text)
"""What libpq can be told at all."""


@FUZZED
@given(database=PLAIN, user=PLAIN, password=PLAIN)
def test_libpq_reads_what_was_set_and_nothing_more(database: str, user: str, password: str) -> None:
    given_ = {"database": database, "user": user, "password": Secret(password)}
    try:
        config = SqlConfig(dialect="postgresql", host="127.0.0.1", private=True, tls="off", **given_)
    except ValueError:
        return  # a name that no server could have is refused as it is typed
    with closing(PostgresClient(config, Context())) as client:
        read = conninfo_to_dict(client._uri())
    assert (read["dbname"], read["user"], read["password"]) == (database, user, password)
    assert (read["host"], read["hostaddr"], read["sslmode"]) == ("127.0.0.1", "127.0.0.1", "disable")
    assert read["options"].startswith("-c timezone=UTC ")
