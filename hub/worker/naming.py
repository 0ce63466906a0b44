"""What a worker is called in the ledger, so that the supervisor can tell whose leases a dead process held."""

from __future__ import annotations

import socket


def worker_name(pid: int, pool: str) -> str:
    """Machine, process and pool."""
    return f"{socket.gethostname()}/{pid}/{pool}"
