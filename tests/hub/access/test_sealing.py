"""What is sealed to the lease broker is opened by nobody else, and by it only where it belongs."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import text

from hub.access import AccessError, Actor, ActorKind, Reference, VaultError
from hub.access.leases import SealingKey, offer, own_key, seal_to, take_in
from hub.access.leases.store import sealing_key
from hub.audit import Action, AuditLog, Outcome
from hub.database import Database
from hub.keys import KeyRing, SealedError, open_ring
from hub.sdk import Secret
from hub.settings import load_settings

ANNA = Actor(ActorKind.HUMAN, "anna")
INFO = {"purpose": "secret", "connection": "crm", "name": "password"}
PLANTED = "pl4nted-s3cret"


@pytest.fixture
def keys(database: Database, tmp_path: Path) -> KeyRing:
    return open_ring(load_settings(home=tmp_path), database)


@pytest.fixture
def broker_key(database: Database, keys: KeyRing) -> SealingKey:
    return own_key(database, keys)


@pytest.fixture
def public(database: Database, broker_key: SealingKey) -> bytes:
    with database.read() as session:
        found = sealing_key(session)
    assert found is not None
    return found.public


def test_the_broker_opens_what_was_sealed_to_it(public: bytes, broker_key: SealingKey) -> None:
    sealed = seal_to(public, PLANTED.encode(), INFO)
    assert PLANTED.encode() not in sealed
    assert broker_key.open(sealed, INFO) == PLANTED.encode()
    assert seal_to(public, PLANTED.encode(), INFO) != sealed


@pytest.mark.parametrize("name", ["purpose", "connection", "name"])
def test_wrong_info_does_not_open(public: bytes, broker_key: SealingKey, name: str) -> None:
    sealed = seal_to(public, PLANTED.encode(), INFO)
    with pytest.raises(SealedError, match="moved"):
        broker_key.open(sealed, {**INFO, name: "other"})


def test_no_bit_may_differ(public: bytes, broker_key: SealingKey) -> None:
    sealed = seal_to(public, PLANTED.encode(), INFO)
    for at in range(len(sealed)):
        broken = bytearray(sealed)
        broken[at] ^= 1
        with pytest.raises(SealedError):
            broker_key.open(bytes(broken), INFO)


def test_another_key_does_not_open(public: bytes) -> None:
    with pytest.raises(SealedError):
        SealingKey(X25519PrivateKey.generate()).open(seal_to(public, b"x", INFO), INFO)


def test_the_private_half_is_neither_shown_nor_copied(broker_key: SealingKey) -> None:
    assert repr(broker_key) == "SealingKey(…)"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(broker_key)  # type: ignore[operator]


def test_what_was_offered_is_taken_in_in_its_order(database: Database, keys: KeyRing, broker_key: SealingKey) -> None:
    audit, got = AuditLog(database), []
    given: dict[str, Secret | Reference] = {"password": Secret(PLANTED), "token": Reference("env", "HUB_SECRET_CRM")}
    offer(database, keys, audit, "crm", given, ANNA)
    with database.read() as session:
        assert PLANTED not in repr(session.execute(text("select * from access_offer")).all())

    def put(connection: str, secrets: object, actor: str) -> None:
        assert isinstance(secrets, dict)
        got.extend((connection, name, actor, each) for name, each in secrets.items())

    assert take_in(database, keys, audit, put) == 2
    assert [each[:3] for each in got] == [("crm", "password", "human:anna"), ("crm", "token", "human:anna")]
    assert got[0][3].reveal() == PLANTED
    assert str(got[1][3]) == "env:HUB_SECRET_CRM"
    assert take_in(database, keys, audit, put) == 0
    (told,) = audit.events(action=Action.SECRET_PUT)
    assert (told.event.actor, told.event.outcome) == ("human:anna", Outcome.STARTED)
    assert told.event.detail == {"secrets": ["password", "token"], "sealed": True}


def test_an_offer_that_was_moved_is_dropped_and_told_of(
    database: Database, keys: KeyRing, broker_key: SealingKey
) -> None:
    audit = AuditLog(database)
    offer(database, keys, audit, "crm", {"password": Secret(PLANTED)}, ANNA)
    with database.begin() as session:
        session.execute(text("update access_offer set connection = 'mine'"))

    def put(*_: object) -> None:
        raise AssertionError

    assert take_in(database, keys, audit, put) == 1
    newest = audit.events(action=Action.SECRET_PUT)[0]
    assert (newest.event.outcome, newest.event.subject) == (Outcome.FAILED, "connection:mine")
    assert newest.event.detail == {"name": "password", "why": "SealedError"}


def test_nothing_is_sealed_to_a_key_that_somebody_put_in_the_place_of_the_brokers(
    database: Database, keys: KeyRing, broker_key: SealingKey
) -> None:
    his = X25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    with database.begin() as session:
        session.execute(text("update access_sealing_key set public = :his"), {"his": his})
    with pytest.raises(AccessError, match="was replaced where it is stored"):
        offer(database, keys, AuditLog(database), "crm", {"password": Secret(PLANTED)}, ANNA)
    with database.read() as session:
        assert session.execute(text("select count(*) from access_offer")).scalar_one() == 0


def test_an_empty_secret_is_not_offered(database: Database, keys: KeyRing, broker_key: SealingKey) -> None:
    with pytest.raises(VaultError, match="password is empty"):
        offer(database, keys, AuditLog(database), "crm", {"password": Secret("")}, ANNA)
