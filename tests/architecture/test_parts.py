"""The list of parts names everything that is run, at the version that is run, and nothing that no lock pins."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

import pytest
from packaging.requirements import Requirement

from hub.cli.parts import LockError, parts
from tests.architecture.test_house import ROOT, imports, modules

LOCK = ROOT / "requirements.lock"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    command = [sys.executable, "-m", "hub.cli.parts", str(LOCK)]
    made: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    return made


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_pin_of_the_lock_is_a_part_with_its_hashes(told: dict[str, Any]) -> None:
    text = LOCK.read_text(encoding="utf-8")
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==([^ \\]+)", text, re.MULTILINE)
    assert [(each["name"], each["version"]) for each in told["components"]] == pinned
    assert len(pinned) > 100
    assert all(each["hashes"] for each in told["components"])
    assert sum(len(each["hashes"]) for each in told["components"]) == text.count("--hash=sha256:")
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")


def test_what_is_installed_is_what_is_listed(told: dict[str, Any]) -> None:
    listed: dict[str, set[str]] = {}
    for each in told["components"]:
        listed.setdefault(canonical(each["name"]), set()).add(each["version"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in (*project["dependencies"], *project["optional-dependencies"]["aws"]):
        name = canonical(Requirement(line).name)
        try:
            found = version(name)
        except PackageNotFoundError:
            assert name == "boto3", f"{name} is asked for and not installed"
            continue
        assert found in listed[name], f"{name} {found} runs here, and the lock pins {listed[name]}"


def test_nothing_is_imported_that_is_not_listed(told: dict[str, Any]) -> None:
    listed = {canonical(each["name"]) for each in told["components"]}
    owners = packages_distributions()
    for path in modules("hub", "connectors", "mappings"):
        for name, line in imports(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top in {"hub", "connectors", "mappings", "tests"}:
                continue
            assert {canonical(each) for each in owners.get(top, ["nobody"])} & listed, f"{path}:{line} {top}"


def test_what_needs_a_part_is_told(told: dict[str, Any]) -> None:
    edges = {each["ref"]: each["dependsOn"] for each in told["dependencies"]}
    assert set(edges) == {"hub", *(each["bom-ref"] for each in told["components"])}
    assert any(each.startswith("pkg:pypi/cryptography@") for each in edges["hub"])
    (celery,) = [ref for ref in edges if ref.startswith("pkg:pypi/celery@")]
    assert any(each.startswith("pkg:pypi/kombu@") for each in edges[celery])


def test_a_line_that_is_no_pin_is_named() -> None:
    for line in ("celery>=5", "git+https://example.com/x", "-e .", "celery==5.7.0 \\\n    --hash=md5:00"):
        with pytest.raises(LockError, match="line"):
            parts(line + "\n")
