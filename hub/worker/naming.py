"""What a worker is called in the ledger and what it says, so that its supervisor knows whose leases a process held."""

from __future__ import annotations

import socket
from hashlib import sha256

from sqlalchemy import make_url

from hub.settings import Settings

IDLE = "idle"
"""The line of a worker that begins to wait for work: it moves again within a poll interval, or it hangs."""


def worker_name(pid: int, pool: str) -> str:
    """Machine, process and pool."""
    return f"{socket.gethostname()}/{pid}/{pool}"


def hub_name(settings: Settings) -> str:
    """What the workers of one installation have in common, for telling them from another's on the same machine."""
    where = make_url(settings.database_url).render_as_string(hide_password=True)
    return sha256(f"{settings.home}\n{where}".encode()).hexdigest()[:16]
