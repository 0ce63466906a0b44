"""Approvals of an installation of their own, on either database."""

from __future__ import annotations

import pytest

from hub.access.approvals import Approvals
from hub.audit import AuditLog
from hub.database import Database
from hub.keys import open_ring
from hub.settings import load_settings


@pytest.fixture
def audit(any_database: Database) -> AuditLog:
    return AuditLog(any_database)


@pytest.fixture
def approvals(any_database: Database, audit: AuditLog, tmp_path_factory: pytest.TempPathFactory) -> Approvals:
    return Approvals(any_database, open_ring(load_settings(home=tmp_path_factory.mktemp("home")), any_database), audit)
