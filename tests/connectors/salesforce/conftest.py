"""Hubs beside orgs of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.salesforce.twin import Twin
from hub.logs import configure
from hub.runs import open_installation
from hub.settings import load_settings
from tests.connectors.salesforce.orgs import ME, TARGETS, LeadSite, secret_of, settings_of
from tests.hub.runs.conftest import model_home

__all__ = ["model_home"]


@pytest.fixture
def make_org(model_home: Path, tmp_path: Path) -> Iterator[Callable[..., LeadSite]]:
    """Makes an installation with an org of so many leads; `settings` are the hub's, `way` the connection's."""
    sites: list[LeadSite] = []
    twins: list[Twin] = []

    def make(records: int = 20, *, way: dict[str, Any] | None = None, **settings: Any) -> LeadSite:
        home = shutil.copytree(model_home, tmp_path / f"hub{len(sites)}")
        twin = Twin(tmp_path / f"twin{len(sites)}", records=records)
        twin.__enter__()
        twins.append(twin)
        for each in TARGETS:
            twin.control.add_field("Lead", each)
        configured = load_settings(home=home, **{"log_level": "error", "poll_seconds": 0.5, **settings})
        configure(configured, process="test")
        hub = open_installation(configured)
        sites.append(LeadSite(hub, twin))
        given = settings_of(twin, **(way or {}))
        hub.connections.create("crm", "salesforce", given, {"client_secret": secret_of(twin)}, ME)
        return sites[-1]

    yield make
    for site in sites:
        site.hub.close()
    for twin in twins:
        twin.__exit__(None, None, None)
