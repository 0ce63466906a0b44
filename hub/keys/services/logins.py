"""Logins at services, read from the file that a setting names, anew each time: an agent may have renewed them."""

from __future__ import annotations

from pathlib import Path

from hub.sdk import UnauthorizedError

MOST_BYTES = 64 * 1024


def login_file(variable: str, value: str | None, what: str) -> str:
    """The text of the file that a setting of the form `file:PATH` names. UnauthorizedError says what to set."""
    kind, _, place = (value or "").partition(":")
    if kind != "file" or not place:
        raise UnauthorizedError(f"{variable} is not set: expected file:PATH, {what}")
    try:
        with Path(place).open(encoding="utf-8") as file:
            text = file.read(MOST_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UnauthorizedError(f"{variable} names a file that cannot be read: {type(error).__name__}") from None
    if not text:
        raise UnauthorizedError(f"{variable} names a file that is empty; expected {what}")
    return text
