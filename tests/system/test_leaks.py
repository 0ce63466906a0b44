"""Ways in which the libraries beneath the hub are known to show a secret, each by its name, and the net below them."""

from __future__ import annotations

import ast
import base64
import copy
import gc
import json
import logging
import pickle
import subprocess
import sys
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import pydantic
import pytest
import structlog
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from simple_salesforce.exceptions import SalesforceError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from connectors.salesforce.client import Client
from connectors.salesforce.config import SalesforceConfig
from connectors.salesforce.twin import Twin
from hub.api import problems
from hub.database import Database
from hub.logs import conceal, configure, traced, without_secrets
from hub.queue import hang_up, make_app, ring
from hub.sdk import ConnectorError, Context, Secret, UnexpectedError
from hub.sdk.http import Http, told_of
from hub.settings import SettingsError, load_settings
from tests.connectors.salesforce.orgs import secret_of, settings_of

CANARY = "canary/Passw0rd+7f3a=="
ROOT = Path(__file__).resolve().parents[2]


class Login(pydantic.BaseModel):
    """A body with a secret in it."""

    user: str
    password: int


class TestFastApi:
    """A validation error of FastAPI echoes what was sent; ours has place, kind and message."""

    def test_a_422_does_not_echo_the_secret(self) -> None:
        app = FastAPI()
        problems.add_to(app)

        @app.post("/login")
        def login(body: Login) -> None:
            """Never reached."""

        async def ask() -> httpx.Response:
            door = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=door, base_url="http://hub") as client:
                return await client.post("/login", json={"user": "anna", "password": CANARY})

        answered = anyio.run(ask)
        assert answered.status_code == 422
        assert CANARY not in answered.text
        assert {name for each in answered.json()["errors"] for name in each} == {"loc", "type", "msg"}


class TestSecretType:
    """pydantic's own type pickles with its value."""

    def test_pydantics_own_type_gives_its_value_away_and_ours_does_not(self) -> None:
        assert CANARY.encode() in pickle.dumps(pydantic.SecretStr(CANARY))
        ours = Secret(CANARY)
        acts: list[Callable[[Any], Any]] = [pickle.dumps, copy.copy, copy.deepcopy, json.dumps]
        for act in acts:
            with pytest.raises(TypeError):
                act(ours)
        for shown in (f"{ours}", f"{ours!r:>60}", str(ours), "%s" % ours, "{0}".format(ours)):  # noqa: UP030, UP031, UP032
            assert CANARY not in shown

    def test_a_traceback_that_shows_locals_shows_none(self) -> None:
        held = Secret(CANARY)
        try:
            raise ValueError(f"with {held}")
        except ValueError as error:
            told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert "held = Secret(***)" in told
        assert CANARY not in told.replace(f"CANARY = '{CANARY}'", "")


class TestSqlAlchemy:
    """Errors print the values that were bound, unless every engine is told not to; addresses show what is in them."""

    def test_an_error_does_not_show_what_was_bound(self, any_database: Database) -> None:
        with pytest.raises(DBAPIError) as raised, any_database.begin() as session:
            session.execute(text("insert into no_such_table values (:secret)"), {"secret": CANARY})
        assert CANARY not in str(raised.value)
        assert CANARY not in repr(raised.value)

    def test_every_engine_is_told_to(self) -> None:
        told = []
        for path in sorted([*ROOT.glob("hub/**/*.py"), *ROOT.glob("connectors/**/*.py")]):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "create_engine":
                    hides = any(each.arg == "hide_parameters" for each in node.keywords)
                    told.append((path.relative_to(ROOT).as_posix(), hides))
        assert len(told) >= 2
        assert [path for path, hides in told if not hides] == []

    @pytest.mark.parametrize("name", ["vault_url", "azure_vault_url", "aws_kms_endpoint", "gcp_secrets_endpoint"])
    def test_no_login_may_stand_in_the_address_of_a_service(self, name: str) -> None:
        with pytest.raises(SettingsError) as raised:
            load_settings(home="x", **{name: "https://hub:c4nary@far"})
        assert "c4nary" not in str(raised.value)
        assert "no login" in str(raised.value)

    def test_no_login_may_stand_in_the_address_of_a_far_side(self) -> None:
        with Http(Context(), ["far"]) as http, pytest.raises(UnexpectedError, match="without a login") as raised:
            http.send("GET", "https://hub:c4nary@far/a")
        assert "c4nary" not in str(raised.value)


