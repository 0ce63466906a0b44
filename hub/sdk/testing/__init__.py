"""The conformance kit: what makes a connector trustworthy, ours or a third party's.

Owns the harness an author fills in, the suite of tests run through it, the pytest plugin that makes gaps strict and
records what happened, the matrix computed from those records, and the parts that local stand-ins are made of.
Refuses to take anybody's word: every write is read back by a second path, every rung of the ladder is computed.

An author writes one `Harness` and one test class:

    class TestAcme(ConformanceSuite):
        harness_class = AcmeHarness

and `pytest_plugins = ["hub.sdk.testing.plugin"]` in the conftest at the root of the tests. Nothing is imported here,
because the matrix is computed where pytest is not installed.
"""
