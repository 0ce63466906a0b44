"""A port of this machine that nobody may connect to, and who did."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def canary() -> Iterator[tuple[int, list[Any]]]:
    """A port on every address of this machine, and who connected to it."""
    seen: list[Any] = []
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:

        def listen() -> None:
            while True:
                try:
                    link, peer = listener.accept()
                except OSError:
                    return
                seen.append(peer)
                link.close()

        threading.Thread(target=listen, daemon=True).start()
        yield listener.getsockname()[1], seen
