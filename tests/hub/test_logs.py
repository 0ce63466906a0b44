"""What the log says of a failure: where, and of what kind; a library's own words only where they are ours."""

from __future__ import annotations

import sys

from hub.logs import traced
from hub.sdk import UnexpectedError


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
