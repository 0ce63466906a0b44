"""What a customer adds: one folder per kind of far system. A connector sees `hub.sdk` and nothing else of the hub."""
