"""Every verb against nobody, a wrong scope, a wrong resource and the right scope; one that declares nothing fails."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hub.access import Resource, ResourceKind, Scope
from hub.access.types import PERSONAL, WHOLE
from hub.cli.caller import Need
from hub.cli.main import run
from hub.cli.reference import verbs
from tests.faces.cli.conftest import Shell, shell_in

VERBS = {path: command.callback for path, command in verbs()}
RUN = "20260101-000000-abcdef"
LINES = {
    "access approvals approve": "access approvals approve 00ff",
    "access approvals break-glass": "access approvals break-glass 00ff --reason Fire",
    "access approvals refuse": "access approvals refuse 00ff",
    "access approvals show": "access approvals show 00ff",
    "access people disable": "access people disable anna",
    "access people enable": "access people enable anna",
    "access people end-sessions": "access people end-sessions anna",
    "access plan": "access plan mapping.yaml",
    "access revoke": "access revoke --connection ward",
    "access verify": "access verify ward_risk",
    "access client add": "access client add c --owner anna --scope score",
    "access token create": "access token create c --owner anna --scope score",
    "audit export": "audit export {new}",
    "audit hold": "audit hold case-17 --because Court",
    "audit end-hold": "audit end-hold case-17",
    "audit subject": "audit subject ward_risk 0001",
    "audit erase": "audit erase ward_risk 0001 --because Asked",
    "audit report": "audit report ward_risk",
    "audit review": "audit review ward_risk mapping.yaml --finding nothing",
    "audit prove": "audit prove 0",
    "audit verify": "audit verify",
    "audit anchors": "audit anchors",
    "connections add": "connections add ward sql dialect=sqlite path=ward.db",
    "connections secret": "connections secret ward password=env:HUB_SECRET_NONE",
    "connections provision": "connections provision ward PATIENT --mapping mapping.yaml --plan",
    "connections entities": "connections entities ward",
    "health": "health",
    "mappings approve": f"mappings approve ward_risk {'0' * 64}",
    "mappings preview": "mappings preview mapping.yaml --records 2",
    "models register": "models register ward_risk ward_risk.skops --sample sample.csv --owner anna --positive 1",
    "models alias": "models alias ward_risk champion 1",
    "models remove": "models remove ward_risk 7",
    "runs list": "runs list",
    "runs start": "runs start ward_risk --dry",
    "runs resume": f"runs resume {RUN}",
    "runs undo": f"runs undo {RUN}",
    "runs replay": "runs replay ward_risk",
}
"""What is typed of a verb whose general line does not serve."""
FILTERED = {
    "connections list": ResourceKind.CONNECTION,
    "mappings list": ResourceKind.MAPPING,
    "models list": ResourceKind.MODEL,
}
"""Verbs that leave out what is out of sight."""
DOCUMENTS = {each for each in VERBS if each.startswith("mappings ")} | {"connections provision"}
ASKED = sorted(path for path, verb in VERBS.items() if getattr(verb, "need", Need()).scope is not None)
ALL = {Scope.MAPPINGS: [Scope.RECORDS]}
_numbers = count()


def need(path: str) -> Need:
    found = VERBS[path].need
    assert isinstance(found, Need)
    return found


def line(path: str) -> list[str]:
    """A command line of the verb on the ward's hub."""
    if path in LINES:
        return shlex.split(LINES[path].replace("{new}", f"new-{next(_numbers)}.jsonl"))
    names = {"connections": "ward", "models": "ward_risk", "runs": RUN, "decisions": "ward_risk 0001"}
    room, _, verb = path.rpartition(" ")
    if room in ("access role", "access token", "access client"):
        given = {"grant": "bert viewer", "revoke": "bert viewer" if room == "access role" else "none"}.get(verb, "")
    elif room == "mappings":
        given = "ward_risk" if verb in ("show", "pause", "resume") else "" if verb == "list" else "mapping.yaml"
    else:
        given = "" if verb in ("list", "verify") and room != "decisions" else names.get(room, "")
        given = "ward_risk" if path in ("decisions held", "decisions verify") else given
    return [*path.split(), *given.split()]


