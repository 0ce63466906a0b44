"""The twin as a whole: an HTTPS server and its control port on loopback, in threads of this process."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cryptography import x509

from connectors.salesforce.twin.control import Control, control_app
from connectors.salesforce.twin.site import Site
from connectors.salesforce.twin.sockets import LOOPBACK, Door, Serving
from hub.sdk.testing.tls import Certificates, make_certificates

if TYPE_CHECKING:
    from connectors.salesforce.twin.events.service import PubSub


class Twin:
    """A Salesforce of one's own, as a context manager.

    `folder` keeps its state (default: a temporary one); `port`, `control_port` and `events_port` 0 are free ones (for
    events the one that this folder had before, where it is free); a new org is given `records` generated open leads and
    `history` past ones; `contracts` is a folder of recorded documents whose describes replace the compact ones.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int = 0,
        control_port: int = 0,
        events_port: int = 0,
        records: int = 0,
        history: int = 0,
        contracts: Path | None = None,
    ) -> None:
        self._given = folder
        self._ports = (port, control_port, events_port)
        self._records = (records, history)
        self._contracts = contracts
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def described(self) -> Mapping[str, Any]:
        """Where it is and what to log in with, for whoever started it."""
        told = self.control.credentials()
        return {
            "url": self.url,
            "host": self.host,
            "control": self.control_url,
            "pubsub": self.pubsub or "not served: install the extra grpc",
            "authority": str(self.authority),
            "consumer_key": told["consumer_key"],
            "consumer_secret": told["consumer_secret"],
            **told["users"]["integration"],
            "folder": str(self.folder),
        }

    def _start(self) -> None:
        if self._given is None:
            self._given = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="twin-")))
        self.folder = self._given.resolve()
        # Credentials are kept in it.
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._stack.enter_context(_alone_in(self.folder))
        self.site = Site(self.folder, contracts=self._contracts)
        self._stack.callback(self.site.close)
        self.control = Control(self.site)
        leads, past = self._records
        if leads + past and not self.control.count("Lead"):
            self.control.seed(leads, history=past)
        certificates = _certificates(self.folder / "tls")
        self.authority = certificates.authority
        serving = Serving(
            Door(self.site, self.folder), self._ports[0], certificate=certificates.certificate, key=certificates.key
        )
        control = Serving(control_app(self.control), self._ports[1])
        self.host = f"{LOOPBACK}:{serving.port}"
        self.url = self.site.url = f"https://{self.host}"
        self.control_url = f"http://{LOOPBACK}:{control.port}"
        events = self._events(certificates)
        self.pubsub = None if events is None else f"{LOOPBACK}:{events.port}"
        faces: list[Serving | PubSub] = [serving, control, *([] if events is None else [events])]
        for each in faces:
            self._stack.callback(each.stop)
            each.start()

    def _events(self, certificates: Certificates) -> PubSub | None:
        """The event service, where its libraries are installed."""
        try:
            from connectors.salesforce.twin.events.service import PubSub
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in {"grpc", "fastavro"}:
                raise
            return None
        tls = {"certificate": certificates.certificate, "key": certificates.key}
        return PubSub(self.site, self._ports[2], address=LOOPBACK, **tls)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Holds the folder against another twin. BlockingIOError where one is at work in it."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _certificates(folder: Path) -> Certificates:
    """Those of the folder while they last, or new ones."""
    kept = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    if kept.key.exists():
        read = x509.load_pem_x509_certificate(kept.certificate.read_bytes())
        if read.not_valid_after_utc > datetime.now(UTC) + timedelta(days=1):
            return kept
    return make_certificates(folder)
