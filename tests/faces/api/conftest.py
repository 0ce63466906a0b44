"""An installation with the clinic of the demo, its model and mapping, behind a real server on a port of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from hub.access import Resource, Scope, local_caller
from hub.api.app import Face, make_server
from hub.database import Database
from hub.migrations import upgrade
from hub.runs import Installation, Worker, cancel, open_installation
from hub.sdk.testing.tls import Certificates
from hub.settings import load_settings

ME = local_caller("anna").actor
FEATURES = {
    "radius": 0,
    "texture": 1,
    "perimeter": 2,
    "area": 3,
    "smoothness": 4,
    "compactness": 5,
    "concavity": 6,
    "concave_points": 7,
    "symmetry": 8,
    "radius_worst": 20,
    "texture_worst": 21,
    "area_worst": 23,
    "concave_points_worst": 27,
}
PATIENTS = 60


@dataclass(frozen=True)
class Site:
    """One installation behind its server. `keys` holds the text of each API key by what it may."""

    hub: Installation
    url: str
    clinic: Path
    truth: dict[str, float]
    model: Any

    def key(self, *scopes: Scope, mappings: list[str] | None = None) -> str:
        """A fresh API key of a service of its own."""
        name = f"test-{len(self.hub.access.list_tokens())}"
        _, text = self.hub.access.create_token(name, owner="bert", scopes=scopes, actor=ME, only=_only(mappings))
        return text.reveal()

    def client(self, *scopes: Scope, mappings: list[str] | None = None) -> httpx.Client:
        """A client with a key of these scopes."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.key(*scopes, mappings=mappings)}"},
            timeout=60,
            trust_env=False,
        )

    def query(self, statement: str, *values: Any) -> list[Any]:
        """Rows of the clinic, read by another process."""
        return ask(self.clinic, [[statement, list(values)]])

    def renew(self) -> None:
        """Publishes a new version of the mapping that decides the same: all records are due again."""
        number = len(self.hub.mappings.versions("patient_risk"))
        self.hub.mappings.publish(document().replace("owner: breast-clinic", f"owner: breast-clinic-{number}"), ME)

    def carry(self, run: str) -> None:
        """What a worker does."""
        worker = Worker(self.hub, "default", "test")
        while worker.work(run):
            pass


def _only(mappings: list[str] | None) -> list[Resource] | None:
    return None if mappings is None else [Resource.mapping(each) for each in mappings]


def document() -> str:
    """The mapping that ships with the demo."""
    return (files("mappings") / "patient_risk" / "mapping.yaml").read_text("utf-8")


def ask(clinic: Path, statements: list[Any]) -> list[Any]:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("clinic.py"), clinic],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows: list[Any] = json.loads(done.stdout)
    return rows


def build(home: Path, **settings: object) -> tuple[Installation, Path, dict[str, float], Any]:
    """The clinic with its first patients, the model registered, the mapping published."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import HistGradientBoostingClassifier

    found = load_breast_cancer()
    clinic = home / "clinic.db"
    ids = ["00842302", "00842517", *(f"{90_000_000 + number}" for number in range(2, PATIENTS))]
    patients = [[key, "2", "1962-05-03", "N01", "2026-01-01 10:00:00"] for key in ids]
    rows = found.data[:PATIENTS, list(FEATURES.values())]
    results = []
    for number, (key, row) in enumerate(zip(ids, rows.tolist(), strict=True)):
        texts = [f"{each:.5f}".replace(".", ",") for each in row]
        results.append([number + 1, key, "F", "2026-01-01 09:00:00", *row[:4], *texts[4:9], *row[9:12], texts[12]])
    ask(
        clinic,
        [
            ["tables", []],
            ["insert into PATIENT(PATNR, SEX, BIRTH_D, CLINIC, LAST_UPD) values (?,?,?,?,?)", patients],
            [f"insert into FNA_RESULT values ({','.join('?' * 17)})", results],
        ],
    )
    sample = pl.DataFrame({name: found.data[:, at].round(5) for name, at in FEATURES.items()})
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(sample.to_pandas(), found.target)
    database = Database(made := load_settings(home=home / "hub", log_level="error", **settings))
    upgrade(database)
    hub = open_installation(made, database)
    hub.connections.create("clinic", "sql", {"dialect": "sqlite", "path": str(clinic)}, {}, ME)
    version = hub.registry.register("fna_malignancy", model, sample, owner="anna", positive=0, actor=str(ME))
    hub.registry.set_alias("fna_malignancy", "champion", version.number, str(ME))
    hub.mappings.publish(document(), ME)
    chances = model.predict_proba(sample.head(PATIENTS).to_pandas())[:, 0].tolist()
    return hub, clinic, dict(zip(ids, chances, strict=True)), model


@contextmanager
def serving(hub: Installation, faces: Sequence[Face] = (), certificates: Certificates | None = None) -> Iterator[str]:
    """A real server in a thread; its address. With certificates it speaks TLS, as the proxy before it would."""
    ready, port = threading.Event(), []

    def told(number: int) -> None:
        port.append(number)
        ready.set()

    server = make_server(hub, told, faces)
    if certificates is not None:
        server.config.ssl_certfile, server.config.ssl_keyfile = str(certificates.certificate), str(certificates.key)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(30)
    try:
        yield f"{'http' if certificates is None else 'https'}://127.0.0.1:{port[0]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An installation for the tests of one module; each names its own records or runs."""
    home = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        hub, clinic, truth, model = build(home, api_port=0, api_rate=10_000)
        stack.enter_context(hub)
        yield Site(hub, stack.enter_context(serving(hub)), clinic, truth, model)


Opens = Callable[..., httpx.Client]


@pytest.fixture
def client(site: Site) -> Iterator[Opens]:
    """Opens clients that are closed after the test; runs that it left are cancelled."""
    with ExitStack() as stack:
        yield lambda *scopes, mappings=None: stack.enter_context(site.client(*scopes, mappings=mappings))
    with site.hub.database.read() as session:
        active = site.hub.ledger.active(session, "patient_risk")
    if active is not None:
        cancel(site.hub, active, str(ME))
