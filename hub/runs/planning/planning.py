"""Starts runs and steers them: what is read in which slices, cancel, resume, undo, replay, and the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.access import Actor
from hub.audit import Action
from hub.logs import Log
from hub.mappings import Compiled, Pipeline, Published
from hub.runs.installation import Installation
from hub.runs.pages.shape import shape_of
from hub.runs.planning.preflight import inspect, preflight
from hub.runs.replays import Many
from hub.runs.types import FOLLOWERS, PreflightError, Run, RunError, RunKind, RunPlan, RunState, SliceKind, SlicePlan
from hub.sdk import Context, Selection

REPLAYED = frozenset({"rejected", "parked", "conflict", "unknown", "invalid"})
SLICES_A_WORKER = 2
"""Slices of a full run for each of several workers, so that they end at about the same time; one for one worker.

More would slow each one down: reading, judging and writing overlap within a slice, and no longer where it ends.
"""

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asks for when starting a run; None leaves the choice to the mapping and its history."""

    mapping: str
    actor: str
    kind: RunKind | None = None
    dry: bool = False
    changed_limit: int | None = None


def start(hub: Installation, order: Order, beside: Callable[[Session], object] = lambda _session: None) -> str:
    """Checks that the mapping can run and stores the run with its slices; the run's id. For `beside` see `add_run`.

    PreflightError lists every reason against it, RunError says that another run is active or the mapping is paused.
    """
    published = hub.mappings.get(order.mapping)
    refuse_paused(published)
    compiled, excess = inspect(hub, published)
    if excess:
        log.warning("the login may do more than the mapping needs", mapping=order.mapping, excess=excess)
    with hub.database.read() as session:
        now = hub.database.now(session)
        hub.ledger.refuse_second(session, order.mapping)
        kind = order.kind or _kind(hub, session, compiled, now)
        since = hub.ledger.last(session, order.mapping, [RunKind.FULL, RunKind.INCREMENTAL])
    if kind is RunKind.INCREMENTAL and (since is None or since.head is None):
        raise RunError(f"mapping {order.mapping} has no earlier full run to continue from; start a full one")
    plan = plan_of(hub, order, compiled, kind, now)
    slices, head = _slices(hub, compiled, plan, since.head if since else None)
    if order.dry and kind is RunKind.FULL:
        # Nothing is stored that would tell the later phases whom the read has counted already.
        slices = [each for each in slices if each.kind is SliceKind.READ]
    return add_run(hub, replace(plan, head=head), slices, beside, excess_rights=excess)


def undo(hub: Installation, run: str, actor: Actor) -> str:
    """Starts the run that puts back what `run` replaced, and pauses the mapping; the id of the new run.

    A run that follows is ended by it: it would go on for a day otherwise, and write what is being taken back.
    """
    undone, segments, now = _written(hub, run)
    if undone.kind is RunKind.FOLLOW and not undone.state.final and segments:
        cancel(hub, run, str(actor))
        undone, segments, now = _written(hub, run)
    if not undone.state.final:
        raise RunError(f"run {run} is {undone.state.value}; end it by `hub runs cancel {run}`, then undo it")
    if undone.kind is RunKind.UNDO:
        raise RunError(
            f"run {run} is itself an undo; to score its records again, `hub mappings resume {undone.mapping}` and"
            " start a run"
        )
    if undone.dry or not segments:
        raise RunError(f"run {run} wrote nothing that could be put back")
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
    why = f"run {run} was undone"
    return add_run(hub, plan, slices, lambda session: hub.mappings.pause(undone.mapping, actor, why, session))


def _written(hub: Installation, run: str) -> tuple[Run, list[int], datetime]:
    """A run, the segments of what it may have written, in order, and the time of looking."""
    with hub.database.read() as session:
        unsent = hub.ledger.unsent(session, run)
        segments = [each.id for each in hub.log.segments(session, run=run) if each.id not in unsent]
        return hub.ledger.run(session, run), segments, hub.database.now(session)


def replay(
    hub: Installation,
    mapping: str,
    actor: str,
    states: tuple[str, ...],
    beside: Callable[[Session], object] = lambda _session: None,
) -> str:
    """Starts a run over the records of a mapping that stand rejected, parked and so on; its id.

    What `beside` does belongs to the same transaction.
    ApprovalError in production for more records than the setting allows, until another person approved it.
    """
    published = hub.mappings.get(mapping)
    refuse_paused(published)
    if unknown := sorted({*states} - REPLAYED):
        raise RunError(f"{unknown[0]} is no state to replay; expected some of {', '.join(sorted(REPLAYED))}")
    compiled = preflight(hub, published)
    many = Many.of(hub, published, states)
    many.ask(hub, actor)
    with hub.database.read() as session:
        now = hub.database.now(session)
    plan = plan_of(hub, Order(mapping, actor), compiled, RunKind.REPLAY, now)
    slices = [SlicePlan(SliceKind.DUE, 0, subject=states, page_rows=page_rows_of(hub, compiled))]

    def note(session: Session) -> None:
        many.use(hub, session, actor)
        hub.record(session, actor, Action.RECORD_REPLAY, f"mapping:{mapping}", states=list(states))
        beside(session)

    return add_run(hub, plan, slices, note)


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
    if held.state is not RunState.HELD:
        raise RunError(f"run {run} is {held.state.value}; only a held run can be resumed")
    published = hub.mappings.get(held.mapping)
    if held.kind is not RunKind.UNDO:
        refuse_paused(published)
        _refuse_other_source(hub, held, published)
    compiled = preflight(hub, published) if held.kind is not RunKind.UNDO else None
    with hub.database.begin() as session:
        if not hub.ledger.resume(session, run, changed_limit, raise_limit=lift or changed_limit is not None):
            raise RunError(f"run {run} is {held.state.value}; only a held run can be resumed")
        if compiled is not None and (held.version, held.model) != (compiled.document.digest, compiled.model.digest):
            hub.ledger.set_version(session, run, compiled.document.digest, compiled.model.digest)
        if compiled is not None:
            hub.ledger.set_shape(session, run, shape_of(compiled))
        hub.record(session, actor, Action.RUN_RELEASE, run, run=run)
        pools = hub.ledger.pools(session, run)
    hub.ring(pools)


