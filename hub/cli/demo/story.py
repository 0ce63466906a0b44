"""How the demo is told: commands that a user would type, carried out for real, and what must be true after each."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeAlias

from hub.cli.output import listening

END_SECONDS = 60.0
"""What a process may take to end after it was told to."""
PATIENCE, NUDGE_SECONDS = 60.0, 2.0
"""How long something is waited for, and how often it is helped along."""


Ask: TypeAlias = Callable[..., Any]


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

    def hub(self, line: str, expected: int = 0, *, person: str | None = None) -> Any:
        """Carries out one `hub …` line; its answer. DemoError where its exit code is another one.

        `person` is who sits at the keyboard meanwhile, as the operating system would name them.
        """
        print(f"$ {f'LOGNAME={person} ' if person else ''}hub {line}", flush=True)
        began = time.monotonic()
        with surroundings(**({"LOGNAME": person} if person else {})):
            code, answer = _typed(line)
        self._note(f"hub {line}", code, began)
        if code != expected:
            raise DemoError(f"`hub {line}` ended with exit code {code}, expected {expected}")
        return answer

    def until(self, line: str, holds: Callable[[Any], bool], *, nudge: Callable[[], object] = lambda: None) -> Any:
        """Repeats one `hub …` line, without its text, until its answer is as it must be; that answer.

        `nudge` is done before, and now and then meanwhile. DemoError where it does not come to that.
        """
        print(f"$ hub {line}  # until it is so", flush=True)
        began, nudged = time.monotonic(), float("-inf")
        while time.monotonic() < began + PATIENCE:
            if time.monotonic() >= nudged + NUDGE_SECONDS:
                nudge()
                nudged = time.monotonic()
            with redirect_stdout(io.StringIO()):
                code, answer = _typed(line)
            if code == 0 and holds(answer):
                self._note(f"hub {line}", code, began)
                return answer
            time.sleep(0.2)
        raise DemoError(f"`hub {line}` did not come to what it must in {PATIENCE:.0f} seconds; last: {answer}")

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
            self._note("hub worker", process.wait(END_SECONDS), began)

    @contextmanager
    def twin(self, name: str, *options: str) -> Iterator[dict[str, Any]]:
        """`hub twin` beside the steps of this block: a far system in a process of its own, and how to reach it."""
        line = shlex.join(["twin", name, *options])
        print(f"$ hub {line} &", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", "hub.cli", "twin", name, *options, "--json"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)  # noqa: S603
        try:
            yield _first_answer(process)
        finally:
            process.terminate()
            self._note(f"hub {line}", process.wait(END_SECONDS), began)

    @contextmanager
    def desk(self, file: str) -> Iterator[Ask]:
        """Somebody beside the hub who answers questions about a far system, in a process of their own."""
        command = [sys.executable, "-m", "hub.cli.demo.desk", file]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:  # noqa: S603
            try:
                yield partial(self._ask, process)
            finally:
                process.kill()

    def _ask(self, process: subprocess.Popen[str], word: str, *arguments: Any) -> Any:
        """The answer to one question. DemoError where the process ended over it."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        began = time.monotonic()
        process.stdin.write(f"{json.dumps([word, arguments])}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise DemoError(f"{word}: {(process.stderr.read().strip().splitlines() or ['no answer'])[-1]}")
        self._note(f"desk {word} {shlex.join(str(each) for each in arguments)}".strip(), 0, began)
        return json.loads(answer)

    def claim(self, sentence: str, holds: bool) -> None:
        """States what must be true now."""
        print(f"{'✓' if holds else '✗'} {sentence}", flush=True)
        self.claims.append({"claim": sentence, "holds": holds})

    def _note(self, command: str, code: int, began: float) -> None:
        seconds = round(time.monotonic() - began, 2)
        self.steps[-1]["commands"].append({"command": command, "exit_code": code, "seconds": seconds})


def _typed(line: str) -> tuple[int, Any]:
    """The exit code of one `hub …` line and its answer."""
    from hub.cli.main import run

    with listening() as answers:
        code = run([each.replace("$PWD", str(Path.cwd())) for each in shlex.split(line)])
    return code, answers[-1] if answers else None


def _first_answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON object that a process prints once it is ready. DemoError where it ends instead."""
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if line == "}\n":
            found: dict[str, Any] = json.loads(printed)
            return found
    raise DemoError(f"{shlex.join(str(each) for each in process.args[-4:])} ended before it was ready")  # type: ignore[index]


@contextmanager
def surroundings(**variables: str) -> Iterator[None]:
    """Environment variables for the time of a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def carry(story: Story, line: str, expected: int = 0) -> Any:
    """Starts a run and watches it to its end; `expected` is the exit code of the watching."""
    run = story.hub(f"runs {line}")["run"]
    return story.hub(f"runs watch {run}", expected)


def take_document(mapping: str) -> None:
    """Copies a mapping that ships into the working directory, without its schedule."""
    with as_file(files("mappings") / mapping) as shipped:
        shutil.copytree(shipped, mapping)
    document = Path(mapping) / "mapping.yaml"
    lines = document.read_text(encoding="utf-8").splitlines(keepends=True)
    # A tick of the clock in the middle of the demo would start a run of its own.
    document.write_text("".join(each for each in lines if not each.startswith("  schedule:")), encoding="utf-8")
    print(f"{mapping}/mapping.yaml: as shipped, but without its schedule, since we start the runs")


def tell(home: Path, acts: Sequence[Callable[[Story], None]], *, lasting: bool) -> dict[str, Any]:
    """Carries out every act in the working directory `home`; what was done and which claims held."""
    story, problem = Story(), None
    try:
        for act in acts:
            act(story)
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
