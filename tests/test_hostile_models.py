"""A model's file that came from elsewhere is looked at before anything of it is run."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_models import file_of, fitted, strangers

from answers.answerer import Answerer
from commands import predict
from photographs.pictures.embedder import Embedder
from scripts.fuzz import write_network
from stages.common.errors import PipelineError
from stages.common.stage import run
from stages.model_file import checking
from stages.model_file.checking import OPERATORS
from stages.model_file.interface import PROBABILITIES
from stages.model_file.scoring import BATCH_ROWS, ModelFile

GIANT = helper.make_tensor("giant", TensorProto.INT64, [2], [1 << 20, 1 << 20])
OUT = "taken out"
LONG = numpy_helper.from_array(np.zeros((1, 70_000), np.float32), "long")


@pytest.fixture(scope="module")
def contents():
    """The bytes of a model without trees, and of one with them."""
    return {kind: file_of(fitted(kind)[0]) for kind in ("lda", "xgboost")}


@pytest.fixture
def spoiled(contents, tmp_path):
    """A function that writes a model which a change has spoiled, and gives its path."""

    def spoil(change, kind="lda"):
        model = onnx.load_model_from_string(contents[kind])
        change(model)
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return spoil


def answer(path):
    """All that a command asks of a model."""
    model = ModelFile(path)
    rows, _ = strangers()
    model.predict_proba(rows)
    model.features(rows)
    model.members(rows)
    for prepared in model.prepare([rows]):
        prepared.predict_proba()


def instead_of_answer(*nodes, arrays=()):
    """A change that puts operators before the output of the probabilities."""

    def change(model):
        graph = model.graph
        (last,) = [node for node in graph.node if PROBABILITIES in node.output]
        last.output[0] = "before"
        graph.initializer.extend(arrays)
        graph.node.extend(helper.make_node(*node[:1], *node[1:3], **node[3]) for node in nodes)

    return change


def node(operator, inputs, outputs, **attributes):
    return operator, inputs, outputs, attributes


def outside(model):
    array = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    array.ClearField("raw_data")
    array.data_location = TensorProto.EXTERNAL
    array.external_data.add(key="location", value="/etc/hostname")


def outside_attribute(model):
    value = helper.make_tensor("x", TensorProto.FLOAT, [1], [0.0])
    value.ClearField("float_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="model.onnx")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=value))


def of_its_own(model):
    model.functions.append(
        helper.make_function(
            "x", "F", ["a"], ["b"], [helper.make_node("Exp", ["a"], ["b"])], model.opset_import
        )
    )


def in_a_circle(model):
    first, last = model.graph.node[0], model.graph.node[-1]
    first.input[0] = last.output[0]


def many_operators(model):
    names = ["embedding", *(f"n{number}" for number in range(25_000))]
    model.graph.node.extend(helper.make_node("Identity", [a], [b]) for a, b in pairwise(names))


def metadata(**said):
    """A change of what the model says of itself; `OUT` takes something out."""

    def change(model):
        found = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
        found |= said
        del model.metadata_props[:]
        texts = {key: json.dumps(value) for key, value in found.items() if value != OUT}
        helper.set_model_props(model, texts)

    return change


def raw_metadata(key, text):
    def change(model):
        for entry in model.metadata_props:
            if entry.key == key:
                entry.value = text

    return change


def cut_array(model):
    array = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    array.raw_data = array.raw_data[:-4]


def giant_array(model):
    model.graph.initializer[0].dims.extend([1 << 40])


def another_input(model):
    model.graph.input.append(helper.make_tensor_value_info("secret", TensorProto.FLOAT, ["rows"]))


def one_column(model):
    for value in model.graph.output:
        if value.name == PROBABILITIES:
            value.type.tensor_type.shape.dim[1].dim_value = 3


TILED = instead_of_answer(node("Tile", ["before", "giant"], [PROBABILITIES]), arrays=[GIANT])
BROADCAST = instead_of_answer(
    node("Transpose", ["long"], ["column"]),
    node("Add", ["long", "column"], ["square"]),
    node("ReduceMax", ["square"], ["most"], keepdims=0),
    node("Max", ["before", "most"], [PROBABILITIES]),
    arrays=[LONG],
)
MINUS = instead_of_answer(node("Neg", ["before"], [PROBABILITIES]))
TWICE = instead_of_answer(node("Add", ["before", "before"], [PROBABILITIES]))
CONSTANT = instead_of_answer(
    node("Identity", ["same"], [PROBABILITIES]),
    arrays=[numpy_helper.from_array(np.full((BATCH_ROWS, 4), 0.25, np.float32), "same")],
)
LOGS = instead_of_answer(
    node("Neg", ["before"], ["minus"]),
    node("Log", ["minus"], ["x"]),
    node("Where", ["some", "before", "x"], [PROBABILITIES]),
    arrays=[numpy_helper.from_array(np.array([True, False, True, True]), "some")],
)

FAULTS = {
    "numbers in another file": (outside, "keeps numbers in another file, which is not read"),
    "an operator's in another file": (outside_attribute, "the operator Constant, which no model"),
    "a function": (of_its_own, "it has functions of its own"),
    "a circle": (in_a_circle, "cannot be used"),
    "25,000 operators": (many_operators, "it has 25,0.. operators, more than 20,000"),
    "an operator twice": (lambda m: m.graph.node.append(m.graph.node[3]), "cannot be used"),
    "an operator of ours is missing": (lambda m: m.graph.node.pop(3), "cannot be used"),
    "Tile": (TILED, "the operator Tile, which no model has"),
    "a broadcast of 20 GB": (BROADCAST, "it makes more numbers than any model needs"),
    "a loop": (
        instead_of_answer(node("Loop", ["", "", "before"], [PROBABILITIES])),
        "the operator Loop",
    ),
    "random": (
        instead_of_answer(node("RandomNormalLike", ["before"], [PROBABILITIES])),
        "the operator RandomNormalLike",
    ),
    "another domain": (
        instead_of_answer(node("Exp", ["before"], [PROBABILITIES], domain="x.y")),
        "the operator Exp, which no model has",
    ),
    "an array that is cut off": (cut_array, r"its array \S+ is cut off"),
    "an array of 4 TB": (giant_array, "has an impossible size|is cut off"),
    "an input more": (another_input, "it has other inputs or outputs than it says"),
    "answers below 0": (MINUS, "row 1 holds no probabilities"),
    "answers above 1": (TWICE, "row 1 holds no probabilities"),
    "some of a row is no number": (LOGS, "row 1 holds no probabilities"),
    "the same of all": (CONSTANT, "its probabilities depend on none of its inputs"),
    "another width": (one_column, "cannot be used"),
    "three labels": (metadata(labels=["a", "b", "c"]), "has another length than it says"),
    "no labels": (metadata(labels=OUT), "it lacks `labels`"),
    "labels that are numbers": (metadata(labels=[1, 2, 3, 4]), "`labels.0`: "),
    "labels twice": (metadata(labels=["a", "a", "b", "c"]), "one is there twice"),
    "no answers": (metadata(answers=OUT), "it lacks `answers`"),
    "no name of a feature": (metadata(feature_names=["a"]), "`/features` has another length"),
    "a temperature of 0": (raw_metadata("answers", '{"probabilities": 0}'), "`answers.probab"),
    "metadata nested deeply": (raw_metadata("labels", "[" * 100_000), "nested too deeply"),
    "metadata that is no JSON": (raw_metadata("labels", "{"), "cannot be used"),
    "kinds of nothing": (metadata(kinds=[]), "it has other inputs or outputs than it says"),
}


@pytest.mark.parametrize(("change", "problem"), FAULTS.values(), ids=FAULTS.keys())
def test_a_model_that_is_not_ours_is_refused_in_a_sentence(spoiled, change, problem):
    path = spoiled(change)
    with pytest.raises(PipelineError, match=problem) as caught:
        answer(path)
    text = str(caught.value)
    assert text.startswith(f"{path} cannot be used (")
    assert text.endswith(
        "it is no model of this pipeline as it is now: run `dvc repro`, which makes one"
    )
    assert text.isprintable()


def trees(**changed):
    def change(model):
        (found,) = [one for one in model.graph.node if one.op_type == "TreeEnsembleRegressor"]
        for attribute in found.attribute:
            if attribute.name in changed:
                changed[attribute.name](attribute)

    return change


def back_to_the_root(attribute):
    attribute.ints[:] = [0] * len(attribute.ints)


TREES = {
    "a branch that leads back": trees(
        nodes_truenodeids=back_to_the_root, nodes_falsenodeids=back_to_the_root
    ),
    "a branch that leads out": trees(nodes_truenodeids=lambda a: a.ints.__setitem__(0, 10**9)),
    "a feature that there is not": trees(nodes_featureids=lambda a: a.ints.__setitem__(0, 999)),
    "a feature before the first": trees(nodes_featureids=lambda a: a.ints.__setitem__(0, -1)),
    "a label that there is not": trees(target_ids=lambda a: a.ints.__setitem__(0, 99)),
    "a tree of several labels": trees(target_ids=lambda a: a.ints.__setitem__(0, 1)),
    "branches of another kind": trees(nodes_modes=lambda a: a.strings.__setitem__(0, b"BRANCH_GT")),
    "lists of other lengths": trees(nodes_values=lambda a: a.floats.pop()),
}


@pytest.mark.parametrize("change", TREES.values(), ids=TREES.keys())
def test_trees_that_are_none_end_in_a_sentence_and_in_no_loop(spoiled, change):
    path = spoiled(change, "xgboost")
    with pytest.raises(PipelineError, match=r"model.onnx cannot be used \("):
        answer(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(1 << 40)  # a file with a hole: it takes no room
    with pytest.raises(PipelineError, match="it has more than 2,147,483,647 bytes"):
        ModelFile(tmp_path / "model.onnx")


def test_no_other_file_is_opened(spoiled, monkeypatch):
    path, opened, open_ = spoiled(outside), [], open

    def watch(file, *arguments, **options):
        opened.append(str(file))
        return open_(file, *arguments, **options)

    for name in ("builtins.open", "io.open"):
        monkeypatch.setattr(name, watch)
    with pytest.raises(PipelineError, match="which is not read"):
        Answerer(path)
    assert opened == [str(path)]


def test_the_operators_of_every_model_are_allowed(contents):
    for content in contents.values():
        for one in onnx.load_model_from_string(content).graph.node:
            assert one.op_type in OPERATORS[one.domain]


def test_predict_says_so_and_writes_nothing(spoiled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = spoiled(BROADCAST)
    Path("t.csv").write_text("Image file\na.jpg\n")
    monkeypatch.setattr(sys, "argv", ["predict", "t.csv", "-o", "p.csv", "--model", str(path)])
    with pytest.raises(SystemExit):
        run("predict", predict.main)
    assert "makes more numbers than any model needs" in capsys.readouterr().err
    assert not list(tmp_path.glob("p.*"))


# --- The network of photographs ------------------------------------------------------------------


@pytest.fixture
def network(tmp_path):
    """A function that writes a network which a change has spoiled, and gives its path."""

    def spoil(change):
        path = tmp_path / "network.onnx"
        write_network(path)
        model = onnx.load(path)
        change(model)
        path.write_bytes(model.SerializeToString())
        return path

    return spoil


def giant_of(*nodes):
    def change(model):
        model.graph.initializer.append(GIANT)
        model.graph.node[-1].output[0] = "before"
        model.graph.node.extend(nodes)

    return change


FILLED = giant_of(
    helper.make_node("ConstantOfShape", ["giant"], ["made"]),
    helper.make_node("ReduceMax", ["made"], ["most"], keepdims=0),
    helper.make_node("Add", ["before", "most"], ["last"]),
)
NETWORK_FAULTS = {
    "numbers in another file": (outside, "keeps numbers in another file, which is not read"),
    "much of nothing": (FILLED, "it makes more numbers than any model needs"),
    "a size from what is seen": (
        giant_of(
            helper.make_node("NonZero", ["before"], ["places"]),
            helper.make_node("Cast", ["places"], ["x"], to=1),
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Add", ["before", "most"], ["last"]),
        ),
        "nobody can tell how much NonZero gives",
    ),
    "a function": (of_its_own, "it has functions of its own"),
    "an array that is cut off": (cut_array, "is cut off"),
    "a circle": (in_a_circle, "is no ONNX file that is run here"),
}


@pytest.mark.parametrize(("change", "problem"), NETWORK_FAULTS.values(), ids=NETWORK_FAULTS.keys())
def test_a_network_that_would_do_harm_is_refused_in_a_sentence(network, change, problem):
    path = network(lambda model: None)
    assert Embedder(path).answer.shape == (3,)
    with pytest.raises(PipelineError, match=problem) as caught:
        Embedder(network(change))
    assert str(caught.value).startswith(f"{path} is no ONNX file that is run here: ")


def test_a_network_that_is_too_large_is_not_read(network, monkeypatch):
    path = network(lambda model: None)
    monkeypatch.setattr(checking, "MOST_BYTES", 100)
    with pytest.raises(PipelineError, match="it has more than 100 bytes"):
        Embedder(path)