class TestHttpx:
    """httpx masks `Authorization` where it shows headers, and no other header that proves who asks."""

    @pytest.mark.parametrize(
        "name",
        [
            "Authorization",
            "Proxy-Authorization",
            "X-Api-Key",
            "X-Vault-Token",
            "Cookie",
            "X-Amz-Security-Token",
            "Ocp-Apim-Subscription-Key",
            "Sforce-Session",
            "X-Signature",
            "X-Client-Secret",
            "apikey",
        ],
    )
    def test_a_header_that_proves_who_asks_is_struck_out(self, name: str) -> None:
        request = httpx.Request("GET", "https://far/a", headers={name: CANARY, "Accept": "text/csv"})
        told = told_of(request)
        assert CANARY not in repr(dict(told.headers))
        assert told.headers["Accept"] == "text/csv"
        assert request.headers[name] == CANARY

    def test_what_httpx_shows_by_itself_is_why(self) -> None:
        shown = repr(httpx.Headers({"Authorization": CANARY, "X-Api-Key": "shown"}))
        assert CANARY not in shown
        assert "shown" in shown


class TestSimpleSalesforce:
    """The session id stands in the client object; no error of ours carries that object or the id."""

    def test_the_session_is_in_no_error(self, tmp_path: Path) -> None:
        with Twin(tmp_path / "twin", records=1) as twin:
            error, session = _refused(twin)
        seen, found = [error], []
        while seen:
            each = seen.pop()
            found += [
                repr(each),
                str(each),
                *map(repr, vars(each).values()),
                traced((type(each), each, each.__traceback__)),
            ]
            seen += [other for other in (each.__cause__, each.__context__) if other is not None]
        assert len(found) > 3
        assert not any(session in each for each in found)
        assert not any(isinstance(each, SalesforceError) for each in (error, error.__cause__))


