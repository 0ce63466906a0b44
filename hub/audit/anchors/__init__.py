"""Where checkpoints are put outside the hub's reach, so that not even its owner can write the trail anew unseen."""

from __future__ import annotations

from hub.audit.anchors.anchoring import Anchored, Anchoring
from hub.audit.anchors.file import FileAnchor
from hub.audit.anchors.types import Anchor, AnchorError
from hub.settings import Settings

__all__ = ["Anchor", "AnchorError", "Anchored", "Anchoring", "FileAnchor", "configured"]


def configured(settings: Settings) -> list[Anchor]:
    """The places that the settings name."""
    places: list[Anchor] = []
    if settings.audit_anchor_file is not None:
        places.append(FileAnchor(settings.audit_anchor_file))
    if settings.audit_anchor_bucket is not None:
        from hub.audit.anchors.bucket import BucketAnchor

        bucket, _, prefix = settings.audit_anchor_bucket.partition("/")
        days, endpoint = settings.audit_anchor_bucket_days, settings.audit_anchor_bucket_endpoint
        authorities = settings.audit_anchor_authorities
        places.append(BucketAnchor(bucket, prefix, days, endpoint=endpoint, authorities=authorities))
    if settings.audit_anchor_webhook is None and settings.audit_anchor_timestamp is None:
        return places
    # The HTTP client takes a while to import, and most hubs that anchor do it in a file.
    from hub.audit.anchors.web import TimestampAnchor, WebhookAnchor, Wire

    def wire(url: str) -> Wire:
        return Wire(url, settings.audit_anchor_authorities, private=settings.allows_private(url))

    if settings.audit_anchor_webhook is not None:
        places.append(WebhookAnchor(wire(settings.audit_anchor_webhook)))
    if settings.audit_anchor_timestamp is not None:
        places.append(TimestampAnchor(wire(settings.audit_anchor_timestamp)))
    return places
