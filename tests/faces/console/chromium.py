"""A real Chromium without a window, driven over the DevTools protocol, and all that it has to complain about.

The protocol runs over a socket that the browser inherits (`--remote-debugging-pipe`), as JSON ended by a NUL: no port
that others could reach, and no library that speaks WebSocket.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hub.sdk.testing.tls import Certificates
from tests.system.servers import program

SECONDS = 30.0
"""What anything may take on a machine with other things to do."""

FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-gpu",
    "--disable-extensions",
    "--mute-audio",
    "--use-mock-keychain",
    "--password-store=basic",
    # Nothing of its own reaches beyond this machine, and no other name has an address.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-pings",
    "--disable-features=OptimizationHints,MediaRouter,DialMediaRouteProvider,CertificateTransparencyComponentUpdater",
)

INHERIT = """
import os, sys
for number in (3, 4):
    os.dup2(int(sys.argv[1]), number)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Puts the socket where Chromium reads and writes the protocol; after a fork nothing of the test's threads may run."""

SEEN = """
new Promise((told) => {
  const look = () => { const found = (CONDITION); if (found) told(found); };
  new MutationObserver(look).observe(document, {attributes: true, characterData: true, childList: true, subtree: true});
  look();
})
"""

WHERE = """
(() => {
  const found = document.querySelector(SELECTOR);
  found.scrollIntoView({behavior: "instant", block: "center"});
  const box = found.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2, box.width * box.height];
})()
"""

Event = dict[str, Any]


