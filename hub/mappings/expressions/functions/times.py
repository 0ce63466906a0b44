"""Dates and times: parts, differences, shifts and truncation on the wall clock of the mapping's timezone."""

from __future__ import annotations

import re
from collections.abc import Callable

import polars as pl

from hub.mappings.expressions.functions import moments
from hub.mappings.expressions.functions.conversions import coerce
from hub.mappings.expressions.functions.moments import MICROSECONDS, OUT_OF_CALENDAR
from hub.mappings.expressions.functions.numbers import lost
from hub.mappings.expressions.functions.registry import Call, Emitted, accept, function, operation
from hub.mappings.expressions.types import DATE, INSTANT, INTEGER, TIMESTAMP, Node, ValueType
from hub.sdk import FieldType

GROUP = "Dates and times"

_UNITS = {
    unit: name
    for name, spellings in {
        "year": "year years yyyy yy",
        "quarter": "quarter quarters qtr",
        "month": "month months mon mm",
        "week": "week weeks weekiso isoweek",
        "day": "day days dd",
        "hour": "hour hours hh",
        "minute": "minute minutes mi",
        "second": "second seconds ss",
    }.items()
    for unit in spellings.split()
}
_PARTS = {**_UNITS, "dayofweek": "dayofweek", "dow": "dayofweek", "dayofyear": "dayofyear", "doy": "dayofyear",
          "dayofweekiso": "dayofweekiso", "isodow": "dayofweekiso", "dayofmonth": "day"}  # fmt: skip
_CLOCK_UNITS = ("hour", "minute", "second")
_MONTHS = {"year": 12, "quarter": 3, "month": 1}


def _unit(call: Call, node: Node, known: dict[str, str]) -> str:
    given = node.params[0] if node.constant else None
    unit = known.get(given.lower()) if isinstance(given, str) else None
    if unit is None:
        raise call.fail(f"the unit must be one of {', '.join(sorted(set(known.values())))}, between quotes")
    return unit


def _moment(call: Call, node: Node, label: str) -> Node:
    if node.type.kind is None:
        return coerce(node, TIMESTAMP, call.timezone)
    if node.constant and node.type.kind is FieldType.TEXT:
        raise call.fail(f"{label} is text: write date '2024-12-31' or timestamp '2024-12-31 23:59:00'")
    return accept(call, node, "moment", label)


def _wall(call: Call, node: Node) -> Node:
    """A date as it is, anything else as the wall clock of the timezone."""
    return coerce(node, TIMESTAMP, call.timezone) if node.type.kind is FieldType.INSTANT else node


def _count(call: Call, wanted: str, number: int) -> None:
    if len(call.args) != number:
        raise call.fail(f"{len(call.args)} arguments given, expected {wanted}")


@operation("midnight")
def _midnight(_node: Node, x: pl.Expr) -> Emitted:
    return x.cast(moments.WALL)


@operation("wall_clock")
def _wall_clock(node: Node, x: pl.Expr) -> Emitted:
    zone = str(node.params[0])
    return moments.wall(x, zone), moments.beyond_wall(x, zone)


def _now(call: Call) -> Node:
    _count(call, f"{call.name}()", 0)
    node = Node("now", INSTANT)
    if call.name == "current_date":
        return Node("cast_moment", DATE, (node,), (call.timezone,))
    return node


function(
    "now",
    "",
    INSTANT,
    group=GROUP,
    resolve=_now,
    aliases=("current_timestamp",),
    rule="The run's logical time: the same for every record, stored with the run and reused when a page is repeated.",
    examples=[("datediff('day', now(), now())", "0")],
)(lambda _node: pl.col("_now"))


@function(
    "current_date",
    "",
    DATE,
    group=GROUP,
    resolve=_now,
    rule="The date of now() in the mapping's timezone.",
    examples=[("datediff('day', current_date, now())", "0")],
)
def _current_date(_node: Node) -> Emitted:
    return pl.col("_now").dt.date()


