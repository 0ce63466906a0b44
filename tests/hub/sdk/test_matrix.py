"""The ladder is computed from evidence about the very bytes that are installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hub.sdk.testing import matrix as matrix_module
from hub.sdk.testing.matrix import Rung, Support, matrix
from hub.sdk.testing.record import Outcomes, code_digest, load, save, suite_folder, suite_tests
from hub.sdk.testing.stand_in.connector import SPEC
from hub.sdk.testing.suite import ConformanceSuite

Show = Callable[..., Support]


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Show:
    (tmp_path / "connector.py").write_text("X = 1\n", encoding="utf-8")
    monkeypatch.setattr(matrix_module, "folder_of", lambda spec: tmp_path)

    def shown(*stand_ins: Outcomes) -> Support:
        save(tmp_path, {f"stand_in_{n}": each for n, each in enumerate(stand_ins)})
        return matrix([SPEC])[0]

    return shown


@pytest.fixture
def evidence(show: Show, tmp_path: Path) -> Outcomes:
    tests = dict.fromkeys(suite_tests(), ("passed", ""))
    digests = (code_digest(tmp_path), code_digest(suite_folder()))
    return Outcomes("peer", *digests, ("text",), ("update",), True, True, tests)


def but(evidence: Outcomes, outcome: str, reason: str = "") -> Outcomes:
    return replace(evidence, tests={**evidence.tests, "test_two_calls_agree": (outcome, reason)})


def test_a_connector_without_evidence_is_listed(show: Show) -> None:
    shown = show()
    assert (shown.rung, shown.stand_ins) == (Rung.LISTED, ())
    assert shown.roles == ("destination", "live", "provisioner", "source")


def test_a_whole_suite_on_a_peer_without_gaps_is_hardened(show: Show, evidence: Outcomes) -> None:
    shown = show(evidence)
    assert (shown.rung, shown.why) == (Rung.HARDENED, "")
    passed, asked = shown.stand_ins[0].groups["reading"]
    assert passed == asked > 20


def test_a_fake_verifies_and_no_more(show: Show, evidence: Outcomes) -> None:
    assert show(replace(evidence, kind="fake")).rung is Rung.VERIFIED


def test_a_gap_of_ours_keeps_a_connector_from_hardened(show: Show, evidence: Outcomes) -> None:
    shown = show(but(evidence, "gap", "ours: not yet"))
    assert shown.rung is Rung.PROVEN
    assert shown.stand_ins[0].gaps == {"test_two_calls_agree": "ours: not yet"}
    assert show(but(evidence, "gap", "theirs: never")).rung is Rung.HARDENED


def test_what_the_type_lacks_is_shown_and_not_held_against_it(show: Show, evidence: Outcomes) -> None:
    shown = show(but(evidence, "skipped", "the type has no such role"))
    assert shown.rung is Rung.HARDENED
    assert shown.stand_ins[0].lacking == {"test_two_calls_agree": "the type has no such role"}


@pytest.mark.parametrize("stale", [{"code": "0"}, {"suite": "0"}])
def test_evidence_about_other_bytes_counts_for_nothing(show: Show, evidence: Outcomes, stale: dict[str, str]) -> None:
    shown = show(replace(evidence, **stale))
    assert shown.rung is Rung.LISTED
    assert "record it again" in shown.why


def test_changed_code_makes_evidence_stale(show: Show, evidence: Outcomes, tmp_path: Path) -> None:
    assert show(evidence).rung is Rung.HARDENED
    (tmp_path / "connector.py").write_text("X = 2\n", encoding="utf-8")
    assert matrix([SPEC])[0].rung is Rung.LISTED


def test_a_suite_run_in_part_counts_for_nothing(show: Show, evidence: Outcomes) -> None:
    some = dict(list(evidence.tests.items())[1:])
    assert show(replace(evidence, tests=some)).rung is Rung.LISTED


def test_a_failure_counts_for_nothing(show: Show, evidence: Outcomes) -> None:
    shown = show(but(evidence, "failed"))
    assert (shown.rung, shown.why) == (Rung.LISTED, "1 tests failed, test_two_calls_agree among them")


def test_a_suite_of_skips_counts_for_nothing(show: Show, evidence: Outcomes) -> None:
    assert show(replace(evidence, tests=dict.fromkeys(evidence.tests, ("skipped", "no server")))).rung is Rung.LISTED


def test_the_best_stand_in_counts(show: Show, evidence: Outcomes) -> None:
    assert show(replace(evidence, kind="fake"), evidence, replace(evidence, code="0")).rung is Rung.HARDENED


def test_evidence_survives_being_written_twice(show: Show, evidence: Outcomes, tmp_path: Path) -> None:
    show(evidence)
    before = (tmp_path / "conformance.json").read_bytes()
    save(tmp_path, load(tmp_path))
    assert (tmp_path / "conformance.json").read_bytes() == before


def test_the_tests_counted_are_those_of_the_suite() -> None:
    assert set(suite_tests()) == {name for name in dir(ConformanceSuite) if name.startswith("test_")}


def test_the_matrix_needs_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; from hub.sdk.testing.matrix import matrix; matrix([])"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
