"""Wall clocks and instants: the arithmetic of dates that never raises and never leaves the years 1 to 9999."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl

from hub.mappings.expressions.functions.registry import Check, Emitted
from hub.sdk import FieldType

WALL = pl.Datetime("us")
MOMENT = pl.Datetime("us", "UTC")
MICROSECONDS = {"hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000}
DAY = 86_400_000_000

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock
FIRST_DAY, LAST_DAY = (date(1, 1, 1) - _EPOCH.date()).days, (date(9999, 12, 31) - _EPOCH.date()).days
FIRST, LAST = FIRST_DAY * DAY, (LAST_DAY + 1) * DAY - 1

OUT_OF_CALENDAR = "a date is outside the years 1 to 9999"
NO_MOMENT = "a text cannot be read as a date"


def wall(x: pl.Expr, zone: str) -> pl.Expr:
    """The wall clock of a zone at an instant."""
    local = x if zone == "UTC" else x.dt.convert_time_zone(zone)
    return local.dt.replace_time_zone(None)


def beyond_wall(x: pl.Expr, zone: str) -> list[Check]:
    """The check that the wall clock at an instant still lies in the calendar."""
    if zone == "UTC":
        return []
    edge = timedelta(days=1)
    low, high = datetime.min.replace(tzinfo=UTC) + edge, datetime.max.replace(tzinfo=UTC) - edge
    return [(x.is_between(low, high).not_(), OUT_OF_CALENDAR)]


def instant(x: pl.Expr, zone: str) -> Emitted:
    """The instant of a wall clock: the earlier where it shows a time twice, shifted on where it skips one."""
    if zone == "UTC":
        return x.dt.replace_time_zone("UTC")
    # A wall clock that the zone skips is read with the offset that held a day before, as Java and PostgreSQL do.
    step = pl.duration(hours=25)
    direct = _localise(x, zone)
    shifted = _localise(x - step, zone) + step
    value = pl.coalesce(direct, shifted)
    return value, [(outside(x, value), OUT_OF_CALENDAR)]


def _localise(x: pl.Expr, zone: str) -> pl.Expr:
    return x.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def outside(x: pl.Expr, value: pl.Expr) -> pl.Expr:
    """True where a moment came of something and lies outside the calendar."""
    ticks = value.to_physical()
    return x.is_not_null() & ticks.is_between(FIRST, LAST).not_().fill_null(value=True)


def iso_parts(x: pl.Expr) -> pl.Expr:
    """A struct of the date, the time of day and the offset of text in ISO 8601, all null where it is none."""
    return x.str.strip_chars().str.extract_groups(
        r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?"
        r"(?:(?:^|[T ])([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6}0{0,3})?)?))?"
        r"(?: ?(Z|[+-][0-9]{2}(?::?[0-9]{2})?))?$"
    )


def read_iso(x: pl.Expr, parts: pl.Expr, ticks: pl.Expr, kind: FieldType | None) -> Emitted:
    """Text as the date, time or timestamp that its ISO parts tell of; an offset is refused."""
    day, clock, offset = (parts.struct[at] for at in range(3))
    if kind is FieldType.TIME:
        since = pl.when(day.is_null() & offset.is_null()).then(_clock(clock))
        return (since * 1_000).cast(pl.Time), [(x.is_not_null() & since.is_null(), "a text cannot be read as a time")]
    date_ = day.str.to_date("%Y-%m-%d", strict=False)
    if kind is FieldType.DATE:
        value = pl.when(clock.is_null() & offset.is_null()).then(date_)
        return value, [(x.is_not_null() & (value.to_physical() >= FIRST_DAY).fill_null(value=False).not_(), NO_MOMENT)]
    bad = x.is_not_null() & (ticks.is_between(FIRST, LAST) & offset.is_null()).fill_null(value=False).not_()
    return ticks.cast(WALL), [(bad, NO_MOMENT)]


def wall_ticks(parts: pl.Expr) -> pl.Expr:
    """Microseconds from 1970 to a date and time of day; a date alone is its midnight."""
    days = parts.struct[0].str.to_date("%Y-%m-%d", strict=False).to_physical().cast(pl.Int64)
    clock = parts.struct[1]
    return days * DAY + pl.when(clock.is_null()).then(0).otherwise(_clock(clock))


def read_instant(x: pl.Expr, offset: pl.Expr, ticks: pl.Expr, here: pl.Expr) -> Emitted:
    """Text as an instant: by its offset, or where it has none by the wall clock, which gave `here`."""
    east = pl.when(offset.is_null()).then(0).otherwise(_offset(offset))
    bad = x.is_not_null() & ((ticks - east).is_between(FIRST, LAST)).fill_null(value=False).not_()
    value = pl.when(offset.is_null()).then(here).otherwise((ticks - east).cast(MOMENT))
    return value, [(bad, NO_MOMENT), (outside(x, value), OUT_OF_CALENDAR)]


def _clock(text: pl.Expr) -> pl.Expr:
    """Microseconds since midnight of HH:MM[:SS[.ffffff]], null where there is no such time."""
    hour, minute = (text.str.slice(at, 2).cast(pl.Int64, strict=False) for at in (0, 3))
    second, fraction = (
        text.str.slice(at, size).str.pad_end(size, "0").cast(pl.Int64, strict=False) for at, size in ((6, 2), (9, 6))
    )
    good = (hour < 24) & (minute < 60) & (second < 60)
    return pl.when(good).then(((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction)


def _offset(text: pl.Expr) -> pl.Expr:
    """Microseconds east of Greenwich of Z, +HH, +HHMM or +HH:MM; null where there is no such offset."""
    hours = text.str.slice(1, 2).cast(pl.Int64, strict=False).fill_null(0)
    minutes = text.str.slice(3).str.strip_prefix(":").cast(pl.Int64, strict=False).fill_null(0)
    east = (hours * 60 + minutes) * 60_000_000
    signed = pl.when(text.str.starts_with("-")).then(-east).otherwise(east)
    return pl.when((hours < 19) & (minutes < 60)).then(signed)
