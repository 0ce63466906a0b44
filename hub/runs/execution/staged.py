"""Slices whose model has a pool of its own: the stage that scores, and pages dropped to be read again."""

from __future__ import annotations

from hub.runs.execution.heartbeat import Heartbeat
from hub.runs.installation import Installation
from hub.runs.pages import score_page, set_aside
from hub.runs.types import MOST_TRIES, SHRINK, Claim, PageState, Stage

STAGED_PAGES = 8
"""Pages read, scored or written in one claim of a slice whose model has a pool of its own."""


class Scoring:
    """One claim of the stage that only scores: needs the ledger, the keys and the model, and no connection."""

    def __init__(self, hub: Installation, claim: Claim, heartbeat: Heartbeat) -> None:
        self._hub = hub
        self._claim = claim
        self._heartbeat = heartbeat

    def carry(self) -> None:
        """Scores the stored pages and passes the slice on; after a failure they are read again in smaller pages."""
        hub, claim = self._hub, self._claim
        if claim.attempt > 1 and claim.page_rows > 1:
            read_again(hub, claim, [PageState.FEATURED])
            return
        with hub.database.read() as session:
            pages = [p for p in hub.ledger.open_pages(session, claim) if p.state is PageState.FEATURED]
        for page in pages:
            self._heartbeat.check()
            if claim.attempt > MOST_TRIES and page is pages[0]:
                set_aside(hub, claim, page)
            else:
                score_page(hub, claim, page)
        with hub.database.begin() as session:
            hub.ledger.release(session, claim, stage=Stage.WRITE.value, pool="default")
        hub.ring(["default"])


def read_again(hub: Installation, claim: Claim, states: list[PageState]) -> None:
    """Drops a slice's pages that stand in these states and gives it back to be read in smaller ones."""
    rows = max(1, claim.page_rows // SHRINK)
    with hub.database.begin() as session:
        hub.ledger.drop_pages(session, claim, states)
        moved = {"page_rows": rows, "fragile": claim.page_rows * STAGED_PAGES, "exhausted": False}
        hub.ledger.release(session, claim, stage=Stage.READ.value, pool="default", **moved)
    hub.ring(["default"])
