"""The trained model as one ONNX file, and how it is scored here: by NumPy.

ONNX Runtime, with which others use the file, is faster. But it picks its kernels by the
processor and splits sums by the number of cores, so that the last digits differ between machines.
NumPy has the threads and kernels that stages/__init__.py fixes. Tests hold the two together, to
0.00001 of a probability.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from stages.common.errors import PipelineError
from stages.common.files import reading
from stages.common.threads import thread_pool
from stages.model_file.checking import OPERATORS, check_model, read_model
from stages.model_file.graph import nodes_between
from stages.model_file.interface import ANSWERS, FEATURES, PROBABILITIES
from stages.model_file.metadata import check_metadata
from stages.model_file.sharing import kinds_of_results, share
from stages.tables.artefacts import EMBEDDING, Artefacts, differences, identity_in_words
from stages.tables.parquet import check_probabilities

# Rows that are scored at a time, whatever the number of cores: a row's last bits depend on it.
BATCH_ROWS = 1024
BLOCK_ROWS = 16 * BATCH_ROWS  # which `prepare` gives at a time
# Numbers that a row may become on the way, beside one for each byte of the file.
MOST_NUMBERS = 2**17
# Trees that a batch goes through at a time: their nodes stay in the processor's cache.
TREES = 16


MODES = {"LEAF", "BRANCH_LT"}  # of the nodes of trees
OTHER_MODEL = "it is no model of this pipeline as it is now: run `dvc repro`, which makes one"


class LogSoftmax(OpRun):
    """The operator of that name, without the reference's logarithm of a probability that is 0."""

    def _run(self, logits: np.ndarray, axis: int = -1) -> tuple[np.ndarray]:
        shifted = logits - logits.max(axis=axis, keepdims=True)
        return (shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)),)


class Softplus(OpRun):
    """The operator of that name, in 64 bits: for 32, C libraries differ in the last bit."""

    def _run(self, values: np.ndarray) -> tuple[np.ndarray]:
        return (np.logaddexp(0, values.astype(np.float64)).astype(values.dtype),)


class Gemm(OpRun):
    """The operator of that name, without the reference's copies of a product."""

    def _run(
        self,
        one: np.ndarray,
        other: np.ndarray,
        offsets: np.ndarray | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        transA: int = 0,
        transB: int = 0,
    ) -> tuple[np.ndarray]:
        product = (one.T if transA else one) @ (other.T if transB else other)
        if alpha != 1:
            product *= alpha
        if offsets is not None:
            product += offsets if beta == 1 else offsets * beta
        return (product,)


