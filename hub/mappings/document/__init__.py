"""The mapping document as text: reads it with the line of every value, says all that is wrong with its form at once.

Refuses what YAML allows and a mapping does not need (aliases, tags, nulls, duplicate keys) and knows nothing of
connections or models: what a name refers to is judged in `hub.mappings.check`.
"""

from hub.mappings.document.reading import digest, read_document
from hub.mappings.document.scalars import found
from hub.mappings.document.schema import document_schema
from hub.mappings.document.tree import dotted, mark_of

__all__ = ["digest", "document_schema", "dotted", "found", "mark_of", "read_document"]