def finish(hub: Installation, session: Session, run: str) -> None:
    """Ends a run whose last slice is done: its state follows from what became of its records."""
    hub.ledger.lock_run(session, run)
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


def add_run(
    hub: Installation,
    plan: RunPlan,
    slices: list[SlicePlan],
    beside: Callable[[Session], object] = lambda _session: None,
    **detail: object,
) -> str:
    """Stores a run with its slices and its audit event, and rings for it; its id.

    What `beside` does belongs to the same transaction. RunError where the mapping has an active run.
    """
    told = {"mapping": plan.mapping, "version": plan.version, "kind": plan.kind.value, "dry": plan.dry}
    follows = plan.kind is RunKind.FOLLOW
    pool = FOLLOWERS if follows else "default"
    try:
        with hub.database.begin() as session:
            run = hub.ledger.add(session, plan, slices, pool)
            action = Action.RUN_UNDO if plan.kind is RunKind.UNDO else Action.RUN_START
            hub.record(session, plan.actor, action, run, run=run, **told, **{k: v for k, v in detail.items() if v})
            beside(session)
    except IntegrityError:
        with hub.database.read() as session:
            hub.ledger.refuse_second(session, plan.mapping, follows=follows)
        raise
    hub.ring([pool])
    log.info("run started", run=run, **told)
    return run


def _refuse_other_source(hub: Installation, held: Run, published: Published) -> None:
    """A held run goes on where it stopped: under a version that reads something else there is no such place."""
    before = hub.mappings.document(hub.mappings.version(held.mapping, held.version)).read
    now = hub.mappings.document(published).read
    if (before.connection, before.entity, before.changed_by) != (now.connection, now.entity, now.changed_by):
        raise RunError(f"mapping {held.mapping} reads another entity now; cancel run {held.id} and start a new one")


def refuse_paused(published: Published) -> None:
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


def plan_of(hub: Installation, order: Order, compiled: Compiled, kind: RunKind, now: datetime) -> RunPlan:
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
        ahead=policy.ahead and not order.dry and kind is not RunKind.FOLLOW,
        changed_limit=order.changed_limit if order.changed_limit is not None else policy.changed,
        rejected_limit=policy.rejected,
        expected=last.counts.read if last is not None else None,
        shape=shape_of(compiled),
    )


def _slices(
    hub: Installation, compiled: Compiled, plan: RunPlan, since: str | None
) -> tuple[list[SlicePlan], str | None]:
    """The slices of a run, and the source's head before it began.

    Full: the source in parts, then what is still due, then who is gone. Incremental: what moved, then what is due.
    """
    document, page_rows, kind = compiled.document, page_rows_of(hub, compiled), plan.kind
    workers = hub.settings.workers
    most = hub.settings.slices or (SLICES_A_WORKER * workers if workers > 1 else 1)
    if plan.expected is not None:  # a part smaller than a page only costs another page
        most = min(most, max(1, -(-plan.expected // page_rows)))
    pipeline = Pipeline(compiled)
    moved = pipeline.selection(plan.logical_at, incremental=True, page_rows=page_rows)
    selection = moved if kind is RunKind.INCREMENTAL else replace(moved, changed_by=None)
    with hub.connections.open(document.read.connection, compiled.grants[document.read.connection], Context()) as far:
        source = far.source()
        if source is None:
            raise PreflightError((f"connection {document.read.connection} cannot be read",))
        head = source.head(moved) if document.read.changed_by is not None else None
        parts = source.split(selection, most) if kind is RunKind.FULL else [selection]
    slices = [_read_slice(part, since if kind is RunKind.INCREMENTAL else None, page_rows) for part in parts]
    slices.append(SlicePlan(SliceKind.DUE, 1, page_rows=page_rows))
    if kind is RunKind.FULL:
        slices.append(SlicePlan(SliceKind.ABSENT, 2, page_rows=page_rows))
    return slices, head.to_json() if head else None


def page_rows_of(hub: Installation, compiled: Compiled) -> int:
    """Records in one page of a mapping's source: as the settings say, or fewer where its connector names a limit."""
    return hub.connections.page_rows(compiled.document.read.connection, hub.settings.page_rows)


def _read_slice(selection: Selection, cursor: str | None, page_rows: int) -> SlicePlan:
    return SlicePlan(SliceKind.READ, 0, selection=selection.to_json(), cursor=cursor, page_rows=page_rows)
