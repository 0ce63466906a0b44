"""What every test may use."""

pytest_plugins = ["hub.sdk.testing.plugin"]
