"""What several results of a model share is computed once, and they stay the same."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from test_models import file_of, fit, members, strangers

from stages.model_file import scoring
from stages.model_file.graph import Graph
from stages.model_file.sharing import kinds_of_results, share

SHAPES = {"left": (1, 2), "right": (1, 3)}
FEED = {"left": np.ones((1, 2), np.float32), "right": np.arange(3, dtype=np.float32)[None]}


def model(gathered=(2, 3, 4)):
    """Twice the same of some columns of two inputs side by side, with and without the other one."""
    graph = Graph()
    left, right = (graph.input(name, np.float32, shape[1]) for name, shape in SHAPES.items())
    beside = graph.name(graph.add("Concat", left, right, axis=1), "features")
    for name in ("one", "two"):
        places = graph.constant(np.array(gathered))
        found = graph.add("Exp", graph.add("Gather", beside, places, axis=1))
        if name == "two":
            found = graph.add("Mul", found, graph.add("ReduceSum", left, keepdims=1))
        graph.output(name, found, np.float32, len(gathered))
    return onnx.load_from_string(graph.to_bytes({}, ""))


def operators(model):
    return sorted(node.op_type for node in model.graph.node)


def kinds(model):
    return kinds_of_results(model.graph.node, {"left": "L", "right": "R"}, ["one", "two"])


def test_what_is_done_twice_is_done_once():
    whole, found = model(), model()
    share(found, SHAPES)
    assert operators(whole).count("Exp") == 2
    assert operators(found) == [
        "Concat",
        "Exp",
        "Identity",
        "Identity",
        "Identity",
        "Mul",
        "ReduceSum",
    ]
    expected = ReferenceEvaluator(whole).run(["one", "two"], FEED)
    for left, right in zip(
        expected, ReferenceEvaluator(found).run(["one", "two"], FEED), strict=True
    ):
        np.testing.assert_array_equal(left, right)


def test_what_looks_at_one_input_alone_depends_on_it_alone():
    found = model()
    share(found, SHAPES)
    of = kinds(found)
    assert of["one"] == "R"
    assert sorted(of.values()) == ["L", "L", "R", "R", "R"]
    assert "two" not in of


@pytest.mark.parametrize("gathered", [(1, 2, 3), (4, 3, 2), (2, 3), (0, 1, 2, 3, 4)])
def test_other_columns_are_gathered_from_all(gathered):
    found = model(gathered)
    share(found, SHAPES)
    assert operators(found).count("Gather") == 1
    assert {"left", "right"} <= kinds(found).keys()
    assert "one" not in kinds(found)
    np.testing.assert_array_equal(
        ReferenceEvaluator(found).run(["one"], FEED)[0],
        ReferenceEvaluator(model(gathered)).run(["one"], FEED)[0],
    )


def test_a_kernel_is_asked_once_for_all_that_is_measured(tmp_path, monkeypatch):
    blend, _ = fit("ensemble", **members(kernel_ridge="embedding", lda="all"))
    (tmp_path / "model.onnx").write_bytes(file_of(blend))
    asked, run = [], scoring.Gemm._run
    monkeypatch.setattr(
        scoring.Gemm, "_run", lambda *given, **how: asked.append(1) or run(*given, **how)
    )
    file, (new, _) = scoring.ModelFile(tmp_path / "model.onnx"), strangers()
    (prepared,) = file.prepare([new])
    for kind in file.metadata["kinds"]:
        prepared.shuffled(kind["name"], np.arange(len(new))[::-1]).predict_proba()
    prepared.predict_proba()
    assert len(asked) == 1


@pytest.mark.parametrize("turned", [{}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1}])
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.5}, {"beta": 3.0}])
def test_a_product_with_an_offset_is_that_of_the_standard(turned, factors):
    graph = Graph()
    one, other = (graph.input(name, np.float32, 3) for name in ("one", "other"))
    offsets = graph.constant(np.array([1, 2, 3], np.float32))
    graph.output("sum", graph.add("Gemm", one, other, offsets, **turned, **factors), np.float32, 3)
    content = graph.to_bytes({}, "")
    feed = {
        name: np.random.default_rng(place).random((3, 3)).astype(np.float32)
        for place, name in enumerate(("one", "other"))
    }
    evaluator = ReferenceEvaluator(onnx.load_from_string(content), new_ops=scoring.OWN_OPERATORS)
    expected = onnxruntime.InferenceSession(content).run(None, feed)[0]
    np.testing.assert_allclose(evaluator.run(None, feed)[0], expected, rtol=1e-6)


def test_an_output_is_there_also_where_an_earlier_operator_does_the_same():
    graph = Graph()
    left = graph.input("left", np.float32, 2)
    found = onnx.load_from_string(graph.to_bytes({}, ""))
    found.graph.node.extend(
        onnx.helper.make_node("Exp", [left], [name]) for name in ("earlier", "one")
    )
    found.graph.output.append(onnx.helper.make_empty_tensor_value_info("one"))
    share(found, SHAPES)
    assert [node.output[0] for node in found.graph.node] == ["earlier", "one"]


def test_arrays_of_the_model_may_stand_beside_results():
    graph = Graph()
    left, array = graph.input("left", np.float32, 2), graph.constant(np.ones((1, 3), np.float32))
    beside = graph.add("Concat", array, left, axis=1)
    found = graph.add("Gather", beside, graph.constant(np.array([3, 4])), axis=1)
    graph.output("one", found, np.float32, 2)
    whole = onnx.load_from_string(graph.to_bytes({}, ""))
    share(whole, SHAPES)
    assert operators(whole) == ["Concat", "Gather", "Identity"]
