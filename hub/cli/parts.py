"""The list of parts (SBOM): every distribution that the lock pins, as CycloneDX 1.6, in an order that does not change.

`python -m hub.cli.parts requirements.lock` prints it. It holds no time and no number of its own: the same lock gives
the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

PINNED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)(?: ; (?P<where>[^\\]+?))? *\\?")
HASH = re.compile(r" +--hash=sha256:(?P<digest>[0-9a-f]{64})(?: \\)?")
NEEDED_BY = re.compile(r" +#(?: via)? +(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?(?: \(pyproject\.toml\))?")


class LockError(Exception):
    """A line of the lock is none that this reads."""


def parts(lock: str) -> dict[str, Any]:
    """The CycloneDX document of a lock as `make lock` writes it. LockError names the line that is no such."""
    found: list[dict[str, Any]] = []
    needs: dict[str, set[str]] = {}
    for name, pinned, where, digests, by in _entries(lock):
        purl = f"pkg:pypi/{name}@{pinned}"
        made: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": pinned, "purl": purl}
        made["hashes"] = [{"alg": "SHA-256", "content": each} for each in digests]
        if where:
            made["properties"] = [{"name": "python:marker", "value": where}]
        found.append(made)
        for each in by:
            needs.setdefault(each, set()).add(purl)
    own = {"type": "application", "bom-ref": "hub", "name": "hub", "version": version("hub")}
    refs = {"hub": ["hub"]}
    for part in found:
        refs.setdefault(part["name"], []).append(part["bom-ref"])
    edges = [
        {"ref": ref, "dependsOn": sorted(needs.get(name, ()))} for name, mine in sorted(refs.items()) for ref in mine
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": found,
        "dependencies": edges,
    }


def _entries(lock: str) -> Iterator[tuple[str, str, str | None, list[str], list[str]]]:
    current: tuple[str, str, str | None, list[str], list[str]] | None = None
    for number, line in enumerate(lock.splitlines(), 1):
        if (pinned := PINNED.fullmatch(line)) is not None:
            if current is not None:
                yield current
            current = (pinned["name"], pinned["version"], pinned["where"], [], [])
        elif current is not None and (digest := HASH.fullmatch(line)) is not None:
            current[3].append(digest["digest"])
        elif current is not None and (by := NEEDED_BY.fullmatch(line)) is not None:
            current[4].append(by["name"])
        elif line.strip() not in ("", "# via"):
            raise LockError(f"line {number} of the lock is none of those that `make lock` writes: {line.strip()[:80]}")
    if current is not None:
        yield current


if __name__ == "__main__":
    json.dump(parts(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.stdout, indent=1)
    sys.stdout.write("\n")
