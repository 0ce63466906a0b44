"""One page's way: loaded, judged, its changes stored, written, its results stored. Refuses to know of threads."""

from hub.runs.pages.inline import Columns, checked, framed, inline, keys_of
from hub.runs.pages.judging import Featured, Judged
from hub.runs.pages.loading import Load
from hub.runs.pages.online import Askers, Concluded
from hub.runs.pages.shape import changes_since
from hub.runs.pages.staging import score_page, set_aside
from hub.runs.pages.trip import Hashes, Intent, LimitError, Ready, Trip, open_trip, refused

__all__ = [
    "Askers",
    "Columns",
    "Concluded",
    "Featured",
    "Hashes",
    "Intent",
    "Judged",
    "LimitError",
    "Load",
    "Ready",
    "Trip",
    "changes_since",
    "checked",
    "framed",
    "inline",
    "keys_of",
    "open_trip",
    "refused",
    "score_page",
    "set_aside",
]
