"""A document judged against the systems and the model it names.

Owns what can be said before any record is read: names, types, keys, rights, lineage. Refuses to read records.
"""

from hub.mappings.check.compiling import compile_mapping, missing_fields

__all__ = ["compile_mapping", "missing_fields"]
