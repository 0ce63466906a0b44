"""What the log says of a failure: where, and of what kind; a library's own words only where they are ours."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from hub.logs import Log, configure, traced
from hub.sdk import UnexpectedError
from hub.settings import load_settings


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test sets up here, the hooks for what nobody caught among it, is not for the tests after it."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    structlog.reset_defaults()


def test_a_librarys_message_is_withheld_and_ours_is_told() -> None:
    try:
        try:
            int("Nightingale")
        except ValueError as error:
            raise UnexpectedError("the page is no page") from error
    except UnexpectedError:
        told = traced(sys.exc_info())  # type: ignore[arg-type]
    assert "Nightingale'" not in told
    assert "builtins.ValueError (message withheld" in told
    assert "UnexpectedError: the page is no page" in told
    assert told.index("ValueError") < told.index("which led to") < told.index("UnexpectedError")
    assert "test_logs.py" in told


def test_a_value_from_outside_cannot_begin_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(load_settings(home=tmp_path, log_format="text"), process="test")
    structlog.get_logger("test").warning("odd", why="one\ntwo\x1b[31m")
    [line] = capsys.readouterr().err.splitlines()
    assert "one\\ntwo" in line
    assert "\x1b" not in line


def test_lines_go_to_standard_error_as_it_is_when_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = io.StringIO(), io.StringIO()
    log, kept = Log("module"), structlog.get_logger("connector")
    monkeypatch.setattr(sys, "stderr", first)
    configure(load_settings(home=tmp_path, log_format="json"), process="test")
    log.warning("one")
    kept.warning("two")
    assert [json.loads(line)["event"] for line in first.getvalue().splitlines()] == ["one", "two"]
    first.close()
    monkeypatch.setattr(sys, "stderr", second)
    log.warning("three")
    kept.warning("four")
    assert [json.loads(line)["event"] for line in second.getvalue().splitlines()] == ["three", "four"]
    with structlog.testing.capture_logs() as captured:
        log.warning("five")
    assert [each["event"] for each in captured] == ["five"]


@pytest.mark.parametrize(("later", "others"), [("True", set()), ("False", {"structlog", "rich"})])
def test_structlog_is_imported_with_the_first_line_at_the_latest(tmp_path: Path, later: str, others: set[str]) -> None:
    program = (
        "import sys; from pathlib import Path; from hub.logs import Log, conceal, configure\n"
        "from hub.sdk import Secret; from hub.settings import load_settings\n"
        "log = Log('test')\n"
        f"configure(load_settings(home=Path({str(tmp_path)!r}), log_format='json'), process='test', later={later})\n"
        "print(*sys.modules)\n"
        "held = conceal(Secret('Passw0rd-of-a-test'))\n"
        "log.info('first', url='https://far?key=Passw0rd-of-a-test')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"structlog", "rich"} == others
    line = json.loads(done.stderr)
    assert (line["event"], line["process"], line["url"]) == ("first", "test", "https://far?key=***")


def test_a_line_of_another_thread_names_the_process_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(load_settings(home=tmp_path, log_format="json"), process="test")
    other = threading.Thread(target=lambda: Log("test").error("lost", left=3))
    other.start()
    other.join()
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["process"], line["left"], line["level"]) == ("lost", "test", 3, "error")