class TreeEnsembleRegressor(OpRun):
    """The operator of that name for trees of `<` and sums, many trees and all rows at a time.

    The reference goes from row to row in Python, which takes minutes.
    """

    op_domain = "ai.onnx.ml"
    # The operator's attributes, by the names of the standard.
    nodes_treeids: list[int]
    nodes_nodeids: list[int]
    nodes_featureids: list[int]
    nodes_values: list[float]
    nodes_modes: list[str]
    nodes_truenodeids: list[int]
    nodes_falsenodeids: list[int]
    target_treeids: list[int]
    target_nodeids: list[int]
    target_ids: list[int]
    target_weights: list[float]
    base_values: list[float]

    @cached_property
    def _trees(self) -> tuple[np.ndarray, ...]:
        """The nodes of all trees, m in a row: roots, features, thresholds, children, leaves.

        The children (m, 2) are where a row goes that is not below the threshold, and that is. A
        leaf is its own child; `value` (m,) is what it adds to the output `target` (t,) of its tree.
        """
        counts = {len(self.nodes_treeids), len(self.nodes_nodeids), len(self.nodes_featureids)}
        counts |= {len(self.nodes_values), len(self.nodes_modes)}
        if counts != {len(self.nodes_truenodeids)} or counts != {len(self.nodes_falsenodeids)}:
            raise ValueError("its trees lack parts of nodes")
        trees, nodes = np.array(self.nodes_treeids), np.array(self.nodes_nodeids)
        roots = np.flatnonzero(nodes == 0)
        starts = roots[np.searchsorted(trees[roots], trees)]
        itself = np.arange(len(trees))
        leaf = np.array(self.nodes_modes) == "LEAF"
        children = [
            np.where(leaf, itself, starts + np.array(ids))
            for ids in (self.nodes_falsenodeids, self.nodes_truenodeids)
        ]
        value, target = np.zeros(len(trees), np.float32), np.zeros(len(roots), int)
        tree_of_leaf = np.searchsorted(trees[roots], self.target_treeids)
        value[roots[tree_of_leaf] + np.array(self.target_nodeids)] = self.target_weights
        target[tree_of_leaf] = self.target_ids
        thresholds = np.array(self.nodes_values, np.float32)
        features = np.array(self.nodes_featureids)
        branches = np.column_stack(children)[~leaf]
        below = (branches > itself[~leaf, None]) & (branches < len(trees))
        # A branch that leads back would never come to a leaf.
        if not (set(self.nodes_modes) <= MODES and below.all() and features.min(initial=0) >= 0):
            raise ValueError("its trees are no trees of `<`")
        if (target[tree_of_leaf] != self.target_ids).any():
            raise ValueError("a tree of it adds to several outputs")
        return roots, features, thresholds, np.column_stack(children), leaf, value, target

    def _run(self, features: np.ndarray, **_: Any) -> tuple[np.ndarray]:
        roots, feature, threshold, children, leaf, value, target = self._trees
        rows, columns = np.arange(len(features)), features.T.ravel()
        first = feature * len(rows)  # the place of a feature's first row in `columns`
        total = np.repeat(np.array(self.base_values, np.float32)[:, None], len(rows), axis=1)
        for start in range(0, len(roots), TREES):
            some = slice(start, start + TREES)
            node = np.repeat(roots[some, None], len(rows), axis=1)
            while not leaf.take(node).all():
                below = columns.take(first.take(node) + rows) < threshold.take(node)
                node = children.take(2 * node + below)
            for output, values in zip(target[some], value.take(node), strict=True):
                total[output] += values
        return (np.ascontiguousarray(total.T),)


OWN_OPERATORS = [Gemm, LogSoftmax, Softplus, TreeEnsembleRegressor]


def check_same_embedding(
    of_model: Mapping[str, str] | None, of_table: Mapping[str, str] | None
) -> None:
    """Raises PipelineError when a model's embeddings and a table's were made by different things.

    Where one is None, or leaves something out, nobody knows, and the length, which
    `ModelFile.predict_proba` compares, has to do.
    """
    if of_model is None or of_table is None or not (found := differences(of_model, of_table)):
        return
    model, table = (
        identity_in_words({name: identity[name] for name in found})
        for identity in (of_model, of_table)
    )
    raise PipelineError(
        f"the model takes embeddings of another kind ({model}) than the table has ({table})"
    )


def is_sure(probabilities: np.ndarray, threshold: float | None) -> np.ndarray:
    """Whether the first answer of each row is as probable as that: (n,) bool.

    `probabilities` are (n, k), `threshold` is that of the model's metadata.
    """
    if threshold is None:
        return np.zeros(len(probabilities), dtype=bool)
    # Six decimals, as the threshold has and the tables of predictions.
    return probabilities.max(axis=1).astype(np.float64).round(6) >= threshold


