"""Executing a compiled mapping on frames: pages in, featured, decided and written records out.

Owns every rule between a page as read and a change as sent. Refuses I/O (lookups come through a function that is
passed in), Python per record, and any value that does not fit its field exactly.
"""

from hub.mappings.pipeline.canonical import canonical_rows
from hub.mappings.pipeline.changes import render_reasons
from hub.mappings.pipeline.digests import RowDigest
from hub.mappings.pipeline.examples import ExampleError, Examples, outcome, read_examples, run_examples
from hub.mappings.pipeline.fit import fits
from hub.mappings.pipeline.intake import REASON, STATE, TARGET, Admitted
from hub.mappings.pipeline.lookups import ReadLookup
from hub.mappings.pipeline.outcome import BECAUSE, SET, WITH, Facts
from hub.mappings.pipeline.pipeline import Pipeline

__all__ = [
    "BECAUSE",
    "REASON",
    "SET",
    "STATE",
    "TARGET",
    "WITH",
    "Admitted",
    "ExampleError",
    "Examples",
    "Facts",
    "Pipeline",
    "ReadLookup",
    "RowDigest",
    "canonical_rows",
    "fits",
    "outcome",
    "read_examples",
    "render_reasons",
    "run_examples",
]
