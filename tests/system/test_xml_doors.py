"""Through no door does XML grow, name files or call hosts: servers that answer nothing else are met at each of them."""

from __future__ import annotations

import http.server
import re
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.salesforce.client import Client
from connectors.salesforce.config import SalesforceConfig
from connectors.salesforce.twin import Twin
from hub.audit.anchors import AnchorError
from hub.audit.anchors.bucket import BucketAnchor
from hub.sdk import Context, Secret, UnexpectedError
from hub.sdk.testing.tls import make_certificates
from hub.sdk.xml import MOST_BYTES, judge_xml
from tests.connectors.sql.far_sides import closed_port
from tests.hub.sdk.test_addresses import canary
from tests.hub.sdk.test_http import Answer, Server, said

__all__ = ["canary"]

PLANTED = "planted-in-a-file-of-this-machine"
MOST_GROWN = 64 * 1024
"""KiB that this process may grow by at a bomb; each would take several times that."""
TENFOLD = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 7))


@dataclass
class Trap:
    """A document type, what stands in the document, and how the whole is encoded."""

    declared: str
    told: str
    encoding: str = "utf-8"

    def document(self, envelope: str) -> bytes:
        """`envelope` with the trap where a value is expected."""
        head = f'<?xml version="1.0" encoding="{self.encoding}"?>'
        return (head + self.declared + envelope.replace("VALUE", self.told)).encode(self.encoding)


def traps(port: int, file: Path) -> dict[str, Trap]:
    """Each trap by its name; those with an address name `port` of this machine, those with a file `file`."""
    there, here = f"http://127.0.0.1:{port}/trap", file.as_uri()
    return {
        "laughs": Trap(f'<!DOCTYPE a [<!ENTITY l0 "lol">{TENFOLD}]>', "&l6;"),
        "many of one": Trap(f'<!DOCTYPE a [<!ENTITY x "{"y" * 200_000}">]>', "&x;" * 90),
        "a file": Trap(f'<!DOCTYPE a [<!ENTITY x SYSTEM "{here}">]>', "&x;"),
        "an address": Trap(f'<!DOCTYPE a [<!ENTITY x SYSTEM "{there}">]>', "&x;"),
        "a type elsewhere": Trap(f'<!DOCTYPE a SYSTEM "{there}">', "v"),
        "parameters": Trap(f'<!DOCTYPE a [<!ENTITY % p SYSTEM "{there}"> %p;]>', "v"),
        "in UTF-16": Trap('<!DOCTYPE a [<!ENTITY x "v">]>', "&x;", "utf-16"),
        "deep": Trap("", "<a>" * 5000 + "v" + "</a>" * 5000),
    }


def included(port: int, file: Path) -> Trap:
    """No document type is needed to ask for inclusion."""
    space = 'xmlns:xi="http://www.w3.org/2001/XInclude"'
    asked = "".join(
        f'<xi:include {space} parse="text" href="{each}"/>' for each in (f"http://127.0.0.1:{port}/trap", file.as_uri())
    )
    return Trap("", asked)


SESSION = (
    '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><result>'
    "<serverUrl>https://HOST/services/Soap/u/62.0</serverUrl><sessionId>VALUE</sessionId></result></e:Body></e:Envelope>"
)
LISTED = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>VALUE</Key></Contents></ListBucketResult>"
ASSUMED = (
    "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>VALUE</AccessKeyId><SecretAccessKey>s"
    "</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
    "</AssumeRoleResult></AssumeRoleResponse>"
)
ASKED = (
    '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><login><username>VALUE</username>'
    "<password>p</password></login></e:Body></e:Envelope>"
)


@dataclass
class Plain:
    """A server without TLS that answers one thing."""

    body: bytes = b""
    seen: list[str] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def plain() -> Iterator[Plain]:
    made = Plain()

    class Asked(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            made.seen.append(self.headers.get("Authorization", ""))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(made.body)))
            self.end_headers()
            self.wfile.write(made.body)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_args: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asked) as server:
        made.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


Door = Callable[[Trap], str]
"""Goes through a door behind which the trap is; what came of it."""


