"""Follows the live source of every mapping that asks for it: who is followed, from where, and what is owed to it.

A mapping is followed by one run at a time, which ends with the day or with what it was started for, and begins again
where it left off.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from hub.access.approvals import ApprovalError
from hub.connections import ConnectionsError
from hub.logs import Log
from hub.mappings import Compiled, MappingsError, Published
from hub.models import ModelError
from hub.runs.installation import Installation
from hub.runs.planning.planning import Order, add_run, page_rows_of, plan_of, refuse_paused, replay, start
from hub.runs.planning.preflight import inspect
from hub.runs.types import STAYED_OPEN, LeftOff, Run, RunError, RunKind, RunState, SliceKind, SlicePlan
from hub.sdk import ConnectorError

FOLLOWER = "service:follower"
"""Who follows a mapping that asks for it, and orders the reconciliations."""
PERIOD = timedelta(days=1)
MOST_PAGES = 20_000
"""After either the run ends and the next begins: its counts are those of a day, and so are its limits."""
PAGE_ROWS = 500
"""Records of a page at most: who is last in it waits until all of them are written."""
AGAIN_SECONDS = 60.0
"""After a mapping that could not be followed this process does not try again for so long."""

NEW, MOVED = "following begins", "the mapping or its model changed"
GAP = "the far side could not tell everything that changed"
OPEN = ("conflict", "unknown")
"""The states of records whose answers stayed open."""

log = Log(__name__)


def keep_following(hub: Installation, tried: dict[str, float] | None = None) -> list[str]:
    """Follows every mapping that asks for it and is not followed; the ids of the new runs.

    `tried` remembers, from call to call, which could not be followed and when that is tried again.
    """
    started = []
    tried = {} if tried is None else tried
    for published in (each.published for each in hub.mappings.list()):
        if published is None or not hub.mappings.document(published).run.follow or published.paused:
            continue
        name = published.mapping
        if time.monotonic() < tried.get(name, 0.0) or not _is_due(hub, published):
            continue
        try:
            started.append(start_following(hub, name, FOLLOWER))
            tried.pop(name, None)
        except (RunError, ConnectorError, MappingsError, ConnectionsError, ModelError) as error:
            tried[name] = time.monotonic() + AGAIN_SECONDS
            log.error("mapping not followed", mapping=name, why=str(error))  # noqa: TRY400
    return started


def _is_due(hub: Installation, published: Published) -> bool:
    """Whether nobody follows the mapping, and nobody ended that on purpose; a held run of an old version is ended."""
    with hub.database.read() as session:
        going = hub.ledger.following(session, published.mapping)
        last = hub.ledger.left_off(session, published.mapping)
        held = going is not None and hub.ledger.run(session, going).state is RunState.HELD
    if last is not None and going is not None and held and last.version != published.digest:
        hub.database.retrying(lambda s: hub.end(s, going, RunState.CANCELLED, MOVED), repeatable=True)
        return True
    if going is not None:
        return False
    ended_well = last is None or last.state in (RunState.DONE, RunState.DONE_WITH_REJECTS)
    return ended_well or (last is not None and last.version != published.digest)


def start_following(hub: Installation, mapping: str, actor: str) -> str:
    """Starts the run that follows a mapping's live source, from where the last one left off; its id.

    PreflightError lists every reason against it, RunError says that it is followed already, paused, or not to be.
    """
    published = hub.mappings.get(mapping)
    refuse_paused(published)
    compiled, excess = inspect(hub, published)
    if not compiled.document.run.follow:
        raise RunError(f"mapping {mapping} does not ask to be followed; publish it with `run: {{ follow: true }}`")
    with hub.database.read() as session:
        now = hub.database.now(session)
        last = hub.ledger.left_off(session, mapping)
        full = hub.ledger.last(session, mapping, [RunKind.FULL])
    plan = plan_of(hub, Order(mapping, actor), compiled, RunKind.FOLLOW, now)
    cursor = last.cursor if last is not None and _same_source(hub, last, compiled) else None
    page_rows = min(PAGE_ROWS, page_rows_of(hub, compiled))
    owed = _owed(last if cursor is not None else None, full, compiled)
    return add_run(
        hub, plan, [SlicePlan(SliceKind.FOLLOW, 0, cursor=cursor, page_rows=page_rows, subject=owed)], excess=excess
    )


def _same_source(hub: Installation, last: LeftOff, compiled: Compiled) -> bool:
    """Whether the cursor of the last run is a place in what the mapping reads now."""
    now = compiled.document.read
    before = hub.mappings.document(hub.mappings.version(compiled.document.mapping, last.version)).read
    return (before.connection, before.entity) == (now.connection, now.entity)


def _owed(last: LeftOff | None, full: Run | None, compiled: Compiled) -> tuple[str, ...]:
    if last is None:
        return (NEW,)
    if last.owed:
        return last.owed
    same = full is not None and (full.version, full.model) == (compiled.document.digest, compiled.model.digest)
    return () if same else (MOVED,)


def has_ended(hub: Installation, run: Run, pages: int) -> bool:
    """Whether a run that follows has come to its end: its day is over, or what it was started for no longer stands."""
    published = hub.mappings.get(run.mapping)
    document = hub.mappings.document(published)
    if published.paused or published.digest != run.version or pages >= MOST_PAGES or not document.run.follow:
        return True
    if hub.registry.get(document.model.name, document.model.use).digest != run.model:
        return True
    with hub.database.read() as session:
        return hub.database.now(session) - run.created_at >= PERIOD


def order_owed(hub: Installation, run: Run, owed: Sequence[str]) -> bool:
    """Orders the run that is owed beside one that follows; False, and the reason told, where that cannot be yet.

    It looks at the records whose answers stayed open alone, unless other changes may have been missed as well.
    UnavailableError where the far side is away.
    """

    def settle(session: Session) -> None:
        hub.ledger.settle_debt(session, run.id)

    try:
        if {*owed} == {STAYED_OPEN}:
            ordered = replay(hub, run.mapping, FOLLOWER, OPEN, settle)
        else:
            ordered = start(hub, Order(run.mapping, FOLLOWER), settle)
    except (RunError, MappingsError, ConnectionsError, ModelError, ApprovalError) as error:
        why = f"another run is due ({'; '.join(owed)}) and cannot start: {error}"
        hub.database.retrying(lambda s: hub.ledger.tell(s, run.id, why), repeatable=True)
        log.warning("owed run not started", run=run.id, why=why)
        return False
    log.info("owed run ordered", run=run.id, by=ordered, why=list(owed))
    return True


def how_followed(hub: Installation) -> dict[str, str]:
    """How it goes with each mapping that asks to be followed: `followed`, `gives way to a run`, or what is amiss."""
    published = [each.published for each in hub.mappings.list() if each.published is not None]
    return {each.mapping: _how(hub, each) for each in published if hub.mappings.document(each).run.follow}


def _how(hub: Installation, published: Published) -> str:
    mapping = published.mapping
    if published.paused:
        return "paused"
    with hub.database.read() as session:
        going = hub.ledger.following(session, mapping)
        if going is None:
            last = hub.ledger.left_off(session, mapping)
            told = f": run {last.run} is {last.state.value}; `hub runs start {mapping} --follow`" if last else ""
            return f"not followed{told}"
        run = hub.ledger.run(session, going)
        if run.state is RunState.HELD:
            return f"held: {run.reason}"
        if run.reason is not None:
            return f"degraded: {run.reason}"
        if hub.ledger.is_held(session, going):
            return "followed"
        gives_way = hub.ledger.active(session, mapping) is not None
    return "gives way to a run" if gives_way else "degraded: no worker follows it"
