"""The trail by its verbs: who dealt with a record, its erasure, holds, another key, reports, other tools' forms."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hub as package
from tests.faces.cli.conftest import Shell


def lines(path: Path) -> list[Any]:
    """A file of JSON lines."""
    return [json.loads(each) for each in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def scored(hub: Shell) -> Shell:
    """A hub that scored and wrote the ward once, and held those above 95."""
    hub.edit("UPDATE PATIENT SET AGE = 96 WHERE NR = '0039'")
    hub("mappings publish mapping.yaml")
    hub("runs start ward_risk --wait")
    return hub


def test_who_dealt_with_a_record_is_told_and_the_question_too(scored: Shell) -> None:
    scored("decisions show ward_risk 0007")
    found = scored("audit subject ward_risk 0007 --json").answer
    assert [each["action"] for each in found] == ["decisions.decision.show", "runs.page.read"]
    receipt, page = found
    assert receipt["purpose"] == "receipt"
    assert {"age", "marker"} == set(receipt["fields"])
    assert receipt["about"]["state"] == "planned"
    assert (page["purpose"], {"AGE", "MARKER"} <= set(page["fields"])) == ("mapping:ward_risk", True)
    assert scored("audit subject ward_risk 0007 --json").answer[0]["action"] == "audit.subject.show"


def test_a_person_who_lets_a_held_record_pass_is_told_by_the_same_name(scored: Shell) -> None:
    scored("decisions show ward_risk 0039")
    scored("decisions release ward_risk 0039")
    told = scored("audit list --json").answer
    by_action = {each["action"]: each for each in told}
    assert by_action["decisions.decision.release"]["subject"] == by_action["decisions.decision.show"]["subject"]
    assert scored("decisions held ward_risk --json").answer == []
    assert scored("audit list --action decisions.decision.show --json").answer[0]["subject"] == "mapping:ward_risk"
    assert "0039" not in json.dumps([each["subject"] for each in told])


def looks(scored: Shell, key: str) -> dict[str, list[str]]:
    """What a record was looked at for, and which fields of it."""
    told = scored(f"audit subject ward_risk {key} --json").answer
    return {each["purpose"]: each["fields"] for each in told if each["purpose"] is not None}


def test_whoever_lists_held_records_is_told_with_each_of_them(scored: Shell) -> None:
    assert "held records" not in looks(scored, "0039")
    scored("decisions held ward_risk")
    assert looks(scored, "0039")["held records"]
    assert "held records" not in looks(scored, "0007")


def test_whoever_previews_a_document_is_told_with_each_record(hub: Shell) -> None:
    hub("mappings preview mapping.yaml --records 2")
    told = hub("audit list --action mappings.mapping.preview --json").answer[0]["detail"]
    assert (told["records"], told["purpose"]) == (2, "mapping:ward_risk")
    assert {"AGE", "MARKER"} <= set(told["fields"])
    hub("mappings publish mapping.yaml")
    hub("runs start ward_risk --wait")
    for key, times in (("0000", 1), ("0001", 1), ("0007", 0)):
        found = hub(f"audit subject ward_risk {key} --json").answer
        assert [each["action"] for each in found].count("mappings.mapping.preview") == times


def test_what_an_undo_left_alone_is_for_those_who_may_see_records_and_the_look_is_told(
    scored: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = scored("runs list --json").answer
    scored.edit("UPDATE PATIENT SET SCORE = 1 WHERE NR = '0007'")
    undone = scored(f"runs undo {run['run']} --wait --json", 3).answer["run"]
    key = scored("access token create looker --owner bert --scope read --json").answer["key"]
    with monkeypatch.context() as patch:
        patch.setenv("HUB_TOKEN", key)
        assert "0007" not in scored(f"runs show {undone} --json").out
    assert "undo" not in looks(scored, "0007")
    (left,) = scored(f"runs show {undone} --json").answer["changed_since"]
    assert left["key"] == {"NR": "0007"}
    assert looks(scored, "0007")["undo"] == ["NR"]


def test_an_erased_record_is_forgotten_and_the_log_holds(scored: Shell) -> None:
    scored("decisions show ward_risk 0007")
    scored("audit seal")
    (looked,) = scored("audit list --action decisions.decision.show --json").answer
    hold = f"audit hold case-17 --because Court --subject {looked['subject']}"
    erase = ["audit", "erase", "ward_risk", "0007", "--because", "Asked to be forgotten", "--json"]
    scored(hold)
    assert "legal hold case-17" in scored(erase[:-1], 1).problem
    assert [each["name"] for each in scored("audit holds --json").answer] == ["case-17"]
    scored("audit end-hold case-17")
    (run,) = scored("runs list --json").answer
    scored(f"audit hold case-18 --because Court --run {run['run']}")
    assert "legal hold case-18" in scored(erase[:-1], 1).problem
    scored("audit end-hold case-18")
    scored("audit hold case-19 --because Court --run 20260101-000000-abcdef")
    done = scored(erase).answer
    assert (done["decisions"], done["key_destroyed"]) == (1, True)
    assert "never met" in scored("decisions show ward_risk 0007", 1).problem
    assert scored("audit verify --json").answer["ok"]
    assert scored("decisions verify ward_risk --json").answer["faults"] == []
    shown = scored(f"audit list --subject {done['subject']} --json").answer
    assert {"decisions.decision.erase", "audit.subject.shred"} <= {each["action"] for each in shown}


def test_how_long_bodies_are_kept_is_set_in_words(scored: Shell) -> None:
    assert scored("audit retain --json").answer == {"days": None}
    assert scored("audit retain --keep 6y --json").answer == {"days": 2196}
    assert "183 days" in scored("audit retain --keep 3m", 1).problem
    assert scored("audit prune --json").answer == {"pruned": 0}


def test_another_key_signs_and_the_old_one_still_verifies(scored: Shell) -> None:
    scored("audit seal")
    first = scored("audit key").out.strip()
    second = scored("audit change-key").out.strip()
    assert second not in ("", first)
    scored("audit export log.jsonl")
    (scored.folder / "verify.py").write_text(scored("audit verifier").out, encoding="utf-8")
    for key in (first, second):
        verify = [sys.executable, "verify.py", "log.jsonl", "--key", key]
        done = subprocess.run(verify, cwd=scored.folder, capture_output=True, text=True)
        assert done.stdout.startswith("everything holds: "), done.stdout + done.stderr
    assert scored("audit list --action audit.key.change --json").answer[0]["detail"] == {"key": second}


def test_a_report_is_made_reviewed_and_both_are_told(scored: Shell) -> None:
    scored("decisions show ward_risk 0007")
    for kind in ("ai-act", "hipaa"):
        scored.write(scored(f"audit report ward_risk --kind {kind} --json").out, f"{kind}.json")
    use = json.loads((scored.folder / "ai-act.json").read_text(encoding="utf-8"))
    assert [each["state"] for each in use["use"]] == ["done"]
    assert (use["versions"][0]["model"], use["versions"][0]["records"]) == ("ward_risk", 40)
    looked = json.loads((scored.folder / "hipaa.json").read_text(encoding="utf-8"))
    assert {each["action"] for each in looked["reads"]} == {"runs.page.read", "decisions.decision.show"}
    assert len(looked["receipts"]) == 1
    scored("audit review ward_risk hipaa.json --finding 'One receipt, by the ward'")
    told = scored("audit list --action audit.report.review --json").answer[0]
    assert (told["subject"], told["detail"]["finding"]) == ("mapping:ward_risk", "One receipt, by the ward")
    altered = scored.write(json.dumps({**looked, "events": 0}), "altered.json")
    assert "was altered" in scored(f"audit review ward_risk {altered} --finding nothing", 1).problem
    assert "no report" in scored("audit review ward_risk mapping.yaml --finding nothing", 1).problem


def test_the_log_is_written_in_the_forms_of_other_tools(scored: Shell) -> None:
    assert scored("audit export log.ocsf --form ocsf --json").answer["events"] > 5
    assert {each["class_uid"] for each in lines(scored.folder / "log.ocsf")} >= {6003, 6005}
    scored("audit export log.fhir --form fhir")
    assert {each["resourceType"] for each in lines(scored.folder / "log.fhir")} == {"AuditEvent"}
    scored("audit export other --form xml", 2)


def test_a_stranger_checks_one_score_as_the_guide_says(hub: Shell) -> None:
    """With Python's standard library and openssl alone: the commands of hub/docs/secure.md, as they stand there."""
    guide = (Path(package.__file__).parent / "docs" / "secure.md").read_text(encoding="utf-8")
    (walk,) = re.findall(r"```sh\n(# Somebody outside keeps.*?)```", guide, re.DOTALL)
    (check,) = re.findall(r"```sh\n(# In the folder of the proof.*?)```", guide, re.DOTALL)
    hub("mappings publish mapping.yaml")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = f"set -eu\n{walk}\ncd proof\n{check}"
    run = ["bash", "-c", script]
    done = subprocess.run(run, cwd=hub.folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "everything holds: " in done.stdout
    assert done.stdout.endswith("Signature Verified Successfully\nthe log holds the event\n")
    event = json.loads((hub.folder / "proof" / "event.json").read_text(encoding="utf-8"))
    receipt = json.loads((hub.folder / "receipt.json").read_text(encoding="utf-8"))
    assert event["digest"] == receipt["decisions"][0]["digest"]
