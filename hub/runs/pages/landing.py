"""What the far side's answers mean: read back what is unknown, and where each record stands afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from hub.decisions import APPLIED, CONFLICT, LEFT, PARKED, PLANNED, REJECTED, UNCHANGED, UNKNOWN
from hub.runs.pages.columns import constant, put
from hub.sdk import Changes, Destination, Journal, Mode, Results

MOST_ATTEMPTS = 5
"""Writes of one record in a row that fail before it is parked."""

FIRST_RETRY = timedelta(minutes=1)
"""A rejected record is due again after this, then after twice as long each time."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Terms:
    """How the changes of a mapping are written and how long they hold."""

    entity: str
    mode: Mode
    set: tuple[str, ...]
    with_: tuple[str, ...]
    expires: timedelta | None
    undo: bool
    in_place: bool

    @property
    def fields(self) -> tuple[str, ...]:
        """Every target field, those of `set` first."""
        return (*self.set, *self.with_)

    @property
    def columns(self) -> dict[str, str]:
        """The decision log's column of each target field."""
        return {**{name: f"set.{name}" for name in self.set}, **{name: f"with.{name}" for name in self.with_}}


def changes_of(decisions: pl.DataFrame, terms: Terms) -> Changes | None:
    """The changes that a page's stored decisions intend; None where it intends none."""
    planned = decisions.filter(pl.col("_state") == PLANNED)
    if not planned.height:
        return None
    held = pl.struct(pl.col(f"before.{name}").alias(name) for name in terms.fields)
    conditional = terms.in_place or terms.undo
    frame = planned.select(
        _key=pl.coalesce("_target", "_key") if terms.in_place else pl.col("_target"),
        _version=pl.col("_version") if conditional else pl.lit(None, pl.String),
        _before=held if conditional else pl.when(pl.lit(value=False)).then(held),
        _clear=pl.col("_clear").fill_null([]),
        **{name: pl.col(column) for name, column in terms.columns.items()},
    )
    mode = Mode.UPDATE if terms.undo else terms.mode
    return Changes(terms.entity, mode, terms.fields, frame)


def send(destination: Destination, changes: Changes, journal: Journal) -> Results:
    """One result per change, in order. A record is never made in order to be emptied: clears go as updates.

    They note no handle, since a clear that is repeated finds nothing left to do.
    """
    if changes.mode is Mode.UPDATE:
        return destination.write(changes, journal=journal)
    clears = changes.frame["_clear"].list.len() == len(changes.fields)
    parts = [
        (clears, Mode.UPDATE, NoJournal()),
        (~clears, changes.mode, journal),
    ]
    answers = []
    for chosen, mode, kept in parts:
        if chosen.any():
            part = Changes(changes.entity, mode, changes.fields, changes.frame.filter(chosen))
            frame = destination.write(part, journal=kept).frame
            answers.append(frame.with_columns(_n=chosen.arg_true()))
    return Results(pl.concat(answers).sort("_n").drop("_n"))


class NoJournal:
    """For a write whose repetition does no harm."""

    def note(self, handle: str) -> None:
        """Forgets it."""

    def last(self) -> str | None:
        """There is none."""
        return None


def read_back(changes: Changes, results: Results, found: pl.DataFrame) -> Results:
    """Settles unknown results by what the target holds now: the wanted values or something else.

    `found` has the key columns and the target fields of the records asked for, typed as the changes.
    """
    key_names = [each.name for each in changes.frame.schema["_key"].fields]  # type: ignore[attr-defined]
    asked = changes.frame.with_row_index("_n").with_columns(results.frame["state"].alias("_result"))
    asked = asked.filter(pl.col("_result") == UNKNOWN).unnest("_key")
    now = found.select(*key_names, *(pl.col(name).alias(f"now.{name}") for name in changes.fields))
    both = asked.join(now, on=key_names, how="left", nulls_equal=True)
    landed = both.filter(_holds_wanted(changes, changes.frame.schema))["_n"]
    settled = pl.Series("_n", range(results.frame.height), dtype=pl.UInt32).is_in(landed.implode())
    state = pl.when(settled).then(pl.lit(APPLIED)).otherwise(pl.col("state")).alias("state")
    return Results(results.frame.with_columns(state))


