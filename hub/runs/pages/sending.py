"""Sends a page's stored changes: whole, and in ever smaller parts once a try at them has ended its process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import polars as pl
from sqlalchemy.orm import Session

from hub.connections import GuardedConnection
from hub.decisions import APPLIED, CONFLICT, PARKED, REJECTED, UNKNOWN
from hub.runs.installation import Installation
from hub.runs.pages.landing import moved_since, read_back, send, unanswered
from hub.runs.types import MOST_PARKED, MOST_TRIES, Claim, Part, RunError
from hub.sdk import Changes, Results, UnavailableError

WRITE_SHARE = 0.6
"""Share of the lease that one write may take, so that a worker frozen past it can no longer be sending."""

MOST_SENT = 3
"""How often a change is sent whose answer was lost and that the far side does not show; each time it is looked at."""

PARKED_BECAUSE = f"writing this record ended its process {MOST_TRIES} times on its own"

CHANGED_SINCE = "the record holds something else by now"

SENT_BEFORE = "; an earlier try, whose answer was lost, may have written it"
"""Ends the reason of a refusal that does not say how the try before it ended."""

Connect: TypeAlias = Callable[[float], GuardedConnection]
LookUp: TypeAlias = Callable[[GuardedConnection, pl.DataFrame, Sequence[str]], pl.DataFrame]


class Sending:
    """One page's changes on their way, under one claim.

    `rows` are the rows of the decisions behind the changes, in order; `reach_target` opens the target with seconds to
    spend, and looks records up in it. With `careful` the target is looked at first: its writes carry no condition, and
    what was replaced once may have been changed since.
    """

    def __init__(
        self,
        hub: Installation,
        claim: Claim,
        page: tuple[int, int],
        changes: Changes,
        rows: pl.Series,
        reach_target: tuple[Connect, LookUp],
        *,
        careful: bool = False,
    ) -> None:
        self._hub = hub
        self._claim = claim
        self._page, self._segment = page
        self._changes = changes
        self._rows = rows
        self._connect, self._look_up = reach_target
        self._careful = careful

    def send(self, check: Callable[[], None], *, repeated: bool) -> Results:
        """One result per change, in order. `check` is called before each part; what is unknown is read back.

        With `repeated` nothing that stays unknown is sent a second time here. UnavailableError costs no try.
        """
        while True:
            check()
            part = self._hub.database.retrying(self._enter, stored=self._entered)
            results = self._part(part, repeated=repeated) if part.rows else None
            if results is not None and part.rows == len(self._changes):
                return results
            if results is not None:
                self._hub.database.retrying(partial(self._settle, part, results), repeatable=True)
            if part.end == len(self._changes):
                return self._stored()

    def _enter(self, session: Session) -> Part:
        self._hub.ledger.beat(session, self._claim, self._hub.settings.lease_seconds)
        part = self._hub.ledger.try_page(session, self._claim, self._page, len(self._changes))
        if not part.rows and part.tries > MOST_TRIES:
            raise RunError(f"storing what the far side answered to a page ended its process {MOST_TRIES} times")
        return part

    def _entered(self, session: Session, part: Part) -> bool:
        return self._hub.ledger.trying(session, self._claim, self._page) == (part.tries, part.shrunk)

    def _tries(self, session: Session) -> int:
        return self._hub.ledger.trying(session, self._claim, self._page)[0]

    def _settle(self, part: Part, results: Results, session: Session) -> None:
        """Stores what was answered to one part, so that nobody sends it again."""
        told = results.frame.with_columns(row=self._rows.slice(part.start, part.rows))
        self._hub.ledger.settle_part(session, self._claim, self._page, part)
        self._hub.log.record_results(session, self._segment, told)

    def _stored(self) -> Results:
        told = self._hub.log.results(self._segment)
        wanted = self._rows.cast(told.schema["row"]).to_frame("row")
        found = wanted.join(told, on="row", how="left", maintain_order="left")
        return Results(found.select("state", "field", "reason", "version"))

    def _part(self, part: Part, *, repeated: bool) -> Results:
        frame = self._changes.frame.slice(part.start, part.rows)
        changes = Changes(self._changes.entity, self._changes.mode, self._changes.fields, frame)
        connection = self._connect(self._hub.settings.lease_seconds * WRITE_SHARE)
        if part.tries > MOST_TRIES:
            self._refuse_a_row(part)
            return self._set_aside(connection, changes, part.tries)
        if part.doubtful and self._journal().last() is None:
            return self._sent_unless_landed(connection, changes, repeated=repeated)
        results = self._sent_with_care(connection, changes, repeated=repeated)
        return self._doubted(connection, changes, results) if part.doubtful else results

    def _sent_unless_landed(self, connection: GuardedConnection, changes: Changes, *, repeated: bool) -> Results:
        """Sends what the target does not show to have landed by an earlier try, so that nothing is written twice.

        Of a job that was noted the far side tells itself. While it is away that costs no try: the doubt stays, and is
        looked into again.
        """
        with self._untried():
            results = self._looked_at(connection, changes, unanswered(len(changes), ""))
        results = Results(results.frame.with_columns(reason=pl.when(pl.col("reason") != "").then("reason")))
        left = (results.frame["state"] == UNKNOWN).arg_true()
        if not len(left):
            return results
        rest = Changes(changes.entity, changes.mode, changes.fields, changes.frame[left])
        told = self._sent_with_care(connection, rest, repeated=repeated)
        return Results(_laid_over(results.frame, self._doubted(connection, rest, told), left))

    def _sent_with_care(self, connection: GuardedConnection, changes: Changes, *, repeated: bool) -> Results:
        if not self._careful or connection.source() is None:
            return self._sent(connection, changes, repeated=repeated)
        return self._sent_unless_moved(connection, changes, repeated=repeated)

    def _sent_unless_moved(self, connection: GuardedConnection, changes: Changes, *, repeated: bool) -> Results:
        """Sends the changes of those records that still hold what is to be replaced; the others are conflicts."""
        with self._untried():
            found = self._look_up(connection, changes.frame["_key"].struct.unnest().unique(), changes.fields)
        moved = moved_since(changes, found)
        results = unanswered(len(changes), CHANGED_SINCE).frame.with_columns(state=pl.lit(CONFLICT))
        if not moved.all():
            rest = Changes(changes.entity, changes.mode, changes.fields, changes.frame.filter(~moved))
            told = self._sent(connection, rest, repeated=repeated)
            results = _laid_over(results, told, (~moved).arg_true())
        return Results(results)

    def _sent(self, connection: GuardedConnection, changes: Changes, *, repeated: bool) -> Results:
        """The far side's answers; what it leaves open is read back, and sent again unless this is a repetition."""
        results = self._answered(connection, changes)
        for number in range(MOST_SENT):
            if not (results.frame["state"] == UNKNOWN).any():
                return results
            results = self._looked_at(connection, changes, results)
            again = (results.frame["state"] == UNKNOWN).arg_true()
            if not len(again) or repeated or number == MOST_SENT - 1:
                return results
            rest = Changes(changes.entity, changes.mode, changes.fields, changes.frame[again])
            told = self._doubted(connection, rest, self._send(connection, rest))
            results = Results(_laid_over(results.frame, told, again))
        return results

    def _answered(self, connection: GuardedConnection, changes: Changes) -> Results:
        with self._untried():
            return self._send(connection, changes)

    @contextmanager
    def _untried(self) -> Iterator[None]:
        """A far side that is not there to be asked costs the page no try."""
        try:
            yield
        except UnavailableError:
            self._hub.database.retrying(
                lambda s: self._hub.ledger.untry_page(s, self._claim, self._page),
                stored=lambda s, left: self._tries(s) == left,
            )
            raise

    def _send(self, connection: GuardedConnection, changes: Changes) -> Results:
        destination = connection.destination()
        if destination is None:
            raise RunError(f"the connection of {changes.entity} cannot be written")
        return send(destination, changes, self._journal())

    def _journal(self) -> PageJournal:
        return PageJournal(self._hub, self._claim, self._page)

    def _set_aside(self, connection: GuardedConnection, changes: Changes, tries: int) -> Results:
        """A record whose write ended its process too often: parked, unless the target shows that it landed."""
        results = unanswered(len(changes), PARKED_BECAUSE)
        if tries == MOST_TRIES + 1:
            results = self._read_back(connection, changes, results)
        lost = pl.when(pl.col("state") == UNKNOWN).then(pl.lit(PARKED)).otherwise("state").alias("state")
        landed = pl.when(pl.col("state") == UNKNOWN).then("reason").alias("reason")
        return Results(results.frame.with_columns(lost, landed))

    def _refuse_a_row(self, part: Part) -> None:
        """RunError where the records before this one were all set aside, so that the fault is not theirs."""
        before = self._stored().frame["state"].slice(max(0, part.start - MOST_PARKED), min(part.start, MOST_PARKED))
        if len(before) == MOST_PARKED and (before == PARKED).all():
            raise RunError(
                f"writing {MOST_PARKED} records in a row ended its process, so the fault is not theirs; see the log,"
                f" then `hub runs resume {self._claim.run}` goes on"
            )

    def _read_back(self, connection: GuardedConnection, changes: Changes, results: Results) -> Results:
        if connection.source() is None:
            return results
        return read_back(changes, results, self._found(connection, changes, results))

    def _looked_at(self, connection: GuardedConnection, changes: Changes, results: Results) -> Results:
        """As read back; what holds neither the wanted values nor those to be replaced is somebody's newer write.

        Such a change is a conflict: sent again it would lay an older score over a newer one.
        """
        if connection.source() is None:
            return results
        found = self._found(connection, changes, results)
        results = read_back(changes, results, found)
        moved = (results.frame["state"] == UNKNOWN) & changes.frame["_before"].is_not_null()
        moved &= moved_since(changes, found)
        state, reason = pl.lit(CONFLICT), pl.lit(CHANGED_SINCE + SENT_BEFORE)
        told = {"state": state, "reason": reason}
        return Results(
            results.frame.with_columns(**{name: pl.when(moved).then(to).otherwise(name) for name, to in told.items()})
        )

    def _found(self, connection: GuardedConnection, changes: Changes, results: Results) -> pl.DataFrame:
        """What the target holds now of the changes whose fate is unknown."""
        asked = changes.frame.filter(results.frame["state"] == UNKNOWN)["_key"].struct.unnest()
        return self._look_up(connection, asked, changes.fields)

    def _doubted(self, connection: GuardedConnection, changes: Changes, results: Results) -> Results:
        """Answers to changes that were sent before, unanswered: a refusal now does not say that nothing landed then.

        What holds the wanted values was applied; elsewhere the reason tells of the try before.
        """
        refused = results.frame["state"].is_in([CONFLICT, REJECTED])
        if not refused.any():
            return results
        open_ = Results(results.frame.with_columns(state=pl.when(refused).then(pl.lit(UNKNOWN)).otherwise("state")))
        landed = self._read_back(connection, changes, open_).frame["state"] == APPLIED
        told = results.frame.with_columns(
            state=pl.when(refused & landed).then(pl.lit(APPLIED)).otherwise("state"),
            field=pl.when(~(refused & landed)).then("field"),
            reason=pl.when(~refused).then("reason").when(~landed).then(pl.concat_str("reason", pl.lit(SENT_BEFORE))),
        )
        return Results(told)


def _laid_over(results: pl.DataFrame, told: Results, rows: pl.Series) -> pl.DataFrame:
    """The results with those of some rows replaced."""
    newer = told.frame.with_columns(_n=rows.cast(pl.UInt32))
    return results.with_row_index("_n").update(newer, on="_n", include_nulls=True).drop("_n")


class PageJournal:
    """The far side's job handle of one page's write, kept in the ledger."""

    def __init__(self, hub: Installation, claim: Claim, page: int) -> None:
        self._hub = hub
        self._claim = claim
        self._page = page

    def note(self, handle: str) -> None:
        """Durable when it returns."""
        with self._hub.database.begin() as session:
            self._hub.ledger.note(session, self._claim, self._page, handle)

    def last(self) -> str | None:
        """The last handle noted for this page, by whoever tried it before."""
        with self._hub.database.read() as session:
            return self._hub.ledger.noted(session, self._claim, self._page)
