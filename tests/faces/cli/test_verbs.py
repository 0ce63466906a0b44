"""What the verbs do, one after the other as a person would use them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from hub.access.leases import Ending, Holder
from hub.runs import open_installation
from hub.sdk import Grant
from hub.settings import load_settings
from hub.worker.naming import hub_name
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


def test_what_waits_for_a_second_person_is_listed_shown_and_decided(
    hub: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hub("mappings submit mapping.yaml --reason 'a first try' --json").answer["digest"]
    (waiting,) = hub("access approvals list --json").answer
    assert (waiting["kind"], waiting["state"], waiting["reason"]) == ("mapping", "pending", "a first try")
    shown = hub(f"access approvals show {waiting['id']} --json").answer
    assert (shown["content"]["document"]["digest"], shown["digest"]) == (digest, waiting["digest"])
    assert "somebody else must approve" in hub(f"access approvals approve {waiting['id']}", 1).problem
    monkeypatch.setenv("LOGNAME", "grace")
    given = hub(f"access approvals approve {waiting['id']} --reason 'looked at' --json").answer
    assert (given["state"], given["decided_by"], given["why"]) == ("approved", "human:grace", "looked at")
    assert "is approved by human:grace" in hub(f"access approvals refuse {waiting['id']}", 1).problem
    assert hub("mappings list --json").answer[0]["state"] == "approved"
    hub("mappings publish mapping.yaml")
    assert [each["id"] for each in hub("access approvals list --closed --json").answer] == [waiting["id"]]
    assert "there is no approval nope" in hub("access approvals show nope", 1).problem


def test_the_rights_of_a_mapping_are_planned_and_verified(hub: Shell) -> None:
    planned = hub("access plan mapping.yaml --json").answer
    assert "SQLite has no rights of its own" in planned["connections"]["ward"]["plan"]
    assert "PATIENT" in planned["connections"]["ward"]["grant"]["reads"]
    told = hub("access verify mapping.yaml --json").answer["connections"]["ward"]
    assert (told["missing"], told["excess"]) == ([], [])
    assert "whoever can write the file" in told["untold"][0]
    hub("mappings publish mapping.yaml")
    assert "exactly what the mapping needs, as far as it tells" in hub("access verify ward_risk").out
    assert "no mapping nope" in hub("access verify nope", 1).problem


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
    for each in ("RISK", "RISK_WHY", "RISK_AT"):
        assert f"{each} " in done.out  # the plan stands before whatever becomes of it
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
    assert hub("audit list --action keys.key.rotate --json").answer[0]["detail"] == {
        "version": 2,
        "emergency": False,
    }


def test_a_key_is_withdrawn_when_everything_is_under_the_next(hub: Shell) -> None:
    hub("keys rotate")
    assert hub("keys show --json").answer["behind"] == {"working_key": 1}
    assert "`hub keys rewrap` moves it" in hub("keys retire", 1).problem
    assert hub("keys rewrap --json").answer == {"moved": 1, "version": 2}
    assert hub("keys rewrap --json").answer == {"moved": 0, "version": 2}
    assert "retire after" in hub("keys retire", 1).problem
    with closing(sqlite3.connect(hub.folder / ".hub" / "hub.db")) as connection, connection:
        connection.execute("update key_root set rotated_at = '2020-01-01 00:00:00.000000'")
    assert hub("keys retire --json").answer["least_version"] == 2
    assert list(json.loads((hub.folder / ".hub" / "keys" / "kek.json").read_text())["keys"]) == ["2"]
    shown = hub("keys show --json").answer
    assert (shown["version"], shown["least_version"], shown["behind"]) == (2, 2, {})
    for action in ("keys.key.rewrap", "keys.key.retire"):
        assert len(hub(f"audit list --action {action} --json").answer) == 1


def test_a_rotation_by_the_clock_leaves_leases_alone(hub: Shell) -> None:
    with open_installation(load_settings(home=hub.folder / ".hub")) as here:
        broker = here.connections.leases.broker
        held = broker.open(Holder("w/1/requests"), "ward", Grant())
        assert "revoked" not in hub("keys rotate --json").answer
        assert broker.look([held.id]) == {}


def test_a_key_that_leaked_is_withdrawn_at_once(hub: Shell) -> None:
    with open_installation(load_settings(home=hub.folder / ".hub")) as here:
        broker = here.connections.leases.broker
        held = broker.open(Holder("w/1/requests"), "ward", Grant())
        done = hub("keys rotate --emergency --json").answer
        assert (done["version"], done["moved"], done["revoked"]) == (2, 1, 1)
        assert broker.look([held.id]) == {held.id: Ending.REVOKED}
    assert hub("access leases --json").answer == []
    (told,) = hub("audit list --action access.lease.revoke --json").answer
    assert told["detail"] == {"leases": 1}
    assert hub("keys show --json").answer["least_version"] == 2
    hub("connections check ward")


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
    command = [sys.executable, "-m", "hub.worker.child", "--pool", "default", "--hub", hub_name(load_settings())]
    bare("runs list")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert bare("health --worker --json").answer["worker_processes"] == 1
        assert "no worker process of pool gpu" in bare("health --worker --pool gpu", 1).problem
        process.terminate()
        process.communicate()