def moved_since(changes: Changes, found: pl.DataFrame) -> pl.Series:
    """Per change, whether its record holds neither what the change expects to replace nor what it is to write.

    For targets whose writes carry no condition. `found` is as for `read_back`; one that is not there has not moved.
    """
    key_names = [each.name for each in changes.frame.schema["_key"].fields]  # type: ignore[attr-defined]
    now = found.select(*key_names, *(pl.col(name).alias(f"now.{name}") for name in changes.fields), _there=True)
    both = changes.frame.unnest("_key").join(now, on=key_names, how="left", maintain_order="left", nulls_equal=True)
    kinds = found.schema
    held = [
        _coarse(pl.col("_before").struct.field(name), kinds[name]).eq_missing(
            _coarse(pl.col(f"now.{name}"), kinds[name])
        )
        for name in changes.fields
    ]
    moved = pl.col("_there").fill_null(value=False) & ~pl.all_horizontal(held) & ~_holds_wanted(changes, kinds)
    return both.select(moved.alias("moved"))["moved"]


def _coarse(value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Moments to the second: a far side may keep no more of what was written."""
    return value.dt.truncate("1s") if isinstance(kind, pl.Datetime) else value


def _holds_wanted(changes: Changes, kinds: Mapping[str, pl.DataType]) -> pl.Expr:
    """Whether `now.<field>` is what a change is to write, for every field of it."""
    return pl.all_horizontal(
        pl.when(pl.col("_clear").list.contains(name))
        .then(pl.col(f"now.{name}").is_null())
        .otherwise(
            pl.col(name).is_null()
            | _coarse(pl.col(name), kinds[name]).eq_missing(_coarse(pl.col(f"now.{name}"), kinds[name]))
        )
        for name in changes.fields
    )


def unanswered(count: int, reason: str) -> Results:
    """Results for changes whose fate nobody knows."""
    return Results(
        pl.DataFrame(
            {
                "state": [UNKNOWN] * count,
                "field": [None] * count,
                "reason": [reason] * count,
                "version": [None] * count,
            },
            schema={"state": pl.String, "field": pl.String, "reason": pl.String, "version": pl.String},
        )
    )


def standing_after(
    decisions: pl.DataFrame,
    results: pl.DataFrame | None,
    stood: pl.DataFrame,
    segment: int,
    terms: Terms,
    now: datetime,
) -> pl.DataFrame:
    """Where each decided record stands now: the key columns and every column of the standing.

    `stood` is where they stood before, row by row; `results` has `row` (of the decision) and the far side's answer.
    """
    frame = decisions.with_row_index("row").with_columns(pl.col("row").cast(pl.UInt32))
    before = stood.select(pl.col("values").alias("_values"), "attempts", "written_at")
    known = pl.struct(pl.col("segment"), pl.col("row").cast(pl.UInt32))
    pointer = stood.select(_stood=pl.when(pl.col("segment").is_not_null()).then(known))
    frame = pl.concat([frame, before, pointer], how="horizontal")
    if results is not None:
        answers = results.select(pl.col("row").cast(pl.UInt32), pl.col("state").alias("_answer"))
        frame = frame.join(answers, on="row", how="left", maintain_order="left")
    else:
        frame = frame.with_columns(_answer=pl.lit(None, pl.String))
    if terms.undo:
        frame = frame.with_columns(_answer=pl.col("_answer").replace(APPLIED, "undone"))
    return _columns(frame, stood, segment, terms, now)


def shown_after(decisions: pl.DataFrame, stood: pl.DataFrame, segment: int, now: datetime) -> pl.DataFrame:
    """Where records stand that were scored and not written: as before, with the newest decision and no digest.

    Without a digest the next run looks at the record again, since its far side was not told.
    """
    height = decisions.height
    unchanged = constant("state", UNCHANGED, pl.String(), height)
    # polars takes ten times as long to make a Series of an aware moment as of a number.
    moment = constant("at", (now - _EPOCH) // timedelta(microseconds=1), pl.Int64(), height)
    return put(
        stood[["values", "version", "written_at", "due", "why", "attempts"]],
        decisions["_key"],
        constant("digest", None, pl.Binary(), height),
        stood["state"].fill_null(UNCHANGED) if stood["state"].null_count() < height else unchanged,
        constant("segment", segment, pl.Int64(), height),
        pl.Series("row", range(height), dtype=pl.UInt32),
        moment.cast(pl.Datetime("us", "UTC")),
    )


def _columns(frame: pl.DataFrame, stood: pl.DataFrame, segment: int, terms: Terms, now: datetime) -> pl.DataFrame:
    # Another run decided this record between our look and now: whose write came last is not known, so it is due again.
    crossed = pl.lit(value=not terms.undo) & pl.col("_stood").ne_missing(pl.col("_previous"))
    failed = pl.col("_answer").is_in([CONFLICT, REJECTED, UNKNOWN, PARKED])
    attempts = pl.when(failed).then(pl.col("attempts").fill_null(0) + 1).otherwise(0)
    parked = (failed & (attempts >= MOST_ATTEMPTS)) | (pl.col("_answer") == PARKED).fill_null(value=False)
    landed = pl.col("_answer").is_in([APPLIED, UNCHANGED, "undone"])
    # A clear that landed for a record that left: it has left, and the next run has nothing more to do.
    cleared = (pl.col("_state") == PLANNED) & pl.col("_digest").is_null() & landed & pl.lit(value=not terms.undo)
    state = (
        pl.when(parked)
        .then(pl.lit(PARKED))
        .when(cleared)
        .then(pl.lit(LEFT))
        .when(pl.col("_state") == PLANNED)
        .then(pl.col("_answer").fill_null(UNKNOWN))
        .otherwise(pl.col("_state"))
    )
    values = pl.when(landed & ~crossed).then(_values(frame, terms)).when(~crossed).then(pl.col("_values"))
    retry = pl.lit(FIRST_RETRY) * (2.0 ** (attempts - 1))
    expiry = pl.lit(now + terms.expires) if terms.expires is not None else pl.lit(None)
    soon = pl.lit(now + timedelta(microseconds=1))
    moment = pl.Datetime("us", "UTC")
    due = (
        pl.when(parked)
        .then(pl.lit(None))
        .when(pl.col("_answer") == REJECTED)
        .then(pl.lit(now) + retry)
        .when(failed | crossed)
        .then(soon)
        .when(cleared)
        .then(pl.lit(None))
        .when(pl.col("_state").is_in([PLANNED, UNCHANGED]))
        .then(expiry)
        .otherwise(pl.lit(None))
    )
    why = (
        pl.when(failed)
        .then(pl.col("_answer"))
        .when(crossed)
        .then(pl.lit(CONFLICT))
        .when(due.is_not_null())
        .then(pl.lit("expired"))
    )
    settled = frame.with_columns(state=state, values=values, _due=due.cast(moment), _why=why, _attempts=attempts)
    return settled.select(
        "_key",
        pl.when(~crossed).then(pl.col("_digest")).alias("digest"),
        "state",
        "values",
        pl.col("_version").alias("version"),
        pl.lit(segment, pl.Int64).alias("segment"),
        "row",
        pl.lit(now).cast(moment).alias("at"),
        pl.when(landed).then(pl.lit(now).cast(moment)).otherwise(pl.col("written_at")).alias("written_at"),
        pl.col("_due").alias("due"),
        pl.col("_why").alias("why"),
        pl.col("_attempts").cast(stood.schema["attempts"]).alias("attempts"),
    )


def _values(frame: pl.DataFrame, terms: Terms) -> pl.Expr:
    """The target values a record holds after its change landed: written, cleared, or what stood there."""
    columns = terms.columns

    def held(name: str) -> pl.Expr:
        prior = pl.col(f"before.{name}") if f"before.{name}" in frame.columns else pl.lit(None)
        written = pl.col(columns[name]) if columns[name] in frame.columns else pl.lit(None)
        cleared = pl.col("_clear").list.contains(name).fill_null(value=False)
        return pl.when(cleared).then(None).otherwise(pl.coalesce(written, prior)).alias(name)

    return pl.struct(held(name) for name in terms.fields)


def rows_of(decisions: pl.DataFrame) -> pl.Series:
    """The row numbers of the decisions that are to be written, in order."""
    return decisions.with_row_index("row").filter(pl.col("_state") == PLANNED)["row"]
