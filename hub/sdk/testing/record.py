"""What a stand-in did under the suite, kept beside the connector it was done with: evidence, never a claim.

`conformance.json` in a connector's folder holds, for each stand-in, the outcome of every test, the declared gaps, and
two digests: of the connector's own code and of the suite's. Evidence about other bytes than those installed is stale.
No date and no machine is in it, so that recording the same twice gives the same file.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from hub.sdk import Spec
from hub.sdk.types import Entity

Outcome: TypeAlias = Literal["passed", "gap", "skipped", "failed"]
FILE = "conformance.json"


@dataclass(frozen=True)
class Outcomes:
    """One stand-in's evidence. `tests` is test name → (outcome, reason); `code` and `suite` are digests."""

    kind: Literal["fake", "peer", "live"]
    code: str
    suite: str
    types: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    conditional: bool = False
    incremental: bool = False
    tests: Mapping[str, tuple[Outcome, str]] = field(default_factory=dict)


def describe(entity: Entity) -> dict[str, object]:
    """What the entity under test could show, as fields of `Outcomes`."""
    return {
        "types": tuple(sorted({each.type.value for each in entity.fields})),
        "modes": tuple(sorted(each.value for each in entity.modes)),
        "conditional": entity.conditional,
        "incremental": bool(entity.changed_by),
    }


def folder_of(spec: Spec) -> Path:
    """The folder of a connector's code, found without importing its client."""
    package = spec.factory.partition(":")[0].rpartition(".")[0]
    found = find_spec(package)
    assert found is not None, f"{package} is not installed"
    assert found.submodule_search_locations, f"{package} is not a folder"
    return Path(next(iter(found.submodule_search_locations)))


def code_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of all Python files of a folder."""
    digest = sha256()
    for each in sorted(folder.rglob("*.py")):
        content = each.read_bytes()
        digest.update(f"{each.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


@cache
def suite_folder() -> Path:
    """Where the suite's tests are."""
    return Path(__file__).parent / "suite"


@cache
def suite_tests() -> Mapping[str, str]:
    """Test name → group, read from the suite's text, since it is asked for where pytest is not installed."""
    found: dict[str, str] = {}
    for path in sorted(suite_folder().glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                names = [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
                found |= {name: path.stem for name in names if name.startswith("test_")}
    return found


def load(folder: Path) -> dict[str, Outcomes]:
    """Stand-in → evidence, empty where none was recorded."""
    path = folder / FILE
    if not path.is_file():
        return {}
    raw = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Outcomes(**{**each, "types": tuple(each["types"]), "modes": tuple(each["modes"])})
        for name, each in raw["stand_ins"].items()
    }


def save(folder: Path, evidence: Mapping[str, Outcomes]) -> Path:
    """Replaces the evidence of these stand-ins and leaves that of others."""
    kept = {**load(folder), **evidence}
    path = folder / FILE
    content = {"format": 1, "stand_ins": {name: asdict(each) for name, each in sorted(kept.items())}}
    path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
