"""A clock that tests of several rooms move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class SetClock:
    """A clock that stands where it is put."""

    def __init__(self, moment: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def pass_(self, **span: float) -> None:
        """Moves it on; `span` as `timedelta` takes it."""
        self.moment += timedelta(**span)
