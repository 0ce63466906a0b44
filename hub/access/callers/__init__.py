"""Callers that were met a moment ago, so that the next request of theirs costs next to nothing.

Refuses to remember whom the database might no longer know: whatever ends a right moves a number that is read each time.
"""

from __future__ import annotations

from hub.access.callers.known import KNOWN_SECONDS, KnownCallers, bump

__all__ = ["KNOWN_SECONDS", "KnownCallers", "bump"]
