"""Decisions and receipts as values that JSON has, the same for every face."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hub.decisions.types import Decision, Receipt


def plain(value: Any) -> Any:
    """A value that JSON lacks, as text (decimals and moments exact) or as numbers (durations in seconds)."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return f"{value:f}"  # str() writes a zero of nine places as 0E-9
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def receipt_json(found: Receipt) -> dict[str, Any]:
    """A receipt as JSON objects; values that JSON lacks are left to `plain`."""
    standing = dict(found.standing) if found.standing is not None else None
    if standing is not None and standing.get("segment") is not None:
        standing["segment"] = str(standing["segment"])
    return {
        "mapping": found.mapping,
        "key": dict(found.key),
        "standing": standing,
        "decisions": [decision_json(each) for each in found.decisions],
        "older": [str(found.older[0]), found.older[1]] if found.older is not None else None,
    }


def decision_json(each: Decision) -> dict[str, Any]:
    """One decision as a JSON object. Segments are text: their numbers are larger than JavaScript can hold."""
    return {
        "segment": str(each.segment),
        "row": each.row,
        "digest": each.root.hex(),
        "at": each.facts.at,
        "run": each.facts.run,
        "mapping_version": each.facts.version,
        "model": f"{each.facts.model} {each.facts.model_version}",
        "model_digest": each.facts.model_digest,
        "state": each.state,
        "reason": each.reason,
        "because": each.because,
        "features": dict(each.features),
        "outputs": dict(each.outputs),
        "decided": dict(each.decided),
        "written": {**each.set, **each.with_},
        "cleared": list(each.clear),
        "before": dict(each.before),
        "reasons": [dict(one) for one in each.reasons],
        "result": dict(each.result),
    }
