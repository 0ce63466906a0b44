"""What a mapping says, checked, compiled, explained, approved and kept.

Owns the mapping document, its expression language, the grant drawn from it, its published versions and the stages that
carry frames through it. Refuses to read or write a far system: runs do that, with what is compiled here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.deferred import deferred
from hub.mappings.types import (
    HELD,
    INVALID,
    READY,
    AlteredMappingError,
    ApprovalError,
    Compiled,
    CompiledLookup,
    Document,
    MappingError,
    MappingsError,
    MappingState,
    PausedMappingError,
    Problem,
    Published,
    Standing,
    UnknownMappingError,
    Watermark,
)

if TYPE_CHECKING:
    from hub.mappings.check import compile_mapping
    from hub.mappings.document import document_schema, read_document
    from hub.mappings.explanation import diff, diff_grants, explain
    from hub.mappings.mappings import Mappings, model_users
    from hub.mappings.pipeline import Facts, Pipeline, run_examples
    from hub.mappings.specification import grant_text, spec

__all__ = [
    "HELD",
    "INVALID",
    "READY",
    "AlteredMappingError",
    "ApprovalError",
    "Compiled",
    "CompiledLookup",
    "Document",
    "Facts",
    "MappingError",
    "MappingState",
    "Mappings",
    "MappingsError",
    "PausedMappingError",
    "Pipeline",
    "Problem",
    "Published",
    "Standing",
    "UnknownMappingError",
    "Watermark",
    "compile_mapping",
    "diff",
    "diff_grants",
    "document_schema",
    "explain",
    "grant_text",
    "model_users",
    "read_document",
    "run_examples",
    "spec",
]


# What needs polars, sqlglot or a database is imported when it is first asked for.
__getattr__ = deferred(
    __name__,
    {
        "Facts": "hub.mappings.pipeline",
        "Mappings": "hub.mappings.mappings",
        "Pipeline": "hub.mappings.pipeline",
        "compile_mapping": "hub.mappings.check",
        "diff": "hub.mappings.explanation",
        "diff_grants": "hub.mappings.explanation",
        "document_schema": "hub.mappings.document",
        "explain": "hub.mappings.explanation",
        "grant_text": "hub.mappings.specification",
        "model_users": "hub.mappings.mappings",
        "read_document": "hub.mappings.document",
        "run_examples": "hub.mappings.pipeline",
        "spec": "hub.mappings.specification",
    },
)
