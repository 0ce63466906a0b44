"""Real worker processes on installations of the tests' own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from hub.runs import abandon
from hub.worker.naming import worker_name
from hub.worker.supervisor import _variables
from tests.hub.runs.conftest import far_side, make_site, model_home, register, site
from tests.hub.runs.site import Site

__all__ = ["far_side", "make_site", "model_home", "register", "site"]

DIED = 137


def carry_until_fault(site: Site, fault: str, pool: str = "default") -> int:
    """One worker process that works until it is idle or the fault ends it; its exit status. Its leases are freed."""
    environment = {**os.environ, **_variables(site.hub.settings), "HUB_FAULT": fault}
    command: list[Any] = [sys.executable, "-m", "hub.worker.child", "--pool", pool, "--until-idle"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    try:
        status = child.wait(60)
    finally:
        child.kill()
        child.wait()
        assert child.stdin is not None
        child.stdin.close()
    abandon(site.hub.database, worker_name(child.pid, pool))
    return status


@pytest.fixture
def quiet(make_site: Any) -> Site:
    """What it comes to when nothing goes wrong."""
    found: Site = make_site(12, page_rows=5)
    found.run()
    return found