def taken_in(answer: Answer) -> Answer:
    """The answer after the whole request, body and all."""

    def give(link: socket.socket, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        left = int(length[1]) - len(body) if length is not None else 0
        while left > 0:
            left -= len(link.recv(65_536))
        answer(link, request)

    return give


@pytest.fixture
def soap(tmp_path: Path) -> Iterator[Door]:
    """The login of simple-salesforce, by which sessions are minted for orgs without a connected app."""
    certificates = make_certificates(tmp_path / "tls")
    server = Server(certificates)
    config = SalesforceConfig(
        host=server.host,
        login="password",
        username="u",
        password=Secret("p"),
        security_token=Secret("t"),
        private=True,
        authority=str(certificates.authority),
    )

    def enter(trap: Trap) -> str:
        body = trap.document(SESSION.replace("HOST", server.host))
        server.answers = [taken_in(said(b"HTTP/1.1 200 OK", body)), said(b"HTTP/1.1 404 Not Found", b"{}")]
        client = Client(config, Context())
        try:
            token = client.log_in()
        except UnexpectedError as error:
            return error.message
        finally:
            client.close()
        return f"taken: {token.value.reveal()}"

    yield enter
    server.close()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A login at AWS out of the environment, and nothing else of AWS in it."""
    pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "known")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "known-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def listed(endpoint: str) -> str:
    try:
        return f"taken: {BucketAnchor('audit', 'hub/', 30, endpoint=endpoint).kept()}"
    except AnchorError as error:
        return str(error)


@pytest.fixture
def bucket(aws: pytest.MonkeyPatch, plain: Plain) -> Door:
    """A bucket's list of what it keeps."""

    def enter(trap: Trap) -> str:
        plain.body = trap.document(LISTED)
        return listed(plain.address)

    return enter


@pytest.fixture
def role(aws: pytest.MonkeyPatch, plain: Plain, tmp_path: Path) -> Door:
    """The service of AWS at which its own library takes on a role."""
    aws.setenv("AWS_PROFILE", "there")
    aws.setenv("AWS_ENDPOINT_URL_STS", plain.address)
    # A login of the environment would come before the role.
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "aws").write_text(
        "[profile known]\naws_access_key_id = known\naws_secret_access_key = known-secret\n"
        "[profile there]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = known\nregion = eu-central-1\n"
    )

    def enter(trap: Trap) -> str:
        plain.body = trap.document(ASSUMED)
        told = listed(f"http://127.0.0.1:{closed_port()}")
        assert plain.seen, "the role was not asked for"
        return told

    return enter


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Door]:
    """The twin's own login, which anybody may call who reaches it."""
    with Twin(tmp_path / "twin", records=1) as there:
        trust = str(there.authority)

        def enter(trap: Trap) -> str:
            body = trap.document(ASKED)
            with httpx.Client(verify=ssl.create_default_context(cafile=trust), timeout=30) as client:
                return client.post(f"{there.url}/services/Soap/u/62.0", content=body).text

        yield enter


REFUSED = {
    "soap": "document type|within each other",
    "bucket": "document type|within each other",
    "role": "document type|within each other",
    "twin": "the message cannot be read",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "secret.txt"
    made.write_text(PLANTED)
    return made


@pytest.mark.parametrize("name", traps(1, Path("/x")))
@pytest.mark.parametrize("door", REFUSED)
def test_a_trap_is_refused_and_neither_grows_nor_calls(
    door: str, name: str, request: pytest.FixtureRequest, canary: tuple[int, list[Any]], file: Path
) -> None:
    enter = request.getfixturevalue(door)
    port, seen = canary
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = enter(traps(port, file)[name])
    assert re.search(REFUSED[door], told), told[:300]
    assert PLANTED not in told
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWN
    assert seen == []


@pytest.mark.parametrize("door", REFUSED)
def test_what_asks_to_be_included_is_not(
    door: str, request: pytest.FixtureRequest, canary: tuple[int, list[Any]], file: Path
) -> None:
    port, seen = canary
    told = request.getfixturevalue(door)(included(port, file))
    assert PLANTED not in told
    assert seen == []


def test_xml_is_bounded_and_well_formed_before_anything_reads_it() -> None:
    judge_xml(b"<a>" * 100 + b"</a>" * 100)
    for content, told in (
        (b"<a>" + b" " * MOST_BYTES + b"</a>", "more than"),
        (b"<!DOCTYPE html><html></html>", "document type"),
        (b"<a>", "no XML"),
        (b"", "no XML"),
    ):
        with pytest.raises(UnexpectedError, match=told):
            judge_xml(content)
