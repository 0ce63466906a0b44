"""The twin's time, which can be moved on without waiting, and how Salesforce writes moments."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta


class Clock:
    """Time of the twin: the machine's own, moved on by as much as somebody asked for."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def now(self) -> datetime:
        """The moment, in UTC."""
        return datetime.fromtimestamp(self.seconds(), UTC)

    def seconds(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.ahead

    def stamp(self) -> str:
        """The moment as records keep it: whole seconds, so that many records share one."""
        return written(self.now().replace(microsecond=0))


def written(moment: datetime) -> str:
    """A moment as REST writes it: `2024-01-31T23:59:59.000+0000`."""
    moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"


def bulk_form(text: str) -> str:
    """The same moment as Bulk writes it: `2024-01-31T23:59:59.000Z`."""
    return f"{text[:23]}Z"


def read_moment(text: str) -> datetime | None:
    """A moment from text in the forms that Salesforce takes; None where it is none, or names no zone."""
    text = text.strip()
    if len(text) < 17 or "T" not in text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else None


def read_date(text: str) -> date | None:
    """A date `2024-01-31`, or the date of a moment; None where it is neither."""
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        moment = read_moment(text)
        return moment.date() if moment else None


def day_start(day: date) -> str:
    """The first moment of a day in UTC, as REST writes it."""
    return written(datetime(day.year, day.month, day.day, tzinfo=UTC))


def next_day(day: date) -> date:
    """The day after."""
    return day + timedelta(days=1)
