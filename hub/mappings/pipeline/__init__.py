"""Executing a compiled mapping on frames: pages in, featured, decided and written records out.

Owns every rule between a page as read and a change as sent. Refuses I/O (lookups come through a function that is
passed in), Python per record, and any value that does not fit its field exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.deferred import deferred

if TYPE_CHECKING:
    from hub.mappings.pipeline.changes import render_reasons
    from hub.mappings.pipeline.digests import RowDigest
    from hub.mappings.pipeline.examples import run_examples
    from hub.mappings.pipeline.fit import fits
    from hub.mappings.pipeline.outcome import Facts
    from hub.mappings.pipeline.pipeline import Pipeline

__all__ = ["Facts", "Pipeline", "RowDigest", "fits", "render_reasons", "run_examples"]

# The decision log shares one module of these, and needs none of the rest.
__getattr__ = deferred(
    __name__,
    {
        "Facts": "hub.mappings.pipeline.outcome",
        "Pipeline": "hub.mappings.pipeline.pipeline",
        "RowDigest": "hub.mappings.pipeline.digests",
        "fits": "hub.mappings.pipeline.fit",
        "render_reasons": "hub.mappings.pipeline.changes",
        "run_examples": "hub.mappings.pipeline.examples",
    },
)
