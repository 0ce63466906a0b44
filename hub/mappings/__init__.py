"""What a mapping says, checked, compiled, explained, approved and kept.

Owns the mapping document, its expression language, the grant drawn from it, its published versions and the stages that
carry frames through it. Refuses to read or write a far system: runs do that, with what is compiled here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_LAZY = {
    "Facts": "pipeline",
    "Mappings": "mappings",
    "Pipeline": "pipeline",
    "compile_mapping": "check",
    "diff": "explanation",
    "diff_grants": "explanation",
    "document_schema": "document",
    "explain": "explanation",
    "grant_text": "specification",
    "model_users": "mappings",
    "read_document": "document",
    "run_examples": "pipeline",
    "spec": "specification",
}

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


def __getattr__(name: str) -> Any:
    """What needs polars, sqlglot or a database is imported when it is first asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
