"""A file is read in a process of its own that has no environment, no network, writes nothing and may die."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from hub.models import ModelRefusedError, ModelVersion, Registry, Way
from hub.models.proving import isolation

Enrol = Callable[..., ModelVersion]
ROWS = np.random.default_rng(0).normal(size=(200, 2)).round(1)
SAMPLE = pl.DataFrame(ROWS, schema=["a", "b"])
TRUTH = (ROWS[:, 0] > 0).astype(int)


def child(code: str) -> subprocess.CompletedProcess[str]:
    whole = f"from hub.models.proving.isolation import confine\nconfine()\n{code}"
    return subprocess.run([sys.executable, "-I", "-c", whole], capture_output=True, text=True, check=False)


def test_a_skops_file_is_proven_like_the_estimator_in_it(
    tmp_path: Path, enrol: Enrol, registry: Registry, capfd: pytest.CaptureFixture[str]
) -> None:
    model = HistGradientBoostingClassifier(max_iter=10).fit(ROWS, TRUTH)
    skops.io.dump(model, tmp_path / "m.skops")
    version = enrol(str(tmp_path / "m.skops"), SAMPLE, target=TRUTH)
    found = registry.load(version).predict(SAMPLE)
    np.testing.assert_allclose(found["probability"], model.predict_proba(ROWS)[:, 1], atol=1e-9)
    assert version.way is Way.ONNX
    assert version.metrics["accuracy"] == pytest.approx(model.score(ROWS, TRUTH))
    assert capfd.readouterr().out == ""


def test_the_child_cannot_write_a_file(tmp_path: Path) -> None:
    done = child(
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"with open({str(tmp_path / 'written')!r}, 'w') as target: target.write('content')"
    )
    assert done.returncode != 0
    assert "File too large" in done.stderr
    assert (tmp_path / "written").read_text() == ""


def test_the_child_reaches_no_server_where_the_kernel_lets_it_leave_the_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        namespaces = "import os\nprint(os.readlink('/proc/self/ns/net'))"
        ours = subprocess.run([sys.executable, "-c", namespaces], capture_output=True, text=True, check=True).stdout
        if child(namespaces).stdout == ours:
            pytest.skip("this kernel lets no plain user make a network namespace")
        done = child(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)")
        assert done.returncode != 0
        assert "OSError" in done.stderr


def test_the_child_has_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enrol: Enrol) -> None:
    seen: dict[str, str] = {}
    real = subprocess.run

    def watch(*args: object, **stated: object) -> object:
        seen.update(stated["env"])  # type: ignore[call-overload]
        return real(*args, **stated)  # type: ignore[call-overload]

    monkeypatch.setenv("HUB_DATABASE_URL", "postgresql+psycopg://somebody:secret@host/hub")
    monkeypatch.setattr(isolation.subprocess, "run", watch)
    skops.io.dump(LogisticRegression().fit(ROWS, TRUTH), tmp_path / "m.skops")
    enrol(tmp_path / "m.skops", SAMPLE)
    assert set(seen) == {"LANG", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"}


def test_a_file_that_kills_its_reader_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enrol: Enrol) -> None:
    monkeypatch.setattr(isolation, "COMMAND", (sys.executable, "-c", "import os; os.abort()"))
    skops.io.dump(LogisticRegression().fit(ROWS, TRUTH), tmp_path / "m.skops")
    with pytest.raises(ModelRefusedError, match="the process that read the file died"):
        enrol(tmp_path / "m.skops", SAMPLE)


def test_a_file_that_holds_its_reader_up_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enrol: Enrol
) -> None:
    monkeypatch.setattr(isolation, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(isolation, "SECONDS", 0.2)
    skops.io.dump(LogisticRegression().fit(ROWS, TRUTH), tmp_path / "m.skops")
    begun = time.monotonic()
    with pytest.raises(ModelRefusedError, match="could not be read and proven within"):
        enrol(tmp_path / "m.skops", SAMPLE)
    assert time.monotonic() - begun < 30


def test_naming_the_room_imports_nothing_heavy() -> None:
    code = (
        "import sys, hub.models, hub.models.registry\n"
        "print([each for each in ('sklearn', 'onnx', 'onnxruntime', 'skops', 'pandas') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_converted_model_is_served_without_scikit_learn(tmp_path: Path, enrol: Enrol, registry: Registry) -> None:
    from hub.models import artefact

    version = enrol(HistGradientBoostingClassifier(max_iter=5).fit(ROWS, TRUTH), SAMPLE)
    (tmp_path / "artefact").write_bytes(registry._content(version))
    code = (
        "import sys, pathlib, polars as pl\n"
        "from hub.models.artefact import unpack\nfrom hub.models.scorer import open_scorer\n"
        f"content = pathlib.Path({str(tmp_path / 'artefact')!r}).read_bytes()\n"
        f"scorer = open_scorer(unpack(content, {version.digest!r}))\n"
        "print(scorer.predict(pl.DataFrame({'a': [1.0], 'b': [0.0]})).height, 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
    assert artefact.digest_of((tmp_path / "artefact").read_bytes()) == version.digest
