"""Wall clocks and instants: the arithmetic of dates that never raises and never leaves the years 1 to 9999."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl

from hub.mappings.expressions.functions.registry import Check, Emitted
from hub.mappings.expressions.types import ValueType
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


def from_ticks(ticks: pl.Expr) -> pl.Expr:
    """The wall clock so many microseconds after 1970."""
    return ticks.cast(WALL)


def days_in_month(year: pl.Expr, month: pl.Expr) -> pl.Expr:
    """The length of a month of the Gregorian calendar."""
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    february = pl.when(leap).then(29).otherwise(28)
    return pl.when(month == 2).then(february).when(month.is_in([4, 6, 9, 11])).then(30).otherwise(31)


def civil_days(year: pl.Expr, month: pl.Expr, day: pl.Expr) -> pl.Expr:
    """Days from 1970-01-01 to a date, by Howard Hinnant's `days_from_civil`; total, unlike `pl.date`, which raises."""
    shifted = pl.when(month <= 2).then(year - 1).otherwise(year)
    month_of_march_year = pl.when(month > 2).then(month - 3).otherwise(month + 9)
    day_of_year = (153 * month_of_march_year + 2) // 5 + day - 1
    return 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400 + day_of_year - 719_468


def read_iso(x: pl.Expr, wanted: ValueType, zone: str) -> Emitted:
    """Text in ISO 8601 as a date, time, timestamp or instant."""
    text = x.str.strip_chars()
    if wanted.kind is FieldType.DATE:
        good = text.str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
        value = pl.when(good).then(text).str.to_date("%Y-%m-%d", strict=False)
        bad = x.is_not_null() & (value.is_null() | (value.to_physical() < FIRST_DAY))
        return value, [(bad, NO_MOMENT)]
    if wanted.kind is FieldType.TIME:
        good = text.str.contains(r"^[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6}0{0,3})?)?$")
        ticks = _clock(pl.when(good).then(text))
        return (ticks * 1_000).cast(pl.Time), [(x.is_not_null() & ticks.is_null(), "a text cannot be read as a time")]
    return _read_timestamp(x, text, wanted, zone)


def _read_timestamp(x: pl.Expr, text: str | pl.Expr, wanted: ValueType, zone: str) -> Emitted:
    assert isinstance(text, pl.Expr)
    form = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6}0{0,3})?)?))?"
    offset_form = r" ?(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?$"
    with_zone = wanted.kind is FieldType.INSTANT
    parts = text.str.extract_groups(form + (offset_form if with_zone else "$"))
    day = parts.struct[0].str.to_date("%Y-%m-%d", strict=False).to_physical().cast(pl.Int64)
    clock = pl.when(parts.struct[1].is_null()).then(0).otherwise(_clock(parts.struct[1]))
    ticks = day * DAY + clock
    naive = from_ticks(ticks)
    bad = x.is_not_null() & ticks.is_between(FIRST, LAST).not_().fill_null(value=True)
    if not with_zone:
        return naive, [(bad, NO_MOMENT)]
    offset = parts.struct[2]
    local = instant(naive, zone)
    here = local[0] if isinstance(local, tuple) else local
    shifted = from_ticks(ticks - _offset(offset)).dt.replace_time_zone("UTC")
    value = pl.when(offset.is_null()).then(here).otherwise(shifted)
    return value, [(bad, NO_MOMENT), (outside(x, value), OUT_OF_CALENDAR)]


def _clock(text: pl.Expr) -> pl.Expr:
    """Microseconds since midnight of HH:MM[:SS[.ffffff]], null where there is no such time."""
    hour, minute = (text.str.slice(at, 2).cast(pl.Int64, strict=False) for at in (0, 3))
    second = pl.when(text.str.len_chars() > 5).then(text.str.slice(6, 2)).otherwise(pl.lit("0"))
    second = second.cast(pl.Int64, strict=False)
    fraction = text.str.slice(9, 6).str.pad_end(6, "0").cast(pl.Int64, strict=False)
    good = (hour < 24) & (minute < 60) & (second < 60)
    return pl.when(good).then(((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction)


def _offset(text: pl.Expr) -> pl.Expr:
    """Microseconds east of Greenwich of Z, +HH, +HHMM or +HH:MM."""
    hours = text.str.slice(1, 2).cast(pl.Int64, strict=False)
    minutes = text.str.slice(3).str.strip_prefix(":").cast(pl.Int64, strict=False).fill_null(0)
    east = (hours * 60 + minutes) * 60_000_000
    signed = pl.when(text.str.starts_with("-")).then(-east).otherwise(east)
    return pl.when(text == "Z").then(0).otherwise(signed)
