"""Starts runs and steers them: preflight, slices, cancel, resume, undo, replay, the end of a run, and the schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import structlog
from cronsim import CronSim
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.access import Actor
from hub.audit import Action
from hub.connections import ConnectionsError
from hub.mappings import Compiled, MappingError, MappingsError, Pipeline, Published
from hub.models import ModelError
from hub.runs.installation import Installation
from hub.runs.pages.shape import changes_since, shape_of
from hub.runs.types import FOLLOWERS, PreflightError, Run, RunError, RunKind, RunPlan, RunState, SliceKind, SlicePlan
from hub.sdk import CheckReport, ConnectorError, Context, Grant, Happening, Mode, Selection
from hub.sdk.shared import Told

SCHEDULE = "service:schedule"
"""Who starts a run whose time has come."""
ACTIVE = "mapping {0} already has an active run: {1}; cancel it or let it end"
HIDDEN = (
    "it fitted when it was published: a field that is unknown now was taken away, or is hidden from this login; then"
    " ask its administrator for the right to read it, and to edit it where the mapping writes it"
)
REPLAYED = frozenset({"rejected", "parked", "conflict", "unknown", "invalid"})
MOST_NAMED = 20
MOST_MISSED = 10_000
"""Ticks counted at most between two looks: a week of minutes."""
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
        if (other := hub.ledger.active(session, order.mapping)) is not None:
            raise RunError(ACTIVE.format(order.mapping, other))
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
    """Starts the run that puts back what `run` replaced, and pauses the mapping; the id of the new run."""
    with hub.database.read() as session:
        undone = hub.ledger.run(session, run)
        unsent = hub.ledger.unsent(session, run)
        segments = [each.id for each in hub.log.segments(session, run=run) if each.id not in unsent]
        now = hub.database.now(session)
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


def replay(hub: Installation, mapping: str, actor: str, states: tuple[str, ...]) -> str:
    """Starts a run over the records of a mapping that stand rejected, parked and so on; its id."""
    published = hub.mappings.get(mapping)
    refuse_paused(published)
    if unknown := sorted({*states} - REPLAYED):
        raise RunError(f"{unknown[0]} is no state to replay; expected some of {', '.join(sorted(REPLAYED))}")
    compiled = preflight(hub, published)
    with hub.database.read() as session:
        now = hub.database.now(session)
    plan = plan_of(hub, Order(mapping, actor), compiled, RunKind.REPLAY, now)
    slices = [SlicePlan(SliceKind.DUE, 0, subject=states, page_rows=hub.settings.page_rows)]

    def note(session: Session) -> None:
        hub.record(session, actor, Action.RECORD_REPLAY, f"mapping:{mapping}", states=list(states))

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


def preflight(hub: Installation, published: Published) -> Compiled:
    """The mapping compiled against the far sides as they are now. PreflightError names all that stands against it."""
    return inspect(hub, published)[0]


def inspect(hub: Installation, published: Published) -> tuple[Compiled, list[str]]:
    """As `preflight`, with the rights that the logins hold beyond what the mapping needs."""
    try:
        compiled = hub.mappings.compile_published(published, fresh=True)
    except MappingError as error:
        raise PreflightError((*(str(each) for each in error.problems), HIDDEN)) from error
    except ConnectorError as error:
        raise PreflightError((error.message,)) from error
    problems: list[str] = []
    excess: list[str] = []
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
        missing, beyond = needed_rights(grant, report)
        problems += [f"connection {connection}: the right {each} is missing" for each in missing]
        excess += [f"{connection}: {each}" for each in beyond]
        if report.budget_left is not None and report.budget_left <= 0:
            problems.append(f"connection {connection}: its budget of calls is used up")
    if problems:
        raise PreflightError(tuple(problems))
    more = len(excess) - MOST_NAMED
    return compiled, [*excess[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]


def needed_rights(grant: Grant, report: CheckReport) -> tuple[list[str], list[str]]:
    """Which rights of a login the grant needs and lacks, and which it has beyond the grant."""
    missing, excess = [], []
    for each in report.rights:
        entity, _, field = each.subject.partition(".")
        known = {*grant.reads, *grant.writes}
        if each.subject in known:  # a name with a schema has a dot of its own
            entity, field = each.subject, ""
        elif "." in field and (longer := each.subject.rpartition("."))[0] in known:
            entity, _, field = longer
        wanted = _wants(grant, each.right, entity, field) if each.subject else None
        text = f"{each.right} {each.subject}".strip()
        if not each.granted and wanted is not False:
            missing.append(text)
        elif each.granted and wanted is False:
            excess.append(text)
    return missing, excess


def _wants(grant: Grant, right: str, entity: str, field: str) -> bool:
    """Whether a grant needs a right on an entity or one of its fields; a right of another name counts as reading."""
    modes = grant.modes.get(entity, frozenset())
    verb = right.upper()
    if verb in {"UPDATE", "WRITE"}:
        written = grant.writes.get(entity, frozenset())
        return bool(modes & {Mode.UPDATE, Mode.UPSERT} or (written and not modes)) and (not field or field in written)
    if verb in {"INSERT", "CREATE"}:
        return bool(modes & {Mode.UPSERT, Mode.CREATE})
    if verb in {"DELETE", "ALTER", "DROP"}:
        return False
    fields = grant.reads.get(entity, frozenset()) | grant.writes.get(entity, frozenset())
    return bool(fields) and (not field or field in fields)


def differences(hub: Installation, run: str) -> str | None:
    """What no longer fits between a run's mapping and the far sides, in one line; None where all of it fits."""
    try:
        if (found := changes_since(hub, run)) is not None:
            return found
    except ConnectorError as error:
        log.warning("a far side cannot say what changed", run=run, why=error.message)
    with hub.database.read() as session:
        mapping = hub.ledger.run(session, run).mapping
    try:
        preflight(hub, hub.mappings.get(mapping))
    except PreflightError as error:
        return f"the mapping no longer fits: {error}"
    return None


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


