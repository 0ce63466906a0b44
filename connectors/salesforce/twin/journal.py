"""Every call, counted as Salesforce counts it: the daily budget, and a log that tests and benches read."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from sqlalchemy import delete, func, insert, select

from connectors.salesforce.twin.org.clock import Clock
from connectors.salesforce.twin.org.store import Store
from connectors.salesforce.twin.org.tables import calls

DAY = 86_400.0


class Journal:
    """Notes calls and counts them over the last 24 hours."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        kept = store.get("budget", "daily") or {}
        self.most: int = kept.get("most", 15_000)
        """Calls that the org has a day."""
        self._others: int = kept.get("others", 0)
        self._counted: deque[tuple[float, int]] = deque()
        self._used = 0
        self._number = 0
        self._resume()

    @property
    def used(self) -> int:
        """Calls of the last 24 hours, those of other integrations with them."""
        with self._lock:
            self._forget_old()
            return self._used + self._others

    def set_budget(self, *, most: int | None = None, used: int | None = None) -> None:
        """Sets the daily allowance, and how much of it is gone, whoever used it."""
        self.most = self.most if most is None else most
        if used is not None:
            self._others += used - self.used
        self._store.put("budget", "daily", {"most": self.most, "others": self._others})

    def note(self, row: dict[str, Any]) -> None:
        """Keeps one call: the columns of `calls` without `number` and `moment`."""
        with self._lock:
            self._number += 1
            number, moment = self._number, self._clock.seconds()
            if row["counted"]:
                self._counted.append((moment, row["counted"]))
                self._used += row["counted"]
        with self._store.writing() as unit:
            unit.connection.execute(insert(calls), [{**row, "number": number, "moment": moment}])

    def calls(self, *, after: int = 0, kind: str | None = None) -> list[dict[str, Any]]:
        """The calls with a higher number, oldest first; those of a kind, or of all kinds below it (`bulk`)."""
        chosen = select(calls).where(calls.c.number > after).order_by(calls.c.number)
        if kind is not None:
            chosen = chosen.where((calls.c.kind == kind) | calls.c.kind.startswith(f"{kind}.", autoescape=True))
        with self._store.reading() as connection:
            return [dict(row) for row in connection.execute(chosen).mappings()]

    def summary(self, *, after: int = 0) -> dict[str, Any]:
        """How many calls of each kind, how many counted, and how many came inside a wait that was asked for."""
        chosen = select(
            calls.c.kind,
            func.count().label("calls"),
            func.sum(calls.c.counted).label("counted"),
            func.sum(calls.c.inside_wait).label("inside_wait"),
        )
        with self._store.reading() as connection:
            rows = connection.execute(chosen.where(calls.c.number > after).group_by(calls.c.kind)).all()
        return {
            "kinds": {row.kind: {"calls": row.calls, "counted": row.counted} for row in rows},
            "calls": sum(row.calls for row in rows),
            "counted": sum(row.counted for row in rows),
            "inside_wait": sum(row.inside_wait for row in rows),
            "last": self._number,
            "used": self.used,
            "most": self.most,
        }

    def clear(self) -> None:
        """Forgets all calls; the day's count begins anew."""
        with self._lock:
            self._counted.clear()
            self._used = self._others = 0
        self._store.put("budget", "daily", {"most": self.most, "others": 0})
        with self._store.writing() as unit:
            unit.connection.execute(delete(calls))

    def _resume(self) -> None:
        since = self._clock.seconds() - DAY
        with self._store.reading() as connection:
            self._number = connection.execute(select(func.max(calls.c.number))).scalar() or 0
            chosen = select(calls.c.moment, calls.c.counted).where(calls.c.moment > since, calls.c.counted > 0)
            for row in connection.execute(chosen.order_by(calls.c.number)):
                self._counted.append((row.moment, row.counted))
                self._used += row.counted

    def _forget_old(self) -> None:
        since = self._clock.seconds() - DAY
        while self._counted and self._counted[0][0] <= since:
            self._used -= self._counted.popleft()[1]
