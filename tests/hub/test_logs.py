"""What reaches the log: never the words of a library, which may quote a record, and never a line of its own."""

from __future__ import annotations

import json

import pytest
import structlog

from hub.logs import configure
from hub.settings import load_settings


def test_an_exception_is_told_by_type_and_place_and_not_by_its_message(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(load_settings(home=tmp_path, log_format="json"), process="test")
    log = structlog.get_logger("test")
    try:
        try:
            int("Jane Doe, born 1962")
        except ValueError as error:
            raise LookupError("patient Jane Doe") from error
    except LookupError as error:
        log.error("page failed", run="r1", exc_info=error)  # noqa: TRY400
    told = capsys.readouterr().err
    assert "Jane" not in told
    [line] = told.splitlines()
    assert json.loads(line)["exception"].startswith("LookupError at test_logs.test_an_exception")
    assert " < ValueError at " in json.loads(line)["exception"]


def test_a_value_from_outside_cannot_begin_a_line(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    configure(load_settings(home=tmp_path, log_format="text"), process="test")
    structlog.get_logger("test").warning("odd", why="one\ntwo\x1b[31m")
    [line] = capsys.readouterr().err.splitlines()
    assert "one\\ntwo" in line
    assert "\x1b" not in line
