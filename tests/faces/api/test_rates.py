"""How often a caller may: one count over all processes while Redis counts, and each its share while it does not."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

import httpx
import pytest

from hub.access import Scope
from hub.api.rates import SharedRates
from tests.faces.api.conftest import Site, serving

REDIS = "redis://127.0.0.1:6379/0"


def closed_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


async def _closing(rates: list[SharedRates], work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    finally:
        for each in rates:
            await each.close()


async def _take(rates: list[SharedRates], times: int) -> list[bool]:
    return [await rates[at % len(rates)].take("crm") == 0 for at in range(times)]


@pytest.mark.service("redis")
def test_processes_count_together_in_redis() -> None:
    purpose = f"test-{uuid4()}"

    async def work() -> None:
        rates = [SharedRates(purpose, 0.1, 6, url=REDIS, replicas=2) for _ in range(2)]
        taken, waits = await _closing(rates, _both(rates))
        assert taken == [True] * 6 + [False] * 2
        assert all(0 < each <= 60 for each in waits)

    async def _both(rates: list[SharedRates]) -> tuple[list[bool], list[float]]:
        return await _take(rates, 8), [await rates[0].take("crm"), await rates[1].left("crm")]

    asyncio.run(work())


@pytest.mark.service("redis")
def test_a_busy_process_asks_redis_seldom_and_lets_through_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.api.rates.HELD_SECONDS", 60.0)
    asked: list[int] = []

    async def work() -> int:
        rates = [SharedRates(f"test-{uuid4()}", 1.0, 400, url=REDIS)]
        hit = rates[0]._window.hit  # type: ignore[union-attr]

        async def noted(*given: Any, cost: int = 1) -> bool:
            asked.append(cost)
            return await hit(*given, cost=cost)

        monkeypatch.setattr(rates[0]._window, "hit", noted)
        taken: list[bool] = await _closing(rates, _take(rates, 430))
        return sum(taken)

    assert asyncio.run(work()) == 400
    assert asked[:5] == [1, 2, 4, 8, 8]
    assert asked[-1] == 1
    assert len(asked) < 150


@pytest.mark.service("redis")
def test_who_comes_seldom_is_charged_for_what_he_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.api.rates.HELD_SECONDS", 0.0)
    purpose = f"test-{uuid4()}"

    async def work() -> list[bool]:
        rates = [SharedRates(purpose, 0.1, 100, url=REDIS) for _ in range(4)]
        taken: list[bool] = await _closing(rates, _take(rates, 101))
        return taken

    assert asyncio.run(work()) == [True] * 100 + [False]


def test_without_redis_each_process_allows_its_share_and_no_more() -> None:
    async def work() -> None:
        url = f"redis://127.0.0.1:{closed_port()}/0"
        rates = [SharedRates("test", 0.1, 6, url=url, replicas=3)]
        began = time.monotonic()
        taken = await _closing(rates, _take(rates, 50))
        assert taken == [True] * 2 + [False] * 48
        assert time.monotonic() - began < 2  # Redis is asked once, and then left alone for a while

    asyncio.run(work())


def test_a_redis_that_hangs_holds_nobody_up_for_long() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)

        async def work() -> None:
            rates = [SharedRates("test", 0.1, 6, url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0", replicas=3)]
            began = time.monotonic()
            assert await _closing(rates, _take(rates, 5)) == [True, True, False, False, False]
            assert time.monotonic() - began < 2

        asyncio.run(work())


def test_the_limit_holds_over_http_with_redis_down(site: Site) -> None:
    url = f"redis://127.0.0.1:{closed_port()}/0"
    told = site.hub.settings.model_copy(update={"api_rate": 4.0, "api_replicas": 2, "broker_url": url})
    hub = type(site.hub)(told, site.hub.database, site.hub.keys)
    with serving(hub) as address:
        header = {"Authorization": f"Bearer {site.key(Scope.READ)}"}
        with httpx.Client(base_url=address, headers=header, trust_env=False) as caller:
            answers = [caller.get("/v1/runs") for _ in range(20)]
    passed = [each for each in answers if each.status_code == 200]
    assert 4 <= len(passed) <= 8  # half of eight at once, and two a second while they are sent
    refused = next(each for each in answers if each.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1


def test_a_compressed_body_is_refused_before_it_is_opened(site: Site) -> None:
    bomb = gzip.compress(b"[" + b"0," * 5_000_000 + b"0]")
    header = {"Authorization": f"Bearer {site.key(Scope.SCORE)}", "Content-Encoding": "gzip"}
    refused = httpx.post(f"{site.url}/v1/score/patient_risk", content=bomb, headers=header, trust_env=False)
    assert (refused.status_code, refused.json()["code"]) == (415, "compressed")
