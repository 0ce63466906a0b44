"""What makes a published version trustworthy: the keyed digest that binds it."""

from __future__ import annotations

import hmac
from functools import lru_cache

from hub.keys import KeyRing, canonical
from hub.mappings.document import read_document
from hub.mappings.store import MappingRow, MappingVersionRow
from hub.mappings.types import AlteredMappingError, MappingError, Published

PURPOSE = "mapping"


def bind(keys: KeyRing, row: MappingVersionRow) -> bytes:
    """The keyed digest over everything about a published version that must not change."""
    bound = {
        "mapping": row.mapping,
        "number": row.number,
        "digest": row.digest,
        "text": row.text,
        "grants": row.grants,
        "author": row.author,
        "approved_by": row.approved_by,
        "published_by": row.published_by,
    }
    return keys.mac(PURPOSE, canonical(bound))


def refuse_alteration(keys: KeyRing, row: MappingVersionRow) -> None:
    """AlteredMappingError where the row, or the document in it, is not what was published."""
    if row.mac is None or not hmac.compare_digest(row.mac, bind(keys, row)) or not _is_itself(row):
        raise AlteredMappingError(
            f"version {row.number} of mapping {row.mapping} was altered where it is stored;"
            " restore it, or publish a changed document"
        )


def _is_itself(row: MappingVersionRow) -> bool:
    try:
        return _digest(row.text) == row.digest
    except MappingError:
        return False


@lru_cache(maxsize=256)
def _digest(text: str) -> str:
    """The digest of a document. The same text always has the same one, and reading YAML costs milliseconds."""
    return read_document(text).digest


def published_of(mapping: MappingRow, row: MappingVersionRow) -> Published:
    """The noun of a row that has a number."""
    assert row.number is not None
    assert row.published_at is not None
    return Published(
        mapping=row.mapping,
        number=row.number,
        digest=row.digest,
        text=row.text,
        published_at=row.published_at,
        published_by=row.published_by or "",
        paused=mapping.paused,
        author=row.author,
        approved_by=row.approved_by or "",
        pause_reason=mapping.pause_reason,
    )
