"""What the linter and the source are held to for safety: what is banned stays banned, and no exception creeps in."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.test_house import ROOT, imports, modules, shown, tree

NEVER = frozenset({"S102", "S301", "S302", "S307", "S323", "S324", "S501", "S502", "S506", "S602", "S604", "S605"})
"""exec, pickle, marshal, eval, unverified TLS, weak hashes, verify=False, old TLS, yaml.load, and shells."""
PRIMITIVES = frozenset({"AESGCM", "HKDF", "SHA256", "Ed25519PrivateKey", "Ed25519PublicKey"})
SECRETIVE = ("hub/access", "hub/keys", "hub/audit", "hub/api")
"""Where values are made that nobody may guess."""
TEMPLATES = frozenset({"from_string", "Template", "render_template_string", "SandboxedEnvironment"})
BANNED = (
    ("import os\n\nos.system('ls')\n", {"S605", "S607", "TID251"}),
    ("import subprocess\n\nsubprocess.run('ls', shell=True, check=True)\n", {"S602", "S607"}),
    ("import pickle\n\npickle.loads(b'')\n", {"S301", "S403", "TID251"}),
    ("import joblib\n", {"TID251"}),
    ("import yaml\n\nyaml.load('')\n", {"S506", "TID251"}),
    ("print(eval('1'))\n", {"S307"}),
    ("exec('1')\n", {"S102"}),
    ("import hashlib\n\nhashlib.md5(b'')\n", {"S324"}),
    ("import random\n\nTOKEN = random.choice('ab')\n", {"S311"}),
    ("import httpx\n\nhttpx.get('https://x', verify=False, timeout=1)\n", {"S501"}),
    ("import tempfile\n\ntempfile.mktemp()\n", {"S306"}),
    ("from string import Template\n\nTemplate('')\n", {"TID251"}),
    ("from xml.etree import ElementTree\n\nElementTree.fromstring('')\n", {"TID251", "S314"}),
    ("from lxml import etree\n\netree.fromstring('')\n", {"TID251"}),
    ("from xml.sax import parseString\n\nparseString('', None)\n", {"TID251"}),
    ("def f(n: str) -> str:\n    return f'select * from t where n = {n}'\n", {"S608"}),
)


@pytest.mark.parametrize(
    ("source", "rules"),
    BANNED,
    ids=lambda each: each.split("\n")[0] if isinstance(each, str) else "-".join(sorted(each)),
)
def test_the_linter_refuses_what_is_never_done(source: str, rules: set[str]) -> None:
    command = [Path(sys.executable).with_name("ruff"), "check", "--output-format", "concise", "--no-cache"]
    done = subprocess.run(
        [*command, "--stdin-filename", "hub/access/imagined.py", "-"],
        input=source,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = set(re.findall(r": (S\d+|TID\d+)\b", done.stdout))
    assert found & rules, done.stdout
    assert done.returncode == 1


def test_no_exception_is_made_of_a_rule_that_has_none() -> None:
    wrong = [
        f"{shown(path)}:{number} {rule}"
        for path in modules("hub", "connectors", "mappings")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for rule in re.findall(r"S\d{3}", line.partition("noqa:")[2])
        if rule in NEVER
    ]
    assert wrong == []


def test_the_linter_reads_everything_that_is_shipped() -> None:
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert {"S", "TID"} <= set(ruff["lint"]["select"])
    assert not {each for each in ruff["lint"]["ignore"] if each.startswith(("S", "TID"))} - {"S101", "SIM"}
    freed = {
        place
        for place, rules in ruff["lint"]["per-file-ignores"].items()
        if any(re.fullmatch(r"S(\d+)?|TID\d*", each) for each in rules)
    }
    freed -= {
        "hub/access/jose/verify.py",
        "connectors/salesforce/twin/**",
    }  # of one ban: they do what is banned elsewhere
    assert freed == {"tests/**", "hub/sdk/testing/**", "bench/**"}, "what no customer runs"


def test_no_text_from_outside_becomes_a_template() -> None:
    wrong = []
    for path in modules("hub", "connectors", "mappings"):
        for node in ast.walk(tree(path)):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in TEMPLATES:
                wrong.append(f"{shown(path)}:{node.lineno} {name}")  # type: ignore[attr-defined]
    assert wrong == []


def test_what_nobody_may_guess_comes_from_the_system() -> None:
    wrong = [
        f"{shown(path)}:{line} {name}"
        for path in modules(*SECRETIVE)
        for name, line in imports(path)
        if name.split(".")[0] in {"random", "uuid"}
    ]
    assert wrong == []


def test_only_approved_primitives_seal_and_sign() -> None:
    """Whatever the hub itself encrypts, derives or signs with; certificates and foreign keys are read by others."""
    used = {
        name.rpartition(".")[2]
        for path in modules("hub/keys", "hub/audit/merkle", "hub/decisions")
        for name, _ in imports(path)
        if name.startswith("cryptography.hazmat.primitives.") and ".serialization" not in name
    }
    assert used <= PRIMITIVES
    assert {"AESGCM", "HKDF"} <= used


def test_no_module_of_the_hub_logs_past_its_own_log() -> None:
    """`hub.logs` sets structlog up before the first line, and strikes secrets out; connectors are given a log."""
    wrong = [
        f"{shown(path)}:{line}"
        for path in modules("hub")
        for name, line in imports(path)
        if name.split(".")[0] == "structlog" and shown(path) != "hub/logs.py" and "hub/sdk/" not in shown(path)
    ]
    assert wrong == []
