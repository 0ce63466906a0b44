"""Starts runs and steers them: preflight, slices, cancel, resume, undo, replay, the end of a run, and the schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from cronsim import CronSim
from sqlalchemy.orm import Session

from hub.access import Actor
from hub.audit import Action
from hub.mappings import Compiled, MappingError, Pipeline, Published
from hub.runs.installation import Installation
from hub.runs.types import PreflightError, Run, RunError, RunKind, RunPlan, RunState, SliceKind, SlicePlan
from hub.sdk import CheckReport, ConnectorError, Context, Grant, Selection, Spec

MOST_SLICES = 8
"""Slices of a full run; more only add claims, since a slice is carried page by page."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asks for when starting a run; None leaves the choice to the mapping and its history."""

    mapping: str
    actor: str
    kind: RunKind | None = None
    dry: bool = False
    changed_limit: int | None = None


def start(hub: Installation, order: Order) -> str:
    """Checks that the mapping can run and stores the run with its slices; the run's id.

    PreflightError lists every reason against it, RunError says that another run is active or the mapping is paused.
    """
    published = hub.mappings.get(order.mapping)
    _refuse_paused(hub, published)
    compiled = preflight(hub, published)
    with hub.database.read() as session:
        now = hub.database.now(session)
        kind = order.kind or _kind(hub, session, compiled, now)
        since = hub.ledger.last(session, order.mapping, [RunKind.FULL, RunKind.INCREMENTAL])
    if kind is RunKind.INCREMENTAL and (since is None or since.head is None):
        raise RunError(f"mapping {order.mapping} has no earlier full run to continue from; start a full one")
    slices, head = _slices(hub, compiled, kind, now, since)
    if order.dry and kind is RunKind.FULL:
        # Nothing is stored that would tell the later phases whom the read has counted already.
        slices = [each for each in slices if each.kind is SliceKind.READ]
    return add_run(hub, replace(_plan(hub, order, compiled, kind, now), head=head), slices)


def undo(hub: Installation, run: str, actor: Actor) -> str:
    """Starts the run that puts back what `run` replaced, and pauses the mapping; the id of the new run."""
    with hub.database.read() as session:
        undone = hub.ledger.run(session, run)
        segments = [each.id for each in hub.log.segments(session, run=run)]
        now = hub.database.now(session)
    if not undone.state.final:
        raise RunError(f"run {run} is {undone.state.value}; cancel it before undoing it")
    if undone.dry or not segments:
        raise RunError(f"run {run} wrote nothing that could be put back")
    hub.mappings.pause(undone.mapping, actor, f"run {run} was undone")
    plan = RunPlan(
        mapping=undone.mapping,
        version=undone.version,
        model=undone.model,
        kind=RunKind.UNDO,
        actor=str(actor),
        logical_at=now,
        subject=run,
        expected=undone.changed,
    )
    slices = [SlicePlan(SliceKind.UNDO, 0, subject=tuple(str(each) for each in reversed(segments)))]
    return add_run(hub, plan, slices)


def replay(hub: Installation, mapping: str, actor: str, states: tuple[str, ...]) -> str:
    """Starts a run over the records of a mapping that stand rejected, parked and so on; its id."""
    published = hub.mappings.get(mapping)
    _refuse_paused(hub, published)
    compiled = preflight(hub, published)
    with hub.database.read() as session:
        now = hub.database.now(session)
    plan = _plan(hub, Order(mapping, actor), compiled, RunKind.REPLAY, now)
    slices = [SlicePlan(SliceKind.DUE, 0, subject=states, page_rows=hub.settings.page_rows)]
    return add_run(hub, plan, slices)


def cancel(hub: Installation, run: str, actor: str) -> None:
    """Ends a run; what it wrote stays written."""
    with hub.database.begin() as session:
        found = hub.ledger.run(session, run)
        if not hub.end(session, run, RunState.CANCELLED, f"cancelled by {actor}", actor):
            raise RunError(f"run {run} is {found.state.value} already")


def resume(hub: Installation, run: str, actor: str, *, changed_limit: int | None = None, lift: bool = False) -> None:
    """Lets a held run go on, under the mapping as it is published now; `lift` replaces the limit that held it."""
    with hub.database.read() as session:
        held = hub.ledger.run(session, run)
    compiled = preflight(hub, hub.mappings.get(held.mapping)) if held.kind is not RunKind.UNDO else None
    with hub.database.begin() as session:
        if not hub.ledger.resume(session, run, changed_limit, raise_limit=lift or changed_limit is not None):
            raise RunError(f"run {run} is {held.state.value}; only a held run can be resumed")
        if compiled is not None:
            hub.ledger.set_version(session, run, compiled.document.digest, compiled.model.digest)
        hub.record(session, actor, Action.RUN_RELEASE, run, run=run)
        pools = hub.ledger.pools(session, run)
    hub.ring(pools)


