"""Values as they are shown to a person, and as JSON has them."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from hub.cli.output import shown
from hub.decisions.plain import plain


@pytest.mark.parametrize(
    ("value", "read", "stored"),
    [
        ("0E-9", "0", "0.000000000"),
        ("-0E-9", "0", "-0.000000000"),
        ("0.000000100", "0.0000001", "0.000000100"),
        ("73.250000000", "73.25", "73.250000000"),
        ("100", "100", "100"),
        ("1E+3", "1000", "1000"),
        ("12345678901234567890123456789.123456789", *["12345678901234567890123456789.123456789"] * 2),
    ],
)
def test_a_decimal_is_shown_without_an_exponent_and_exact(value: str, read: str, stored: str) -> None:
    assert shown({"SCORE": Decimal(value)}) == f"SCORE {read}"
    assert json.loads(json.dumps(Decimal(value), default=plain)) == stored
    assert Decimal(stored) == Decimal(read) == Decimal(value)
