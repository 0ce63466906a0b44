"""In production no one person lets a connection reach a private network; what another approved is made once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from hub.access import Actor, ActorKind, Caller, Rights, Vault
from hub.access.approvals import ApprovalError, ApprovalKind, Approvals, ApprovalState
from hub.audit import Action, AuditLog
from hub.connections import Catalogue, Connections, InvalidConnectionError
from hub.connections.catalogue import private_names
from hub.database import Database
from hub.keys import open_ring
from hub.sdk import Secret, setting
from hub.settings import load_settings
from tests.hub.connections import memory

ANNA, BERT = (Actor(ActorKind.HUMAN, name) for name in ("anna", "bert"))
PLANTED = "pl4nted-s3cret"


class InnerConfig(memory.MemoryConfig):
    """A far side that may stand in the house; what says so is called as its author likes."""

    inside: bool = setting(False, title="The host may stand in a private network", reaches_private=True)


SPEC = replace(memory.SPEC, config=InnerConfig)


def rooms(database: Database, audit: AuditLog, home: Path, *, production: bool) -> tuple[Connections, Approvals]:
    settings = load_settings(home=home)
    keys = open_ring(settings, database)
    vault, catalogue = Vault(keys, settings), Catalogue.of([SPEC])
    made = Connections(database, keys, audit, vault, catalogue=catalogue, production=production)
    return made, Approvals(database, keys, audit)


@pytest.fixture
def strict(any_database: Database, tmp_path: Path, far: memory.Far) -> tuple[Connections, Approvals]:
    return rooms(any_database, AuditLog(any_database), tmp_path, production=True)


def add(connections: Connections, who: Caller | Actor = ANNA, name: str = "crm", **more: object) -> None:
    settings = {"host": "erp.example", **more}
    connections.create(name, "memory", settings, {"password": Secret(PLANTED)}, who)  # type: ignore[arg-type]


def refused(connections: Connections, who: Caller | Actor = ANNA, **more: object) -> None:
    with pytest.raises(ApprovalError, match=r"connection crm would reach a private network, which takes two people: "):
        add(connections, who, **{"inside": True, **more})


def test_one_person_is_refused_and_nothing_is_stored_or_called(
    strict: tuple[Connections, Approvals], any_database: Database, far: memory.Far
) -> None:
    connections, approvals = strict
    refused(connections)
    (asked,) = approvals.list()
    assert (asked.kind, asked.subject, asked.authors) == (ApprovalKind.PRIVATE, "connection:crm", ("anna",))
    settings = {"host": "erp.example", "port": 5432, "inside": True}
    assert asked.content == {"connection": "crm", "connector": "memory", "settings": settings}
    assert connections.list() == []
    assert far.opened == 0
    with any_database.read() as session:
        assert session.execute(text("select count(*) from access_secret")).scalar_one() == 0
    refused(connections)
    assert [each.id for each in approvals.list()] == [asked.id]


def test_nobody_approves_the_private_network_that_they_asked_for(strict: tuple[Connections, Approvals]) -> None:
    connections, approvals = strict
    key_of_bert = Caller(Actor(ActorKind.SERVICE, "nightly"), "bert", Rights(), "a key")
    refused(connections, key_of_bert)
    (asked,) = approvals.list()
    with pytest.raises(ApprovalError, match="somebody else must approve"):
        approvals.approve(asked.id, BERT)
    refused(connections)
    with pytest.raises(ApprovalError, match="somebody else must approve"):
        approvals.approve(asked.id, ANNA)


def test_what_was_approved_is_made_once(strict: tuple[Connections, Approvals], any_database: Database) -> None:
    connections, approvals = strict
    refused(connections)
    (asked,) = approvals.list()
    approvals.approve(asked.id, BERT)
    add(connections, inside=True)
    assert connections.get("crm").settings["inside"] is True
    assert approvals.get(asked.id).state is ApprovalState.USED
    told = [each.event.action for each in AuditLog(any_database).events(subject="connection:crm")]
    assert told == [
        Action.CONNECTION_CREATE,
        Action.APPROVAL_USE,
        Action.APPROVAL_APPROVE,
        Action.APPROVAL_REQUEST,
    ]
    with pytest.raises(InvalidConnectionError, match="there is a connection crm already"):
        add(connections, inside=True)
    connections.remove("crm", ANNA)
    refused(connections)


def test_other_settings_need_an_approval_of_their_own(strict: tuple[Connections, Approvals]) -> None:
    connections, approvals = strict
    refused(connections)
    (first,) = approvals.list()
    approvals.approve(first.id, BERT)
    refused(connections, host="metadata.example")
    assert approvals.get(first.id).state is ApprovalState.VOID
    refused(connections)
    assert connections.list() == []


def test_a_wrong_connection_is_not_even_asked_for(strict: tuple[Connections, Approvals]) -> None:
    connections, approvals = strict
    with pytest.raises(InvalidConnectionError, match="port of connector memory"):
        add(connections, inside=True, port="x")
    assert approvals.list(closed=True) == []


def test_a_connection_to_public_addresses_needs_nobody(strict: tuple[Connections, Approvals]) -> None:
    connections, approvals = strict
    add(connections)
    add(connections, name="erp", inside=False)
    assert [each.name for each in connections.list()] == ["crm", "erp"]
    assert approvals.list(closed=True) == []


def test_outside_of_production_one_person_connects_it(database: Database, tmp_path: Path, far: memory.Far) -> None:
    assert far.opened == 0
    connections, approvals = rooms(database, AuditLog(database), tmp_path, production=False)
    add(connections, inside=True)
    assert connections.get("crm").settings["inside"] is True
    assert approvals.list(closed=True) == []


@pytest.mark.parametrize("name", Catalogue().names())
def test_each_installed_connector_marks_what_lets_it_reach_a_private_network(name: str) -> None:
    spec = Catalogue().spec(name)
    called = {each for each in spec.config.model_fields if "private" in each.split("_") and "key" not in each}
    assert called == {"private"}
    assert called <= private_names(spec)
