"""Trying many records again at once: above a limit it takes a second person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hub.access.approvals import ApprovalError, ApprovalKind
from hub.mappings import Published
from hub.runs.installation import Installation
from hub.sdk import Json


@dataclass(frozen=True, slots=True)
class Many:
    """The records that a replay would try again, where they are more than one person may; else nothing to ask for."""

    mapping: str
    content: Mapping[str, Json] | None

    @classmethod
    def of(cls, hub: Installation, published: Published, states: tuple[str, ...]) -> Many:
        """What has to be approved: the version, the states, and how many records stand in them, in full thousands.

        Records come and go while somebody decides; an approval is for about as many as there were.
        """
        found = hub.standing.states(published.mapping) if hub.settings.production else {}
        count = sum(number for state, number in found.items() if state in states)
        if count <= hub.settings.replay_limit:
            return cls(published.mapping, None)
        upto = -(-count // 1000) * 1000
        told: dict[str, Json] = {
            "mapping": published.mapping,
            "version": published.digest,
            "states": [*sorted(set(states))],
            "up_to": upto,
        }
        return cls(published.mapping, told)

    def ask(self, hub: Installation, actor: str) -> None:
        """ApprovalError, with the approval asked for, unless another person gave it."""
        if self.content is None:
            return
        with hub.database.begin() as session:
            asked = hub.approvals.request(session, ApprovalKind.REPLAY, self._subject, self.content, actor)
        if not asked.approved:
            raise ApprovalError(
                f"mapping {self.mapping}: up to {self.content['up_to']} records would be tried again, more than"
                f" HUB_REPLAY_LIMIT ({hub.settings.replay_limit}) allows one person: {asked.next_step}"
            )

    def use(self, hub: Installation, session: Session, actor: str) -> None:
        """Uses the approval up, in the transaction that stores the run. ApprovalError where somebody else just did."""
        if self.content is None:
            return
        if hub.approvals.use(session, ApprovalKind.REPLAY, self._subject, self.content, actor) is None:
            raise ApprovalError(f"mapping {self.mapping}: the approval to try its records again was used meanwhile")

    @property
    def _subject(self) -> str:
        return f"mapping:{self.mapping}"
