"""Connections over the connector in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.access import Vault
from hub.audit import AuditLog
from hub.connections import Catalogue, Connections
from hub.database import Database
from hub.keys import open_ring
from hub.settings import load_settings
from tests.hub.connections import memory


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> memory.Far:
    """The far system, empty."""
    monkeypatch.setattr(memory, "FAR", memory.Far())
    return memory.FAR


@pytest.fixture
def audit(database: Database) -> AuditLog:
    return AuditLog(database)


@pytest.fixture
def connections(database: Database, audit: AuditLog, tmp_path: Path, far: memory.Far) -> Connections:
    settings = load_settings(home=tmp_path)
    keys = open_ring(settings, database)
    vault = Vault(keys, settings, environment={"HUB_SECRET_CRM": "from outside"})
    return Connections(database, keys, audit, vault, catalogue=Catalogue.of([memory.SPEC]))