def preflight(hub: Installation, published: Published) -> Compiled:
    """The mapping compiled against the far sides as they are now. PreflightError names all that stands against it."""
    try:
        compiled = hub.mappings.compile_published(published, fresh=True)
    except MappingError as error:
        raise PreflightError(tuple(str(each) for each in error.problems)) from error
    except ConnectorError as error:
        raise PreflightError((error.message,)) from error
    problems: list[str] = []
    for connection, grant in compiled.grants.items():
        if hub.connections.get(connection).paused:
            problems.append(f"connection {connection} is paused; `hub connections resume {connection}` lifts it")
            continue
        try:
            with hub.connections.open(connection, grant, Context()) as opened:
                report = opened.check()
        except ConnectorError as error:
            problems.append(f"connection {connection}: {error.message}")
            continue
        lacking = _lacking(hub.connections.catalogue.spec(hub.connections.get(connection).connector), report, grant)
        problems += [f"connection {connection}: the right {each} is missing" for each in lacking]
        if report.budget_left is not None and report.budget_left <= 0:
            problems.append(f"connection {connection}: its budget of calls is used up")
    if problems:
        raise PreflightError(tuple(problems))
    return compiled


def _lacking(spec: Spec, report: CheckReport, grant: Grant) -> list[str]:
    """The rights that this mapping cannot do without and that are not granted.

    A login with no more rights than it needs lacks many on other entities and fields. Whether the fields of the
    mapping may be written was told by the entities, when the mapping was compiled.
    """
    mandatory = {each.name for each in spec.rights if each.mandatory}
    touched = {"", *grant.reads, *(f"{entity}.{name}" for entity, fields in grant.reads.items() for name in fields)}
    denied = [each for each in report.rights if not each.granted and each.right in mandatory]
    return [f"{each.right} {each.subject}".strip() for each in denied if each.subject in touched]


def differences(hub: Installation, run: str) -> str | None:
    """What no longer fits between a run's mapping and the far sides, in one line; None where all of it fits."""
    with hub.database.read() as session:
        mapping = hub.ledger.run(session, run).mapping
    try:
        preflight(hub, hub.mappings.get(mapping))
    except PreflightError as error:
        return f"the mapping no longer fits: {error}"
    return None


def finish(hub: Installation, session: Session, run: str) -> None:
    """Ends a run whose last slice is done: its state follows from what became of its records."""
    if hub.ledger.unfinished(session, run):
        return
    counts = hub.ledger.counts(session, run)
    if not counts.balanced:
        state, reason = RunState.FAILED, f"{counts.read} records were read, {sum(counts.by.values())} are explained"
    elif counts.rejects:
        state, reason = RunState.DONE_WITH_REJECTS, None
    else:
        state, reason = RunState.DONE, None
    if not hub.end(session, run, state, reason):
        return
    hub.ledger.forget_pages(session, run)


def tick(hub: Installation, started: Callable[[str], None] = lambda run: None) -> None:
    """Starts every run whose time has come; a tick that meets an active run is dropped and counted."""
    with hub.database.read() as session:
        now = hub.database.now(session)
    for published in (each.published for each in hub.mappings.list()):
        if published is None or published.paused:
            continue
        document = hub.mappings.document(published)
        if document.run.schedule is None:
            continue
        at = _last_tick(document.run.schedule, document.read.timezone, now)
        with hub.database.begin() as session:
            known = hub.ledger.last_tick(session, published.mapping)
            first = known is None and at <= published.published_at
            busy = hub.ledger.active(session, published.mapping) is not None
            if not hub.ledger.tick(session, published.mapping, at, dropped=busy and not first) or first or busy:
                continue
        try:
            started(start(hub, Order(published.mapping, "schedule")))
        except (RunError, ConnectorError) as error:
            log.error("scheduled run not started", mapping=published.mapping, why=str(error))


def _last_tick(schedule: str, timezone: str, now: datetime) -> datetime:
    """The latest moment of a cron schedule that is not after `now`."""
    from zoneinfo import ZoneInfo

    local = now.astimezone(ZoneInfo(timezone)) + timedelta(seconds=1)
    return next(CronSim(schedule, local, reverse=True)).astimezone(now.tzinfo)


