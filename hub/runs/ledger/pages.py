"""The ledger's pages: each between its commits, and how often its changes were begun to be written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import and_, delete, func, select
from sqlalchemy.orm import Session

from hub.runs.ledger.part import LedgerPart
from hub.runs.ledger.tables import PageRow, RunRow, SliceRow, page_of
from hub.runs.types import MOST_TRIES, SHRINK, Abandoned, Claim, Counts, Lags, PageRecord, PageState, Part, SliceKind


class Pages(LedgerPart):
    """Queries about pages."""

    def put_page(self, session: Session, claim: Claim, page: PageRecord, seen: bytes | None = None) -> None:
        """Stores a page in its new state, under the claim's fence."""
        self._held(session, claim, settling=page.state is PageState.WRITTEN).turns = 0
        session.merge(
            PageRow(
                run=page.run,
                slice=page.slice,
                number=page.number,
                state=page.state.value,
                segment=page.segment,
                cursor=self._seal(page.cursor),
                counts=dict(page.counts.to_json()),
                features=page.features,
                predictions=page.predictions,
                journal=page.journal,
                **({"seen": seen} if seen is not None else {}),
                **({"since": page.since} if page.since is not None else {}),
            )
        )
        session.flush()

    def note_lag(self, session: Session, claim: Claim, page: int) -> None:
        """Changes that a live source told of in a page are written now: counts how long that took since the oldest."""
        row = session.get(PageRow, (claim.run, claim.number, page), populate_existing=True)
        if row is not None and row.since is not None:
            slice_ = self._held(session, claim, settling=True)
            took = (self._database.now(session) - row.since).total_seconds()
            slice_.lags = Lags.from_json(slice_.lags).with_one(took).to_json()
            session.flush()

    def has_page(self, session: Session, claim: Claim, page: PageRecord) -> bool:
        """Whether a page stands as it was to be stored, as asked after a commit whose answer was lost."""
        self._held(session, claim)
        row = session.get(PageRow, (page.run, page.slice, page.number), populate_existing=True)
        return row is not None and (row.state, row.segment) == (page.state.value, page.segment)

    def open_pages(self, session: Session, claim: Claim) -> list[PageRecord]:
        """The pages of a slice that are not yet written, in order."""
        query = (
            select(PageRow)
            .where(PageRow.run == claim.run, PageRow.slice == claim.number, PageRow.state != PageState.WRITTEN.value)
            .order_by(PageRow.number)
        )
        found = [page_of(row) for row in session.scalars(query)]
        return [replace(each, cursor=self._open(each.cursor)) for each in found]

    def try_page(self, session: Session, claim: Claim, page: int, changes: int) -> Part:
        """Which of a page's stored changes are to be written now, one more try at them counted.

        After a try that ended without an answer they are fewer, unless the far side has a job of them under way.
        """
        self._held(session, claim)
        row = session.get_one(PageRow, (claim.run, claim.number, page), populate_existing=True)
        end = row.fragile if row.answered < row.fragile else changes
        rows = min(row.part or changes, end - row.answered)
        row.sent = row.sent or row.tries > 0
        row.tries += 1
        if row.tries > 1 and rows > 1 and (row.journal is None or row.tries > MOST_TRIES):
            row.fragile, row.tries, row.journal = row.answered + rows, 1, None
            row.part = rows = max(1, rows // SHRINK)
        session.flush()
        return Part(row.answered, rows, row.tries, row.part, row.sent)

    def settle_part(self, session: Session, claim: Claim, page: int, part: Part) -> None:
        """Moves a page on behind changes whose results are stored."""
        self._held(session, claim, settling=True)
        row = session.get_one(PageRow, (claim.run, claim.number, page), populate_existing=True)
        row.answered, row.tries, row.journal, row.sent = part.end, 0, None, True
        if row.answered >= row.fragile:
            row.part = None
        session.flush()

    def writing(self, session: Session, claim: Claim) -> bool:
        """Whether a write of the slice began and has no answer."""
        mine = and_(PageRow.run == claim.run, PageRow.slice == claim.number, PageRow.state == PageState.DECIDED.value)
        return session.scalar(select(PageRow.number).where(mine, PageRow.tries > 0).limit(1)) is not None

    def untry_page(self, session: Session, claim: Claim, page: int) -> int:
        """Takes a counted try back: the far side was away, the page did no harm. How many are left."""
        self._held(session, claim, settling=True)
        row = session.get_one(PageRow, (claim.run, claim.number, page), populate_existing=True)
        row.tries = max(0, row.tries - 1)
        return row.tries

    def trying(self, session: Session, claim: Claim, page: int) -> tuple[int, int | None]:
        """How often a part of a page was begun, and of how many changes; for after a commit whose answer was lost."""
        self._held(session, claim, settling=True)
        row = session.get_one(PageRow, (claim.run, claim.number, page), populate_existing=True)
        return row.tries, row.part

    def drop_pages(self, session: Session, claim: Claim, states: Sequence[PageState]) -> None:
        """Forgets the pages of a slice that stand in these states; their records are read again."""
        self._held(session, claim)
        mine = and_(PageRow.run == claim.run, PageRow.slice == claim.number)
        session.execute(delete(PageRow).where(mine, PageRow.state.in_([each.value for each in states])))

    def parked_in_a_row(self, session: Session, claim: Claim, most: int) -> int:
        """How many of a slice's last pages, up to `most`, held nothing but records that were parked."""
        query = (
            select(PageRow.counts)
            .where(PageRow.run == claim.run, PageRow.slice == claim.number, PageRow.state == PageState.WRITTEN.value)
            .order_by(PageRow.number.desc())
            .limit(most)
        )
        number = 0
        for counts in session.scalars(query):
            if not counts.get("parked") or counts["parked"] != counts.get("read"):
                break
            number += 1
        return number

    def page_state(self, session: Session, claim: Claim, page: int) -> PageState | None:
        """How far a page came; None before its first commit."""
        row = session.get(PageRow, (claim.run, claim.number, page), populate_existing=True)
        return None if row is None else PageState(row.state)

    def note(self, session: Session, claim: Claim, page: int, handle: str) -> None:
        """Stores the far side's job handle of a page's write."""
        self._held(session, claim)
        session.get_one(PageRow, (claim.run, claim.number, page)).journal = handle

    def noted(self, session: Session, claim: Claim, page: int) -> str | None:
        """The far side's job handle noted for a page, by whoever tried it."""
        row = session.get(PageRow, (claim.run, claim.number, page))
        return None if row is None else row.journal

    def seen(self, session: Session, run: str) -> tuple[int, Iterator[bytes]]:
        """The key hashes that the pages of a run stored: how many bytes, and these, a few pages' at a time.

        Eight bytes a record are many, so that whoever keeps them makes room for them once.
        """
        stored = PageRow.run == run, PageRow.seen.is_not(None)
        size = session.scalar(select(func.sum(func.length(PageRow.seen))).where(*stored))
        query = select(PageRow.seen).where(*stored).execution_options(yield_per=8)
        return int(size or 0), (each for each in session.scalars(query) if each is not None)

    def source_counts(self, session: Session, run: str) -> Counts:
        """What became of the records that a run read from the source itself."""
        slices = select(SliceRow.counts).where(SliceRow.run == run, SliceRow.kind == SliceKind.READ.value)
        return sum((Counts.from_json(each) for each in session.scalars(slices)), Counts())

    def forget_pages(self, session: Session, run: str) -> None:
        """Drops the page rows of an ended run; what became of each record stands in the decision log."""
        session.execute(delete(PageRow).where(PageRow.run == run, PageRow.state == PageState.WRITTEN.value))

    def abandoned(self, session: Session, before: datetime, most: int = 50) -> list[Abandoned]:
        """Pages left behind by runs that ended before then."""
        query = (
            select(PageRow, RunRow.actor)
            .join(RunRow, RunRow.id == PageRow.run)
            .where(RunRow.finished_at < before)
            .limit(most)
        )
        return [
            Abandoned(
                row.run,
                row.slice,
                row.number,
                row.segment if row.state == PageState.DECIDED.value else None,
                row.sent or row.tries > 0,
                actor,
            )
            for row, actor in session.execute(query)
        ]

    def unsent(self, session: Session, run: str) -> set[int]:
        """The segments of pages whose changes were stored and never sent."""
        never = and_(PageRow.state == PageState.DECIDED.value, PageRow.tries == 0, PageRow.sent.is_(False))
        found = session.scalars(select(PageRow.segment).where(PageRow.run == run, never))
        return {each for each in found if each is not None}

    def drop_page(self, session: Session, page: Abandoned) -> bool:
        """Forgets one page of an ended run; False where somebody else has."""
        gone = delete(PageRow).where(
            PageRow.run == page.run, PageRow.slice == page.slice, PageRow.number == page.number
        )
        return session.execute(gone).rowcount == 1  # type: ignore[attr-defined, no-any-return]
