"""What the lease broker makes for nobody: what the hub believes for the mere reason that it opens."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from hub.access import DeniedError
from hub.access.leases import LeaseBroker, Office, Part
from hub.audit import AuditLog
from hub.database import Database
from hub.keys import open_ring
from hub.settings import load_settings
from tests.hub.access.test_revoking import Open

OF_THE_BROKER = [
    {"kind": "root", "format": "1"},
    {"kind": "working-key", "version": "2"},
    {"kind": "sealing-key", "public": "00" * 32},
]
NOT_OF_THE_API = [
    {"kind": "signing-key", "purpose": "audit-log", "public": "00" * 32},
    {"kind": "access_token", "connection": "far"},
    {"table": "access_secret", "name": "connection/far/password", "version": "1", "kind": "stored"},
]
EVERYBODYS = [{"kind": "signing-key", "purpose": "access-token", "public": "00" * 32}, {"kind": "request"}]


@pytest.fixture
def office(database: Database, tmp_path: Path) -> Office:
    keys = open_ring(load_settings(home=tmp_path / "home"), database)
    return Office(keys, LeaseBroker(database, AuditLog(database), Open()), lambda _holder, _connection, _grant: True)


def seal(office: Office, part: Part, identity: dict[str, str]) -> Any:
    plain = base64.b64encode(b"known to whoever asks").decode()
    return office.answer(part, {"do": "seal", "plain": plain, "identity": identity, "more": {}})


@pytest.mark.parametrize("identity", [*OF_THE_BROKER, *NOT_OF_THE_API], ids=str)
def test_whoever_answers_requests_makes_no_key_no_secret_and_no_token(office: Office, identity: dict[str, str]) -> None:
    with pytest.raises(DeniedError, match="nobody but the lease broker"):
        seal(office, Part.API, identity)


@pytest.mark.parametrize("identity", OF_THE_BROKER, ids=str)
def test_whoever_carries_runs_makes_no_key_of_the_broker(office: Office, identity: dict[str, str]) -> None:
    with pytest.raises(DeniedError, match="nobody but the lease broker"):
        seal(office, Part.WORKER, identity)


@pytest.mark.parametrize("identity", EVERYBODYS, ids=str)
@pytest.mark.parametrize("part", [*Part])
def test_what_is_theirs_comes_back_as_it_was(office: Office, part: Part, identity: dict[str, str]) -> None:
    sealed = seal(office, part, identity)
    asked = {"do": "unseal", "sealed": sealed, "identity": identity, "more": {}}
    assert base64.b64decode(office.answer(part, asked)) == b"known to whoever asks"
