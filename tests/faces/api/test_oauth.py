"""The token endpoint over HTTP: tokens that open routes, refusals as the standard has them, proxies that count."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hub.access import Scope
from hub.api.access import FAILURES_BURST
from hub.audit import Action
from tests.faces.api.conftest import ME, Site, serving
from tests.hub.access.oauth.test_clients import KEY, asserted, certificate, jwk_of

GRANT = {"grant_type": "client_credentials"}
BOUND = certificate("bound")


def add(site: Site, **more: Any) -> tuple[str, str]:
    name = f"client-{len(site.hub.access.clients.list_clients())}"
    made, secret = site.hub.access.clients.add(name, owner="bert", scopes=[Scope.READ], actor=ME, **more)
    return made.id, secret.reveal() if secret is not None else ""


@pytest.fixture
def caller(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site.url, trust_env=False) as made:
        yield made


def test_a_token_is_taken_and_opens_what_its_client_holds(site: Site, caller: httpx.Client) -> None:
    told = caller.post("/oauth/token", data=GRANT, auth=add(site))
    assert (told.status_code, told.headers["cache-control"]) == (200, "no-store")
    header = {"Authorization": f"Bearer {told.json()['access_token']}"}
    assert caller.get("/v1/runs", headers=header).status_code == 200
    assert caller.post("/v1/runs", headers=header, json={"mapping": "patient_risk"}).status_code == 403


def test_a_token_is_taken_by_an_assertion(site: Site, caller: httpx.Client) -> None:
    client, _ = add(site, jwks=[jwk_of(KEY.public_key())])
    endpoint = caller.get("/.well-known/oauth-authorization-server").json()["token_endpoint"]
    form = {
        **GRANT,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": asserted(client, aud=endpoint),
    }
    assert caller.post("/oauth/token", data=form).status_code == 200
    again = caller.post("/oauth/token", data=form)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")


def test_what_describes_the_endpoint_is_open_and_holds(caller: httpx.Client) -> None:
    told = caller.get("/.well-known/oauth-authorization-server").json()
    assert told["grant_types_supported"] == ["client_credentials"]
    assert told["token_endpoint"] == f"{told['issuer']}/oauth/token"
    assert "approve" not in told["scopes_supported"]
    (key,) = caller.get("/.well-known/jwks.json").json()["keys"]
    assert (key["kty"], key["crv"], key["alg"], "d" in key) == ("OKP", "Ed25519", "EdDSA", False)


@pytest.mark.parametrize(
    ("sent", "status", "error"),
    [
        ({"data": {"grant_type": "password", "username": "anna", "password": "x"}}, 400, "unsupported_grant_type"),
        ({"data": {"scope": "read"}}, 400, "invalid_request"),
        ({"data": {**GRANT, "scope": "access"}}, 400, "invalid_scope"),
        ({"json": GRANT}, 400, "invalid_request"),
        ({"content": b"grant_type=client_credentials&grant_type=password"}, 400, "invalid_request"),
        ({"content": b"grant_type=\xff"}, 400, "invalid_request"),
        ({"content": b"&".join(b"f%d=1" % each for each in range(30))}, 400, "invalid_request"),
        ({"content": b""}, 400, "invalid_request"),
        ({"data": {**GRANT, "client_secret": "x"}}, 400, "invalid_request"),
    ],
    ids=str,
)
def test_what_is_not_the_one_grant_is_refused(
    site: Site, caller: httpx.Client, sent: dict[str, Any], status: int, error: str
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if "content" in sent else {}
    told = caller.post("/oauth/token", **sent, headers=headers, auth=add(site))
    assert (told.status_code, told.json()["error"]) == (status, error)


@pytest.mark.parametrize("header", ["Basic", "Basic ???", "Basic bm9jb2xvbg==", "Bearer x", "Digest x"])
def test_a_header_that_proves_nothing_is_refused(site: Site, header: str) -> None:
    with serving(site.hub) as url:
        told = httpx.post(f"{url}/oauth/token", data=GRANT, headers={"Authorization": header}, trust_env=False)
    assert (told.status_code, told.json()["error"]) == (401, "invalid_client")
    assert told.headers["www-authenticate"].startswith("Basic")


def test_a_secret_in_the_address_proves_nothing(site: Site, caller: httpx.Client) -> None:
    client, secret = add(site)
    shown = {"client_id": client, "client_secret": secret, **GRANT}
    for data in (GRANT, {}, {"client_id": client}):
        told = caller.post("/oauth/token", params=shown, data=data)
        assert told.status_code in (400, 401), told.text
        assert secret not in told.text
    assert caller.post("/oauth/token", data=GRANT, auth=(client, secret)).status_code == 200


def test_a_name_that_no_client_can_have_is_a_client_that_is_not_known(site: Site) -> None:
    with serving(site.hub) as url:
        for name in ("%00", "a%00", "%ff", "A" * 5000):
            told = httpx.post(f"{url}/oauth/token", data=GRANT, auth=(name, "x"), trust_env=False)
            assert (told.status_code, told.json()["error"]) == (401, "invalid_client"), name


def test_wrong_secrets_are_slowed_down(site: Site) -> None:
    with serving(site.hub) as url, httpx.Client(base_url=url, trust_env=False) as caller:
        wrong = [caller.post("/oauth/token", data=GRANT, auth=("nobody", "x")) for _ in range(int(FAILURES_BURST) + 2)]
    assert {each.status_code for each in wrong[: int(FAILURES_BURST)]} == {401}
    assert (wrong[-1].status_code, wrong[-1].json()["code"]) == (429, "too_often")
    assert int(wrong[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize("header", ["client-cert", "x-ssl-client-cert"])
def test_a_certificate_counts_from_a_listed_proxy_alone(site: Site, header: str) -> None:
    client, _ = add(site, subject="CN=bound")
    pem = x509.load_der_x509_certificate(BOUND).public_bytes(Encoding.PEM)
    shown = {
        "client-cert": {"Client-Cert": f":{b64encode(BOUND).decode()}:"},
        "x-ssl-client-cert": {"X-SSL-Client-Cert": quote(pem.decode()), "X-SSL-Client-Verify": "SUCCESS"},
    }[header]
    form = {**GRANT, "client_id": client}
    forged = httpx.post(f"{site.url}/oauth/token", data=form, headers=shown, trust_env=False)
    assert (forged.status_code, forged.json()["error"]) == (401, "invalid_client")
    other = "client-cert" if header == "x-ssl-client-cert" else "x-ssl-client-cert"
    for unnamed in (None, other):
        # A proxy that sets the one, or none, lets the other through as whoever calls has sent it.
        with serving(behind(site, api_proxies="127.0.0.0/8", api_certificate=unnamed)) as url:
            through = httpx.post(f"{url}/oauth/token", data=form, headers=shown, trust_env=False)
            assert (through.status_code, through.json()["error"]) == (401, "invalid_client")
    proxied = behind(site, api_proxies="127.0.0.0/8", api_certificate=header)
    with serving(proxied) as url, httpx.Client(base_url=url, trust_env=False) as caller:
        told = caller.post("/oauth/token", data=form, headers=shown)
        assert told.status_code == 200
        bearer = {"Authorization": f"Bearer {told.json()['access_token']}"}
        assert caller.get("/v1/runs", headers={**bearer, **shown}).status_code == 200
        assert caller.get("/v1/runs", headers=bearer).status_code == 401
        unverified = {**shown, "X-SSL-Client-Verify": "FAILED"}
        if header == "x-ssl-client-cert":
            assert caller.post("/oauth/token", data=form, headers=unverified).status_code == 401


def test_a_forged_address_changes_nothing_and_a_proxys_counts(site: Site) -> None:
    key = site.hub.access.create_token(
        "held", owner="bert", scopes=[Scope.READ], actor=ME, addresses=["203.0.113.0/24"]
    )[1].reveal()
    header = {"Authorization": f"Bearer {key}"}
    told = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9"}
    assert httpx.get(f"{site.url}/v1/runs", headers={**header, **told}, trust_env=False).status_code == 401
    with serving(behind(site, api_proxies="127.0.0.1 10.0.0.0/8")) as url:
        for chain, status in (
            ("203.0.113.9", 200),
            ("203.0.113.9, 10.1.2.3", 200),
            ("203.0.113.9, 198.51.100.7", 401),
            ("198.51.100.7", 401),
            ("203.0.113.9, nonsense", 401),
            ("", 401),
        ):
            shown = {**header, "X-Forwarded-For": chain}
            assert httpx.get(f"{url}/v1/runs", headers=shown, trust_env=False).status_code == status, chain


def test_a_unix_socket_is_a_proxys(site: Site, tmp_path: Path) -> None:
    client, _ = add(site, subject="CN=bound")
    socket = tmp_path / "api.sock"
    with serving(behind(site, api_socket=socket, api_certificate="client-cert")):
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(base_url="http://hub", transport=transport) as caller:
            shown = {"Client-Cert": f":{b64encode(BOUND).decode()}:"}
            form = {**GRANT, "client_id": client}
            assert caller.post("/oauth/token", data=form, headers=shown).status_code == 200
            assert caller.post("/oauth/token", data=form).status_code == 401


def test_each_refusal_is_one_event(site: Site, caller: httpx.Client) -> None:
    before = len(site.hub.audit.events(action=Action.ACCESS_DENIED, limit=10_000))
    client, _ = add(site)
    caller.post("/oauth/token", data=GRANT, auth=(client, "x"))
    assert len(site.hub.audit.events(action=Action.ACCESS_DENIED, limit=10_000)) == before + 1


def behind(site: Site, **settings: Any) -> Any:
    """The same hub with other settings."""
    return type(site.hub)(site.hub.settings.model_copy(update=settings), site.hub.database, site.hub.keys)
