"""The nearest right name to a wrong one, as the end of a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The closest known name, capitals aside; None where nothing is close."""
    folded: dict[str, str] = {}
    for each in known:
        folded.setdefault(each.casefold(), each)
    if name.casefold() in folded:
        return folded[name.casefold()]
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def near(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` or nothing."""
    best = nearest(name, known)
    return f"; did you mean {best}?" if best is not None else ""