def add_run(hub: Installation, plan: RunPlan, slices: list[SlicePlan]) -> str:
    """Stores a run with its slices and its audit event, and rings for it; its id."""
    with hub.database.begin() as session:
        run = hub.ledger.add(session, plan, slices, pool="default")
        detail = {"mapping": plan.mapping, "version": plan.version, "kind": plan.kind.value, "dry": plan.dry}
        action = Action.RUN_UNDO if plan.kind is RunKind.UNDO else Action.RUN_START
        hub.record(session, plan.actor, action, run, run=run, **detail)
    hub.ring(["default"])
    log.info("run started", run=run, **detail)
    return run


def _refuse_paused(hub: Installation, published: Published) -> None:
    if published.paused:
        raise RunError(f"mapping {published.mapping} is paused; `hub mappings resume {published.mapping}` lifts it")


def _kind(hub: Installation, session: Session, compiled: Compiled, now: datetime) -> RunKind:
    document = compiled.document
    last = hub.ledger.last(session, document.mapping, [RunKind.FULL])
    if document.read.changed_by is None or last is None or last.head is None:
        return RunKind.FULL
    if (last.version, last.model) != (document.digest, compiled.model.digest):
        return RunKind.FULL
    refresh = document.read.refresh
    return RunKind.FULL if refresh is not None and last.logical_at + refresh <= now else RunKind.INCREMENTAL


def _plan(hub: Installation, order: Order, compiled: Compiled, kind: RunKind, now: datetime) -> RunPlan:
    policy = compiled.document.run
    with hub.database.read() as session:
        last = hub.ledger.last(session, order.mapping, [kind])
    return RunPlan(
        mapping=order.mapping,
        version=compiled.document.digest,
        model=compiled.model.digest,
        kind=kind,
        actor=order.actor,
        logical_at=now,
        dry=order.dry,
        ahead=policy.ahead and not order.dry,
        changed_limit=order.changed_limit if order.changed_limit is not None else policy.changed,
        rejected_limit=policy.rejected,
        expected=last.counts.read if last is not None else None,
    )


def _slices(
    hub: Installation, compiled: Compiled, kind: RunKind, now: datetime, since: Run | None
) -> tuple[list[SlicePlan], str | None]:
    """The slices of a run, and the source's head before it began.

    Full: the source in parts, then what is still due, then who is gone. Incremental: what moved, then what is due.
    """
    document, page_rows = compiled.document, hub.settings.page_rows
    pipeline = Pipeline(compiled)
    moved = pipeline.selection(now, incremental=True, page_rows=page_rows)
    selection = moved if kind is RunKind.INCREMENTAL else replace(moved, changed_by=None)
    with hub.connections.open(document.read.connection, compiled.grants[document.read.connection], Context()) as far:
        source = far.source()
        if source is None:
            raise PreflightError((f"connection {document.read.connection} cannot be read",))
        head = source.head(moved) if document.read.changed_by is not None else None
        parts = source.split(selection, _parts(since, page_rows)) if kind is RunKind.FULL else [selection]
    cursor = since.head if since is not None and kind is RunKind.INCREMENTAL else None
    slices = [_read_slice(part, cursor, page_rows) for part in parts]
    slices.append(SlicePlan(SliceKind.DUE, 1, page_rows=page_rows))
    if kind is RunKind.FULL:
        slices.append(SlicePlan(SliceKind.ABSENT, 2, page_rows=page_rows))
    return slices, head.to_json() if head else None


def _parts(last: Run | None, page_rows: int) -> int:
    """In how many slices to read: a slice that fills no page costs a connection and two commits for little."""
    if last is None or last.kind is not RunKind.FULL:
        return MOST_SLICES
    return max(1, min(MOST_SLICES, last.counts.read // page_rows))


def _read_slice(selection: Selection, cursor: str | None, page_rows: int) -> SlicePlan:
    return SlicePlan(SliceKind.READ, 0, selection=selection.to_json(), cursor=cursor, page_rows=page_rows)


def describe(run: Run) -> dict[str, object]:
    """A run as every face shows it: JSON-ready, the counts flat."""
    took = ((run.finished_at or run.started_at) - run.started_at) if run.started_at and run.finished_at else None
    return {
        "run": run.id,
        "mapping": run.mapping,
        "version": run.version,
        "kind": run.kind.value,
        "state": run.state.value,
        "dry": run.dry,
        "actor": run.actor,
        "created_at": run.created_at.isoformat(),
        "started_at": run.started_at.isoformat() if run.started_at else None,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "seconds": took.total_seconds() if took is not None else None,
        "reason": run.reason,
        "undoes": run.subject,
        "expected": run.expected,
        "changed": run.changed,
        "counts": dict(run.counts.to_json()),
        "adds_up": run.counts.balanced,
    }
