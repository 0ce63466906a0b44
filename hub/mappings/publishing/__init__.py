"""Publishing a version: what is put before whoever approves it, the rights it has over there, and what binds it after.

Owns the frozen content of an approval and the keyed digest of a published version. Refuses nothing by itself: the room
asks it.
"""

from hub.mappings.publishing.binding import bind, published_of, refuse_alteration
from hub.mappings.publishing.excess import acceptances, recorded
from hub.mappings.publishing.reviews import Reviews, grants_of, refuse_live, subject_of

__all__ = [
    "Reviews",
    "acceptances",
    "bind",
    "grants_of",
    "published_of",
    "recorded",
    "refuse_alteration",
    "refuse_live",
    "subject_of",
]
