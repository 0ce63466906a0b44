"""Replays: which of them one person may start alone.

Owns the limit and what is asked for above it. Refuses a replay of more records until another person approved it.
"""

from hub.runs.replays.many import Many

__all__ = ["Many"]