_READ: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "year": lambda x: x.dt.year(),
    "quarter": lambda x: x.dt.quarter(),
    "month": lambda x: x.dt.month(),
    "week": lambda x: x.dt.week(),
    "day": lambda x: x.dt.day(),
    "hour": lambda x: x.dt.hour(),
    "minute": lambda x: x.dt.minute(),
    "second": lambda x: x.dt.second(),
    "dayofweek": lambda x: x.dt.weekday() % 7,
    "dayofweekiso": lambda x: x.dt.weekday(),
    "dayofyear": lambda x: x.dt.ordinal_day(),
}


def _part_node(call: Call, unit: str, x: Node) -> Node:
    if x.type.kind is FieldType.TIME and unit in _CLOCK_UNITS:
        return Node("date_part", INTEGER, (x,), (unit,))
    x = _wall(call, _moment(call, x, "x"))
    if unit in _CLOCK_UNITS and x.type.kind is FieldType.DATE:
        x = coerce(x, TIMESTAMP, call.timezone)
    return Node("date_part", INTEGER, (x,), (unit,))


def _part_type(call: Call) -> Node:
    _count(call, "date_part(unit, x)", 2)
    return _part_node(call, _unit(call, call.args[0], _PARTS), call.args[1])


@function(
    "date_part",
    "unit text!, x moment",
    None,
    group=GROUP,
    resolve=_part_type,
    rule="One part of a date, also written extract(unit from x): year, quarter, month, week (ISO), day, hour, minute,"
    " second, dayofweek (0 is Sunday), dayofweekiso (1 is Monday), dayofyear.",
    examples=[
        ("date_part('month', date '2024-03-31')", "3"),
        ("extract(year from timestamp '2024-03-31 10:00:00')", "2024"),
    ],
)
def _date_part(node: Node, x: pl.Expr) -> Emitted:
    return _READ[str(node.params[0])](x).cast(pl.Int64)


def _shorthand(name: str, rule: str, example: tuple[str, str]) -> None:
    def resolve(call: Call) -> Node:
        _count(call, f"{name}(x)", 1)
        return _part_node(call, name, call.args[0])

    function(name, "x moment", None, group=GROUP, resolve=resolve, rule=rule, examples=[example])(_date_part)


_shorthand("year", "The year.", ("year(date '2024-03-31')", "2024"))
_shorthand("quarter", "The quarter, 1 to 4.", ("quarter(date '2024-03-31')", "1"))
_shorthand("month", "The month, 1 to 12.", ("month(date '2024-03-31')", "3"))
_shorthand("week", "The ISO week, 1 to 53; it begins on Monday.", ("week(date '2021-01-03')", "53"))
_shorthand("day", "The day of the month.", ("day(date '2024-03-31')", "31"))
_shorthand("hour", "The hour, 0 to 23.", ("hour(timestamp '2024-03-31 10:20:30')", "10"))
_shorthand("minute", "The minute.", ("minute(timestamp '2024-03-31 10:20:30')", "20"))
_shorthand("second", "The whole second.", ("second(timestamp '2024-03-31 10:20:30.5')", "30"))
_shorthand("dayofweek", "The day of the week, 0 is Sunday.", ("dayofweek(date '2024-03-31')", "0"))
_shorthand("dayofweekiso", "The day of the week, 1 is Monday.", ("dayofweekiso(date '2024-03-31')", "7"))
_shorthand("dayofyear", "The day of the year, from 1.", ("dayofyear(date '2024-03-01')", "61"))


def _diff_type(call: Call) -> Node:
    _count(call, "datediff(unit, from, to)", 3)
    unit = _unit(call, call.args[0], _UNITS)
    a, b = (_moment(call, each, label) for each, label in zip(call.args[1:], ("from", "to"), strict=True))
    if unit in _CLOCK_UNITS and a.type.kind is b.type.kind is FieldType.INSTANT:
        return Node("datediff", INTEGER, (a, b), (unit, call.timezone))
    a, b = _wall(call, a), _wall(call, b)
    if unit in _CLOCK_UNITS:
        a, b = (coerce(each, TIMESTAMP, call.timezone) for each in (a, b))
    return Node("datediff", INTEGER, (a, b), (unit, call.timezone))


