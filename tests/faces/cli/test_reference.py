"""The reference pages in the tree are those that the code writes."""

from __future__ import annotations

from pathlib import Path

import pytest

import hub
from hub.cli.reference import pages

FOLDER = Path(hub.__file__).parent / "docs" / "reference"


@pytest.mark.parametrize("name", ["audit.md", "cli.md", "scopes.md", "settings.md"])
def test_a_page_is_the_one_the_code_writes(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == pages()[name], "stale: python -m hub.cli.reference writes it anew"


def test_every_page_is_held_against_its_code() -> None:
    assert {each.name for each in FOLDER.iterdir()} == {"expressions.md", *pages()}
