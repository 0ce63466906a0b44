"""What workers do when there is nothing to carry: small files merged, orphans swept, ended runs tidied up.

Each part is safe to do twice and at once by several; the ledger's tick tells one worker when it is time.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl
from sqlalchemy.orm import Session

from hub.access import destroy_overdue, move_under_newest_key
from hub.audit import Action, Outcome
from hub.decisions import UNCHANGED, UNKNOWN
from hub.logs import Log
from hub.runs.installation import Installation
from hub.runs.pages.landing import rows_of, unanswered
from hub.runs.types import Abandoned

EVERY = timedelta(minutes=10)
KEPT_APART = timedelta(hours=1)
"""Segments younger than this are left as they are: somebody may be about to undo their run."""
FAN = 8
"""Files of about one size that become one: more, and receipts look into more files; fewer, and rows move more often."""
LADEN = 0.05
"""Share of a block of the standing that is laid over it, above which it is written anew."""
ORPHANED = timedelta(hours=24)
"""A segment's file that no catalogue row names after so long belongs to a page that was never committed."""
ENDED = timedelta(minutes=5)
TURN = "(upkeep)"
"""The tick of upkeep; no mapping can be called that."""
LOST = "the run ended before the answer was recorded"
NEVER_SENT = "the run ended before this was sent"

log = Log(__name__)


def keep_up(hub: Installation) -> bool:
    """Does the upkeep that is due; False where it is not, or another worker has taken this turn."""
    with hub.database.read() as session:
        now = hub.database.now(session)
        last = hub.ledger.last_tick(session, TURN)
    if last is not None and now - last[0] < EVERY:
        return False
    if not hub.database.retrying(lambda s: hub.ledger.tick(s, TURN, now, 0)):
        return False
    hub.sealed.seal(every_chain=True)
    hub.anchoring.push()
    hub.retention.prune("hub")
    hub.sealed.thin()
    swept = hub.log.sweep(now - ORPHANED)
    merged = hub.log.settle()
    folded = 0
    for each in hub.mappings.list():
        merged += hub.log.compact(each.mapping, before=now - KEPT_APART, fan=FAN)
        folded += hub.standing.fold(each.mapping, share=LADEN)
    closed = _close_ended(hub)
    summed = _sum_up_ended(hub)
    moved = move_under_newest_key(hub.keys, hub.database, hub.audit)
    gone = destroy_overdue(hub.vault, hub.database, hub.audit)
    late = hub.approvals.tell_overdue()
    done = {"swept": swept, "merged": merged, "folded": folded, "pages": closed, "runs": summed}
    done |= {"rewrapped": moved, "destroyed": gone, "unconfirmed": late}
    if any(done.values()):
        log.info("upkeep done", **done)
    return True


def _close_ended(hub: Installation) -> int:
    """Drops what the ledger still holds of ended runs; a write whose answer nobody recorded gets one: unknown."""
    closed = 0
    while True:
        with hub.database.read() as session:
            pages = hub.ledger.abandoned(session, hub.database.now(session) - ENDED)
        if not pages:
            return closed
        for page in pages:
            closed += hub.database.retrying(lambda s, p=page: _close(hub, s, p))  # type: ignore[misc]


def _sum_up_ended(hub: Installation) -> int:
    """Leaves of ended runs what their slices add up to."""
    summed = 0
    while found := hub.database.retrying(lambda s: hub.ledger.sum_up(s, hub.database.now(s) - ENDED)):
        summed += found
    return summed


def _close(hub: Installation, session: Session, page: Abandoned) -> bool:
    if not hub.ledger.drop_page(session, page):
        return False
    if page.segment is None:
        return True
    rows = rows_of(hub.log.frame(page.segment, ["_state"]))
    told = hub.log.results(page.segment)["row"]
    open_rows = rows.filter(~rows.is_in(told.implode()))
    if not open_rows.is_empty():
        answers = unanswered(len(open_rows), LOST).frame
        if not page.sent:
            answers = answers.with_columns(state=pl.lit(UNCHANGED), reason=pl.lit(NEVER_SENT))
        hub.log.record_results(session, page.segment, answers.with_columns(row=open_rows.cast(pl.UInt32)))
        segment = hub.log.segment(page.segment)
        counts = {UNKNOWN if page.sent else UNCHANGED: len(open_rows)}
        detail = {"segment": str(segment.id), "counts": counts}
        told_as = {"outcome": Outcome.FAILED, "run": page.run, "digest": segment.root.hex()}
        hub.record(session, page.actor, Action.WRITE_OUTCOME, f"mapping:{segment.facts.mapping}", **told_as, **detail)
    return True
