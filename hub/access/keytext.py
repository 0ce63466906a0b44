"""The text of an API key: `hub_<environment>_<id>_<secret>_<check>`, told from a typing error without the database.

The form follows GitHub's: a prefix for secret scanners, base62 parts, a CRC-32 of all before it as the tail.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from typing import NamedTuple

from hub.access.types import UnauthenticatedError

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 10
SECRET_LENGTH = 43
"""62^43 is just above 2^256."""
CHECK_LENGTH = 6

_FORM = re.compile(
    rf"hub_(?P<environment>[a-z][a-z0-9]{{1,11}})_(?P<id>[0-9A-Za-z]{{{ID_LENGTH}}})"
    rf"_(?P<secret>[0-9A-Za-z]{{{SECRET_LENGTH}}})_(?P<check>[0-9A-Za-z]{{{CHECK_LENGTH}}})",
    re.ASCII,
)


class KeyText(NamedTuple):
    """The parts of one API key that matter to the database."""

    environment: str
    id: str
    secret: str


def make_key_text(environment: str) -> tuple[KeyText, str]:
    """A fresh API key with 256 random bits, and its text."""
    parts = KeyText(environment, _random(ID_LENGTH), make_secret())
    body = f"hub_{parts.environment}_{parts.id}_{parts.secret}"
    return parts, f"{body}_{_check(body)}"


def make_client_id() -> str:
    """A fresh name of a client, which is no secret."""
    return _random(ID_LENGTH)


def make_secret() -> str:
    """A fresh secret of 256 random bits."""
    return _base62(secrets.randbits(256), SECRET_LENGTH)


def parse_key_text(text: str) -> KeyText:
    """The parts of a key. UnauthenticatedError for anything that no hub ever made."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise UnauthenticatedError("this is no API key of the hub; it begins with hub_ and has five parts")
    if _check(text.rpartition("_")[0]) != found["check"]:
        raise UnauthenticatedError("the API key has a typing error; copy it again, whole")
    return KeyText(found["environment"], found["id"], found["secret"])


def _check(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), CHECK_LENGTH)


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
