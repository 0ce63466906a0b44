"""What a worker is called in the ledger and what it says, so that its supervisor knows whose leases a process held."""

from __future__ import annotations

import socket

IDLE = "idle"
"""The line of a worker that begins to wait for work: it moves again within a poll interval, or it hangs."""


def worker_name(pid: int, pool: str) -> str:
    """Machine, process and pool."""
    return f"{socket.gethostname()}/{pid}/{pool}"
