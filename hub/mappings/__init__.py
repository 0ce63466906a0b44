"""What a mapping says, checked, compiled, explained, kept, and carried out on frames.

Owns the document, the expression language, the published versions and the pipeline. Refuses what it does not
understand with the line and the nearest right name, and all I/O while it works on frames: runs are above.
"""

from typing import TYPE_CHECKING, Any

from hub.mappings.types import (
    HELD,
    INVALID,
    READY,
    ApprovalError,
    Compiled,
    CompiledLookup,
    Document,
    MappingError,
    MappingsError,
    PausedMappingError,
    Problem,
    Published,
    UnknownMappingError,
)

if TYPE_CHECKING:
    from hub.mappings.document import document_schema, read_document
    from hub.mappings.explain import diff, explain
    from hub.mappings.mappings import Mappings
    from hub.mappings.pipeline import Facts, Pipeline
    from hub.mappings.spec import grant_text, spec

__all__ = [
    "HELD",
    "INVALID",
    "READY",
    "ApprovalError",
    "Compiled",
    "CompiledLookup",
    "Document",
    "Facts",
    "MappingError",
    "Mappings",
    "MappingsError",
    "PausedMappingError",
    "Pipeline",
    "Problem",
    "Published",
    "UnknownMappingError",
    "diff",
    "document_schema",
    "explain",
    "grant_text",
    "read_document",
    "spec",
]

_LATER = {
    "Facts": "hub.mappings.pipeline",
    "Mappings": "hub.mappings.mappings",
    "Pipeline": "hub.mappings.pipeline",
    "diff": "hub.mappings.explain",
    "document_schema": "hub.mappings.document",
    "explain": "hub.mappings.explain",
    "grant_text": "hub.mappings.spec",
    "read_document": "hub.mappings.document",
    "spec": "hub.mappings.spec",
}


def __getattr__(name: str) -> Any:
    """Heavy parts are imported when they are first named."""
    if name not in _LATER:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)
