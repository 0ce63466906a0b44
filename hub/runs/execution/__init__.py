"""Workers: slices claimed from the ledger and carried page by page, in threads that read, judge, store and write."""

from hub.runs.execution.worker import Worker, abandon

__all__ = ["Worker", "abandon"]
