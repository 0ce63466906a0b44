"""Looks now and then whether the far sides are still what they were when the run began."""

from __future__ import annotations

import time

from hub.runs.installation import Installation
from hub.runs.pages import changes_since
from hub.runs.types import RunError
from hub.sdk import ConnectorError


class Looks:
    """Looks after one run; kept for all claims of it in a row."""

    def __init__(self, hub: Installation, run: str) -> None:
        self.run = run
        self._hub = hub
        self._every = hub.settings.lease_seconds / 3
        self._next = 0.0

    def look(self) -> None:
        """RunError says what changed; nothing is asked where that was done a moment ago."""
        if time.monotonic() < self._next:
            return
        if (changed := changes_since(self._hub, self.run)) is not None:
            raise RunError(changed)
        self._next = time.monotonic() + self._every

    def after_failure(self) -> str | None:
        """What changed, where that may be why a page failed; a far side that is away says so by itself."""
        try:
            return changes_since(self._hub, self.run)
        except ConnectorError:
            return None
