"""Doing in production what takes two people: asked for first, and the approval used up by whatever does it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from hub.access.approvals.approvals import Approvals
from hub.access.approvals.types import ApprovalError, ApprovalKind
from hub.access.types import Actor, Caller
from hub.database import Database
from hub.sdk import Json


class DualControl:
    """The approvals of one room's steps; safe to share between threads. Without `production` nothing is asked for."""

    def __init__(self, database: Database, approvals: Approvals, *, production: bool) -> None:
        self._database = database
        self._approvals = approvals
        self._production = production

    def ask(
        self, kind: ApprovalKind, subject: str, content: Mapping[str, Json], who: Caller | Actor, what: str
    ) -> None:
        """ApprovalError, with the approval asked for, unless another person gave it. `what` would be done."""
        if not self._production:
            return
        with self._database.begin() as session:
            asked = self._approvals.request(session, kind, subject, content, who)
        if not asked.approved:
            raise ApprovalError(f"{what}, which takes two people: {asked.next_step}")

    def use(
        self, session: Session, kind: ApprovalKind, subject: str, content: Mapping[str, Json], who: Caller | Actor
    ) -> None:
        """Uses it up, in the transaction that does it. ApprovalError where it stands no more."""
        if self._production and self._approvals.use(session, kind, subject, content, who) is None:
            raise ApprovalError(f"{subject}: its approval was used meanwhile, or has run out; ask anew")