class TestCelery:
    """Celery wrote arguments into the headers of a message, and the broker's address with its password into the log."""

    @pytest.mark.service("redis")
    def test_a_message_carries_nothing(self, tmp_path: Path, redis_url: str) -> None:
        pool = f"leak-{uuid.uuid4().hex[:8]}"
        app = make_app(load_settings(home=tmp_path, broker_url=redis_url, environment="hubtest"))
        try:
            assert ring(app, pool)
            with Redis.from_url(redis_url) as client:
                [name] = [
                    each for each in client.keys("hub:*") if pool.encode() in each and client.type(each) == b"list"
                ]
                message = json.loads(client.lindex(name, 0))
                client.delete(name)
        finally:
            hang_up(app)
        assert (message["headers"]["argsrepr"], message["headers"]["kwargsrepr"]) == ("()", "{}")
        assert base64.b64decode(message["body"]).startswith(b"[[], {}")

    @pytest.mark.parametrize("scheme", ["redis", "amqp"])
    def test_the_password_of_the_broker_is_in_no_line(
        self, scheme: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        password = "canary-Passw0rd-b"
        url = f"{scheme}://hub:{password}@127.0.0.1:1/1"
        app = make_app(load_settings(home=tmp_path, broker_url=url, environment="hubtest"))
        with caplog.at_level(logging.DEBUG):
            assert not ring(app, "leak")
        hang_up(app)
        assert caplog.text
        assert password not in caplog.text
        assert app.conf.worker_hijack_root_logger is False


class TestProcess:
    """A core file, and a debugger of anybody who runs as the same user, would show every key."""

    @pytest.mark.parametrize(
        "program",
        [
            "import hub.cli.main, sys; m = sys.modules['hub.cli.main']; m.run = report; m.main()",
            "import hub.worker.child as m; m.load_settings = report; m.main()",
        ],
        ids=["server and supervisor", "worker"],
    )
    def test_nobody_may_look_into_its_memory(self, program: str) -> None:
        """`hub serve` and `hub worker` begin in the first of the two."""
        said = "import sys, hub.process\ndef report(*_):\n    print(hub.process.is_guarded()); sys.exit(0)\n"
        before = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))\n"
        command = [sys.executable, "-c", before + said + program, "--pool", "default"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.stdout.split() == ["True"], done.stderr

    def test_a_process_that_is_not_guarded_would_be_told(self) -> None:
        program = "import hub.process as p; print(p.is_guarded()); p.guard_memory(); print(p.is_guarded())"
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["False", "True"]

    def test_there_is_no_address_for_debugging(self) -> None:
        """Neither FastAPI's own traceback page nor an endpoint that shows threads or memory."""
        for path in sorted((ROOT / "hub").rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg in {"debug", "reload"}:
                    assert ast.unparse(node.value) in {"False", "None"}, f"{path.name}:{node.value.lineno}"
                if isinstance(node, ast.Import):
                    assert not {"pdb", "code", "faulthandler"} & {each.name for each in node.names}, path.name


class TestNet:
    """Whatever reaches the log is searched for the secrets that are open now, in the spellings they usually take."""

    def test_an_open_secret_is_struck_out_however_it_is_spelt(self) -> None:
        held = conceal(Secret(CANARY))
        raw = CANARY.encode()
        for spelt in (
            CANARY,
            quote(CANARY, safe=""),
            base64.b64encode(raw).decode(),
            base64.b64encode(b"user:" + raw).decode(),
            base64.urlsafe_b64encode(b"hub:" + raw + b"!").decode(),
            raw.hex(),
            json.dumps({"p": CANARY}),
        ):
            assert "***" in without_secrets(f"connecting with {spelt} to far"), spelt
        assert bool(held)

    def test_a_secret_that_is_closed_is_looked_for_no_longer(self) -> None:
        held = conceal(Secret("canary-closed"))
        assert without_secrets("canary-closed") == "***"
        del held
        gc.collect()
        assert without_secrets("canary-closed") == "canary-closed"

    def test_of_two_that_are_open_the_other_stays_concealed(self) -> None:
        first, second = conceal(Secret("canary-twice")), conceal(Secret("canary-twice"))
        del first
        gc.collect()
        assert without_secrets("canary-twice") == "***"
        assert bool(second)

    @given(st.text(min_size=6, max_size=30), st.binary(max_size=5), st.binary(max_size=5))
    def test_no_secret_is_found_in_base64_whatever_stands_beside_it(
        self, value: str, left: bytes, right: bytes
    ) -> None:
        held = conceal(Secret(value))
        coded = base64.b64encode(left + value.encode() + right).decode()
        kept = without_secrets(coded)
        assert "***" in kept
        assert bool(held)

    def test_both_ways_into_the_log_pass_the_net(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        held = conceal(Secret(CANARY))
        root = logging.getLogger()
        before = root.handlers[:]
        root.handlers = []
        try:
            configure(load_settings(home=tmp_path, log_format="json"), process="test")
            structlog.get_logger("test").warning("odd", url=f"https://far?key={CANARY}")
            logging.getLogger("library").warning("sent %s", CANARY)
        finally:
            root.handlers = before
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert all("***" in each and "Passw0rd" not in each for each in lines)
        assert bool(held)


def _refused(twin: Twin) -> tuple[Exception, str]:
    """An error of the connector after it had logged in, and the id of its session."""
    config = SalesforceConfig.model_validate({**settings_of(twin), "client_secret": secret_of(twin)})
    client = Client(config, Context())
    try:
        client.query("SELECT Nope FROM Lead")
    except ConnectorError as error:
        return error, client.session().value.reveal()
    finally:
        client.close()
    raise AssertionError("the org answered")
