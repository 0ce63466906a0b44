"""What every part of the ledger needs: places kept sealed, and the fence under which a slice is moved."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

from sqlalchemy import and_, select, update
from sqlalchemy.orm import Session

from hub.database import Database
from hub.keys import KeyRing
from hub.runs.ledger.tables import RunRow, SliceRow
from hub.runs.types import Claim, LostLeaseError, RunState, SlicePlan

_PLACE = {"kind": "place"}


class LedgerPart:
    """Some of the ledger's queries; the caller owns the transaction."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys

    def _seal(self, place: str | None) -> str | None:
        """Where a read stands names a record by its key, so it is not kept in clear."""
        return None if place is None else base64.b64encode(self._keys.seal(place.encode(), _PLACE)).decode()

    def _open(self, sealed: str | None) -> str | None:
        return None if sealed is None else self._keys.open(base64.b64decode(sealed), _PLACE).decode()

    def _sealed(self, plan: SlicePlan) -> SlicePlan:
        return replace(plan, selection=self._seal(plan.selection), cursor=self._seal(plan.cursor))

    def _held(self, session: Session, claim: Claim, *, settling: bool = False) -> SliceRow:
        """The slice under the claim's epoch, locked, in a run that may go on; `settling` lets its state be any.

        What was sent to a far side is recorded even where the run was ended meanwhile.
        """
        row = session.get(SliceRow, (claim.run, claim.number), with_for_update=True, populate_existing=True)
        if row is None or row.epoch != claim.epoch:
            raise LostLeaseError(f"slice {claim.number} of run {claim.run} is held by another worker")
        if settling:
            return row
        state = session.scalar(select(RunRow.state).where(RunRow.id == claim.run))
        if state != RunState.RUNNING.value:
            raise LostLeaseError(f"run {claim.run} is {state}")
        return row

    def _touch(self, session: Session, claim: Claim, values: dict[str, Any]) -> None:
        mine = and_(SliceRow.run == claim.run, SliceRow.number == claim.number, SliceRow.epoch == claim.epoch)
        touched = session.execute(update(SliceRow).where(mine).values(**values))
        if touched.rowcount != 1:  # type: ignore[attr-defined]
            raise LostLeaseError(f"slice {claim.number} of run {claim.run} is held by another worker")
