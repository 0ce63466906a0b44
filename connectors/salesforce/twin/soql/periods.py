"""Date literals: which days `LAST_N_DAYS:7` and its like mean on a given day. Weeks begin on Sunday."""

from __future__ import annotations

from datetime import date, timedelta

from connectors.salesforce.twin.soql.tree import Period

PLAIN = frozenset(
    {"YESTERDAY", "TODAY", "TOMORROW", "LAST_90_DAYS", "NEXT_90_DAYS"}
    | {f"{when}_{unit}" for when in ("LAST", "THIS", "NEXT") for unit in ("WEEK", "MONTH", "QUARTER", "YEAR")}
)
NUMBERED = frozenset(
    {f"{when}_N_{unit}S" for when in ("LAST", "NEXT") for unit in ("DAY", "WEEK", "MONTH", "QUARTER", "YEAR")}
    | {f"N_{unit}S_AGO" for unit in ("DAY", "WEEK", "MONTH", "QUARTER", "YEAR")}
)
_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}


def days_of(period: Period, today: date) -> tuple[date, date]:
    """The first day of the period, and the first day after it."""
    name, number = period.name, period.number or 0
    near = {"YESTERDAY": -1, "TODAY": 0, "TOMORROW": 1}
    if name in near:
        first = today + timedelta(days=near[name])
        return first, first + timedelta(days=1)
    if name.endswith("_90_DAYS"):
        name, number = name.replace("_90_", "_N_"), 90
    words = name.split("_")
    unit = next(each.rstrip("S") for each in words if each.rstrip("S") in {"DAY", "WEEK", *_MONTHS})
    if name.startswith("N_"):
        return _units(today, unit, -number, 1 - number)
    if "N" not in words:
        start = {"LAST": -1, "THIS": 0, "NEXT": 1}[words[0]]
        return _units(today, unit, start, start + 1)
    if words[0] == "NEXT":
        return _units(today, unit, 1, number + 1)
    # The last n days end with today; the last n weeks, months and years end with the one before this.
    return _units(today, unit, -number, 1 if unit == "DAY" else 0)


def _units(today: date, unit: str, first: int, after: int) -> tuple[date, date]:
    return _unit(today, unit, first), _unit(today, unit, after)


def _unit(today: date, unit: str, number: int) -> date:
    """The first day of the unit that lies `number` after the one with today."""
    if unit == "DAY":
        return today + timedelta(days=number)
    if unit == "WEEK":
        return today - timedelta(days=today.isoweekday() % 7) + timedelta(weeks=number)
    size = _MONTHS[unit]
    month = (today.month - 1) // size * size + number * size
    return date(today.year + month // 12, month % 12 + 1, 1)
