"""Whoever does something to a hub dies at its commit: all of it is done then, with its event, or nothing of it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hub.runs import cancel
from hub.worker.supervisor import _variables
from tests.hub.runs.site import ME, Site
from tests.system.deeds import BEYOND_SQLITE, DEEDS, Deed
from tests.system.drill import DIED, PATIENCE, Make, assert_master_property, calm, runs


def die(site: Site, deed: Deed, subject: str, fault: str) -> int:
    """The exit status of a process that does the deed and meets the fault."""
    command = [sys.executable, "-m", "tests.system.verbs", deed.verb, subject]
    environment = {**os.environ, **_variables(site.hub.settings), "HUB_FAULT": fault}
    return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, timeout=PATIENCE).returncode


def told(site: Site, deed: Deed) -> int:
    """How many events of the deed's kind there are."""
    return len(site.events(deed.action)) if deed.action is not None else 0


@pytest.mark.parametrize("deed", DEEDS, ids=lambda each: f"{each.verb}: {each.commit}")
def test_it_is_done_whole_or_not_at_all(
    deed: Deed, make_any_site: Make, make_site: Make, request: pytest.FixtureRequest
) -> None:
    if deed.commit in BEYOND_SQLITE and "embedded" in request.node.name:
        return
    site = make_any_site(12, page_rows=5, lease_seconds=60, parts=deed.parts, connector=deed.connector)
    subject = deed.before(site)
    for when, more in (("before", 0), ("after", deed.action is not None)):
        seen = told(site, deed)
        assert die(site, deed, subject, f"exit:{when} {deed.commit}") == DIED
        assert told(site, deed) == seen + more
        if deed.commit == "commit of Installation.ring":
            calm(site)  # the run is there, whether its bell was rung or not
            assert runs(site)[-1].counts["applied"] + runs(site)[-1].counts["skipped"] == 12
    kept = site.hub.sealed.seal(every_chain=True) or site.hub.sealed.checkpoint()
    verdict = site.hub.sealed.verify([kept.note])
    assert (verdict.fault, verdict.sealed, verdict.kept) == (None, verdict.events, 1)
    with site.hub.database.read() as session:
        segments = site.hub.log.segments(session, mapping="risk")
    for each in segments:
        site.hub.log.verify(each.id)
    if deed.steers:
        for run in runs(site):
            if run.state.value == "held":
                cancel(site.hub, run.id, str(ME))
        assert_master_property(site, make_site)
