"""Clients: three ways to prove who one is, tokens that hold what was registered, and every refusal recorded."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import text

from hub.access import (
    Access,
    AccessError,
    Actor,
    ActorKind,
    Caller,
    Resource,
    Rights,
    Scope,
    Shown,
    UnauthenticatedError,
)
from hub.access.jose import jwk_of, thumbprint
from hub.access.oauth import TOKEN_SECONDS, ClientMethod, Presented, TokenGrantError
from hub.access.oauth.clients import ASSERTION
from hub.audit import Action, AuditLog
from hub.database import Database
from hub.keys import KeyRing, open_ring
from hub.settings import load_settings

ANNA = Actor(ActorKind.HUMAN, "anna")
ISSUER = "https://hub.example"
KEY = ed25519.Ed25519PrivateKey.generate()
GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def audit(any_database: Database) -> AuditLog:
    return AuditLog(any_database)


@pytest.fixture
def keys(any_database: Database, tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return open_ring(load_settings(home=tmp_path_factory.mktemp("home")), any_database)


@pytest.fixture
def access(any_database: Database, keys: KeyRing, audit: AuditLog) -> Access:
    return Access(any_database, keys, audit, environment="test", issuer=ISSUER)


def add(access: Access, name: str = "crm", **more: Any) -> tuple[str, str]:
    """A client's id, and its secret or nothing."""
    wanted: dict[str, Any] = {"owner": "anna", "scopes": [Scope.SCORE, Scope.READ], "actor": ANNA, **more}
    made, secret = access.clients.add(name, **wanted)
    return made.id, secret.reveal() if secret is not None else ""


def token(access: Access, client: str, secret: str, **form: str) -> str:
    """An access token by the client's secret."""
    told = access.clients.token(Presented({**GRANT, **form}, basic=(client, secret)))
    return str(told["access_token"])


def asserted(client: str, *, key: Any = KEY, kid: str | None = None, algorithm: str = "EdDSA", **more: Any) -> str:
    now = int(time.time())
    claims = {"iss": client, "sub": client, "aud": f"{ISSUER}/oauth/token", "jti": "1", "iat": now, "exp": now + 60}
    headers = {"kid": kid} if kid is not None else {}
    made = {name: value for name, value in {**claims, **more}.items() if value is not None}
    return jwt.encode(made, key, algorithm, headers=headers)


def by_assertion(text: str, **form: str) -> Presented:
    return Presented({**GRANT, "client_assertion_type": ASSERTION, "client_assertion": text, **form})


