"""What the log says of a failure: where, and of what kind; a library's own words only where they are ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import structlog

from hub.logs import configure, traced
from hub.sdk import UnexpectedError
from hub.settings import load_settings


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
