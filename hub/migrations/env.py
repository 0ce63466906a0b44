"""Alembic's environment: runs the revisions on the connection, or compares them with the tables, it is handed."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import Enum

from hub.database import UtcDateTime


def _render_type(kind: str, item: Any, _: object) -> str | Literal[False]:
    """A revision stands for ever, so it names no type of ours that may change."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Enum):
        return f"sa.String({item.length})"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("stores"),
    compare_type=True,
    render_as_batch=True,  # SQLite alters a table by making it anew
    render_item=_render_type,
)
context.run_migrations()