class Chromium:
    """One browser process with a profile of its own in `folder`."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        command = [program("chromium"), *FLAGS, f"--user-data-dir={folder / 'profile'}"]
        command += [f"--ignore-certificate-errors-spki-list={_pin(certificates)}"]
        command += ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to be root in a sandbox
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self._log = folder / "log"
        self._numbers = itertools.count(1)
        self._rest = b""
        self._listening: dict[str, Callable[[Event], None]] = {}
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(SECONDS)
        with theirs, self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-ISc", INHERIT, str(theirs.fileno()), *command, "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env={**kept, "HOME": str(folder), "TMPDIR": str(folder)},
            )

    def call(self, method: str, session: str | None = None, **params: Any) -> Event:
        """One command and its result; events that come before it are handed on."""
        number = self.send(method, session, **params)
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, f"{method}: {told['error']}"
                result: Event = told["result"]
                return result
            self._hand_on(told)

    def send(self, method: str, session: str | None = None, **params: Any) -> int:
        """One command whose result nobody waits for; its number."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self._socket.sendall(json.dumps(message).encode() + b"\0")
        return number

    def listen(self) -> None:
        """Hands on what comes next."""
        self._hand_on(self._next())

    @contextmanager
    def page(self, url: str) -> Iterator[Page]:
        """A page in a context that shares no cookie with any other; `url` is where its paths start."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, context, url)
        self._listening[session] = page.heard
        try:
            page.call("Page.enable")
            for domain in ("Runtime", "Log", "Network", "Audits"):
                page.call(f"{domain}.enable")
            yield page
        finally:
            del self._listening[session]
            self.call("Target.disposeBrowserContext", browserContextId=context)

    def close(self) -> None:
        """Ends the process and all that it started."""
        with suppress(OSError, AssertionError):
            self.call("Browser.close")
        self._socket.close()
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _hand_on(self, told: Event) -> None:
        hears = self._listening.get(told.get("sessionId", ""))
        if hears is not None and "method" in told:
            hears(told)

    def _next(self) -> Event:
        while b"\0" not in self._rest:
            piece = self._socket.recv(1 << 20)
            assert piece, f"the browser ended: {self._log.read_text()}"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        told: Event = json.loads(message)
        return told


class Page:
    """One page as a person uses it: a mouse, a keyboard, and what is to be seen."""

    def __init__(self, browser: Chromium, session: str, context: str, url: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        self._url = url
        self._loaded = False
        self._posted: list[str] = []
        self._answer = (0, "", "")
        self.address = ""
        self.sent: list[str] = []
        """Method and address of each request, of the hub's own by their path."""
        self.complaints: list[str] = []
        """What the console, the log and the inspector say: errors, violations of a policy, cookies left out."""

    def call(self, method: str, **params: Any) -> Event:
        """A command to this page."""
        return self._browser.call(method, self._session, **params)

    def open(self, path: str, leads_to: str | None = None) -> None:
        """Goes to an address of the hub as if it was typed."""
        with self.leads_to(leads_to or path):
            self.call("Page.navigate", url=self._url + path)

    def back(self, leads_to: str) -> None:
        """The button of the browser."""
        listed = self.call("Page.getNavigationHistory")
        with self.leads_to(leads_to):
            self.call("Page.navigateToHistoryEntry", entryId=listed["entries"][listed["currentIndex"] - 1]["id"])

    @contextmanager
    def leads_to(self, place: str) -> Iterator[None]:
        """Waits after the block for a page loaded anew: of the hub at this path, or whose address begins so."""
        self._loaded = False
        yield
        own = place.startswith("/")
        self.until(
            lambda: self._loaded and (self.address == self._url + place if own else self.address.startswith(place)),
            f"is at {place}",
        )

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Takes in what the browser tells until this holds."""
        while not condition():
            try:
                self._browser.listen()
            except TimeoutError:
                raise AssertionError(f"never {what}: {self.address}, {self.sent}, {self.complaints}") from None

    def see(self, condition: str) -> Any:
        """Waits for an expression to be true; what it is then."""
        return self.value(SEEN.replace("CONDITION", condition))

    def text(self, selector: str = "main") -> str:
        """What a person reads there."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    def value(self, expression: str) -> Any:
        """What an expression is, awaited."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def click(self, selector: str) -> None:
        """The left button of the mouse in the middle of what is to be seen."""
        x, y, size = self.value(WHERE.replace("SELECTOR", json.dumps(selector)))
        assert size > 0, f"{selector} is not to be seen"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def fill(self, selector: str, text: str) -> None:
        """Types over whatever stands there."""
        self.click(selector)
        self.value(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    @contextmanager
    def answering(self, status: int, kind: str, body: str) -> Iterator[list[str]]:
        """Answers what the page posts in place of the hub, or with status 0 not at all; yields what was posted."""
        self._posted, self._answer = [], (status, kind, body)
        self.call("Fetch.enable", patterns=[{"urlPattern": "*", "resourceType": "Fetch"}])
        yield self._posted
        self.call("Fetch.disable")

    def cookies(self) -> list[Event]:
        """All of this context."""
        found: list[Event] = self._browser.call("Storage.getCookies", browserContextId=self._context)["cookies"]
        return found

    def taken(self) -> list[str]:
        """What was complained about until now, and is expected."""
        self.value("1")
        found, self.complaints = self.complaints, []
        return found

    def heard(self, told: Event) -> None:
        """Keeps what matters of an event."""
        params = told["params"]
        match told["method"]:
            case "Page.frameNavigated" if "parentId" not in params["frame"]:
                self.address = params["frame"]["url"]
                self._loaded = params.get("type") == "BackForwardCacheRestore"
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.sent.append(f"{params['request']['method']} {params['request']['url'].removeprefix(self._url)}")
            case "Fetch.requestPaused":
                self._posted.append(params["request"]["postData"])
                status, kind, body = self._answer
                about: Event = {"requestId": params["requestId"]}
                if status == 0:
                    self._browser.send("Fetch.failRequest", self._session, **about, errorReason="ConnectionRefused")
                else:
                    about |= {"responseCode": status, "body": base64.b64encode(body.encode()).decode()}
                    about["responseHeaders"] = [{"name": "Content-Type", "value": kind}]
                    self._browser.send("Fetch.fulfillRequest", self._session, **about)
            case "Log.entryAdded":
                entry = params["entry"]
                self.complaints.append(f"{entry['source']}: {entry['text']} {urlsplit(entry.get('url', '')).path}")
            case "Runtime.consoleAPICalled":
                said = " ".join(str(each.get("value", each.get("description"))) for each in params["args"])
                self.complaints.append(f"console.{params['type']}: {said}")
            case "Runtime.exceptionThrown":
                self.complaints.append(f"exception: {params['exceptionDetails']}")
            case "Audits.issueAdded":
                self.complaints.append(f"issue: {json.dumps(params['issue'])}")


@contextmanager
def running(certificates: Certificates) -> Iterator[Chromium]:
    """A browser until the block ends. Its folder has a short name, as that of a socket in there must be."""
    with (
        tempfile.TemporaryDirectory(prefix="hub-test-", ignore_cleanup_errors=True) as folder,
        closing(Chromium(Path(folder), certificates)) as browser,
    ):
        yield browser


def _pin(certificates: Certificates) -> str:
    """The key that the servers of the test must show: whoever else is trusted by nobody stays so."""
    found = x509.load_pem_x509_certificate(certificates.certificate.read_bytes())
    public = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(public).digest()).decode()
