"""The reference pages in the tree are those that the code writes."""

from __future__ import annotations

from pathlib import Path

import pytest

import hub
from hub.cli import inventory
from hub.cli.inventory import InventoryError
from hub.cli.reference import pages

FOLDER = Path(hub.__file__).parent / "docs" / "reference"


@pytest.mark.parametrize("name", ["audit.md", "cli.md", "cryptography.md", "scopes.md", "settings.md"])
def test_a_page_is_the_one_the_code_writes(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == pages()[name], "stale: python -m hub.cli.reference writes it anew"


def test_every_page_is_held_against_its_code() -> None:
    assert {each.name for each in FOLDER.iterdir()} == {"expressions.md", "checks.md", *pages()}


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import hashlib\n\nhashlib.sha1(b'')\n", "hashlib.sha1"),
        ("from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305\n", "ChaCha20Poly1305"),
        ("from cryptography.fernet import Fernet\n", "Fernet"),
        ("def seal(keys):\n    return keys.mac('another', b'')\n", "another"),
        ('def bound():\n    return {"kind": "another-kind", "of": "somebody"}\n', "another-kind"),
    ],
    ids=lambda each: each if "\n" not in each else "",
)
def test_a_primitive_that_nobody_described_is_named(
    source: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more.py").write_text(source)
    places = {"more": tmp_path}
    monkeypatch.setattr(inventory, "PACKAGES", (*inventory.PACKAGES, "more"))
    monkeypatch.setattr(inventory, "files", lambda name: places.get(name) or Path(hub.__file__).parents[1] / name)
    with pytest.raises(InventoryError, match=named):
        inventory.inventory.__wrapped__()
