"""An edit by a salesperson, told by Salesforce's change events to a hub with real workers: one score, one write."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.events import followed, until, writes
from hub.audit import Action
from hub.runs import RunKind, RunState

pytestmark = pytest.mark.timeout(300)


def test_each_edit_of_a_salesperson_is_one_score_and_one_write_and_no_echo(tmp_path: Path) -> None:
    with followed(tmp_path, records=30) as org:
        (full,) = org.runs(RunKind.FULL)
        assert (full.state, full.actor, full.counts["applied"]) == (RunState.DONE, "service:follower", len(org.leads))
        before, (first, second) = writes(org), org.leads[:2]
        scores = [org.score(each) for each in (first, second)]
        org.edit(first, 1 if (scores[0] or 0) >= 50 else 999)
        until(lambda: org.score(first) != scores[0])
        org.edit(second, 1 if (scores[1] or 0) >= 50 else 999)
        until(lambda: org.score(second) != scores[1])
        until(lambda: org.runs(RunKind.FOLLOW)[0].counts["applied"] == 2)
        org.people.Lead.update(first, {"City": "Oslo"})  # type: ignore[operator]  # a field that no mapping reads
        other = "Banking" if org.people.Lead.get(second)["Industry"] != "Banking" else "Retail"  # type: ignore[operator]
        org.people.Lead.update(second, {"Industry": other})  # type: ignore[operator]
        until(lambda: org.runs(RunKind.FOLLOW)[0].counts.read == 3)
        (run,) = org.runs(RunKind.FOLLOW)
        assert (run.state, run.reason, run.counts.balanced, run.counts["skipped"]) == (RunState.RUNNING, None, True, 0)
        assert (writes(org) - before)[first] == 1
        assert sum((writes(org) - before).values()) == run.counts["applied"]
        intents = [each for each in org.hub.audit.events(action=Action.WRITE_INTENT) if each.event.run == run.id]
        assert len(intents) == run.counts["applied"]
        assert org.hub.audit.verify().ok
