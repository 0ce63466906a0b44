"""Connections: made whole or not at all, opened with their secrets, and refused with the nearest name."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from sqlalchemy import text

from hub.access import Actor, ActorKind, Reference
from hub.audit import Action, AuditLog, Outcome
from hub.connections import (
    Catalogue,
    Connections,
    InvalidConnectionError,
    PausedConnectionError,
    UnknownConnectionError,
    UnknownConnectorError,
)
from hub.database import Database
from hub.sdk import Grant, Secret, UnauthorizedError
from tests.hub.connections import memory

ANNA = Actor(ActorKind.HUMAN, "anna")
PLANTED = "pl4nted-s3cret"


def create(connections: Connections, name: str = "crm", **more: object) -> None:
    settings = {"host": "db.example", **more}
    connections.create(name, "memory", settings, {"password": Secret(PLANTED)}, ANNA)  # type: ignore[arg-type]


def test_a_connection_is_opened_with_its_secret_and_closed_again(connections: Connections, far: memory.Far) -> None:
    create(connections)
    with connections.open("crm", Grant()) as opened:
        assert opened.name == "crm"
        assert opened.spec is memory.SPEC
    assert (far.opened, far.closed, far.passwords) == (1, 1, [PLANTED])


def test_it_is_closed_when_its_user_fails(connections: Connections, far: memory.Far) -> None:
    def fail() -> None:
        with connections.open("crm", Grant()):
            raise KeyError

    create(connections)
    with pytest.raises(KeyError):
        fail()
    assert far.closed == 1


def test_what_is_shown_holds_no_secret(
    connections: Connections, database: Database, audit: AuditLog, tmp_path: Path
) -> None:
    create(connections)
    shown = connections.get("crm")
    assert shown.settings == {"host": "db.example", "port": 5432}
    assert shown.secrets == ("password",)
    assert connections.list() == [shown]
    assert PLANTED not in repr(audit.events())
    database.close()
    assert not any(PLANTED.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "settings", "secrets", "said"),
    [
        ("CRM", {"host": "x"}, {"password": "x"}, "name: a connection is named in lower-case"),
        ("crm", {"hots": "x"}, {"password": "x"}, "hots is no setting of connector memory; did you mean host"),
        ("crm", {"host": "x", "password": "x"}, {}, "password of connector memory is a secret; give it as one"),
        ("crm", {"host": "x"}, {"pasword": "x"}, "pasword is no secret of connector memory; did you mean password"),
        ("crm", {"host": "x"}, {"host": "x"}, "host is no secret of connector memory"),
        ("crm", {"host": ""}, {"password": "x"}, "host of connector memory: string should have at least 1 character"),
        ("crm", {}, {"password": "x"}, "host of connector memory: field required"),
        ("crm", {"host": "x", "port": PLANTED}, {"password": "x"}, "port of connector memory: input should be a valid"),
        ("crm", {"host": "x"}, {}, "password of connector memory: field required"),
    ],
)
def test_a_wrong_connection_is_refused_and_nothing_is_stored(
    connections: Connections,
    database: Database,
    audit: AuditLog,
    name: str,
    settings: dict[str, str],
    secrets: dict[str, str],
    said: str,
) -> None:
    hidden = {each: Secret(value) for each, value in secrets.items()}
    with pytest.raises(InvalidConnectionError) as caught:
        connections.create(name, "memory", settings, hidden, ANNA)
    assert str(caught.value).startswith(said)
    assert PLANTED not in str(caught.value)
    assert connections.list() == []
    assert audit.events() == []
    with database.read() as session:
        assert session.execute(text("select count(*) from access_secret")).scalar_one() == 0


def test_a_name_is_taken_once(connections: Connections) -> None:
    create(connections)
    with pytest.raises(InvalidConnectionError, match="there is a connection crm already"):
        create(connections)


def test_an_unknown_name_is_answered_with_the_nearest(connections: Connections) -> None:
    with pytest.raises(UnknownConnectionError, match="no connection crm; there is none yet"):
        connections.get("crm")
    create(connections, "crm_production")
    with pytest.raises(UnknownConnectionError, match="no connection crm_prodution; did you mean crm_production"):
        connections.get("crm_prodution")
    with pytest.raises(UnknownConnectorError, match="no connector is called memry; did you mean memory"):
        connections.create("x", "memry", {}, {}, ANNA)


def test_a_check_tells_identity_and_missing_rights_and_is_recorded(connections: Connections, audit: AuditLog) -> None:
    create(connections)
    report = connections.check("crm", ANNA)
    assert (report.identity, report.missing) == ("hub@db.example", ("update Lead",))
    (event,) = audit.events(action=Action.CONNECTION_CHECK)
    assert event.event.outcome is Outcome.DONE
    assert event.event.detail["missing"] == ["update Lead"]


def test_a_refused_login_is_recorded_and_raised(connections: Connections, audit: AuditLog, far: memory.Far) -> None:
    create(connections)
    connections.put_secrets("crm", {"password": Secret("wrong")}, ANNA)
    with pytest.raises(UnauthorizedError, match="login was refused"):
        connections.check("crm", ANNA)
    (event,) = audit.events(action=Action.CONNECTION_CHECK)
    assert (event.event.outcome, event.event.detail) == (Outcome.FAILED, {"error": "UnauthorizedError"})
    assert far.closed == far.opened


def test_a_changed_password_is_used_from_the_next_opening(connections: Connections, far: memory.Far) -> None:
    create(connections)
    connections.put_secrets("crm", {"password": Secret("second"), "token": Reference("env", "HUB_SECRET_CRM")}, ANNA)
    with connections.open("crm", Grant()):
        pass
    assert far.passwords == ["second"]
    assert connections.get("crm").secrets == ("password", "token")


def test_a_secret_can_be_a_reference(connections: Connections, far: memory.Far) -> None:
    connections.create("crm", "memory", {"host": "x"}, {"password": Reference("env", "HUB_SECRET_CRM")}, ANNA)
    with connections.open("crm", Grant()):
        pass
    assert far.passwords == ["from outside"]


@pytest.mark.parametrize(
    "statement",
    [
        """update connection set settings = '{"host": "evil.example", "port": 5432}'""",
        "update connection set name = 'other'",
        "update connection set connector = 'memory2'",
        "update connection set secrets = '[]'",
    ],
)
def test_altered_settings_get_no_secret(
    connections: Connections, database: Database, far: memory.Far, statement: str
) -> None:
    create(connections)
    with database.begin() as session:
        session.execute(text(statement))
    name = connections.list()[0].name
    with pytest.raises(InvalidConnectionError, match="were altered; create it anew"):
        connections.check(name)
    assert far.opened == 0


def test_a_paused_connection_is_not_opened_until_it_is_resumed(
    connections: Connections, audit: AuditLog, far: memory.Far
) -> None:
    create(connections)
    connections.pause("crm", ANNA)
    with pytest.raises(PausedConnectionError, match="crm is paused; resume it"), connections.open("crm", Grant()):
        pass
    assert far.opened == 0
    assert connections.check("crm").identity
    connections.resume("crm", ANNA)
    with connections.open("crm", Grant()):
        pass
    assert {Action.CONNECTION_PAUSE, Action.CONNECTION_RESUME} <= {each.event.action for each in audit.events()}


def test_a_removed_connection_leaves_no_secret(connections: Connections, database: Database) -> None:
    create(connections)
    connections.remove("crm", ANNA)
    assert connections.list() == []
    with database.read() as session:
        assert session.execute(text("select sealed from access_secret")).scalars().all() == [None]
    create(connections)


def test_entities_are_asked_of_the_far_side(connections: Connections) -> None:
    create(connections)
    assert connections.entities("crm") == (memory.LEAD,)


def test_what_was_done_to_a_connection_is_told_in_full(connections: Connections, audit: AuditLog) -> None:
    create(connections)
    connections.remove("crm", ANNA)
    told = audit.events(subject="connection:crm")
    assert [(each.event.actor, each.event.action) for each in told] == [
        ("human:anna", Action.CONNECTION_REMOVE),
        ("human:anna", Action.CONNECTION_CREATE),
    ]
    assert audit.verify().ok


def test_listing_connectors_imports_none_of_them() -> None:
    catalogue = Catalogue([EntryPoint("ghost", "no_such_module_anywhere:SPEC", "hub.connectors")])
    assert catalogue.names() == ["ghost"]
    assert "no_such_module_anywhere" not in sys.modules
    with pytest.raises(UnknownConnectorError, match=r"connector ghost .* cannot be loaded: No module named"):
        catalogue.spec("ghost")


@pytest.mark.parametrize("target", ["json:dumps", "tests.hub.connections.memory:SPEC", "json:nothing"])
def test_an_entry_point_that_is_no_spec_of_its_name_is_refused(target: str) -> None:
    with pytest.raises(UnknownConnectorError):
        Catalogue([EntryPoint("other", target, "hub.connectors")]).spec("other")
