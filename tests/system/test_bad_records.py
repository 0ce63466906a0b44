"""A record that kills its worker or hangs it costs a few workers and itself, never the records around it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from hub.decisions.plain import decision_json
from hub.runs import Run, RunState, look_up, replay
from hub.worker import Supervisor
from hub.worker.supervisor import _variables
from tests.hub.runs.site import ME, Site
from tests.system.drill import assert_master_property

Make = Callable[..., Site]
pytestmark = pytest.mark.timeout(300)
LIMIT = 3.0
"""Seconds that one step of a slice may take. A record that hangs costs one limit for each part tried with it."""
STEPS = 6
"""Parts that one page of 200 is tried in until a record is found: 200, 25, 3, then three times the record alone."""
REFUSED, KILLER, HANGER = ("000010", "000077", "000180"), "000150", "000041"


def carried(site: Site, run: str, seconds: float = 240) -> tuple[Run, int]:
    """The run when real workers have nothing more to do, and how many had to be replaced."""
    with Supervisor(site.hub.settings, until_idle=True) as supervisor:
        assert supervisor.wait(seconds)
        return site.look(run), supervisor.replaced


def why(site: Site, key: str) -> str:
    """What the receipt says of a record's latest decision."""
    found = look_up(site.hub, "risk", {"ID": key}, str(ME))
    assert found is not None
    told: dict[str, Any] = decision_json(found.decisions[0])
    return str(told["result"].get("reason") or told["reason"])


def test_of_a_page_of_200_with_three_refused_a_killer_and_a_hanger_195_are_written_and_five_explained(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet, site = (
        make_site(200, page_rows=200, lease_seconds=60),
        make_site(200, page_rows=200, record_seconds=LIMIT, poll_seconds=0.2, lease_seconds=60),
    )
    quiet.run()
    site.ask("insert into REFUSED values (?)", [[key] for key in REFUSED])
    monkeypatch.setenv("HUB_FAULT", f"hang:before write@{HANGER};exit:before score@{KILLER}")
    ended, replaced = carried(site, site.order())
    assert ended.state is RunState.DONE_WITH_REJECTS
    assert dict(ended.counts.by) == {"applied": 195, "rejected": 3, "parked": 2}
    assert replaced <= 2 * STEPS  # at most as many limits for the hanger, and nobody waited for a lease of a minute
    left = {*REFUSED, KILLER, HANGER}
    assert {key: value for key, value in site.scores().items() if value[0] is not None} == {
        key: value for key, value in quiet.scores().items() if key not in left
    }
    assert (site.writes(), site.decisions()) == (195, 200)
    assert {why(site, key) for key in REFUSED} == {"a rule or trigger of the table forbids it"}
    assert why(site, HANGER) == "writing this record ended its process 3 times on its own"
    assert why(site, KILLER) == "carrying this record failed 3 times on its own"
    shown = subprocess.run(
        [sys.executable, "-m", "hub.cli", "decisions", "show", "risk", HANGER],
        env={**os.environ, **_variables(site.hub.settings)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "writing this record ended its process" in shown.stdout

    monkeypatch.delenv("HUB_FAULT")
    site.ask("delete from REFUSED")
    ended, replaced = carried(site, replay(site.hub, "risk", str(ME), ("rejected", "parked")))
    assert (ended.state, dict(ended.counts.by), replaced) == (RunState.DONE, {"applied": 5}, 0)
    assert {key for [key] in site.ask("select ID from WRITES where NO > 195")} == left
    assert (site.scores(), site.decisions()) == (quiet.scores(), 205)
    assert_master_property(site, make_site)


def test_a_record_that_kills_its_worker_while_written_is_parked_or_found_to_be_written(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(16, page_rows=8, poll_seconds=0.2, lease_seconds=60)
    monkeypatch.setenv("HUB_FAULT", "exit:before write@000003;exit:after write@000012")
    ended, replaced = carried(site, site.order())
    assert (ended.state, dict(ended.counts.by)) == (RunState.DONE_WITH_REJECTS, {"applied": 15, "parked": 1})
    assert replaced == 5  # for each once in a page of eight, and three times alone for the one that never landed
    assert (site.writes(), site.decisions()) == (15, 16)
    assert site.standing("000012")["state"] == "applied"