class ModelFile:
    """A model of `train`: from the columns of artefacts to probabilities."""

    def __init__(self, path: Path) -> None:
        """Raises PipelineError for a file that is no ONNX model of this pipeline as it is now."""
        self._path = path
        with reading(path, OTHER_MODEL):
            content, model = read_model(path)
            self.digest = hashlib.sha256(content).hexdigest()
            texts = {entry.key: entry.value for entry in model.metadata_props}
            self.metadata: dict[str, Any] = {k: json.loads(v) for k, v in texts.items()}
            check_metadata(self.metadata)
            self.labels: list[str] = self.metadata["labels"]
            self.inputs = [value.name for value in model.graph.input]
            self._model = model
            most = BATCH_ROWS * (MOST_NUMBERS + len(content))
            shapes = check_model(model, BATCH_ROWS, most, OPERATORS)
            self._check_shapes(shapes)
            share(model, shapes)
            self._evaluators: dict[str, ReferenceEvaluator] = {}
            self._evaluator(PROBABILITIES)
        self.embedding_length: int | None = shapes.get(EMBEDDING, (None, None))[1]

    def _check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises ValueError where inputs and outputs are not those of the metadata."""
        described = {
            value["name"]: () if value["length"] is None else (value["length"],)
            for kind in self.metadata["kinds"]
            for value in kind["inputs"]
        }
        expected = {name: (BATCH_ROWS, *shape) for name, shape in described.items()}
        expected[FEATURES] = (BATCH_ROWS, len(self.metadata["feature_names"]))
        for output in self.metadata["answers"]:
            if output not in ANSWERS:
                raise ValueError("it has an answer of another name")
            expected[output] = (BATCH_ROWS, len(self.labels))
            members = [name for name in shapes if name.startswith(f"/{output}/")]
            expected |= dict.fromkeys(members, expected[output])
        if {*self.inputs} != described.keys() or {*self.outputs} != {*self.metadata["answers"]}:
            raise ValueError("it has other inputs or outputs than it says")
        if PROBABILITIES not in self.outputs:
            raise KeyError(PROBABILITIES)
        for name, shape in expected.items():
            if shapes.get(name) != shape:
                raise ValueError(f"its `{name[:60]}` has another length than it says")
        for value in self._model.graph.output:
            lengths = [length.dim_value for length in value.type.tensor_type.shape.dim]
            if value.name in self.outputs and lengths[1:] != [len(self.labels)]:
                raise ValueError("an answer has not as many numbers as there are labels")

    @property
    def outputs(self) -> list[str]:
        """`PROBABILITIES`, and `PROBABILITIES_WITHOUT_SIZES` where it can also do without them."""
        return [value.name for value in self._model.graph.output if value.name in ANSWERS]

    def threshold(self, output: str = PROBABILITIES) -> float | None:
        """From which probability of its first answer on it is sure; None where it never is."""
        return self.metadata["answers"][output]["sure"]["threshold"]

    def predict_proba(self, artefacts: Artefacts, output: str = PROBABILITIES) -> np.ndarray:
        """Probabilities (n, number of labels) float32 of n artefacts.

        `output` may be `PROBABILITIES_WITHOUT_SIZES`, where the file has that.

        Raises PipelineError when the embeddings have another length than those of train, and when
        the model says something else than probabilities.
        """
        self._check_embeddings(artefacts)
        if not len(artefacts):
            return np.empty((0, len(self.labels)), dtype=np.float32)
        return self._checked(self._run(artefacts, output))

    def _check_embeddings(self, artefacts: Artefacts) -> None:
        if self.embedding_length is not None:
            found = artefacts[EMBEDDING].shape[1] if EMBEDDING in artefacts else None
            if found != self.embedding_length:
                raise PipelineError(
                    f"the model takes embeddings of length {self.embedding_length}, but the "
                    f"table has {'none' if found is None else f'length {found}'}"
                )

    def _checked(self, probabilities: np.ndarray) -> np.ndarray:
        answered = probabilities[~np.isnan(probabilities).all(axis=1)]
        with self._running():
            check_probabilities(answered)
        return probabilities

    def features(self, artefacts: Artefacts) -> np.ndarray:
        """The features of n artefacts, (n, number of `metadata["feature_names"]`) float32."""
        return self._run(artefacts, FEATURES)

    def members(self, artefacts: Artefacts, output: str = PROBABILITIES) -> dict[str, np.ndarray]:
        """What each member of a blend adds to the logarithms of the probabilities of n artefacts.

        Arrays (n, number of labels) float64 by the names of the members: their sum is the
        logarithms of an output, but for a number that is the same for all labels of a row. A model
        that is no blend has no members.
        """
        begin = f"/{output}/"
        names = [
            name
            for node in self._model.graph.node
            for name in node.output
            if name.startswith(begin)
        ]
        temperature = self.metadata["answers"][output]["temperature"]
        return {
            name.removeprefix(begin): self._run(artefacts, name) / np.float64(temperature)
            for name in names
        }

    def _run(self, artefacts: Artefacts, name: str) -> np.ndarray:
        with self._running():
            return _run(self._evaluator(name), artefacts, [name])[0]

    def _running(self) -> AbstractContextManager[None]:
        return reading(self._path, OTHER_MODEL)

    def _evaluator(self, name: str) -> ReferenceEvaluator:
        """The operators that lead to one result."""
        if name not in self._evaluators:
            self._evaluators[name] = _part(self._model, self.inputs, [name])
        return self._evaluators[name]

    def prepare(self, batches: Iterable[Artefacts]) -> Iterator["Prepared"]:
        """Compute what the model makes of each kind of features alone.

        It takes batches of artefacts one at a time, and yields `BLOCK_ROWS` artefacts at a time, at
        the end fewer: neither their embeddings nor what is made of them are all in the memory.

        Raises PipelineError as `predict_proba` does.
        """
        kind_of = {
            value["name"]: kind["name"]
            for kind in self.metadata["kinds"]
            for value in kind["inputs"]
        }
        nodes = nodes_between(self._model, self.inputs, self.outputs)
        with self._running():
            kinds = kinds_of_results(nodes, kind_of, self.outputs)
            first = _part(self._model, self.inputs, list(kinds))
            rest = {
                name: _part(self._model, [*kinds], [name]) for name in {*self.outputs} - {*kinds}
            }

        def score(columns: Artefacts, output: str) -> np.ndarray:
            if output in columns:
                return self._checked(columns[output])
            with self._running():
                return self._checked(_run(rest[output], columns, [output])[0])

        waiting: list[Artefacts] = []
        for artefacts in batches:
            if not len(artefacts):
                continue
            self._check_embeddings(artefacts)
            with self._running():
                found = _run(first, artefacts, list(kinds))
            waiting.append(Artefacts(dict(zip(kinds, found, strict=True))))
            if sum(map(len, waiting)) >= BLOCK_ROWS:
                rows = Artefacts.join(waiting)
                whole = len(rows) - len(rows) % BLOCK_ROWS
                for start in range(0, whole, BLOCK_ROWS):
                    yield Prepared(rows.take(slice(start, start + BLOCK_ROWS)), kinds, score)
                waiting = [rows.take(slice(whole, None))]
        if any(map(len, waiting)):
            yield Prepared(Artefacts.join(waiting), kinds, score)


@dataclass(frozen=True)
class Prepared:
    """Artefacts, as far as a model has come with each kind of their features alone."""

    columns: Artefacts
    kind_of: Mapping[str, str]  # the kind of features that each of the columns is made of
    score: Callable[[Artefacts, str], np.ndarray]  # an output of the model for such columns

    @classmethod
    def join(cls, parts: Sequence["Prepared"]) -> "Prepared":
        """The artefacts of all parts, one at least, which are of one model."""
        return replace(parts[0], columns=Artefacts.join([part.columns for part in parts]))

    def __len__(self) -> int:
        return len(self.columns)

    def take(self, rows: np.ndarray) -> "Prepared":
        """Some of the artefacts; `rows` (n,) bool says which."""
        return replace(self, columns=self.columns.take(rows))

    def predict_proba(self, output: str = PROBABILITIES) -> np.ndarray:
        """What `predict_proba` of the model gives for these artefacts: the same numbers."""
        return self.score(self.columns, output)

    def shuffled(self, kind: str, order: np.ndarray) -> "Prepared":
        """The same artefacts, but each with one kind of features of another.

        `order` (n,) int are the places of those others.
        """
        moved = {name: self.columns[name][order] for name, of in self.kind_of.items() if of == kind}
        return replace(self, columns=self.columns.with_columns(moved))


def _run(
    evaluator: ReferenceEvaluator, artefacts: Artefacts, names: Sequence[str]
) -> list[np.ndarray]:
    """Some results for n artefacts, one at least."""

    def score(start: int) -> list[np.ndarray]:
        rows = slice(start, start + BATCH_ROWS)
        feed = {name: artefacts[name][rows] for name in evaluator.input_names}
        # A row that cannot be used has nan for its answer, which is no reason to warn.
        with np.errstate(invalid="ignore", divide="ignore"):
            return [np.asarray(result) for result in evaluator.run(names, feed)]

    # NumPy releases the GIL while it works.
    with thread_pool() as pool:
        batches = pool.map(score, range(0, len(artefacts), BATCH_ROWS))
        return [np.concatenate(results) for results in zip(*batches, strict=True)]


def _part(
    model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]
) -> ReferenceEvaluator:
    """What computes some results of a model from others; of those it takes what it needs."""
    nodes = nodes_between(model, inputs, outputs)
    taken = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        "part",
        [onnx.helper.make_empty_tensor_value_info(name) for name in inputs if name in taken],
        [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
        [constant for constant in model.graph.initializer if constant.name in taken],
    )
    part = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    return ReferenceEvaluator(part, new_ops=OWN_OPERATORS)
