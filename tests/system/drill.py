"""What a drill is made of: real workers that are killed and frozen, a source that changes, and what must hold after.

A drill starts a run on a `Site`, lets things go wrong, then calms down: `assert_master_property` carries on what is
left and compares the target with that of a quiet run on a copy of the final source.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import polars as pl
import psutil

from hub.audit import Action
from hub.decisions import APPLIED, CONFLICT, PARKED, PLANNED, REJECTED, UNKNOWN
from hub.runs import Installation, Run, RunKind, RunState, Worker, abandon
from hub.runs.types import OUTCOMES
from hub.worker import Supervisor
from hub.worker.naming import worker_name
from hub.worker.supervisor import _variables
from tests.hub.runs.site import Site

DIED = 137
PATIENCE = 150.0
"""Seconds after which what was waited for is given up; nothing in a drill takes nearly as long."""
AGAIN = frozenset({CONFLICT, UNKNOWN, REJECTED, PARKED, None})
"""What the far side may have answered (None: nothing) to a decision whose input is rightly decided once more."""

Make = Callable[..., Site]


def until(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `what` answers as soon as that is something; the real clock, since other processes are waited for."""
    pause, end = threading.Event(), time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come to pass"
        pause.wait(0.05)
    return found


def settled(site: Site, run: str) -> Callable[[], bool]:
    """Whether a run goes no further by itself."""

    def look() -> bool:
        state = site.look(run).state
        return state.final or state is RunState.HELD

    return look


def keep_running(site: Site, over: Callable[[], bool], **more: Any) -> None:
    """One full run after the other until `over`; then until the last has ended."""
    run = site.order(RunKind.FULL, **more)
    while not over():
        go = settled(site, run)
        until(lambda: over() or go())  # noqa: B023  (used up before the next turn)
        if go():
            run = site.order(RunKind.FULL, **more)
    until(settled(site, run))


# -- workers ---------------------------------------------------------------------------------------------------------


@contextmanager
def workers(site: Site, count: int = 1, **settings: Any) -> Iterator[Supervisor]:
    """So many real workers under the real supervisor, ended with the block; `settings` are theirs alone."""
    with Supervisor(site.hub.settings.model_copy(update={"workers": count, **settings})) as supervisor:
        yield supervisor