def tick(hub: Installation, now: datetime | None = None) -> list[str]:
    """Starts every run whose time has come; their ids. A tick that meets a run or a pause is dropped and counted.

    `now` is the database's own clock unless given. A mapping that cannot run keeps no other from it.
    """
    if now is None:
        with hub.database.read() as session:
            now = hub.database.now(session)
    started = []
    for published in (each.published for each in hub.mappings.list()):
        if published is not None and (due := _due(hub, published, now)) is not None:
            started += _acted_on(hub, published.mapping, due)
    return started


@dataclass(frozen=True, slots=True)
class _Tick:
    """A time of a schedule that nobody acted on yet, how many before it were missed, and why it is dropped, if so."""

    at: datetime
    missed: int
    dropped: str | None


class _ActedOnError(Exception):
    """Somebody else acted on the tick meanwhile."""


def _due(hub: Installation, published: Published, now: datetime) -> _Tick | None:
    document = hub.mappings.document(published)
    if document.run.schedule is None:
        return None
    zone = ZoneInfo(document.read.timezone)
    at = next(CronSim(document.run.schedule, now.astimezone(zone) + timedelta(seconds=1), reverse=True))
    at = at.astimezone(UTC)
    with hub.database.read() as session:
        known = hub.ledger.last_tick(session, published.mapping)
        since = max(known[0], published.published_at) if known is not None else published.published_at
        if at <= since:
            return None
        busy = hub.ledger.active(session, published.mapping) is not None
        meets = busy or hub.ledger.active_at(session, published.mapping, at)
    between = islice(CronSim(document.run.schedule, since.astimezone(zone)), MOST_MISSED)
    missed = sum(1 for _ in takewhile(lambda each: each < at, between)) if known else 0
    return _Tick(at, missed, "paused" if published.paused else "running" if meets else None)


def _acted_on(hub: Installation, mapping: str, due: _Tick) -> list[str]:
    """Starts the run of a tick; noted in the same transaction, so that a process that dies loses neither."""
    if due.dropped is not None:
        _drop(hub, mapping, due, due.dropped)
        return []

    def note(session: Session) -> None:
        if not _noted(hub, session, mapping, due, due.missed, "missed"):
            raise _ActedOnError

    try:
        return [start(hub, Order(mapping, SCHEDULE), note)]
    except _ActedOnError:
        return []
    except (RunError, ConnectorError, MappingsError, ConnectionsError, ModelError) as error:
        log.error("scheduled run not started", mapping=mapping, why=str(error))  # noqa: TRY400
        _drop(hub, mapping, due, "refused")
        return []


def _drop(hub: Installation, mapping: str, due: _Tick, why: str) -> None:
    with hub.database.begin() as session:
        _noted(hub, session, mapping, due, due.missed + 1, why)


def _noted(hub: Installation, session: Session, mapping: str, due: _Tick, dropped: int, why: str) -> bool:
    """Notes a tick and those dropped with it; False where somebody else acted on it already."""
    if not hub.ledger.tick(session, mapping, due.at, dropped):
        return False
    if dropped:
        hub.record(session, SCHEDULE, Action.RUN_SKIP, f"mapping:{mapping}", dropped=dropped, why=why)
    return True


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
    except IntegrityError as error:
        with hub.database.read() as session:
            busy = hub.ledger.following if follows else hub.ledger.active
            other = busy(session, plan.mapping)
        if other is None:
            raise
        raise RunError(ACTIVE.format(plan.mapping, other)) from error
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
    document, page_rows, kind = compiled.document, hub.settings.page_rows, plan.kind
    # A part smaller than a page only costs another page.
    most = MOST_SLICES if plan.expected is None else min(MOST_SLICES, max(1, -(-plan.expected // page_rows)))
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


def _read_slice(selection: Selection, cursor: str | None, page_rows: int) -> SlicePlan:
    return SlicePlan(SliceKind.READ, 0, selection=selection.to_json(), cursor=cursor, page_rows=page_rows)


SENTENCES: Mapping[Happening, str] = {
    Happening.WAITED: "waited {times} for the far side, {amount:.0f} s in all",
    Happening.LOGGED_IN: "logged in anew {times}, since the session had ended",
    Happening.REPEATED: "made a call again {times}, since it was not answered or the far side was busy",
    Happening.LOCKED: "sent {amount:.0f} records again that somebody else had locked",
    Happening.LEFT: "sent {amount:.0f} records again that a job of the far side had left unprocessed",
    Happening.FOUND: "took up a job {times} that had been begun before, without sending it again",
}


def sentences(told: Told) -> list[str]:
    """What a run had to put up with at its far sides, in plain words; nothing where all went smoothly."""
    found = []
    for what, sentence in SENTENCES.items():
        times, amount = told.get(what.value, (0, 0.0))
        if times:
            words = "once" if times == 1 else f"{times} times"
            found.append(sentence.format(times=words, amount=amount))
    return found


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
        "happened": sentences(run.happened),
    }