def _index(x: pl.Expr, node: Node, unit: str, zone: str) -> pl.Expr:
    """Which unit since the beginning of counting a moment lies in."""
    if unit in _MONTHS:
        months = x.dt.year().cast(pl.Int64) * 12 + x.dt.month().cast(pl.Int64) - 1
        return months // _MONTHS[unit]
    if unit in _CLOCK_UNITS:
        ticks = x.to_physical()
        if node.type.kind is FieldType.INSTANT and unit == "hour" and zone != "UTC":
            # Hours begin on the half in some zones; their summer time does not move that.
            ticks = ticks + x.dt.convert_time_zone(zone).dt.base_utc_offset().dt.total_microseconds()
        return ticks // MICROSECONDS[unit]
    days = x.cast(pl.Date).to_physical().cast(pl.Int64)
    # 1970-01-01 was a Thursday; weeks begin on Monday.
    return days if unit == "day" else (days + 3) // 7


@function(
    "datediff",
    "unit text!, from moment, to moment",
    None,
    group=GROUP,
    resolve=_diff_type,
    aliases=("timestampdiff",),
    rule="How many boundaries of the unit lie between: from 23:59 to 0:01 is one day. Days and longer are those of the"
    " wall clock of the mapping's timezone; hours and shorter between two instants are time that really passed."
    " Weeks begin on Monday.",
    examples=[
        ("datediff('day', timestamp '2024-01-01 23:59:00', timestamp '2024-01-02 00:01:00')", "1"),
        ("datediff('month', date '2024-01-31', date '2024-02-01')", "1"),
        ("datediff('year', date '2024-01-01', date '2023-12-31')", "-1"),
    ],
)
def _datediff(node: Node, a: pl.Expr, b: pl.Expr) -> Emitted:
    unit, zone = (str(each) for each in node.params)
    return _index(b, node.args[1], unit, zone) - _index(a, node.args[0], unit, zone)


def _add_type(call: Call) -> Node:
    _count(call, "dateadd(unit, n, x)", 3)
    unit = _unit(call, call.args[0], _UNITS)
    count = accept(call, call.args[1], "integer", "n")
    x = _moment(call, call.args[2], "x")
    if unit in _CLOCK_UNITS and x.type.kind is FieldType.DATE:
        x = coerce(x, TIMESTAMP, call.timezone)
    local = _wall(call, x) if unit not in _CLOCK_UNITS else x
    return _back(Node("dateadd", local.type, (count, local), (unit,)), x.type, call.timezone)


def _back(node: Node, kind: ValueType, timezone: str) -> Node:
    """What was computed on the wall clock of an instant, as an instant again."""
    return node if node.type == kind else Node("to_instant", kind, (node,), (timezone,))


@function(
    "dateadd",
    "unit text!, n integer, x moment",
    None,
    group=GROUP,
    resolve=_add_type,
    aliases=("timestampadd", "date_add"),
    rule="So many units later. Months that are too short end on their last day; days and longer keep the wall clock"
    " across a change of summer time, hours and shorter added to an instant are time that really passes.",
    examples=[
        ("dateadd('month', 1, date '2024-01-31')", "2024-02-29"),
        ("dateadd('year', -1, date '2024-02-29')", "2023-02-28"),
        ("dateadd('hour', 1, timestamp '2024-01-31 23:30:00')", "2024-02-01 00:30:00"),
        ("dateadd('day', 1, date '9999-12-31')", f"error: {OUT_OF_CALENDAR}"),
    ],
)
def _dateadd(node: Node, count: pl.Expr, x: pl.Expr) -> Emitted:
    unit = str(node.params[0])
    if unit in _CLOCK_UNITS:
        # Within 400 milliard of any unit every sum fits 128 bits, and beyond it lies no date.
        steps = count.clip(-400_000_000_000, 400_000_000_000).cast(pl.Int128) * MICROSECONDS[unit]
        ticks = x.to_physical().cast(pl.Int128) + steps
        good = ticks.is_between(moments.FIRST, moments.LAST)
        value = pl.when(good).then(ticks).cast(pl.Int64, strict=False).cast(node.type.dtype)
        return value, [(good.not_(), OUT_OF_CALENDAR)]
    size, mark = _OFFSETS[unit]
    # Every count is cut to the length of the calendar, which polars can still compute beyond either end of it.
    reach = 4_000_000 // size if mark == "d" else 120_000 // size + 1
    first = node.args[0]
    if first.constant:
        number = int(str(first.params[0]))
        later = x.dt.offset_by(f"{max(-reach, min(reach, number)) * size}{mark}")
    else:
        later = x.dt.offset_by(pl.concat_str((count.clip(-reach, reach) * size).cast(pl.String), pl.lit(mark)))
    low, high = (moments.FIRST, moments.LAST) if node.type.kind is not FieldType.DATE else _DAYS
    return later, [(later.to_physical().is_between(low, high).not_(), OUT_OF_CALENDAR)]