def certificate(common: str, *, days: int = 1) -> bytes:
    """A certificate of its own (DER); who signed it is the proxy's business."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=2)).not_valid_after(now + timedelta(days=days))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_secret_gives_a_token_that_stands_for_its_client(access: Access, audit: AuditLog) -> None:
    mine = Resource.mapping("mine")
    client, secret = add(access, only=[mine])
    told = access.clients.token(Presented(GRANT, basic=(client, secret)))
    assert {name: told[name] for name in ("token_type", "expires_in", "scope")} == {
        "token_type": "Bearer",
        "expires_in": TOKEN_SECONDS,
        "scope": "read score",
    }
    assert set(told) == {"access_token", "token_type", "expires_in", "scope"}
    assert access.authenticate(told["access_token"]) == Caller(
        Actor(ActorKind.SERVICE, "crm"),
        "anna",
        Rights(on={mine: frozenset({Scope.SCORE, Scope.READ})}),
        f"client:{client}",
    )
    (given,) = audit.events(action=Action.CLIENT_TOKEN)
    assert given.event.subject == f"client:{client}"
    assert access.clients.list_clients()[0].last_used_at is not None


def test_a_token_has_the_form_of_the_standard(access: Access) -> None:
    client, secret = add(access)
    header, claims = _read(token(access, client, secret))
    assert (header["typ"], header["alg"]) == ("at+jwt", "EdDSA")
    assert header["kid"] == access.clients.issuer.jwks()["keys"][0]["kid"]
    assert set(claims) == {"iss", "aud", "sub", "client_id", "scope", "iat", "nbf", "exp", "jti"}
    assert (claims["iss"], claims["aud"], claims["sub"], claims["client_id"]) == (ISSUER, ISSUER, client, client)
    assert 300 <= claims["exp"] - claims["iat"] <= 600


def _read(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return jwt.get_unverified_header(text), jwt.decode(text, options={"verify_signature": False})


def test_the_signing_key_is_one_of_its_own_and_lasts(access: Access, any_database: Database, keys: KeyRing) -> None:
    client, secret = add(access)
    made = token(access, client, secret)
    again = Access(any_database, keys, AuditLog(any_database), environment="test", issuer=ISSUER)
    assert again.authenticate(made).credential == f"client:{client}"
    (public,) = again.clients.issuer.jwks()["keys"]
    assert set(public) == {"kty", "crv", "x", "kid", "use", "alg"}
    with any_database.read() as session:
        assert session.execute(text("select purpose from signing_key")).scalars().all() == ["access-token"]


def test_a_secret_is_kept_nowhere(access: Access, any_database: Database) -> None:
    client, secret = add(access)
    made = token(access, client, secret)
    with any_database.read() as session:
        for table in ("access_client", "audit_event", "access_assertion"):
            for row in session.execute(text(f"select * from {table}")):
                for value in row:
                    shown = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                    assert secret.encode() not in shown
                    assert made.encode() not in shown


def test_fewer_scopes_can_be_asked_for_and_no_more(access: Access) -> None:
    client, secret = add(access)
    rights = access.authenticate(token(access, client, secret, scope="read")).rights
    assert rights == Rights(frozenset({Scope.READ}))
    for beyond in ("run", "read run", "access", "openid", " "):
        with pytest.raises(TokenGrantError) as refused:
            token(access, client, secret, scope=beyond)
        assert refused.value.code == "invalid_scope"


@pytest.mark.parametrize("grant", ["password", "implicit", "authorization_code", "refresh_token", "urn:x", ""])
def test_there_is_no_other_grant(access: Access, grant: str) -> None:
    client, secret = add(access)
    form = {"grant_type": grant, "username": "anna", "password": "x", "refresh_token": "x"}
    with pytest.raises(TokenGrantError) as refused:
        access.clients.token(Presented(form, basic=(client, secret)))
    assert refused.value.code == ("unsupported_grant_type" if grant else "invalid_request")


def test_a_wrong_proof_is_refused_in_one_sentence_and_recorded(access: Access, audit: AuditLog) -> None:
    client, secret = add(access)
    other, _ = add(access, "erp", jwks=[jwk_of(KEY.public_key())])
    wrong = [
        Presented(GRANT, basic=(client, "x")),
        Presented(GRANT, basic=("nobody", secret)),
        Presented(GRANT, basic=(other, secret)),
        Presented({**GRANT, "client_id": "someone"}, basic=(client, secret)),
        Presented({**GRANT, "client_id": client}),
        Presented({**GRANT, "client_id": client}, certificate=certificate("crm")),
        Presented(GRANT),
        by_assertion(asserted(client)),
        by_assertion("x"),
    ]
    said = set()
    for each in wrong:
        with pytest.raises(TokenGrantError) as refused:
            access.clients.token(each)
        said.add((refused.value.code, str(refused.value)))
    assert said == {("invalid_client", "the client is not known here, or did not prove who it is")}
    assert len(audit.events(action=Action.ACCESS_DENIED)) == len(wrong)


def test_one_proof_at_a_time_and_no_secret_in_the_body(access: Access) -> None:
    client, secret = add(access)
    for shown in (
        Presented({**GRANT, "client_id": client, "client_secret": secret}),
        Presented(by_assertion(asserted(client)).form, basic=(client, secret)),
        Presented({**GRANT, "client_assertion": asserted(client), "client_assertion_type": "urn:x"}),
    ):
        with pytest.raises(TokenGrantError) as refused:
            access.clients.token(shown)
        assert refused.value.code == "invalid_request"


@pytest.mark.parametrize("more", [{}, {"aud": ISSUER}, {"kid": "thumb"}, {"kid": "mine"}])
def test_an_assertion_signed_by_a_registered_key_gives_a_token(access: Access, more: dict[str, Any]) -> None:
    client, _ = add(access, jwks=[jwk_of(KEY.public_key()) | {"kid": "mine"}])
    if more.get("kid") == "thumb":
        more = {"kid": thumbprint(KEY.public_key())}
    told = access.clients.token(by_assertion(asserted(client, **more)))
    assert access.authenticate(told["access_token"]).credential == f"client:{client}"


def test_an_assertion_serves_once(access: Access, any_database: Database) -> None:
    client, _ = add(access, jwks=[jwk_of(KEY.public_key())])
    first = asserted(client, jti="a")
    access.clients.token(by_assertion(first))
    for repeated in (first, asserted(client, jti="a", exp=int(time.time()) + 61)):
        with pytest.raises(TokenGrantError, match="did not prove who it is"):
            access.clients.token(by_assertion(repeated))
    access.clients.token(by_assertion(asserted(client, jti="b")))
    other, _ = add(access, "erp", jwks=[jwk_of(KEY.public_key())])
    access.clients.token(by_assertion(asserted(other, jti="a")))
    with any_database.begin() as session:
        session.execute(text("update access_assertion set until = '2020-01-01 00:00:00+00:00'"))
    access.clients.token(by_assertion(asserted(client, jti="c")))
    with any_database.read() as session:
        assert session.execute(text("select count(*) from access_assertion")).scalar_one() == 1


EC = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ed25519.Ed25519PrivateKey.generate()},
        {"key": EC, "algorithm": "ES256"},
        {"key": "s" * 64, "algorithm": "HS256"},
        {"kid": "other"},
        {"aud": "https://elsewhere.example"},
        {"iss": "someone"},
        {"sub": "someone"},
        {"exp": int(time.time()) - 60},
        {"exp": int(time.time()) + 86_400},
        {"exp": 10**20},
        {"exp": None},
        {"nbf": int(time.time()) + 86_400},
        {"jti": None},
    ],
    ids=[
        "another key",
        "another algorithm",
        "a shared secret",
        "another key id",
        "another audience",
        "another issuer",
        "another subject",
        "expired",
        "lives too long",
        "never ends",
        "has no end",
        "not yet",
        "has no id",
    ],
)
def test_an_assertion_that_does_not_hold_is_refused(access: Access, wrong: dict[str, Any]) -> None:
    client, _ = add(access, jwks=[jwk_of(KEY.public_key())])
    with pytest.raises(TokenGrantError) as refused:
        access.clients.token(by_assertion(asserted(client, **wrong)))
    assert refused.value.code == "invalid_client"


def test_an_access_token_is_no_assertion(access: Access) -> None:
    client, secret = add(access)
    with pytest.raises(TokenGrantError, match="did not prove"):
        access.clients.token(by_assertion(token(access, client, secret)))


def test_a_certificate_gives_a_token_that_is_bound_to_it(access: Access) -> None:
    client, _ = add(access, subject="CN=crm")
    shown = certificate("crm")
    made = access.clients.token(Presented({**GRANT, "client_id": client}, certificate=shown))["access_token"]
    (found,) = access.authenticate_all([Shown(made, None, shown)])
    assert isinstance(found, Caller)
    for other in (None, certificate("crm")):
        (refused,) = access.authenticate_all([Shown(made, None, other)])
        assert isinstance(refused, UnauthenticatedError)
        assert "bound to a certificate" in str(refused)


@pytest.mark.parametrize("shown", [certificate("erp"), certificate("crm", days=-1), b"x", None])
def test_a_certificate_that_is_not_the_registered_one_is_refused(access: Access, shown: bytes | None) -> None:
    client, _ = add(access, subject="CN=crm")
    with pytest.raises(TokenGrantError) as refused:
        access.clients.token(Presented({**GRANT, "client_id": client}, certificate=shown))
    assert refused.value.code == "invalid_client"


def test_a_client_that_was_ended_gets_no_token_and_those_it_has_open_nothing(access: Access, audit: AuditLog) -> None:
    client, secret = add(access)
    made = token(access, client, secret)
    access.clients.revoke(client, actor=ANNA)
    with pytest.raises(TokenGrantError, match="not known here"):
        token(access, client, secret)
    with pytest.raises(UnauthenticatedError, match="the client of this token was ended"):
        access.authenticate(made)
    with pytest.raises(AccessError, match="no live client"):
        access.clients.revoke(client, actor=ANNA)
    whys = [each.event.detail["why"] for each in audit.events(action=Action.ACCESS_DENIED)]
    assert whys == ["ended", "ended"]
    assert len(audit.events(action=Action.CLIENT_REVOKE)) == 1


def test_a_client_that_ran_out_is_refused(access: Access, any_database: Database) -> None:
    client, secret = add(access)
    made = token(access, client, secret)
    with any_database.begin() as session:
        session.execute(text("update access_client set expires_at = '2020-01-01 00:00:00+00:00'"))
    with pytest.raises(TokenGrantError):
        token(access, client, secret)
    with pytest.raises(UnauthenticatedError):
        access.authenticate(made)


def test_a_client_held_to_networks_is_unknown_elsewhere(access: Access) -> None:
    client, secret = add(access, addresses=["10.1.0.0/16"])
    told = access.clients.token(Presented(GRANT, basic=(client, secret), address="10.1.2.3"))
    with pytest.raises(TokenGrantError):
        access.clients.token(Presented(GRANT, basic=(client, secret), address="10.2.0.1"))
    assert access.authenticate(told["access_token"], "10.1.9.9").owner == "anna"
    with pytest.raises(UnauthenticatedError):
        access.authenticate(told["access_token"], "10.2.0.1")


def test_keys_and_tokens_are_known_in_one_look(access: Access) -> None:
    client, secret = add(access)
    made = token(access, client, secret)
    _, key = access.create_token("erp", owner="anna", scopes=[Scope.RUN], actor=ANNA)
    shown = [Shown(made), Shown(key.reveal()), Shown("hub_x"), Shown("a.b.c"), Shown(made)]
    found = [
        each.credential.partition(":")[0] if isinstance(each, Caller) and each.credential else "refused"
        for each in access.authenticate_all(shown)
    ]
    assert found == ["client", "token", "refused", "refused", "client"]


def test_a_token_of_another_hub_is_refused(access: Access, any_database: Database, keys: KeyRing) -> None:
    client, secret = add(access)
    made = token(access, client, secret)
    elsewhere = Access(any_database, keys, AuditLog(any_database), environment="test", issuer="https://other.example")
    with pytest.raises(UnauthenticatedError, match=r"meant for somebody else|issued by somebody else"):
        elsewhere.authenticate(made)


def test_a_name_has_two_live_clients_at_most(access: Access) -> None:
    first, _ = add(access)
    add(access)
    with pytest.raises(AccessError, match="crm has 2 live clients already"):
        add(access)
    access.clients.revoke(first, actor=ANNA)
    add(access)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"days": 366}, "days:"),
        ({"scopes": []}, "scopes:"),
        ({"scopes": [Scope.APPROVE]}, "scopes: approve is for people"),
        ({"subject": "crm"}, "subject: write the name in the certificate as"),
        ({"subject": "CN=crm", "jwks": [jwk_of(KEY.public_key())]}, "subject: a client proves itself by"),
        ({"jwks": [{"kty": "oct", "k": "AA"}]}, "symmetric key"),
        ({"addresses": ["ward"]}, "addresses:"),
    ],
)
def test_a_client_that_should_not_be_made_is_refused(access: Access, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(AccessError, match=said):
        add(access, **wrong)
    assert access.clients.list_clients() == []


def test_each_method_has_its_name() -> None:
    assert [each.value for each in ClientMethod] == ["client_secret_basic", "private_key_jwt", "tls_client_auth"]
