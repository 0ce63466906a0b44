"""The hub: carries records from a far system through a model and back, and proves what happened."""
