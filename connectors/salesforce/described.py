"""What was described a moment ago, so that the connectors that one run opens in a process describe an object once."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from hub.sdk import Context, Entity

FRESH_SECONDS = 60.0
"""Longer than from a run's preflight to its first page, and short enough that nobody waits for a new field."""

_KEPT: WeakKeyDictionary[object, dict[tuple[str, bool], tuple[float, Entity]]] = WeakKeyDictionary()
_TURN = threading.Lock()


class Described:
    """The objects of one connection by name, with their parents' fields or without; whoever describes renews them.

    Only reading asks it: what is gone since is refused by the org, and whether a mapping fits is asked of the org.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        with _TURN:
            self._kept = _KEPT.setdefault(context.shared.origin, {})

    def keep(self, found: Iterable[Entity], *, paths: bool = True) -> None:
        """What was described just now."""
        now = self._context.clock.monotonic()
        with _TURN:
            self._kept.update({(each.name, paths): (now, each) for each in found})

    def find(self, name: str, *, paths: bool) -> Entity | None:
        """An object as it was a moment ago; more of its fields than were asked for do no harm."""
        since = self._context.clock.monotonic() - FRESH_SECONDS
        with _TURN:
            found = [self._kept.get((name, True)), None if paths else self._kept.get((name, False))]
        return next((entity for each in found if each is not None for at, entity in [each] if at >= since), None)