_DAYS = (moments.FIRST_DAY, moments.LAST_DAY)
_OFFSETS = {"year": (12, "mo"), "quarter": (3, "mo"), "month": (1, "mo"), "week": (7, "d"), "day": (1, "d")}


def _trunc_type(call: Call) -> Node:
    _count(call, "date_trunc(unit, x)", 2)
    unit = _unit(call, call.args[0], _UNITS)
    x = _moment(call, call.args[1], "x")
    if x.type.kind is FieldType.DATE and unit in _CLOCK_UNITS:
        return x
    local = _wall(call, x) if unit not in _CLOCK_UNITS else x
    return _back(Node("date_trunc", local.type, (local,), (unit, call.timezone)), x.type, call.timezone)


_EVERY = {"year": "1y", "quarter": "1q", "month": "1mo", "week": "1w", "day": "1d"}


@function(
    "date_trunc",
    "unit text!, x moment",
    None,
    group=GROUP,
    resolve=_trunc_type,
    rule="The beginning of the year, quarter, month, week (Monday), day, hour, minute or second that x lies in.",
    examples=[
        ("date_trunc('month', date '2024-03-31')", "2024-03-01"),
        ("date_trunc('week', date '2024-03-31')", "2024-03-25"),
        ("date_trunc('hour', timestamp '2024-03-31 10:20:30')", "2024-03-31 10:00:00"),
    ],
)
def _date_trunc(node: Node, x: pl.Expr) -> Emitted:
    unit, zone = (str(each) for each in node.params)
    kind = node.type.kind
    if unit in _CLOCK_UNITS:
        step = MICROSECONDS[unit]
        ticks = x.to_physical()
        if kind is FieldType.INSTANT and unit == "hour" and zone != "UTC":
            east = x.dt.convert_time_zone(zone).dt.base_utc_offset().dt.total_microseconds()
            ticks = (ticks + east) // step * step - east
        else:
            ticks = ticks // step * step
        return ticks.cast(node.type.dtype)
    return x.dt.truncate(_EVERY[unit])


def _last_day_type(call: Call) -> Node:
    _count(call, "last_day(x)", 1)
    return Node("last_day", DATE, (_wall(call, _moment(call, call.args[0], "x")),))


@function(
    "last_day",
    "x moment",
    None,
    group=GROUP,
    resolve=_last_day_type,
    rule="The last day of the month that x lies in.",
    examples=[("last_day(date '2024-02-03')", "2024-02-29")],
)
def _last_day(_node: Node, x: pl.Expr) -> Emitted:
    return x.cast(pl.Date).dt.month_end()


_FORMAT = re.compile(r"YYYY|MM|DD|HH24|MI|SS|MON|[^A-Za-z%]|(?P<bad>.)")
_CODES = {"YYYY": ("%Y", "[0-9]{4}"), "MM": ("%m", "[0-9]{2}"), "DD": ("%d", "[0-9]{2}"), "HH24": ("%H", "[0-9]{2}"),
          "MI": ("%M", "[0-9]{2}"), "SS": ("%S", "[0-9]{2}"), "MON": ("%b", "[A-Za-z]{3}")}  # fmt: skip


