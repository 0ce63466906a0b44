"""The lead score on a Salesforce org from end to end: worker processes, real sockets, and what the org saw of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from connectors.salesforce.twin import Twin
from hub.cli.demo.conversion import train

OPEN, PAST, ABSURD = 60, 500, 1
MAPPING = str(files("mappings") / "lead_score")
SCORES = ("Score__c", "Score_Band__c", "Score_Reasons__c", "Scored_At__c")
STATES = ("Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted")
READS = ("query.", "describe", "login.", "limits", "composite_batch")


@dataclass
class Team:
    """An org, and a hub of this test's own that is worked by its commands."""

    twin: Twin
    home: Path
    auc: float

    def hub(self, line: str, *more: str, code: int = 0) -> Any:
        """One command in a process of its own; its answer."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        own |= {"HUB_HOME": str(self.home / ".hub"), "HUB_LOG_LEVEL": "error"}
        own |= {"HUB_SECRET_CRM": self.twin.control.credentials()["consumer_secret"]}
        command = [sys.executable, "-m", "hub.cli", *line.split(), *more, "--json"]
        done = subprocess.run(command, cwd=self.home, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def leads(self) -> dict[str, dict[str, Any]]:
        """Every lead as it is stored, by its id."""
        found = [each for state in STATES for each in self.twin.control.find("Lead", "Status", [state])]
        return {each["Id"]: each for each in found}


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """An org with its past, a model that learnt from it, the fields made and the mapping published."""
    with Twin(tmp_path / "twin", records=OPEN, history=PAST) as twin:
        told = twin.described()
        trained = train(told, str(tmp_path / "model.skops"), str(tmp_path / "rows.csv"))
        made = Team(twin, tmp_path, trained["auc"])
        where = ("host=" + told["host"], "authority=" + told["authority"], "client_id=" + told["consumer_key"])
        ways = ("login=client_credentials", "private=true", "provision=true", 'objects=["Account", "Lead"]')
        made.hub("connections add crm salesforce", *where, *ways, "--secret", "client_secret=env:HUB_SECRET_CRM")
        register = "models register lead_conversion model.skops --sample rows.csv --owner anna --positive 1"
        made.hub(f"{register} --alias champion")
        made.hub("connections provision crm Lead --mapping", MAPPING)
        # Nothing may start by the clock meanwhile.
        text = (Path(MAPPING) / "mapping.yaml").read_text(encoding="utf-8")
        (tmp_path / "lead_score.yaml").write_text(text.replace('  schedule: "*/15 * * * *"\n', ""), encoding="utf-8")
        made.hub("mappings publish lead_score.yaml")
        yield made


def scored(leads: dict[str, dict[str, Any]]) -> set[str]:
    return {key for key, each in leads.items() if each["Score__c"] is not None}


def wrote(calls: list[dict[str, Any]]) -> list[str]:
    """The kinds of calls that wrote records."""
    others = [each for each in calls if not each["kind"].startswith(READS)]
    return [each["kind"] for each in others if each["kind"] != "composite" or "failed" in each["detail"]]


@pytest.mark.timeout(300)
def test_scores_are_written_once_follow_an_edit_and_are_taken_back_where_nobody_changed_them(team: Team) -> None:
    control = team.twin.control
    assert team.auc > 0.7
    before = team.leads()
    run = team.hub("runs start lead_score --wait")
    assert run["counts"] == {"read": OPEN, "held": ABSURD, "applied": OPEN - ABSURD}
    first = team.leads()
    assert len(scored(first)) == OPEN - ABSURD
    assert all(first[key]["Score_Band__c"] in {"Hot", "Warm", "Cold"} for key in scored(first))
    assert all(first[key]["Score_Reasons__c"] and first[key]["Scored_At__c"] for key in scored(first))

    mark = control.summary()["last"]
    again = team.hub("runs start lead_score --full --wait")
    assert again["counts"] == {"read": OPEN, "held": ABSURD, "skipped": OPEN - ABSURD}
    assert wrote(control.calls(after=mark)) == []
    assert team.leads() == first

    control.advance(1)
    cold = [key for key in scored(first) if first[key]["Score_Band__c"] == "Cold"]
    edited = max(cold, key=lambda key: (first[key]["Score__c"], key))
    better = {"Title": "CEO", "LeadSource": "Partner Referral", "Industry": "Technology", "NumberOfEmployees": 900}
    control.edit(edited, better)
    mark = control.summary()["last"]
    moved = team.hub("runs start lead_score --wait")
    assert moved["kind"] == "incremental"
    assert moved["counts"]["applied"] == 1
    assert len(wrote(control.calls(after=mark))) == 1
    second = team.leads()
    assert [key for key in second if second[key]["Score__c"] != first[key]["Score__c"]] == [edited]
    assert second[edited]["Score__c"] > first[edited]["Score__c"]

    by_hand = max(scored(second) - {edited}, key=lambda key: second[key]["Score__c"])
    # Nobody but the hub's own login sees the new fields yet: whoever borrows it edits a score.
    control.edit(by_hand, {"Score__c": 1}, user="integration")
    undone = team.hub("runs undo --wait", run["run"], code=3)
    assert undone["counts"] == {"read": OPEN - ABSURD, "applied": OPEN - ABSURD - 2, "conflict": 2}
    after = team.leads()
    assert scored(after) == {edited, by_hand}
    assert after[by_hand]["Score__c"] == 1
    assert after[edited] == second[edited]
    stamps = {"SystemModstamp", "LastModifiedDate", "LastModifiedById", *SCORES}
    rest = {key: {name: each[name] for name in each if name not in stamps} for key, each in after.items()}
    assert {key for key, each in rest.items() if any(each[name] != before[key][name] for name in each)} == {edited}
    listed = team.hub("runs show", undone["run"])["changed_since"]
    assert {each["key"]["Id"] for each in listed} == {edited, by_hand}
