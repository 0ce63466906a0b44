"""Tokens are minted where credentials are kept: narrowed to the grant, shared, renewed, and all a connector gets."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from hub.access import Actor, ActorKind, Vault
from hub.audit import Action, AuditLog
from hub.connections import Catalogue, Connections
from hub.database import Database
from hub.keys import open_ring
from hub.logs import without_secrets
from hub.sdk import Grant, Secret, UnauthorizedError, UnexpectedError
from hub.settings import load_settings
from tests.hub.connections import minting

ANNA = Actor(ActorKind.HUMAN, "anna")
PATIENTS = Grant(reads={"Patient": frozenset({"id"})})
BOTH = Grant(reads={"Patient": frozenset({"id"})}, writes={"RiskAssessment": frozenset({"score"})})


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> minting.TokenEndpoint:
    monkeypatch.setattr(minting, "FAR", minting.TokenEndpoint())
    return minting.FAR


@pytest.fixture
def connections(database: Database, tmp_path: Path, far: minting.TokenEndpoint) -> Connections:
    settings = load_settings(home=tmp_path)
    keys, audit = open_ring(settings, database), AuditLog(database)
    made = Connections(database, keys, audit, Vault(keys, settings), catalogue=Catalogue.of(minting.SPECS))
    for each in minting.SPECS:
        made.create(each.name, each.name, {}, {"private_key": Secret(f"key of {each.name}")}, ANNA)
    return made


def use(connections: Connections, name: str, grant: Grant) -> None:
    with connections.open(name, grant) as opened:
        opened.check()


def test_scopes_follow_from_the_grant_in_the_terms_of_the_far_side(
    connections: Connections, far: minting.TokenEndpoint
) -> None:
    for name in ("smart", "entra", "sts"):
        use(connections, name, BOTH)
    assert far.asked == [
        ("key of smart", ("system/Patient.rs", "system/RiskAssessment.urs")),
        ("key of entra", ("https://far.example/.default",)),
        ("key of sts", ("s3:GetObject Patient/*",)),
    ]


def test_work_that_asks_for_the_same_shares_a_token_and_other_work_has_its_own(
    connections: Connections, far: minting.TokenEndpoint
) -> None:
    for grant in (PATIENTS, PATIENTS, BOTH, PATIENTS, BOTH):
        use(connections, "smart", grant)
    assert [scopes for _, scopes in far.asked] == [
        ("system/Patient.rs",),
        ("system/Patient.rs", "system/RiskAssessment.urs"),
    ]
    assert far.used == ["token-1", "token-1", "token-2", "token-1", "token-2"]


def test_the_long_lived_key_never_reaches_the_connector(connections: Connections, far: minting.TokenEndpoint) -> None:
    with connections.leases.hold("smart", PATIENTS) as held, pytest.raises(UnexpectedError, match="withheld"):
        held.credential.secrets["private_key"].reveal()
    use(connections, "smart", PATIENTS)
    assert far.asked[0][0] == "key of smart"


def test_no_line_of_the_log_shows_a_token_that_is_lent_now(
    connections: Connections, database: Database, far: minting.TokenEndpoint
) -> None:
    """Neither where it was minted, nor in a process that found it in the database."""
    elsewhere = Connections(
        database, connections._keys, AuditLog(database), connections._vault, catalogue=Catalogue.of(minting.SPECS)
    )
    for one in (connections, elsewhere):
        with one.leases.hold("smart", PATIENTS) as held:
            token = one.leases.token(held, None, None)
            value = token.value.reveal().encode()
            coded = b64encode(value).decode(), b64encode(b"x:" + value).decode(), value.hex()
            for spelt in (value.decode(), quote_plus(value), *coded):
                assert without_secrets(f"sent {spelt} there") != f"sent {spelt} there", spelt
    assert far.asked == [("key of smart", ("system/Patient.rs",))]


def test_a_refused_token_is_replaced_once_for_everybody(connections: Connections, far: minting.TokenEndpoint) -> None:
    leases = connections.leases
    with leases.hold("entra", PATIENTS) as held:
        first = leases.token(held, None, None)
        second = leases.token(held, first, None)
        assert leases.token(held, first, None).value.reveal() == second.value.reveal() == "token-2"
    assert len(far.asked) == 2


def test_new_secrets_end_every_token(connections: Connections, far: minting.TokenEndpoint) -> None:
    use(connections, "smart", PATIENTS)
    connections.put_secrets("smart", {"private_key": Secret("new key")}, ANNA)
    use(connections, "smart", PATIENTS)
    assert [key for key, _ in far.asked] == ["key of smart", "new key"]


def test_a_refused_login_says_why_in_the_words_of_the_far_side(
    connections: Connections, far: minting.TokenEndpoint
) -> None:
    far.refuses = True
    with pytest.raises(UnauthorizedError, match="invalid_client"):
        use(connections, "smart", PATIENTS)


def test_the_trail_says_that_a_token_was_minted(connections: Connections, database: Database) -> None:
    use(connections, "sts", PATIENTS)
    connections.leases.close()
    opened, closed = (connections._audit.events(action=each)[0] for each in (Action.LEASE_OPEN, Action.LEASE_CLOSE))
    assert opened.event.detail["minted"] is True
    assert opened.event.digest == PATIENTS.digest()
    assert closed.event.detail["counts"] == {"check": 1, "token": 1}