@contextmanager
def lone_worker(site: Site, pool: str = "default", **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """One worker process that nobody looks after, as `hub worker` starts it; it goes when there is nothing to do.

    Its leases are freed at the end, as the supervisor would.
    """
    environment = {**os.environ, **_variables(site.hub.settings), **variables}
    command = [sys.executable, "-m", "hub.worker.child", "--pool", pool, "--until-idle"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        assert child.stdin is not None
        child.stdin.close()
        abandon(site.hub.database, worker_name(child.pid, pool))


def work_by_turns(hub: Installation, name: str, over: Callable[[], Any]) -> None:
    """A worker of each kind in this process, by turns until `over`; nobody follows afterwards."""
    light = Worker(hub, "default", f"{name}/light")
    follower = Worker(hub, "follow", f"{name}/follower", stopping=lambda: bool(over()))

    def step() -> bool:
        while light.work():
            pass
        return bool(over()) or (follower.work() and False)

    until(step)
    light.rest()
    follower.rest()


def carry_until_fault(site: Site, fault: str, pool: str = "default") -> int:
    """One worker process that works until it is idle or the fault ends it; its exit status."""
    with lone_worker(site, pool, HUB_FAULT=fault) as child:
        return child.wait(PATIENCE)


def send(pid: int, number: signal.Signals) -> bool:
    """A signal to a worker; False where it has gone meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def frozen(pid: int) -> bool:
    """Whether a process is stopped; so is one that has gone."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return True


@dataclass
class Havoc:
    """Kills and freezes workers while open, from a thread, each at a random moment after it began to work.

    A frozen worker stays so for longer than its lease, then comes back to life in the middle of what it did. After so
    many `strikes` all is calm; `done` says what was done, in order.
    """

    site: Site
    supervisor: Supervisor
    seed: int
    strikes: int = 5
    within: float = 0.6
    frozen_share: float = 0.4
    done: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="havoc", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def over(self) -> bool:
        """Whether the last strike was done, and whoever was frozen has been brought back."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        thawing: list[threading.Thread] = []
        while len(self.done) < self.strikes and not self._over.wait(0.02):
            started = [each.process.pid for each in self.supervisor._children if each.started]
            if not started:
                continue
            pid = self._random.choice(started)
            self._over.wait(self._random.uniform(0, self.within))
            if self._random.random() >= self.frozen_share:
                if send(pid, signal.SIGKILL):
                    self.done.append("killed")
            elif not frozen(pid) and send(pid, signal.SIGSTOP):
                self.done.append("frozen")
                thawing.append(threading.Thread(target=self._thaw, args=(pid,)))
                thawing[-1].start()
        for each in thawing:
            each.join()

    def _thaw(self, pid: int) -> None:
        threading.Event().wait(self.site.hub.settings.lease_seconds * 1.5)
        send(pid, signal.SIGCONT)


# -- the source ------------------------------------------------------------------------------------------------------


@dataclass
class Mutator:
    """A colleague who edits the source while open, from a thread: values, newcomers, leavers, and rows deleted.

    No value comes back, so that the same input twice is always the hub's doing. `membership` lets records leave the
    selection and come back, which needs a mapping with `leaves: clear` to have one right outcome.
    """

    site: Site
    seed: int
    every: float = 0.1
    membership: bool = True
    edits: int = 0

    def __enter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mutator", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._random.uniform(0.1, 2) * self.every):
            self.edit()

    def edit(self) -> None:
        """One edit."""
        self.edits += 1
        keys = [each[0] for each in self.site.ask("select ID from PERSON order by ID")]
        some = self._random.sample(keys, min(len(keys), 3))
        fresh = 50 + (self._random.random() - 0.5) * 100 + self.edits * 1e-6
        now = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
        kind = self._random.random()
        if kind < 0.6 or not self.membership:
            set_x = f"update PERSON set X = ?, STAMP = {now} where ID = ?"
            self.site.ask(set_x, [[fresh + at * 1e-8, key] for at, key in enumerate(some)])
        elif kind < 0.8:
            leave = f"update PERSON set LIVES = 1 - LIVES, X = ?, STAMP = {now} where ID = ?"
            self.site.ask(leave, fresh, some[0])
        elif kind < 0.9:
            come = f"insert into PERSON(ID, X, Y, STAMP) values (?, ?, ?, {now})"
            self.site.ask(come, f"n{self.edits:05d}", fresh, float(self.edits % 7))
        else:
            self.site.ask("delete from PERSON where ID = ?", some[0])


def quiet_scores(site: Site, make_site: Make, **more: Any) -> dict[str, tuple[int | None, str | None]]:
    """What the target comes to when one quiet run meets the source as it is now and nothing was ever scored.

    `more` are settings for the quiet installation; the model and the mapping are those of the site.
    """
    quiet = make_site(0, **more)
    quiet.file.unlink()
    for rest in ("-wal", "-shm"):
        quiet.file.with_name(quiet.file.name + rest).unlink(missing_ok=True)
    site.ask("vacuum into ?", str(quiet.file))
    quiet.ask("update PERSON set SCORE = null, BAND = null, SCORED_AT = null")
    quiet.ask("delete from WRITES")
    quiet.ask("delete from NOTE")
    if site.text:
        quiet.publish(site.text)
    carried(quiet, lift=True)
    return target(quiet)


def target(site: Site) -> dict[str, tuple[int | None, str | None]]:
    """What the mapping's target holds: the persons themselves, or their notes."""
    if not elsewhere(site):
        return site.scores()
    return {key: (score, band) for key, score, band in site.ask("select PERSON_ID, SCORE, BAND from NOTE")}


def elsewhere(site: Site) -> bool:
    """Whether the mapping writes to another table than it reads, of which the far side keeps no journal."""
    return "entity: NOTE" in site.text


# -- what must hold --------------------------------------------------------------------------------------------------


def assert_master_property(
    site: Site, make_site: Make, *, allow: Mapping[str, int] | None = None, foreign_writes: int = 0, lift: bool = False
) -> None:
    """After calm: the target of a quiet run, one decision per input, an outcome for each intent, counts that agree.

    Carries on whatever is unfinished first, then one full run. `allow` are outcomes of that run that are right though
    they keep it from being green, say `{"parked": 1}`; `foreign_writes` are writes of SCORE that tests made themselves.
    With `lift` a run that its limit holds is let go on.
    """
    calm(site)
    last = carried(site, lift=lift)
    assert {each: last.counts[each] for each in ("rejected", "unknown", "conflict", "parked", "invalid")} == {
        **dict.fromkeys(("rejected", "unknown", "conflict", "parked", "invalid"), 0),
        **(allow or {}),
    }, describe(last)
    assert_one_decision_per_input(site)
    assert_audited(site)
    assert_counts_agree(site, foreign_writes=foreign_writes)
    assert_nothing_left_to_do(site, allow=allow)
    expected, found = quiet_scores(site, make_site), target(site)
    assert {key: (found.get(key), value) for key, value in expected.items() if found.get(key) != value} == {}
    assert found.keys() == expected.keys()


def carried(site: Site, *, lift: bool = False) -> Run:
    """One full run, carried to its end by workers of both pools of the tests; `lift` lets it pass its limit."""
    run = site.order(RunKind.FULL, **({"changed_limit": 10**9} if lift else {}))
    calm(site)
    found = site.look(run)
    assert found.counts.balanced
    return found


def calm(site: Site) -> None:
    """Carries every run that is unfinished to where it gets by itself; waits for leases that nobody ended."""
    light, heavy = site.worker(), site.worker("gpu")

    def idle() -> bool:
        while light.work() or heavy.work():
            pass
        return not site.hub.pending()

    until(idle)


def describe(run: Run) -> str:
    """A run in one line, for messages."""
    return f"run {run.id} ({run.kind.value}) is {run.state.value}: {run.reason}; {run.counts.to_json()}"


def runs(site: Site) -> list[Run]:
    """Every run of the site, oldest first."""
    with site.hub.database.read() as session:
        return site.hub.ledger.runs(session, limit=10_000)[::-1]


def decided(site: Site, mapping: str = "risk") -> pl.DataFrame:
    """Each decision of a mapping: `key`, `digest`, `state`, what the far side answered, `run`, `kind` and `segment`."""
    known = {each.id: each for each in runs(site)}
    with site.hub.database.read() as session:
        segments = site.hub.log.segments(session, mapping=mapping)
    frames = []
    for each in segments:
        rows = site.hub.log.frame(each.id, ["_key", "_digest", "_state"]).with_row_index("row")
        told = site.hub.log.results(each.id).select(pl.col("row").cast(pl.UInt32), answer="state")
        run = known.get(each.facts.run)
        frames.append(
            rows.join(told, on="row", how="left", maintain_order="left").select(
                key=pl.col("_key").struct[0].cast(pl.String),
                digest="_digest",
                state="_state",
                answer="answer",
                run=pl.lit(each.facts.run),
                kind=pl.lit(run.kind.value if run is not None else "request"),
                segment=pl.lit(each.id),
            )
        )
    return pl.concat(frames) if frames else pl.DataFrame({"key": [], "digest": [], "answer": [], "kind": []})


def assert_one_decision_per_input(site: Site, mapping: str = "risk") -> None:
    """No record was decided twice on the same input, save where the earlier decision did not reach the record.

    Nor did it where somebody ended the run before its changes were sent.
    """
    ended = [each.id for each in runs(site) if each.state in (RunState.CANCELLED, RunState.STOPPED)]
    scored = decided(site, mapping).filter(pl.col("digest").is_not_null() & ~pl.col("kind").is_in(["undo", "request"]))
    scored = scored.filter(~pl.col("run").is_in(ended) | (pl.col("answer") == APPLIED))
    twice = scored.filter(pl.len().over("key", "digest") > 1).sort("key", "segment")
    for (key, _), group in twice.group_by("key", "digest", maintain_order=True):
        earlier = group["answer"].to_list()[:-1]
        assert set(earlier) <= AGAIN, f"record {key} was decided more than once on one input: {group.rows()}"


def assert_audited(site: Site) -> None:
    """Every write has one intent and one outcome, on one digest; the trail verifies, and the log sealed over it."""
    intents = Counter(each.event.digest for each in site.events(Action.WRITE_INTENT))
    outcomes = Counter(each.event.digest for each in site.events(Action.WRITE_OUTCOME))
    assert (dict(outcomes - intents), dict(intents - outcomes)) == ({}, {})
    assert set(intents.values()) <= {1}
    site.hub.sealed.seal(every_chain=True)
    verdict = site.hub.sealed.verify()
    assert verdict.ok, verdict
    assert verdict.sealed == verdict.events


def assert_counts_agree(site: Site, *, foreign_writes: int = 0) -> None:
    """The ledger, the summary in the audit, the decision log and the far side's own journal say the same."""
    log = decided(site)
    summaries = {each.event.run: each.event.detail for each in site.events(Action.RUN_FINISH)}
    applied = 0
    unknown = sum(each.event.detail.get("maybe_written", 0) for each in site.events(Action.WRITE_OUTCOME))
    for run in runs(site):
        assert run.counts.balanced, describe(run)
        if not run.state.final:
            continue
        if run.id in summaries and run.state in (RunState.DONE, RunState.DONE_WITH_REJECTS):
            assert summaries[run.id]["counts"] == run.counts.to_json(), describe(run)
        if log.height and not run.dry:
            mine = log.filter(pl.col("run") == run.id)
            state = pl.when(pl.col("state") == PLANNED).then(pl.col("answer")).otherwise(pl.col("state"))
            said = Counter(mine.select(state.alias("state"))["state"].to_list())
            logged = {name: said[name] for name in OUTCOMES if name in (APPLIED, CONFLICT, REJECTED, UNKNOWN)}
            if run.state in (RunState.DONE, RunState.DONE_WITH_REJECTS):
                assert logged == {name: run.counts[name] for name in logged}, describe(run)
            applied, unknown = applied + said[APPLIED], unknown + said[UNKNOWN] + said[None]
    if elsewhere(site):
        return
    written = site.writes() - foreign_writes
    assert applied <= written <= applied + unknown, (
        f"{applied} were applied, {unknown} unknown, {written} written; other than decided: {_misjudged(site, log)}"
    )


def _misjudged(site: Site, log: pl.DataFrame) -> dict[str, Any]:
    """Of records that were not written as often as they were decided to have been: their writes and decisions."""
    writes = Counter(key for (key,) in site.ask("select ID from WRITES"))
    applied = Counter(log.filter(pl.col("answer") == APPLIED)["key"].to_list())
    told = log.select("key", "run", "kind", "segment", "state", "answer")
    return {
        key: (writes[key], told.filter(pl.col("key") == key).rows())
        for key in writes.keys() | applied.keys()
        if writes[key] != applied[key]
    }


def assert_nothing_left_to_do(site: Site, *, allow: Mapping[str, int] | None = None) -> None:
    """One more run writes nothing and skips everything that may be skipped."""
    before, decisions = site.writes(), site.decisions()
    found = carried(site)
    assert {
        name: count for name, count in found.counts.by.items() if count and name not in {"skipped", *(allow or {})}
    } == {}
    assert (site.writes(), site.decisions()) == (before, decisions)
