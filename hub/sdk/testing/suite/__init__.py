"""The conformance suite: inherit it, name your harness, and every promise of the contract is tried on your connector.

    class TestAcme(ConformanceSuite):
        harness_class = AcmeHarness

A group is skipped only because the connector's type lacks the role, a test only because the entity's type lacks what
it is about. What a stand-in cannot do fails by assertion until it is declared a gap, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from hub.sdk.testing.harness import Harness
from hub.sdk.testing.suite.check import CheckGroup
from hub.sdk.testing.suite.entities import EntitiesGroup
from hub.sdk.testing.suite.faults import FaultsGroup
from hub.sdk.testing.suite.hygiene import HygieneGroup
from hub.sdk.testing.suite.live import LiveGroup
from hub.sdk.testing.suite.reading import ReadGroup
from hub.sdk.testing.suite.round_trip import RoundTripGroup
from hub.sdk.testing.suite.writing import WriteGroup


class ConformanceSuite(
    CheckGroup, EntitiesGroup, ReadGroup, RoundTripGroup, WriteGroup, LiveGroup, FaultsGroup, HygieneGroup
):
    """Every group; a class that inherits it is one stand-in under test."""

    harness_class: ClassVar[type[Harness]]

    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[Harness]:
        """The stand-in of this test; override it where an instance needs more than a folder."""
        made = self.harness_class(tmp_path)
        yield made
        made.close()


__all__ = ["ConformanceSuite"]
