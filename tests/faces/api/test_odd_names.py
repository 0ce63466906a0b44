"""Names that nobody gave: whoever asks for one is answered as for any other, and the trail tells of it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from hub.access import Scope
from hub.access.types import PERSONAL
from hub.audit import Action
from tests.faces.api.conftest import serving
from tests.system.small import Small

ODD = ["\U000a77ce\u00a2", "a\u0084b", "e\u0301", "\u200b", "a" * 100, "\n", "\x7f\u0301"]


@pytest.mark.parametrize("name", ODD)
def test_a_denial_is_one_event_whatever_was_named(tmp_path: Path, name: str) -> None:
    small = Small(tmp_path, ("create table T (id text primary key)",), api_port=0)
    scopes = set(Scope) - PERSONAL
    _, key = small.hub.access.create_token("walker", owner="anna", scopes=scopes, actor=small.me)
    headers = {"Authorization": f"Bearer {key.reveal()}"}
    with serving(small.hub) as address, httpx.Client(base_url=address, headers=headers, timeout=30) as client:
        given = {"digest": "0" * 64, "reason": "it is fine"}
        answered = client.post(f"/v1/mappings/{quote(name)}/approve", json=given)
    assert answered.status_code == 403
    assert len(small.hub.audit.events(action=Action.ACCESS_DENIED)) == 1


def test_an_address_names_every_method_that_it_answers_to(tmp_path: Path) -> None:
    small = Small(tmp_path, ("create table T (id text primary key)",), api_port=0)
    with serving(small.hub) as address, httpx.Client(base_url=address, timeout=30) as client:
        answered = client.options("/v1/runs")
    assert answered.status_code == 405
    assert answered.headers["allow"] == "GET, POST"
