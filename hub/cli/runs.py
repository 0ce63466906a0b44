"""`hub runs`: start, watch, steer and undo runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Resource, Scope
from hub.cli.caller import allow, allow_run, me, needs, sees
from hub.cli.output import AsJson, RefusedError, emit, facts, opened, room, table

if TYPE_CHECKING:
    from hub.runs import Installation, Run

app = room("Carry records through a mapping; watch, cancel, resume, replay, undo.")

NOT_GREEN = 3
RunId = Annotated[str, typer.Argument(help="The run's id, as `hub runs list` shows it.")]
Wait = Annotated[bool, typer.Option("--wait", help="Carry the run with a worker of this command and show progress.")]


@app.command(epilog="Example: hub runs start patient_risk --wait")
@needs(Scope.RUN, mapping="mapping")
def start(
    mapping: Annotated[str, typer.Argument(help="A published mapping.")],
    full: Annotated[bool, typer.Option("--full", help="Read every record, not only those that moved.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Follow the live source, after that was cancelled.")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="Score and count; write nothing.")] = False,
    changed: Annotated[int | None, typer.Option(min=0, help="Hold the run before it writes more records.")] = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Starts a run: incremental where the mapping can and has run before, else full."""
    from hub.runs import Order, RunKind, start, start_following

    if follow and (full or dry or wait or changed is not None):
        raise RefusedError("--follow stands alone: it has no end to wait for, and the limits are those of the document")
    with opened() as hub:
        if follow:
            _finish(hub, start_following(hub, mapping, str(me())), wait=False, as_json=as_json)
            return
        kind = RunKind.FULL if full else None
        run = start(hub, Order(mapping, str(me()), kind=kind, dry=dry, changed_limit=changed))
        _finish(hub, run, wait, as_json)


