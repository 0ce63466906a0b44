"""The first act: scores on the patients of a clinic that has nothing but a legacy database."""

from __future__ import annotations

import json
import shlex
from typing import Any

from hub.cli.demo.story import Story, carry, take_document
from hub.cli.output import table

CLINIC = "clinic.db"
MODEL = "fna_malignancy"
MAPPING = "patient_risk"


def clinic_act(story: Story) -> None:
    """Connect, register, publish, run, explain, undo, verify."""
    clinic = _connect(story)
    with story.worker():
        trained = _register(story)
        _publish(story)
        before = story.process("clinic", "dump", CLINIC)
        first = _run(story, clinic, trained["probabilities"])
        _run_again(story, clinic)
        _explain(story)
        _undo(story, clinic, first, before)
    story.claim("the worker ended in order when it was told to", story.steps[-1]["commands"][-1]["exit_code"] == 0)
    _verify(story)


def _connect(story: Story) -> dict[str, int]:
    story.step("A clinic with a legacy database, the hub's connection to it, and a worker to carry runs")
    clinic: dict[str, int] = story.process("clinic", "build", CLINIC)
    print(f"{CLINIC}: {clinic['patients']} patients in PATIENT, their cytology in FNA_RESULT")
    changed_by = shlex.quote(json.dumps({"changed_by": {"PATIENT": ["LAST_UPD"]}})[1:-1].replace('"changed_by": ', ""))
    story.hub(f"connections add clinic sql dialect=sqlite path=$PWD/{CLINIC} changed_by={changed_by}")
    report = story.hub("connections check clinic")
    story.claim("the clinic's database lets us in", not report["missing"])
    return clinic


def _register(story: Story) -> dict[str, Any]:
    story.step("A model, trained elsewhere, registered with the rows it was trained on")
    trained: dict[str, Any] = story.process("training", f"{MODEL}.skops", "training.csv")
    print(f"{MODEL}.skops: logistic regression, fitted on {trained['trained_on']} patients")
    version = story.hub(
        f"models register {MODEL} {MODEL}.skops --sample training.csv --owner data-science --positive 1"
        f" --metric auc={trained['auc']} --note 'half of the patients' --alias champion"
    )
    agrees = version["largest_difference"] <= version["tolerance"] and version["rows_compared"] >= trained["trained_on"]
    story.claim("on every row compared, the hub computes what scikit-learn computes", agrees)
    return trained


def _publish(story: Story) -> None:
    story.step("The mapping: what to read, which features, which model, what to write back")
    take_document(MAPPING)
    checked = story.hub(f"mappings check {MAPPING}")
    story.claim("the document fits the clinic and the model, and its examples come out", checked["examples"] > 0)
    shown = story.hub(f"mappings preview {MAPPING} --records 3")
    story.claim("a preview shows what would be written, and writes nothing", len(shown) == 3)
    published = story.hub(f"mappings publish {MAPPING}")
    story.claim("version 1 is published", published["number"] == 1)


def _run(story: Story, clinic: dict[str, int], probabilities: dict[str, float]) -> str:
    story.step("A run, carried by a worker process that `hub worker` supervises")
    run = carry(story, f"start {MAPPING}")
    counts = run["counts"]
    selected = clinic["scored"] + clinic["held"]
    story.claim(
        f"{selected} patients are read: test patients and children are not selected", counts["read"] == selected
    )
    story.claim(f"{clinic['scored']} scores are written", counts.get("applied") == clinic["scored"])
    story.claim(f"{clinic['held']} without a final aspirate wait for a person", counts.get("held") == clinic["held"])
    story.claim("every record is explained", run["adds_up"] and run["state"] == "done")
    story.step("The records, as the clinic sees them")
    rows = [each for each in story.process("clinic", "look", CLINIC) if each[4] and each[4] > "2020"]
    rows.sort(key=lambda each: (-each[1], each[0]))
    chosen = [*rows[:3], *rows[len(rows) // 3 : len(rows) // 3 + 3], *rows[-2:]]
    table(["PATNR", "RISK_SCORE", "RISK_BAND", "RISK_WHY", "RISK_AT"], chosen, empty="there are no scores")
    far = [each[0] for each in rows if abs(each[1] - 100 * probabilities[each[0]]) > 0.5001]
    story.claim("each score is scikit-learn's own, called directly", len(rows) == clinic["scored"] and not far)
    return str(run["run"])


def _run_again(story: Story, clinic: dict[str, int]) -> None:
    story.step("The same run again: nothing is written twice")
    before = story.process("clinic", "dump", CLINIC)
    run = carry(story, f"start {MAPPING} --full")
    counts = run["counts"]
    story.claim(f"{clinic['scored']} records are skipped", counts.get("skipped") == clinic["scored"])
    untouched = story.process("clinic", "dump", CLINIC) == before
    story.claim("nothing was written, to the byte", not counts.get("applied") and untouched)


def _explain(story: Story) -> None:
    story.step("The receipt behind one score")
    rows = [each for each in story.process("clinic", "look", CLINIC) if each[4] and each[4] > "2020"]
    number, score = rows[0][:2]
    receipt = story.hub(f"decisions show {MAPPING} {number}")
    latest = receipt["decisions"][0]
    told = latest["written"].get("RISK_SCORE") == score and latest["features"] and latest["reasons"]
    story.claim(f"it explains the {score} on record {number}: features, model, reasons, run", bool(told))


def _undo(story: Story, clinic: dict[str, int], run: str, before: Any) -> None:
    story.step("Taking it back")
    undone = carry(story, f"undo {run}")
    story.claim(f"{clinic['scored']} records are put back", undone["counts"].get("applied") == clinic["scored"])
    same = story.process("clinic", "dump", CLINIC) == before
    story.claim(f"every value is as before, {clinic['scored_before']} older scores too, to the byte", same)


def _verify(story: Story) -> None:
    story.step("The trail")
    story.hub("audit list --limit 8")
    verdict = story.hub("audit verify")
    story.claim(f"none of {verdict['events']} events is missing or altered", verdict["ok"])
    stored = story.hub(f"decisions verify {MAPPING}")
    story.claim(f"each of {stored['decisions']} decisions is as it was written", not stored["faults"])
