"""The whole conformance suite on the twin, over real sockets."""

from hub.sdk.testing.suite import ConformanceSuite
from tests.connectors.salesforce.harness import TwinHarness


class TestTwin(ConformanceSuite):
    harness_class = TwinHarness
