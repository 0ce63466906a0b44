"""API keys: typing errors told offline, forged and ended ones turned away, and every refusal recorded."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from sqlalchemy import text

from hub.access import (
    Access,
    AccessError,
    Actor,
    ActorKind,
    Caller,
    DeniedError,
    HiddenError,
    Resource,
    Rights,
    Scope,
    UnauthenticatedError,
)
from hub.access.keytext import make_key_text, parse_key_text
from hub.audit import Action, AuditLog
from hub.database import Database
from hub.keys import KeyRing, open_ring
from hub.settings import load_settings

ANNA = Actor(ActorKind.HUMAN, "anna")


@pytest.fixture
def audit(any_database: Database) -> AuditLog:
    return AuditLog(any_database)


@pytest.fixture
def keys(any_database: Database, tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return open_ring(load_settings(home=tmp_path_factory.mktemp("home")), any_database)


@pytest.fixture
def access(any_database: Database, keys: KeyRing, audit: AuditLog) -> Access:
    return Access(any_database, keys, audit, environment="test")


def make(access: Access, name: str = "crm", **more: object) -> tuple[str, str]:
    """The id and the text of a new key."""
    wanted = {"owner": "anna", "scopes": [Scope.SCORE], "actor": ANNA, **more}
    token, secret = access.create_token(name, **wanted)  # type: ignore[arg-type]
    return token.id, secret.reveal()


def test_a_key_stands_for_its_caller(access: Access) -> None:
    token_id, key = make(access, scopes=[Scope.SCORE, Scope.READ], only=[Resource.mapping("lead_score")])
    caller = access.authenticate(key)
    assert caller == Caller(
        Actor(ActorKind.SERVICE, "crm"),
        "anna",
        Rights(on={Resource.mapping("lead_score"): frozenset({Scope.SCORE, Scope.READ})}),
        f"token:{token_id}",
    )


def test_a_key_has_five_parts_and_is_kept_nowhere(access: Access, any_database: Database) -> None:
    _, key = make(access)
    assert re.fullmatch(r"hub_test_[0-9A-Za-z]{10}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", key)
    secret = key.split("_")[3]
    with any_database.read() as session:
        for table in ("access_token", "audit_event"):
            for row in session.execute(text(f"select * from {table}")):
                assert not any(secret in str(value) or secret.encode() in _bytes(value) for value in row)


def _bytes(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else b""


def test_every_single_typing_error_is_told_without_the_database() -> None:
    _, key = make_key_text("test")
    for place in range(9, len(key)):
        wrong = "x" if key[place] != "x" else "y"
        with pytest.raises(UnauthenticatedError):
            parse_key_text(key[:place] + wrong + key[place + 1 :])
    for place in range(9, len(key) - 1):
        swapped = key[:place] + key[place + 1] + key[place] + key[place + 2 :]
        if swapped != key:
            with pytest.raises(UnauthenticatedError):
                parse_key_text(swapped)


@pytest.mark.parametrize("junk", ["", "hub_", "Bearer x", "hub_test_" + "a" * 2000, "hub_tést_1_2_3", "\x00"])
def test_what_no_hub_ever_made_is_told_so(access: Access, audit: AuditLog, junk: str) -> None:
    with pytest.raises(UnauthenticatedError, match="no API key of the hub"):
        access.authenticate(junk)
    assert audit.events(action=Action.ACCESS_DENIED) == []


def forged(key: str, *, secret: str | None = None, environment: str | None = None, token_id: str | None = None) -> str:
    """The key with some parts replaced and a check that fits: not a typing error but a lie."""
    from hub.access.keytext import _check

    parts = key.split("_")
    body = "_".join(("hub", environment or parts[1], token_id or parts[2], secret or parts[3]))
    return f"{body}_{_check(body)}"


def test_a_forged_key_is_turned_away_and_recorded(access: Access, audit: AuditLog) -> None:
    token_id, key = make(access)
    _, other = make(access, "erp")
    lies = [
        forged(key, secret="0" * 43),
        forged(key, environment="prod"),
        forged(key, token_id="0" * 10),
        forged(key, secret=other.split("_")[3]),
    ]
    for lie in lies:
        with pytest.raises(UnauthenticatedError, match=r"^the API key is not known here$"):
            access.authenticate(lie)
    denied = audit.events(action=Action.ACCESS_DENIED)
    assert len(denied) == len(lies)
    assert {each.event.detail["why"] for each in denied} == {"unknown"}
    assert f"token:{token_id}" in {each.event.subject for each in denied}


def test_a_digest_made_under_another_pepper_does_not_serve(
    access: Access, any_database: Database, audit: AuditLog, tmp_path: object
) -> None:
    _, key = make(access)
    stranger = KeyRing(access._keys._kek, bytes(32))
    with pytest.raises(UnauthenticatedError):
        Access(any_database, stranger, audit, environment="test").authenticate(key)


def test_a_revoked_key_is_turned_away_at_once(access: Access, audit: AuditLog) -> None:
    token_id, key = make(access)
    access.authenticate(key)
    access.revoke_token(token_id, actor=ANNA)
    with pytest.raises(UnauthenticatedError, match="was revoked"):
        access.authenticate(key)
    with pytest.raises(AccessError, match="no live API key with the id"):
        access.revoke_token(token_id, actor=ANNA)
    assert [each.event.action for each in audit.events(subject=f"token:{token_id}")] == [
        Action.ACCESS_DENIED,
        Action.TOKEN_REVOKE,
        Action.TOKEN_CREATE,
    ]


def test_an_expired_key_is_turned_away(access: Access, any_database: Database) -> None:
    token_id, key = make(access, days=1)
    past = access.list_tokens()[0].created_at - timedelta(days=400)
    with any_database.begin() as session:
        from hub.access.store import TokenRow

        row = session.get(TokenRow, token_id)
        assert row is not None
        row.expires_at = past
    with pytest.raises(UnauthenticatedError, match="has expired"):
        access.authenticate(key)


def test_the_last_use_is_noted(access: Access) -> None:
    _, key = make(access)
    assert access.list_tokens()[0].last_used_at is None
    access.authenticate(key)
    first = access.list_tokens()[0].last_used_at
    assert first is not None
    access.authenticate(key)
    assert access.list_tokens()[0].last_used_at == first


def test_a_name_has_two_live_keys_at_most(access: Access) -> None:
    first, _ = make(access)
    make(access)
    with pytest.raises(AccessError, match="crm has 2 live API keys already; revoke one"):
        make(access)
    access.revoke_token(first, actor=ANNA)
    make(access)
    assert len(access.list_tokens()) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"days": 366}, "days: an API key lives 1 to 365 days, not 366"),
        ({"days": 0}, "days: an API key lives 1 to 365 days, not 0"),
        ({"scopes": []}, "scopes: an API key without a scope opens nothing; choose from score, write, run"),
        ({"owner": ""}, "owner: an API key has a person who answers for it"),
        ({"name": "a\nb"}, "name: an API key is named after the service"),
        ({"only": []}, "only: name at least one resource, or leave it out"),
        ({"only": [Resource.mapping("m")], "scopes": [Scope.AUDIT]}, "only: the scope audit is over the whole hub"),
        ({"scopes": [Scope.APPROVE]}, "scopes: approve is for people; no program holds it"),
        ({"addresses": ["ward"]}, "addresses: 'ward' is no network such as"),
        ({"addresses": ["10.1.2.3/16"]}, "addresses: '10.1.2.3/16' is no network such as"),
    ],
)
def test_a_key_that_should_not_be_made_is_refused(access: Access, wrong: dict[str, object], said: str) -> None:
    with pytest.raises(AccessError, match=said):
        make(access, **wrong)
    assert access.list_tokens() == []


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"])
def test_a_key_held_to_networks_opens_from_there(access: Access, address: str) -> None:
    _, key = make(access, addresses=["10.1.0.0/16", "2001:db8::/32"])
    assert access.authenticate(key, address).owner == "anna"


@pytest.mark.parametrize("address", ["10.2.0.1", "2001:db9::7", "", "unix", None])
def test_a_key_held_to_networks_is_unknown_elsewhere(access: Access, audit: AuditLog, address: str | None) -> None:
    _, key = make(access, addresses=["10.1.0.0/16", "2001:db8::/32"])
    with pytest.raises(UnauthenticatedError, match=r"^the API key is not known here$"):
        access.authenticate(key, address)
    (denied,) = audit.events(action=Action.ACCESS_DENIED)
    assert denied.event.detail["why"] == "address"


def test_each_denial_is_one_event(access: Access, audit: AuditLog) -> None:
    mine, other = Resource.mapping("mine"), Resource.mapping("other")
    caller = Caller(Actor(ActorKind.SERVICE, "crm"), "anna", Rights.of([Scope.SCORE], [mine]), "token:t1")
    access.require(caller, Scope.SCORE, mine)
    assert audit.events(action=Action.ACCESS_DENIED) == []
    with pytest.raises(HiddenError, match="there is no mapping other that service:crm may see"):
        access.require(caller, Scope.SCORE, other)
    with pytest.raises(DeniedError, match="service:crm lacks the scope run"):
        access.require(caller, Scope.RUN, mine)
    with pytest.raises(DeniedError, match="service:crm lacks the scope score for the whole hub"):
        access.require(caller, Scope.SCORE)
    told = [(each.event.subject, each.event.detail["why"]) for each in audit.events(action=Action.ACCESS_DENIED)]
    assert told == [("hub", "elsewhere"), ("mapping:mine", "nowhere"), ("mapping:other", "elsewhere")]
    assert audit.events(action=Action.ACCESS_DENIED)[0].event.detail["credential"] == "token:t1"
