"""Which slices may be claimed, and in which order: the rules of phases, pools and of runs that follow."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    literal,
    or_,
    select,
)
from sqlalchemy.orm import aliased

from hub.runs.ledger.tables import PageRow, RunRow, SliceRow
from hub.runs.types import (
    FOLLOWERS,
    PageState,
    RunKind,
    RunState,
    Stage,
)

GOING_STATES = (RunState.QUEUED.value, RunState.RUNNING.value)
BESIDE = (RunKind.REQUEST.value, RunKind.FOLLOW.value)
FOLLOWING = aliased(RunRow)


def _open_page(of: Any) -> ColumnElement[bool]:
    """Whether a page of a slice was left between its commits."""
    mine = and_(PageRow.run == of.run, PageRow.slice == of.number, PageRow.state != PageState.WRITTEN.value)
    return select(PageRow.number).where(mine).exists()


def _apart(pool: str, now: datetime, longest: datetime) -> ColumnElement[bool]:
    """That what follows a live source and another run of its mapping do not go on at once.

    What was begun by the one that follows is finished first, by a worker of the pool `default` where need be.
    """
    other, following, held = aliased(RunRow), aliased(RunRow), aliased(SliceRow)
    busy = select(other.id).where(other.active == RunRow.mapping, other.state.in_(GOING_STATES)).exists()
    leased = and_(held.lease_until >= now, held.lease_until <= longest)
    followed = (
        select(held.number)
        .join(following, following.id == held.run)
        .where(following.following == RunRow.mapping, following.state.in_(GOING_STATES), or_(leased, _open_page(held)))
        .exists()
    )
    mine = SliceRow.pool == pool
    if pool == FOLLOWERS:
        return and_(mine, or_(~busy, _open_page(SliceRow)))
    free = and_(mine, or_(RunRow.kind.in_(BESIDE), ~followed))
    if pool != "default":
        return free
    return or_(free, and_(SliceRow.pool == FOLLOWERS, busy, _open_page(SliceRow)))


def claimable(pool: str, now: datetime, longest: datetime) -> Select[SliceRow]:
    """Slices to claim, the oldest run's first. A lease that ends behind `longest` is older than the clock's last step.

    The runs that go on come in order from an index of them alone, so that the first slice found ends the search: what
    it costs hangs neither on the runs that ended nor on how many wait.
    """
    earlier = aliased(SliceRow)
    blocked = (
        select(earlier.number)
        .where(earlier.run == SliceRow.run, earlier.phase < SliceRow.phase, earlier.stage != Stage.DONE.value)
        .exists()
    )
    going = RunRow.state.in_(
        [literal(each, literal_execute=True) for each in (RunState.QUEUED.value, RunState.RUNNING.value)]
    )
    return (
        select(SliceRow)
        .join(RunRow, RunRow.id == SliceRow.run)
        .where(
            going,
            _apart(pool, now, longest),
            SliceRow.stage != Stage.DONE.value,
            or_(SliceRow.lease_until.is_(None), SliceRow.lease_until < now, SliceRow.lease_until > longest),
            or_(SliceRow.not_before.is_(None), SliceRow.not_before <= now),
            or_(SliceRow.phase == 0, ~blocked),  # nothing is before the first phase, which most slices are in
        )
        .order_by(RunRow.id, SliceRow.phase, SliceRow.number)
    )
