"""One page's way: loaded, judged, its changes stored, written, its results stored. Refuses to know of threads."""

from hub.runs.pages.trip import Intent, LimitError, Trip, open_trip

__all__ = ["Intent", "LimitError", "Trip", "open_trip"]
