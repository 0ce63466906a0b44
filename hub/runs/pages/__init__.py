"""One page's way: loaded, judged, its changes stored, written, its results stored. Refuses to know of threads."""

from hub.runs.pages.faults import reach
from hub.runs.pages.inline import inline
from hub.runs.pages.judging import Featured
from hub.runs.pages.loading import Load
from hub.runs.pages.staging import score_page, set_aside
from hub.runs.pages.trip import LimitError, Trip, open_trip

__all__ = ["Featured", "LimitError", "Load", "Trip", "inline", "open_trip", "reach", "score_page", "set_aside"]
