"""Eight processes at one SQLite file: nobody is told that it is locked, and the runs come out as alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from hub.runs import RunKind, RunState
from hub.worker.supervisor import _variables
from tests.hub.runs.site import Site
from tests.system.drill import Make, assert_master_property, describe, runs, settled, until, workers

pytestmark = pytest.mark.timeout(300)

WORKERS = 3
OTHERS = ("caller", "caller", "reader", "reader", "upkeep")


@contextmanager
def crowd(site: Site, part: str) -> Iterator[None]:
    """One process more at the same hub; it must have done its part without a word of complaint."""
    environment = {**os.environ, **_variables(site.hub.settings), "HUB_LOG_LEVEL": "warning"}
    command = [sys.executable, "-m", "tests.system.crowd", part]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    assert process.stdout is not None
    begun = process.stdout.readline()
    yield
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, begun, complained) == (0, "begun\n", "")
    assert int(said) > 1, part


def test_eight_processes_at_one_sqlite_file_tell_nobody_that_it_is_locked(
    make_site: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    site = make_site(60, slices=3, page_rows=4, lease_seconds=30, poll_seconds=0.2, log_level="warning")
    with ExitStack() as stack:
        for each in OTHERS:
            stack.enter_context(crowd(site, each))
        supervisor = stack.enter_context(workers(site, WORKERS))
        for turn in range(2):
            site.ask("update PERSON set X = X + 0.25 + ?", turn)
            until(settled(site, site.order(RunKind.FULL)), 100)
        assert supervisor.replaced == 0
    assert "locked" not in capfd.readouterr().err
    for each in runs(site):
        assert each.state is RunState.DONE, describe(each)
    assert_master_property(site, make_site)
