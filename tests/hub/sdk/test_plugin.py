"""Gaps are strict, name a test and carry a reason; what a session saw is recorded for the matrix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.sdk.testing.record import FILE, suite_tests
from hub.sdk.testing.stand_in.harness import StandInHarness
from hub.sdk.testing.suite import ConformanceSuite

pytest_plugins = ["pytester"]

# Imported once out here: the sessions below would else import and rewrite the suite once each.
assert ConformanceSuite.__name__
assert StandInHarness.__name__
OTHERS = len(suite_tests()) - 1
FILTER = ["error", "ignore::pytest.PytestAssertRewriteWarning"]
CASE = """
from hub.sdk import UnavailableError
from hub.sdk.testing.stand_in.harness import StandInHarness
from hub.sdk.testing.suite import ConformanceSuite
import pytest

class Gapped(StandInHarness):
    gaps = {gaps!r}
    {harness}

class TestGapped(ConformanceSuite):
    harness_class = Gapped
    {test}
"""
ONE = "test_check_names_identity_and_product"
FAILING = f"def {ONE}(self, harness): raise {{}}"


@pytest.fixture
def session(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyprojecttoml(f"[tool.pytest.ini_options]\nxfail_strict = true\nfilterwarnings = {FILTER}\n")
    pytester.makeconftest('pytest_plugins = ["hub.sdk.testing.plugin"]')
    return pytester


def run(session: pytest.Pytester, *args: str, test: str = "", harness: str = "", **gaps: str) -> pytest.RunResult:
    session.makepyfile(CASE.format(gaps=gaps, test=test or "pass", harness=harness or "pass"))
    return session.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:unraisableexception", *(args or ("-k", ONE)))


@pytest.mark.parametrize("error", ["AssertionError('no')", "UnavailableError('no')"])
def test_a_gap_that_fails_is_an_expected_failure(session: pytest.Pytester, error: str) -> None:
    run(session, test=FAILING.format(error), **{ONE: "ours: not yet"}).assert_outcomes(xfailed=1, deselected=OTHERS)


def test_a_gap_that_passes_breaks_the_build(session: pytest.Pytester) -> None:
    result = run(session, **{ONE: "ours: not yet"})
    result.assert_outcomes(failed=1, deselected=OTHERS)
    result.stdout.fnmatch_lines(["*XPASS(strict)*"])


@pytest.mark.parametrize("error", ["KeyError('x')", "NotImplementedError", "OSError('x')"])
def test_a_gap_covers_no_other_error(session: pytest.Pytester, error: str) -> None:
    run(session, test=FAILING.format(error), **{ONE: "ours: not yet"}).assert_outcomes(failed=1, deselected=OTHERS)


def test_a_gap_covers_no_set_up(session: pytest.Pytester) -> None:
    broken = "def __init__(self, folder): raise AssertionError('no server')"
    run(session, harness=broken, **{ONE: "ours: not yet"}).assert_outcomes(errors=1, deselected=OTHERS)


def test_a_gap_on_a_test_that_is_skipped_anyway_breaks_the_build(session: pytest.Pytester) -> None:
    skips = f"def {ONE}(self, harness): pytest.skip('the type lacks it')"
    run(session, test=skips, **{ONE: "ours: not yet"}).assert_outcomes(failed=1, deselected=OTHERS)


def test_a_skip_before_the_test_is_no_fault_of_the_gap(session: pytest.Pytester) -> None:
    absent = "def __init__(self, folder): pytest.skip('no server')"
    run(session, harness=absent, **{ONE: "ours: not yet"}).assert_outcomes(skipped=1, deselected=OTHERS)


def test_a_stand_in_that_is_absent_leaves_no_evidence(session: pytest.Pytester, recorded: Path) -> None:
    absent = "def __init__(self, folder): pytest.skip('no server')"
    run(session, "-k", ONE, "--conformance-record", harness=absent).assert_outcomes(skipped=1, deselected=OTHERS)
    assert not (recorded / FILE).exists()


@pytest.mark.parametrize("name", ["test_no_such_test", "fixture", "harness_class"])
def test_a_gap_that_names_no_test_stops_collection(session: pytest.Pytester, name: str) -> None:
    result = run(session, **{name: "ours: not yet"})
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*Gapped.gaps names '{name}', which is no test of the suite*"])


@pytest.mark.parametrize("reason", ["", "because", "ours:", "theirs: "])
def test_a_gap_without_a_proper_reason_stops_collection(session: pytest.Pytester, reason: str) -> None:
    result = run(session, **{ONE: reason})
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*needs a reason that begins with 'ours: ' or 'theirs: '*"])


@pytest.fixture
def recorded(session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = session.mkdir("elsewhere")
    (folder / "connector.py").write_text("X = 1\n", encoding="utf-8")
    monkeypatch.setattr("hub.sdk.testing.plugin.folder_of", lambda spec: folder)
    return folder


def test_outcomes_are_recorded_by_stand_in(session: pytest.Pytester, recorded: Path) -> None:
    second = "test_two_calls_agree"
    fails = FAILING.format("AssertionError('no')") + f"\n    def {second}(self, harness): pytest.skip('lacks it')"
    chosen = f"{ONE} or {second} or test_key_fields_exist_in_order"
    run(session, "-k", chosen, "--conformance-record", test=fails, **{ONE: "theirs: never"})
    told = json.loads((recorded / FILE).read_text(encoding="utf-8"))["stand_ins"]["memory"]
    assert told["kind"] == "fake"
    assert told["tests"] == {
        ONE: ["gap", "theirs: never"],
        second: ["skipped", "lacks it"],
        "test_key_fields_exist_in_order": ["passed", ""],
    }
    assert told["modes"] == ["create", "update", "upsert"]


def test_a_failure_is_recorded_as_one(session: pytest.Pytester, recorded: Path) -> None:
    run(session, "-k", ONE, "--conformance-record", test=FAILING.format("KeyError('x')"))
    told = json.loads((recorded / FILE).read_text(encoding="utf-8"))["stand_ins"]["memory"]
    assert told["tests"] == {ONE: ["failed", ""]}


def test_nothing_is_recorded_unasked(session: pytest.Pytester, recorded: Path) -> None:
    run(session).assert_outcomes(passed=1, deselected=OTHERS)
    assert not (recorded / FILE).exists()


def test_a_suite_that_is_run_in_parts_is_recorded_whole_while_the_code_is_the_same(
    session: pytest.Pytester, recorded: Path
) -> None:
    second = "test_two_calls_agree"
    run(session, "-k", ONE, "--conformance-record")
    run(session, "-k", second, "--conformance-record")
    told = json.loads((recorded / FILE).read_text(encoding="utf-8"))["stand_ins"]["memory"]
    assert told["tests"] == {ONE: ["passed", ""], second: ["passed", ""]}
    (recorded / "connector.py").write_text("X = 2\n", encoding="utf-8")
    run(session, "-k", second, "--conformance-record")
    told = json.loads((recorded / FILE).read_text(encoding="utf-8"))["stand_ins"]["memory"]
    assert told["tests"] == {second: ["passed", ""]}