@app.command("list", epilog="Example: hub runs list --mapping patient_risk")
@needs(Scope.READ, named=True)
def list_(
    mapping: Annotated[str | None, typer.Option(help="Only runs of this mapping.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Lists the latest runs, newest first."""
    from hub.runs import describe

    with opened() as hub, hub.database.read() as session:
        allow(hub, None if mapping is None else Resource.mapping(mapping))
        runs = [describe(each) for each in hub.ledger.runs(session, mapping, limit)]

    def text() -> None:
        rows = [(r["run"], r["mapping"], r["kind"], r["state"], r["counts"], r["reason"]) for r in runs]
        table(["run", "mapping", "kind", "state", "records", "why"], rows, empty="no runs yet; hub runs start MAPPING")

    emit(runs, as_json, text)


@app.command(epilog="Example: hub runs show 20261120-231500-3fa9c1")
@needs(Scope.READ, named=True)
def show(run: RunId, as_json: AsJson = False) -> None:
    """Shows one run: state, counts by outcome, progress; of an undo, what it left alone because somebody edited it."""
    from hub.runs import left_alone, progress

    with opened() as hub:
        allow_run(hub, run)
        answer = progress(hub, run)
        # The keys of records are for those who may look at records.
        if answer["kind"] == "undo" and sees(Resource.mapping(answer["mapping"]), Scope.RECORDS):
            answer["changed_since"] = left_alone(hub, run, str(me()))
        emit(answer, as_json, lambda: facts(answer))


@app.command(epilog="Example: hub runs watch 20261120-231500-3fa9c1")
@needs(Scope.READ, named=True)
def watch(run: RunId, as_json: AsJson = False) -> None:
    """Follows a run that workers elsewhere carry, to its end."""
    with opened() as hub:
        allow_run(hub, run)
        ended = follow(hub, run, None)
        _tell(hub, ended, as_json)


@app.command(epilog="Example: hub runs cancel 20261120-231500-3fa9c1")
@needs(Scope.RUN, named=True)
def cancel(run: RunId, as_json: AsJson = False) -> None:
    """Ends a run at its next page; what it wrote stays, and can be undone."""
    from hub.runs import cancel

    with opened() as hub:
        allow_run(hub, run)
        cancel(hub, run, str(me()))
        emit({"run": run, "state": "cancelled"}, as_json, lambda: print(f"run {run} is cancelled"))


@app.command(epilog="Example: hub runs resume 20261120-231500-3fa9c1 --changed 50000 --wait")
@needs(Scope.RUN, named=True)
def resume(
    run: RunId,
    changed: Annotated[int | None, typer.Option(min=0, help="A new limit of changes.")] = None,
    no_limit: Annotated[bool, typer.Option("--no-limit", help="Without a limit of changes.")] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Lets a held run go on, under the mapping as it is published now."""
    from hub.runs import resume

    with opened() as hub:
        allow_run(hub, run)
        resume(hub, run, str(me()), changed_limit=changed, lift=no_limit)
        _finish(hub, run, wait, as_json)


@app.command(epilog="Example: hub runs undo 20261120-231500-3fa9c1 --wait")
@needs(Scope.RUN, named=True)
def undo(run: RunId, wait: Wait = False, as_json: AsJson = False) -> None:
    """Puts back what a run replaced, except where somebody changed it since; pauses the mapping.

    Records that the run made are emptied where they can be and stay: nothing is ever deleted.
    """
    from hub.runs import undo

    with opened() as hub:
        allow_run(hub, run)
        _finish(hub, undo(hub, run, me()), wait, as_json)


@app.command(epilog="Example: hub runs replay patient_risk --state rejected --state parked --wait")
@needs(Scope.RUN, mapping="mapping")
def replay(
    mapping: Annotated[str, typer.Argument(help="A published mapping.")],
    state: Annotated[list[str] | None, typer.Option(help="Which records: rejected, parked, conflict, …")] = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Tries the records again that ended badly, and only those."""
    from hub.runs import replay

    states = tuple(state or ("rejected", "parked", "conflict", "unknown", "invalid"))
    with opened() as hub:
        _finish(hub, replay(hub, mapping, str(me()), states), wait, as_json)


def _finish(hub: Installation, run: str, wait: bool, as_json: bool) -> None:
    if not wait:
        hint = f"run {run} is queued; `hub runs watch {run}` follows it, `hub worker` carries it"
        emit({"run": run, "state": "queued"}, as_json, lambda: print(hint))
        return
    import os

    from hub.worker import Supervisor

    os.environ.setdefault("HUB_LOG_LEVEL", "warning")  # the worker's diary is not what somebody waits for here
    with Supervisor(hub.settings, until_idle=True) as supervisor:
        ended = follow(hub, run, supervisor)
    _tell(hub, ended, as_json)


def _tell(hub: Installation, ended: Run, as_json: bool) -> None:
    from hub.runs import RunState, progress

    answer = progress(hub, ended.id)
    emit(answer, as_json, lambda: facts(answer))
    if ended.state is not RunState.DONE:
        raise typer.Exit(NOT_GREEN)


def follow(hub: Installation, run: str, supervisor: Any | None) -> Run:
    """Shows progress on standard error until the run ends or is held; the run as it stands then."""
    from threading import Event

    from rich.console import Console
    from rich.live import Live

    from hub.runs import RunError, RunState, progress

    pause = Event()
    with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:
        while True:
            answer = progress(hub, run)
            if sys.stderr.isatty():
                live.update(_line(answer), refresh=True)
            with hub.database.read() as session:
                found = hub.ledger.run(session, run)
            if found.state.final or found.state is RunState.HELD:
                return found
            if supervisor is not None and supervisor.wait(0) and not hub.pending():
                raise RunError(f"the worker ended before run {run} did; see its log above")
            pause.wait(0.2)


def _line(answer: dict[str, Any]) -> str:
    counts = ", ".join(f"{name} {number}" for name, number in answer["counts"].items())
    left = f", {answer['seconds_left']:.0f} s left" if answer["seconds_left"] is not None else ""
    return f"{answer['state']}: {counts or 'starting'}; {answer['rate']:.0f}/s, slices {answer['slices']}{left}"
