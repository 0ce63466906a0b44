"""The public API of `hub.sdk` changes on purpose only: `api.txt` is what it was when somebody last looked."""

from __future__ import annotations

import difflib
from pathlib import Path

import hub.sdk
from tests.hub.sdk.signatures import api

SNAPSHOT = Path(__file__).with_name("api.txt")


def test_the_public_api_is_the_one_written_down() -> None:
    was, now = SNAPSHOT.read_text(encoding="utf-8"), api()
    difference = "".join(difflib.unified_diff(was.splitlines(True), now.splitlines(True), "api.txt", "hub.sdk"))
    rewrite = "python -c 'from tests.hub.sdk.signatures import api; print(api(), end=\"\")' > tests/hub/sdk/api.txt"
    assert not difference, f"the contract changed; if it should, run\n{rewrite}\n{difference}"


def test_every_public_name_is_explained() -> None:
    own = [getattr(hub.sdk, name) for name in hub.sdk.__all__ if isinstance(getattr(hub.sdk, name), type)]
    assert len(own) > 30
    silent = [each.__name__ for each in own if not (each.__dict__.get("__doc__") or "").strip()]
    assert silent == []


def test_names_are_listed_once() -> None:
    assert len(hub.sdk.__all__) == len(set(hub.sdk.__all__))