@pytest.fixture(scope="module")
def ward(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A hub of these tests, with its mapping published."""
    folder = tmp_path_factory.mktemp("scopes") / "hub"
    shutil.copytree(furnished, folder)
    with shell_in(folder) as made:
        made("mappings publish mapping.yaml")
        yield made


class Typist:
    """Types with a key of its own, or with whatever stands for one."""

    def __init__(self, shell: Shell, patch: pytest.MonkeyPatch) -> None:
        self._shell = shell
        self._patch = patch

    def holding(self, *scopes: Scope, only: Resource | None = None) -> None:
        """From now on as a service that holds these scopes."""
        words = ["access", "token", "create", f"typist-{next(_numbers)}", "--owner", "bert", "--json"]
        for each in scopes:
            words += ["--scope", each.value]
        if only is not None:
            words += [f"--{only.kind}", only.name]
        self._patch.delenv("HUB_TOKEN", raising=False)
        self.showing(self._shell(words).answer["key"])

    def showing(self, key: str) -> None:
        """From now on with this text as the key."""
        self._patch.setenv("HUB_TOKEN", key)

    def types(self, path: str) -> str:
        """The name of the error that the verb ends in; empty where it does what was asked."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([*line(path), "--json"])
        assert code in (0, 1, 3, 4), err.getvalue()
        said = err.getvalue().splitlines()
        return json.loads(said[-1])["error"] if code == 1 and said and said[-1].startswith("{") else ""


@pytest.fixture
def typist(ward: Shell, monkeypatch: pytest.MonkeyPatch) -> Typist:
    return Typist(ward, monkeypatch)


def test_every_verb_says_what_it_needs() -> None:
    assert [path for path, verb in VERBS.items() if not isinstance(getattr(verb, "need", None), Need)] == []
    assert len(ASKED) > 50


@pytest.mark.parametrize("path", sorted(set(VERBS) - set(ASKED)))
def test_a_verb_that_asks_nobody_says_why(path: str) -> None:
    assert len(need(path).why.split()) >= 3


@pytest.mark.parametrize("path", ASKED)
def test_a_verb_is_refused_to_nobody(typist: Typist, path: str) -> None:
    typist.showing("hub_dev_nobody")
    assert typist.types(path) == "UnauthenticatedError"


@pytest.mark.parametrize("path", ASKED)
def test_a_verb_is_refused_to_every_other_scope(typist: Typist, path: str) -> None:
    typist.holding(*(each for each in Scope if each is not need(path).scope and each not in PERSONAL))
    assert typist.types(path) == "DeniedError"


@pytest.mark.parametrize("path", [each for each in ASKED if need(each).scope not in WHOLE | PERSONAL])
def test_a_verb_is_refused_for_another_resource_as_if_there_were_none(ward: Shell, typist: Typist, path: str) -> None:
    scope = need(path).scope
    assert scope is not None
    kind = need(path).kind or FILTERED.get(path, ResourceKind.MAPPING)
    typist.holding(scope, *ALL.get(scope, []), only=Resource(kind, "another"))
    ended = typist.types(path)
    if path in FILTERED:
        assert ward(f"{path} --json").answer == []
    elif path.startswith("runs ") and need(path).named:
        assert ended in ("UnknownRunError", "DeniedError")
    elif need(path).parameter is None and not need(path).named:
        assert ended == "DeniedError"
    else:
        assert ended == "HiddenError"


@pytest.mark.parametrize("path", ASKED)
def test_a_verb_opens_to_its_scope(ward: Shell, typist: Typist, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    scope = need(path).scope
    assert scope is not None
    if scope in PERSONAL:
        monkeypatch.delenv("HUB_TOKEN", raising=False)
    else:
        typist.holding(scope, *ALL.get(scope, []), *([Scope.MAPPINGS] if path in DOCUMENTS else []))
    assert typist.types(path) not in ("UnauthenticatedError", "DeniedError", "HiddenError")


@pytest.mark.parametrize("path", sorted(each for each in VERBS if need(each).local))
def test_no_key_opens_a_verb_of_the_machine(ward: Shell, typist: Typist, path: str) -> None:
    typist.showing("hub_dev_nobody")
    words = {"twin": "twin salesforce"}.get(path, path)
    assert "is for the machine's own person" in ward(words, 1).problem


def test_a_refusal_at_the_keyboard_is_in_the_trail(
    ward: Shell, typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    typist.holding(Scope.READ, only=Resource.mapping("another"))
    assert typist.types("runs show") == "UnknownRunError"
    monkeypatch.delenv("HUB_TOKEN")
    newest: dict[str, Any] = ward("audit list --action access.request.deny --limit 1 --json").answer[0]
    assert (newest["subject"], newest["outcome"], newest["detail"]["scope"]) == (f"run:{RUN}", "denied", "read")
    assert newest["actor"].startswith("service:typist-")


def test_a_document_is_open_to_who_holds_its_mapping_its_model_and_its_connections(
    ward: Shell, typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "access token create author --owner bert --scope mappings --mapping ward_risk --json"
    key = ward(words).answer["key"]
    more = ward(f"{words} --model ward_risk --connection ward").answer["key"]
    typist.showing(key)
    assert typist.types("mappings check") == "HiddenError"
    typist.showing(more)
    assert typist.types("mappings check") == ""


def test_a_key_can_come_by_a_file(ward: Shell, typist: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN_FILE", "nowhere")
    assert "cannot read nowhere" in ward("runs list", 1).problem
    monkeypatch.delenv("HUB_TOKEN_FILE")
    key = ward("access token create filed --owner bert --scope read --json").answer["key"]
    monkeypatch.setenv("HUB_TOKEN_FILE", ward.write(f"{key}\n", "key.txt"))
    assert ward("connections list --json").answer[0]["name"] == "ward"
    assert "lacks the scope access" in ward("access token list", 1).problem
