"""The vault: secrets open only where they were put, references only where they may point."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from hub.access import Reference, Vault, VaultError, destroy_overdue, move_under_newest_key
from hub.audit import Action, AuditLog
from hub.database import Database
from hub.keys import behind, open_ring, rewrap_some, rotate
from hub.keys.envelope import parse
from hub.sdk import Secret
from hub.settings import Settings, load_settings

PLANTED = "pl4nted-s3cret"
LONG_AGO = "update access_secret set readable_until = '2020-01-01 00:00:00.000000' where version = 1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path)


@pytest.fixture
def vault(settings: Settings, database: Database) -> Vault:
    environment = {"HUB_SECRET_CRM": PLANTED, "HUB_DATABASE_URL": "postgresql://hub:own@db", "HUB_SECRET_EMPTY": ""}
    return Vault(open_ring(settings, database), settings, environment=environment)


def put(vault: Vault, database: Database, name: str, secret: Secret | Reference) -> int:
    with database.begin() as session:
        return vault.put_secret(session, name, secret)


def reveal(vault: Vault, database: Database, name: str) -> str:
    with database.read() as session:
        return vault.open_secret(session, name).reveal()


def test_the_newest_version_is_the_one_that_opens(vault: Vault, database: Database) -> None:
    assert put(vault, database, "crm/password", Secret("old")) == 1
    assert put(vault, database, "crm/password", Secret(PLANTED)) == 2
    assert reveal(vault, database, "crm/password") == PLANTED


def test_a_secret_is_nowhere_in_the_database_file(vault: Vault, database: Database, tmp_path: Path) -> None:
    put(vault, database, "crm", Secret(PLANTED))
    database.close()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or PLANTED.encode() not in path.read_bytes()


def test_swapped_rows_do_not_open(vault: Vault, database: Database) -> None:
    put(vault, database, "one", Secret("first"))
    put(vault, database, "two", Secret("second"))
    with database.begin() as session:
        rows = dict(session.execute(text("select name, sealed from access_secret")).all())
        for name, other in (("one", "two"), ("two", "one")):
            session.execute(
                text("update access_secret set sealed = :sealed where name = :name"),
                {"name": name, "sealed": rows[other]},
            )
    for name in ("one", "two"):
        with pytest.raises(VaultError, match=f"secret {name} does not open"):
            reveal(vault, database, name)


def test_an_old_version_put_back_does_not_open(vault: Vault, database: Database) -> None:
    put(vault, database, "crm", Secret("leaked"))
    put(vault, database, "crm", Secret("new"))
    with database.begin() as session:
        session.execute(
            text(
                "update access_secret set sealed = (select sealed from access_secret where version = 1) "
                "where version = 2"
            )
        )
    with pytest.raises(VaultError, match="does not open"):
        reveal(vault, database, "crm")


def test_a_stored_secret_cannot_be_turned_into_a_reference(vault: Vault, database: Database) -> None:
    put(vault, database, "crm", Secret("env:HUB_SECRET_CRM"))
    assert reveal(vault, database, "crm") == "env:HUB_SECRET_CRM"
    with database.begin() as session:
        session.execute(text("update access_secret set kind = 'reference'"))
    with pytest.raises(VaultError, match="does not open"):
        reveal(vault, database, "crm")


def test_a_destroyed_secret_is_gone(vault: Vault, database: Database) -> None:
    put(vault, database, "crm", Secret("one"))
    put(vault, database, "crm", Secret("two"))
    with database.begin() as session:
        assert vault.destroy_secret(session, "crm") == 2
    with pytest.raises(VaultError, match="there is no secret crm"):
        reveal(vault, database, "crm")
    assert put(vault, database, "crm", Secret("three")) == 3


def test_a_secret_that_was_replaced_still_opens_for_a_while(vault: Vault, database: Database) -> None:
    put(vault, database, "crm", Secret("older"))
    put(vault, database, "crm", Secret("newer"))
    assert reveal(vault, database, "crm") == "newer"
    with database.read() as session:
        assert vault.open_secret(session, "crm", 1).reveal() == "older"
    with database.begin() as session:
        session.execute(text(LONG_AGO))
    with database.read() as session, pytest.raises(VaultError, match="there is no secret crm, version 1"):
        vault.open_secret(session, "crm", 1)


def test_what_is_past_its_overlap_is_destroyed_and_noted(vault: Vault, database: Database, settings: Settings) -> None:
    audit = AuditLog(database)
    for each in ("older", "newer"):
        put(vault, database, "crm", Secret(each))
    assert destroy_overdue(vault, database, audit) == 0
    with database.begin() as session:
        session.execute(text(LONG_AGO))
    assert destroy_overdue(vault, database, audit) == 1
    with database.read() as session:
        held = session.execute(text("select version, sealed is null from access_secret order by version")).all()
    assert held == [(1, True), (2, False)]
    assert reveal(vault, database, "crm") == "newer"
    [event] = [each.event for each in audit.events() if each.event.action is Action.SECRET_DESTROY]
    assert (event.actor, event.subject, event.detail) == ("service:hub", "secret:crm", {"version": 1})


def test_secrets_are_moved_under_a_new_key_while_another_process_reads_them(
    vault: Vault, database: Database, settings: Settings
) -> None:
    for at in range(120):
        put(vault, database, f"s{at}", Secret(f"value-{at}"))
    ring = rotate(settings, database)
    audit = AuditLog(database)
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            looked = range(0, 120, 7)
            wrong.extend(at for at in looked if reveal(vault, database, f"s{at}") != f"value-{at}")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        # Died after the first of three transactions: whoever comes next finds what is left.
        assert rewrap_some(ring, database) == 50
        assert put(vault, database, "s3", Secret("changed meanwhile")) == 2
        assert move_under_newest_key(ring, database, audit) == 71
    finally:
        stop.set()
        reader.join()
    assert wrong == []
    with database.read() as session:
        assert behind(ring, session) == []
        rows = session.execute(text("select sealed from access_secret")).scalars().all()
    assert {parse(each).kek_version for each in rows} == {2}
    assert reveal(vault, database, "s3") == "changed meanwhile"
    told = [each.event.detail for each in audit.events() if each.event.action is Action.KEY_REWRAP]
    assert sum(int(str(each["values"])) for each in told) == 71


def test_a_reference_is_followed_each_time(vault: Vault, database: Database, settings: Settings) -> None:
    put(vault, database, "crm", Reference("env", "HUB_SECRET_CRM"))
    assert reveal(vault, database, "crm") == PLANTED
    settings.secrets.mkdir()
    (settings.secrets / "erp").write_text("first\n")
    put(vault, database, "erp", Reference("file", "erp"))
    (settings.secrets / "erp").write_text("second\n")
    assert reveal(vault, database, "erp") == "second"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("env:HUB_DATABASE_URL", "must name a variable that begins with HUB_SECRET_"),
        ("env:PATH", "must name a variable that begins with HUB_SECRET_"),
        ("env:HUB_SECRET_NONE", "names a variable that is not set"),
        ("env:HUB_SECRET_EMPTY", "is empty"),
        ("file:../keys/kek.json", "points outside the folder HUB_SECRETS"),
        ("file:/etc/passwd", "points outside the folder HUB_SECRETS"),
        ("file:link", "points outside the folder HUB_SECRETS"),
        ("file:missing", "names a file that cannot be read"),
        ("file:binary", "names a file that cannot be read"),
        ("file:big", "has more than 65536 bytes"),
    ],
)
def test_a_reference_points_only_where_it_may(
    vault: Vault, database: Database, settings: Settings, reference: str, said: str
) -> None:
    settings.secrets.mkdir()
    (settings.secrets / "link").symlink_to(settings.key_file)
    (settings.secrets / "binary").write_bytes(b"\xff\xfe")
    (settings.secrets / "big").write_bytes(b"x" * 70_000)
    parsed = Reference.parse(reference)
    assert parsed is not None
    with pytest.raises(VaultError, match=said):
        put(vault, database, "crm", parsed)
    with pytest.raises(VaultError, match="there is no secret"):
        reveal(vault, database, "crm")


@pytest.mark.parametrize("text_", ["password", "vault:", "env:", ":x", "https://x"])
def test_other_text_is_no_reference(text_: str) -> None:
    assert Reference.parse(text_) is None


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 201, "é"])
def test_a_secret_has_a_plain_name(vault: Vault, database: Database, name: str) -> None:
    with pytest.raises(VaultError, match="a secret's name is letters"):
        put(vault, database, name, Secret("x"))


@pytest.mark.parametrize("value", ["", "x" * 70_000])
def test_a_secret_that_is_empty_or_huge_is_refused(vault: Vault, database: Database, value: str) -> None:
    with pytest.raises(VaultError, match="is empty or has more than"):
        put(vault, database, "crm", Secret(value))
