"""The demo's steps: commands that a user would type, carried out for real, and what must be true after each."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from hub.cli.output import listening, table

CLINIC = "clinic.db"
MODEL = "fna_malignancy"
MAPPING = "patient_risk"
WORKER_SECONDS = 60.0
"""What the worker may take to end after it was told to."""


class DemoError(Exception):
    """A step of the demo did not do what it is there to show."""


@dataclass
class Story:
    """What happened so far: steps with their commands, claims with whether they held."""

    began: float = field(default_factory=time.monotonic)
    steps: list[dict[str, Any]] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)

    def step(self, title: str) -> None:
        """Begins the next step."""
        print(f"\n── {len(self.steps) + 1}. {title}", flush=True)
        self.steps.append({"title": title, "commands": []})

    def hub(self, line: str, expected: int = 0) -> Any:
        """Carries out one `hub …` line; its answer. DemoError where its exit code is another one."""
        from hub.cli.main import run

        print(f"$ hub {line}", flush=True)
        began = time.monotonic()
        with listening() as answers:
            code = run([each.replace("$PWD", str(Path.cwd())) for each in shlex.split(line)])
        self._note(f"hub {line}", code, began)
        if code != expected:
            raise DemoError(f"`hub {line}` ended with exit code {code}, expected {expected}")
        return answers[-1] if answers else None

    def process(self, module: str, *arguments: str) -> Any:
        """Runs a module of the demo as a process of its own; what it prints as JSON."""
        began = time.monotonic()
        command = [sys.executable, "-m", f"hub.cli.demo.{module}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        self._note(f"python -m hub.cli.demo.{module} {shlex.join(arguments)}", done.returncode, began)
        if done.returncode:
            raise DemoError(done.stderr.strip().splitlines()[-1] if done.stderr else f"{module} failed")
        return json.loads(done.stdout)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """`hub worker` beside the steps of this block, ended as an operating system ends it."""
        print("$ hub worker &", flush=True)
        began = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "hub.cli", "worker"], stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            self._note("hub worker", process.wait(WORKER_SECONDS), began)

    def claim(self, sentence: str, holds: bool) -> None:
        """States what must be true now."""
        print(f"{'✓' if holds else '✗'} {sentence}", flush=True)
        self.claims.append({"claim": sentence, "holds": holds})

    def _note(self, command: str, code: int, began: float) -> None:
        seconds = round(time.monotonic() - began, 2)
        self.steps[-1]["commands"].append({"command": command, "exit_code": code, "seconds": seconds})


def tell(home: Path, *, lasting: bool) -> dict[str, Any]:
    """Carries out every step in the working directory `home`; what was done and which claims held."""
    story, problem = Story(), None
    try:
        _tell(story)
    except DemoError as error:
        problem = str(error)
        print(f"error: {problem}", file=sys.stderr)
    ok = problem is None and all(each["holds"] for each in story.claims)
    seconds = round(time.monotonic() - story.began, 1)
    held = sum(each["holds"] for each in story.claims)
    print(f"\n{held} of {len(story.claims)} claims hold; {seconds} seconds")
    if ok and lasting:
        print(f"Look around: cd {shlex.quote(str(home))} && hub runs list")
    told = {"ok": ok, "folder": str(home), "kept": lasting, "seconds": seconds, "problem": problem}
    return {**told, "steps": story.steps, "claims": story.claims}


def _tell(story: Story) -> None:
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


def _carry(story: Story, line: str) -> Any:
    """Starts a run and watches it to its end."""
    run = story.hub(f"runs {line}")["run"]
    return story.hub(f"runs watch {run}")


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
    with as_file(files("mappings") / MAPPING) as shipped:
        shutil.copytree(shipped, MAPPING)
    document = Path(MAPPING) / "mapping.yaml"
    lines = document.read_text(encoding="utf-8").splitlines(keepends=True)
    # A tick of the clock in the middle of the demo would start a run of its own.
    document.write_text("".join(each for each in lines if not each.startswith("  schedule:")), encoding="utf-8")
    print(f"{MAPPING}/mapping.yaml: as shipped, but without its schedule, since we start the runs")
    checked = story.hub(f"mappings check {MAPPING}")
    story.claim("the document fits the clinic and the model, and its examples come out", checked["examples"] > 0)
    shown = story.hub(f"mappings preview {MAPPING} --records 3")
    story.claim("a preview shows what would be written, and writes nothing", len(shown) == 3)
    published = story.hub(f"mappings publish {MAPPING}")
    story.claim("version 1 is published", published["number"] == 1)


def _run(story: Story, clinic: dict[str, int], probabilities: dict[str, float]) -> str:
    story.step("A run, carried by a worker process that `hub worker` supervises")
    run = _carry(story, f"start {MAPPING}")
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
    run = _carry(story, f"start {MAPPING} --full")
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
    undone = _carry(story, f"undo {run}")
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