def _format(call: Call, text: str) -> tuple[str, str]:
    """The chrono format of a format in SQL's elements, and the form a text must have."""
    codes, form = [], []
    for found in _FORMAT.finditer(text):
        if found["bad"]:
            raise call.fail("the format is made of YYYY, MM, MON, DD, HH24, MI, SS and punctuation")
        code, shape = _CODES.get(found[0], (found[0], pl.escape_regex(found[0])))
        codes.append(code)
        form.append(shape)
    made = "".join(codes)
    clock = call.name.endswith("timestamp")
    day = all(each in made for each in ("%Y", "%d")) and ("%m" in made or "%b" in made)
    if not day or (not clock and re.search("%[HMS]", made)) or len(set(re.findall("%.", made))) != made.count("%"):
        raise call.fail(
            "the format must give year, month and day once each" + ("" if clock else ", and no time of day")
        )
    return made, rf"\A{''.join(form)}\z"


def _to_type(call: Call) -> Node:
    lenient = call.name.startswith("try_")
    wanted = DATE if call.name.endswith("date") else TIMESTAMP
    if len(call.args) not in (1, 2):
        raise call.fail(f"{len(call.args)} arguments given, expected {call.name}(x, [format])")
    x = call.args[0]
    if len(call.args) == 1:
        return _plain_to(call, x, wanted, lenient=lenient)
    x = accept(call, x, "text", "x")
    given = call.args[1].params[0] if call.args[1].constant else None
    if not isinstance(given, str):
        raise call.fail("the format must be a text literal such as 'DD.MM.YYYY'")
    made = Node("to_date", wanted, (x,), _format(call, given))
    return Node("attempt", wanted, (made,)) if lenient else made


def _plain_to(call: Call, x: Node, wanted: ValueType, *, lenient: bool) -> Node:
    from hub.mappings.expressions.functions.casts import cast_node

    made = cast_node(x, wanted, call.timezone, lenient=lenient)
    if made is None or not (x.type.textual or x.type.temporal or x.type.kind is None):
        raise call.fail(f"x must be text, a date or a timestamp, not {x.type}")
    return made


@function(
    "to_date",
    "x text, format text!?",
    None,
    group=GROUP,
    resolve=_to_type,
    rule="A text read as a date by a format made of YYYY, MM, MON, DD and punctuation; ISO 8601 if none is given."
    " A text that does not have exactly that form puts the record in error.",
    examples=[
        ("to_date('31.12.2024', 'DD.MM.YYYY')", "2024-12-31"),
        ("to_date('2024-02-30')", f"error: {moments.NO_MOMENT}"),
    ],
)
def _to_date(node: Node, x: pl.Expr) -> Emitted:
    code, form = (str(each) for each in node.params)
    text = pl.when(x.str.contains(form)).then(x)
    if node.type.kind is FieldType.DATE:
        value = text.str.to_date(code, strict=False)
        early = value.to_physical() < moments.FIRST_DAY
    else:
        if not re.search("%[HMS]", code):
            value = text.str.to_date(code, strict=False).cast(moments.WALL)
        else:
            value = text.str.strptime(moments.WALL, code, strict=False)
        early = value.to_physical() < moments.FIRST
    return value, [(lost(value, x), moments.NO_MOMENT), (early, moments.NO_MOMENT)]


def _reader(name: str, rule: str, examples: list[tuple[str, str]]) -> None:
    function(name, "x text, format text!?", None, group=GROUP, resolve=_to_type, rule=rule, examples=examples)(_to_date)


_reader(
    "to_timestamp",
    "A text read as a wall clock, as to_date does, with HH24, MI and SS in the format.",
    [("to_timestamp('20241231 2359', 'YYYYMMDD HH24MI')", "2024-12-31 23:59:00")],
)
_reader(
    "try_to_date",
    "As to_date, but null where the text is no date.",
    [("try_to_date('00.00.0000', 'DD.MM.YYYY')", "null")],
)
_reader("try_to_timestamp", "As to_timestamp, but null where the text is none.", [("try_to_timestamp('x')", "null")])
