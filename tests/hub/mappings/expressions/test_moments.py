"""Dates and times against Python's own calendar and zone database."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.mappings.expressions import ValueType, compile_expression, evaluate
from hub.sdk import FieldType

NAMES = {
    "a": ValueType(FieldType.INSTANT),
    "b": ValueType(FieldType.INSTANT),
    "w": ValueType(FieldType.TIMESTAMP),
    "v": ValueType(FieldType.TIMESTAMP),
    "d": ValueType(FieldType.DATE),
    "n": ValueType(FieldType.INTEGER),
}
NOW = datetime(2024, 3, 31, 0, 30, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]

instants = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda each: each.replace(tzinfo=UTC))
walls = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59))


def one(text: str, zone: str = "UTC", **values: Any) -> Any:
    frame = pl.DataFrame({name: [value] for name, value in values.items()} or {"_": [0]},
                         schema={name: NAMES[name].dtype for name in values} or None)  # fmt: skip
    done = evaluate(frame, {"e": compile_expression(text, NAMES, timezone=zone)}, now=NOW)
    return done.errors[0] or done.values["e"][0]


def wall(moment: datetime, zone: str) -> datetime:
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def add_months(day: date, months: int) -> date | None:
    total = day.year * 12 + day.month - 1 + months
    year, month = divmod(total, 12)
    if not 1 <= year <= 9999:
        return None
    for last in (day.day, 30, 29, 28):
        try:
            return date(year, month + 1, min(day.day, last))
        except ValueError:
            continue
    raise AssertionError


@settings(max_examples=200, deadline=None)
@given(instants, instants, st.sampled_from(ZONES))
def test_days_months_and_years_are_counted_on_the_wall_clock_of_the_zone(a: datetime, b: datetime, zone: str) -> None:
    left, right = wall(a, zone), wall(b, zone)
    assert one("datediff('day', a, b)", zone, a=a, b=b) == (right.date() - left.date()).days
    months = (right.year - left.year) * 12 + right.month - left.month
    assert one("datediff('month', a, b)", zone, a=a, b=b) == months
    assert one("datediff('year', a, b)", zone, a=a, b=b) == right.year - left.year
    monday = [each.date() - timedelta(each.weekday()) for each in (left, right)]
    assert one("datediff('week', a, b)", zone, a=a, b=b) == (monday[1] - monday[0]).days // 7


@settings(max_examples=200, deadline=None)
@given(instants, st.sampled_from(ZONES))
def test_parts_are_those_of_the_wall_clock(a: datetime, zone: str) -> None:
    local = wall(a, zone)
    days = [local.isocalendar().week, local.isoweekday() % 7, local.isoweekday(), local.timetuple().tm_yday]
    clock = [local.hour, local.minute, local.second]
    wanted = [local.year, (local.month + 2) // 3, local.month, local.day, *clock, *days]
    parts = ["year", "quarter", "month", "day", "hour", "minute", "second"]
    parts += ["week", "dayofweek", "dayofweekiso", "dayofyear"]
    expressions = {part: compile_expression(f"{part}(a)", NAMES, timezone=zone) for part in parts}
    frame = pl.DataFrame({"a": [a]}, schema={"a": NAMES["a"].dtype})
    assert list(evaluate(frame, expressions, now=NOW).values.row(0)) == wanted
    assert one("cast(a as date)", zone, a=a) == local.date()
    assert one("date_trunc('month', a)", zone, a=a).astimezone(ZoneInfo(zone)).day == 1


@settings(max_examples=300, deadline=None)
@given(walls, st.integers(-200_000, 200_000))
def test_months_end_on_their_last_day_and_stay_in_the_calendar(w: datetime, n: int) -> None:
    wanted = add_months(w.date(), n)
    found = one("dateadd('month', n, w)", w=w, n=n)
    if wanted is None:
        assert found == "e: a date is outside the years 1 to 9999"
    else:
        assert found == datetime.combine(wanted, w.time())
        assert one("dateadd('month', n, d)", d=w.date(), n=n) == wanted


@settings(max_examples=300, deadline=None)
@given(walls, st.integers(-(2**63), 2**63 - 1), st.sampled_from(["day", "week", "hour", "second", "minute"]))
def test_adding_never_wraps(w: datetime, n: int, unit: str) -> None:
    found = one(f"dateadd('{unit}', n, w)", w=w, n=n)
    try:
        wanted: Any = w + timedelta(**{f"{unit}s": n})
    except OverflowError:
        wanted = "e: a date is outside the years 1 to 9999"
    assert found == wanted


@settings(max_examples=200, deadline=None)
@given(walls)
def test_truncation_gives_the_beginning(w: datetime) -> None:
    assert one("date_trunc('day', w)", w=w) == datetime.combine(w.date(), datetime.min.time())
    assert one("date_trunc('week', w)", w=w) == datetime.combine(w.date() - timedelta(w.weekday()), datetime.min.time())
    assert one("date_trunc('hour', w)", w=w) == w.replace(minute=0, second=0, microsecond=0)
    assert one("date_trunc('quarter', d)", d=w.date()) == date(w.year, (w.month - 1) // 3 * 3 + 1, 1)
    assert one("last_day(w)", w=w) == date(w.year, w.month, monthrange(w.year, w.month)[1])


BERLIN = ZoneInfo("Europe/Berlin")


def test_a_day_later_keeps_the_clock_and_an_hour_later_is_an_hour() -> None:
    before = datetime(2024, 3, 30, 12, tzinfo=BERLIN)
    assert one("dateadd('day', 1, a)", "Europe/Berlin", a=before) == datetime(2024, 3, 31, 12, tzinfo=BERLIN)
    night = datetime(2024, 3, 31, 1, 30, tzinfo=BERLIN)
    assert one("dateadd('hour', 1, a)", "Europe/Berlin", a=night) == datetime(2024, 3, 31, 3, 30, tzinfo=BERLIN)
    assert one("datediff('hour', a, b)", "Europe/Berlin", a=night, b=datetime(2024, 3, 31, 3, 30, tzinfo=BERLIN)) == 1


def test_a_skipped_time_moves_on_and_a_doubled_one_is_the_first() -> None:
    skipped = one("cast(w as timestamptz)", "Europe/Berlin", w=datetime(2024, 3, 31, 2, 30))
    assert skipped == datetime(2024, 3, 31, 1, 30, tzinfo=UTC)
    doubled = one("cast(w as timestamptz)", "Europe/Berlin", w=datetime(2024, 10, 27, 2, 30))
    assert doubled == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)


def test_an_instant_beside_a_wall_clock_is_read_off_the_clock() -> None:
    a, w = datetime(2024, 6, 1, 10, tzinfo=UTC), datetime(2024, 6, 1, 12)
    assert one("a = w", "Europe/Berlin", a=a, w=w) is True
    assert one("a = w", "UTC", a=a, w=w) is False
    assert one("datediff('hour', w, a)", "Europe/Berlin", a=a, w=w) == 0
    assert one("greatest(a, d)", "Europe/Berlin", a=a, d=date(2024, 6, 1)) == w
    assert one("a >= '2024-06-01'", "Europe/Berlin", a=a) is True


def test_today_is_the_day_in_the_zone() -> None:
    assert one("current_date", "Europe/Berlin") == date(2024, 3, 31)
    assert one("current_date", "America/New_York") == date(2024, 3, 30)
    assert one("now()", "Europe/Berlin") == NOW


@pytest.mark.parametrize("edge", [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)])
def test_the_ends_of_the_calendar_are_values_or_errors_but_never_a_crash(edge: datetime) -> None:
    a = edge.replace(tzinfo=UTC)
    for zone in ZONES[1:]:
        for text in ("year(a)", "cast(a as text)", "datediff('day', a, now())", "dateadd('day', 1, a)",
                     "date_trunc('week', a)", "cast(w as timestamptz)", "cast(a as date)", "a > w"):  # fmt: skip
            values = {"a": a} if "w" not in text.replace("now", "").replace("week", "") else {"a": a, "w": edge}
            found = one(text, zone, **values)
            assert found is not None
            if isinstance(found, str) and found.startswith("e: "):
                assert found == "e: a date is outside the years 1 to 9999"


def test_a_large_frame_and_a_single_row_agree_about_now() -> None:
    frame = pl.DataFrame({"a": [NOW - timedelta(hours=each) for each in range(1000)]}, schema={"a": NAMES["a"].dtype})
    expressions = {
        "days": compile_expression("datediff('day', a, now())", NAMES, timezone="Europe/Berlin"),
        "later": compile_expression("dateadd('month', -1, now())", NAMES, timezone="Europe/Berlin"),
    }
    whole = evaluate(frame, expressions, now=NOW)
    for at in (0, 1, 23, 999):
        alone = evaluate(frame[at : at + 1], expressions, now=NOW)
        assert alone.values.row(0) == whole.values.row(at)
