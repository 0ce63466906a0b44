"""What the verbs do, one after the other as a person would use them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.faces.cli.conftest import DOCUMENT, PEOPLE, Shell

PROVISIONED = (
    DOCUMENT.replace("entity: PATIENT", "entity: BARE")
    .replace("set: { SCORE: score }", "set: { RISK: score }")
    .replace('with: { WHY: "reasons(1)" }', 'with: { RISK_WHY: "reasons(1)", RISK_AT: scored_at }')
)


def test_a_mapping_is_published_paused_resumed_and_taken_back_to_an_earlier_version(hub: Shell) -> None:
    assert hub("mappings publish mapping.yaml --json").answer["number"] == 1
    hub.write(DOCUMENT.replace("title: Risk\n", "title: Risk of the ward\n"))
    assert any("title" in each for each in hub("mappings diff mapping.yaml --json").answer["document"])
    assert hub("mappings publish mapping.yaml --json").answer["number"] == 2
    hub.write(hub("mappings show ward_risk --version 1").out, "earlier.yaml")
    assert hub("mappings publish earlier.yaml --json").answer["number"] == 1
    assert "has no version 7" in hub("mappings show ward_risk --version 7", 1).problem
    hub("mappings pause ward_risk --reason audit")
    assert "paused" in hub("runs start ward_risk", 1).problem
    assert hub("mappings list --json").answer[0]["paused"] == "audit"
    hub("mappings resume ward_risk")
    assert hub("mappings list --json").answer[0]["paused"] is None


def test_nobody_approves_what_they_handed_in(hub: Shell) -> None:
    digest = hub("mappings submit mapping.yaml --json").answer["digest"]
    assert hub(f"mappings approve ward_risk {digest}", 1).problem
    assert hub("mappings list --json").answer[0]["number"] is None


def test_a_document_can_be_explained_signed_and_completed_by_an_editor(hub: Shell) -> None:
    assert "SCORE" in hub("mappings explain mapping.yaml").out
    assert "ward_risk" in hub("mappings spec mapping.yaml").out
    assert "reads PATIENT" in hub("mappings grant mapping.yaml").out
    assert hub("mappings schema").answer["$schema"]


def test_missing_score_fields_are_made_where_the_connection_may(hub: Shell) -> None:
    hub.write(PROVISIONED)
    done = hub("connections provision ward BARE --mapping mapping.yaml", 1)
    assert "may not make fields" in done.problem
    assert "BARE.RISK" not in done.err
    hub("connections remove ward")
    hub("connections add ward sql dialect=sqlite path=ward.db provision=true")
    assert "writes BARE of ward" in hub("connections provision ward PATIENT --mapping mapping.yaml", 1).problem
    made = hub("connections provision ward BARE --mapping mapping.yaml --json").answer["made"]
    assert [each["name"] for each in made] == ["RISK", "RISK_WHY", "RISK_AT"]
    assert "nothing was made" in hub("connections provision ward BARE --mapping mapping.yaml").out
    hub("mappings check mapping.yaml")
    told = hub("audit list --action connections.connection.provision --json").answer
    assert [each["detail"]["fields"] for each in told] == [["RISK", "RISK_WHY", "RISK_AT"]] * 2
    assert [each["outcome"] for each in told] == ["done", "started"]


def test_a_held_record_is_listed_and_released_or_dropped(hub: Shell) -> None:
    hub.edit("UPDATE PATIENT SET AGE = 97 WHERE NR IN ('0001', '0002')")
    hub("mappings publish mapping.yaml")
    run = hub("runs start ward_risk --wait --json").answer
    assert run["counts"] == {"read": PEOPLE, "held": 2, "applied": PEOPLE - 2}
    assert {each["key"]["NR"] for each in hub("decisions held ward_risk --json").answer} == {"0001", "0002"}
    assert hub("decisions release ward_risk 0009", 1).problem
    hub("decisions release ward_risk 0001")
    hub("decisions drop ward/PATIENT 0002")
    assert hub("decisions held ward_risk --json").answer == []
    hub("runs start ward_risk --wait")
    assert hub.look("SELECT NR FROM PATIENT WHERE SCORE IS NULL") == [("0002",)]
    receipt = hub("decisions show ward_risk NR=0001 --json").answer
    assert [each["state"] for each in receipt["decisions"]] == ["planned", "held"]


def test_a_run_stops_before_its_limit_and_goes_on_when_told(hub: Shell) -> None:
    hub("mappings publish mapping.yaml")
    held = hub("runs start ward_risk --changed 3 --wait --json", 3).answer
    assert held["state"] == "held"
    assert hub.look("SELECT count(*) FROM PATIENT WHERE SCORE IS NOT NULL")[0][0] <= 3
    assert "active run" in hub("runs start ward_risk", 1).problem
    gone = hub(f"runs resume {held['run']} --no-limit --wait --json").answer
    assert gone["counts"] == {"read": PEOPLE, "applied": PEOPLE}


def test_a_dry_run_writes_nothing_and_a_queued_one_can_be_cancelled(hub: Shell) -> None:
    hub("mappings publish mapping.yaml")
    dry = hub("runs start ward_risk --dry --wait --json").answer
    assert dry["counts"] == {"read": PEOPLE, "planned": PEOPLE}
    assert hub.look("SELECT count(*) FROM PATIENT WHERE SCORE IS NOT NULL") == [(0,)]
    run = hub("runs start ward_risk --json").answer["run"]
    assert hub("health").code == 0
    hub(f"runs cancel {run}")
    assert hub(f"runs watch {run} --json", 3).answer["state"] == "cancelled"
    assert "cancelled already" in hub(f"runs cancel {run}", 1).problem


def test_an_api_key_is_shown_once_and_ended(bare: Shell) -> None:
    made = bare("access token create ward7 --owner anna --scope score --mapping ward_risk --json").answer
    listed = bare("access token list")
    assert made["key"] not in listed.out
    assert "ward7" in listed.out
    bare(f"access token revoke {made['id']}")
    assert bare("access token list --json").answer[0]["revoked_at"]


def test_a_rotated_key_still_opens_what_was_sealed_before(hub: Shell) -> None:
    assert hub("keys show --json").answer["version"] == 1
    assert hub("keys rotate --json").answer["version"] == 2
    hub("mappings publish mapping.yaml")
    assert hub("runs start ward_risk --wait --json").answer["counts"]["applied"] == PEOPLE
    assert hub("audit list --action keys.key.rotate --json").answer[0]["detail"] == {"version": 2}


def test_a_connection_in_use_is_not_removed(hub: Shell) -> None:
    hub("mappings publish mapping.yaml")
    assert "ward_risk" in hub("connections remove ward", 1).problem
    assert hub("connections list --json").answer[0]["name"] == "ward"


def test_a_model_is_rolled_back_and_an_unused_version_removed(hub: Shell) -> None:
    hub("models register ward_risk ward_risk.skops --sample sample.csv --owner anna --positive 1 --note again")
    hub("models alias ward_risk champion 2")
    assert hub("models show ward_risk --json").answer["number"] == 2
    assert hub("models rollback ward_risk --json").answer["number"] == 1
    assert hub("models remove ward_risk 1", 1).problem
    hub("models remove ward_risk 2")
    assert [each["number"] for each in hub("models list --json").answer] == [1]


def test_settings_are_shown_without_their_passwords(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_BROKER_URL", "redis://:hunter2@127.0.0.1:6379/5")
    shown = bare("settings --json")
    assert "hunter2" not in shown.out
    values = {each["variable"]: each["value"] for each in shown.answer}
    assert values["HUB_BROKER_URL"] == "redis://:***@127.0.0.1:6379/5"
    assert values["HUB_WORKERS"] == 1


def test_a_worker_of_this_hub_is_seen_by_the_health_check(bare: Shell) -> None:
    assert "no worker process" in bare("health --worker", 1).problem
    command = [sys.executable, "-m", "hub.worker.child", "--pool", "default"]
    bare("runs list")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert bare("health --worker --json").answer["worker_processes"] == 1
        assert "no worker process of pool gpu" in bare("health --worker --pool gpu", 1).problem
        process.terminate()
        process.communicate()
