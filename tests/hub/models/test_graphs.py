"""Given .onnx files: what is safe and whole is taken and scored as ONNX Runtime does, the rest is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from hub.models import ModelRefusedError, ModelVersion, Registry, SampleError, Task, Way
from hub.models.runtimes.onnx import CUDA, open_session, read_graph

Enrol = Callable[..., ModelVersion]
# Values that 32 bits hold exactly, so that scikit-learn and a 32-bit graph see the same rows.
ROWS = np.round(np.random.default_rng(0).normal(size=(300, 3)) * 16) / 16
SAMPLE = pl.DataFrame(ROWS, schema=["a", "b", "c c"])
TRUTH = (ROWS[:, 0] > 0).astype(int)

pytestmark = [pytest.mark.filterwarnings("ignore:::skl2onnx"), pytest.mark.usefixtures("proven_here")]


def save(model: Any, path: Path) -> Path:
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def converted(model: Any, **stated: Any) -> onnx.ModelProto:
    return to_onnx(model, ROWS[:1].astype(np.float32), target_opset=18, **stated)


@pytest.mark.parametrize("zipmap", [True, False])
def test_a_classifier_with_or_without_dictionaries_is_scored(
    zipmap: bool, tmp_path: Path, enrol: Enrol, registry: Registry
) -> None:
    model = GradientBoostingClassifier(n_estimators=10).fit(ROWS, np.where(TRUTH == 1, "won", "lost"))
    graph = converted(model, options={"zipmap": zipmap})
    version = enrol(save(graph, tmp_path / "m.onnx"), SAMPLE, positive="lost")
    found = registry.load(version).predict(SAMPLE)
    np.testing.assert_allclose(found["probability"], model.predict_proba(ROWS)[:, 0], atol=1e-6)
    assert found["label"].to_list() == model.predict(ROWS).tolist()
    assert (version.runtime, version.way, version.signature.task) == ("onnx", Way.ONNX, Task.BINARY)
    assert version.signature.classes == ("lost", "won")
    assert [each.name for each in version.signature.inputs] == SAMPLE.columns


def test_one_input_per_column_is_fed_by_name(tmp_path: Path, enrol: Enrol, registry: Registry) -> None:
    draw = np.random.default_rng(1)
    sample = SAMPLE.with_columns(
        city=pl.Series(draw.choice(["Ulm", "Köln"], len(ROWS))), visits=pl.Series(draw.integers(0, 9, len(ROWS)))
    )
    line = make_pipeline(
        ColumnTransformer(
            [("n", StandardScaler(), ["a", "c c", "visits"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["city"])]
        ),
        LogisticRegression(),
    ).fit(sample.to_pandas(), np.digitize(ROWS[:, 0], [-0.5, 0.5]))
    kinds = [
        (
            name,
            StringTensorType([None, 1])
            if name == "city"
            else Int64TensorType([None, 1])
            if name == "visits"
            else FloatTensorType([None, 1]),
        )
        for name in reversed(sample.columns)
    ]
    graph = to_onnx(line, initial_types=kinds, target_opset=18, options={"zipmap": False})
    version = enrol(save(graph, tmp_path / "m.onnx"), sample)
    found = registry.load(version).predict(sample)
    expected = line.predict_proba(sample.to_pandas())
    np.testing.assert_allclose(found.select(pl.col("^probability.*$")).to_numpy(), expected, atol=1e-5)
    assert version.signature.task is Task.MULTICLASS
    with pytest.raises(SampleError, match="lacks city, which the ONNX graph takes"):
        enrol(tmp_path / "m.onnx", sample.drop("city"))


def test_a_regression_is_scored(tmp_path: Path, enrol: Enrol, registry: Registry) -> None:
    model = LinearRegression().fit(ROWS, ROWS @ [1.0, 2.0, 3.0])
    version = enrol(save(converted(model), tmp_path / "m.onnx"), SAMPLE, target=ROWS @ [1.0, 2.0, 3.0])
    np.testing.assert_allclose(registry.load(version).predict(SAMPLE)["value"], model.predict(ROWS), atol=1e-4)
    assert version.metrics["r2"] > 0.999


def test_an_anomaly_graph_is_scored_where_the_task_is_stated(tmp_path: Path, enrol: Enrol, registry: Registry) -> None:
    model = IsolationForest(n_estimators=20, random_state=0).fit(ROWS)
    graph = to_onnx(model, ROWS[:1].astype(np.float32), target_opset={"": 18, "ai.onnx.ml": 3})
    version = enrol(save(graph, tmp_path / "m.onnx"), SAMPLE, task="anomaly")
    found = registry.load(version).predict(SAMPLE)
    np.testing.assert_allclose(found["anomaly_score"], -model.decision_function(ROWS), atol=1e-5)
    assert (found["is_anomaly"].to_numpy() == (model.predict(ROWS) == -1)).mean() > 0.99


def small_graph(nodes: list[Any], constants: list[Any], **stated: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        constants,
    )
    return helper.make_model(graph, ir_version=10, **stated)


def weights() -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones((3, 1), dtype=np.float32), "w")


def test_a_graph_with_weights_in_other_files_is_refused(tmp_path: Path, enrol: Enrol) -> None:
    constant = weights()
    (tmp_path / "weights.bin").write_bytes(constant.raw_data)
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="weights.bin")
    graph = small_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], [constant])
    with pytest.raises(ModelRefusedError, match="keeps its weights in other files"):
        enrol(save(graph, tmp_path / "m.onnx"), SAMPLE)


def test_weights_in_other_files_are_found_inside_branches_too() -> None:
    constant = weights()
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="/etc/hostname")
    output = [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)]
    branch = helper.make_graph([helper.make_node("Constant", [], ["o"], value=constant)], "branch", [], output)
    node = helper.make_node("If", ["cond"], ["y"], then_branch=branch, else_branch=branch)
    condition = numpy_helper.from_array(np.array(True), "cond")
    with pytest.raises(ModelRefusedError, match="keeps its weights in other files"):
        read_graph(small_graph([node], [condition]).SerializeToString())


def test_a_foreign_operator_is_refused_by_name(tmp_path: Path, enrol: Enrol) -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    graph = small_graph(
        [node], [], opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    )
    with pytest.raises(ModelRefusedError, match=r"uses com\.microsoft:Gelu"):
        enrol(save(graph, tmp_path / "m.onnx"), SAMPLE)


def test_an_invalid_graph_is_refused(tmp_path: Path, enrol: Enrol) -> None:
    graph = small_graph([helper.make_node("MatMul", ["nowhere", "w"], ["y"])], [weights()])
    with pytest.raises(ModelRefusedError, match="not valid"):
        enrol(save(graph, tmp_path / "m.onnx"), SAMPLE)


def test_a_graph_whose_rows_lean_on_each_other_is_refused(tmp_path: Path, enrol: Enrol) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=1, axes=[0]),
        helper.make_node("Sub", ["x", "m"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    graph = small_graph(nodes, [weights()], opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(ModelRefusedError, match="differently when other rows stand beside it"):
        enrol(save(graph, tmp_path / "m.onnx"), SAMPLE)


def test_a_sample_that_does_not_fit_the_graph_is_refused(tmp_path: Path, enrol: Enrol) -> None:
    path = save(converted(LogisticRegression().fit(ROWS, TRUTH)), tmp_path / "m.onnx")
    with pytest.raises(SampleError, match="takes 3 columns, the sample has 2"):
        enrol(path, SAMPLE.select("a", "b"))
    with pytest.raises(SampleError, match="one matrix of numbers, but the sample has text columns"):
        enrol(path, SAMPLE.with_columns(b=pl.lit("text")))


def test_a_graph_of_labels_alone_is_refused(tmp_path: Path, enrol: Enrol) -> None:
    graph = converted(LogisticRegression().fit(ROWS, TRUTH), options={"zipmap": False})
    del graph.graph.output[1]
    with pytest.raises(ModelRefusedError, match="export probabilities"):
        enrol(save(graph, tmp_path / "m.onnx"), SAMPLE)


def test_more_rows_than_one_call_takes_come_back_in_order(tmp_path: Path, enrol: Enrol, registry: Registry) -> None:
    version = enrol(save(converted(LogisticRegression().fit(ROWS, TRUTH)), tmp_path / "m.onnx"), SAMPLE)
    many = pl.concat([SAMPLE] * 400)
    scorer = registry.load(version)
    once = scorer.predict(SAMPLE)["probability"].to_numpy()
    assert many.height > 100_000
    np.testing.assert_array_equal(scorer.predict(many)["probability"].to_numpy(), np.tile(once, 400))


def test_the_graph_is_what_onnx_runtime_says_itself(tmp_path: Path, enrol: Enrol, registry: Registry) -> None:
    graph = converted(LogisticRegression().fit(ROWS, TRUTH), options={"zipmap": False})
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    direct = session.run(None, {session.get_inputs()[0].name: ROWS.astype(np.float32)})[1][:, 1]
    version = enrol(save(graph, tmp_path / "m.onnx"), SAMPLE)
    np.testing.assert_allclose(registry.load(version).predict(SAMPLE)["probability"], direct, atol=1e-7)


def test_a_card_is_asked_for_all_bits_and_for_no_race(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("no such library"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda _content, _options, providers: asked.append(providers))
    open_session(b"", cuda=True)
    open_session(b"")
    ((card, told), rest), plain = asked
    assert (card, rest, plain) == (CUDA, "CPUExecutionProvider", ["CPUExecutionProvider"])
    assert (told["use_tf32"], told["cudnn_conv_algo_search"]) == ("0", "DEFAULT")
    assert capsys.readouterr() == ("", "no such library\n")
