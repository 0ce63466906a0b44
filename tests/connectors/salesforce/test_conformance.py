"""The whole conformance suite on the twin, over real sockets: once by number of records, once in bulk alone."""

from hub.sdk.testing.suite import ConformanceSuite
from tests.connectors.salesforce.harness import BulkHarness, TwinHarness


class TestTwin(ConformanceSuite):
    harness_class = TwinHarness


class TestTwinInBulk(ConformanceSuite):
    harness_class = BulkHarness
