"""What every kind of features has. A kind that was fitted on training rows is a block of features.

Each file of stages/features/kinds/ is a kind: a dataclass below `Block` whose fields are arrays,
texts and numbers. What it does to rows is written once, as operators of an ONNX model, which NumPy
runs here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from stages.model_file.graph import Graph, nodes_between
from stages.tables.artefacts import Artefacts, ExtraKind

ROWS = 1024  # that operators are run on at a time: it bounds the memory


@dataclass(frozen=True)
class Input:
    """A column of the artefacts table that the model takes, and what people are told about it."""

    name: str
    type: Literal["float32", "float64", "string"]
    words: str  # what it is, such as "the photograph's width in pixels"
    example: float | str | None = None
    length: int | None = None  # of its lists; None for numbers and texts
    # The range of what training rows have, where that matters.
    low: float | None = None
    high: float | None = None

    def add_to(self, graph: Graph) -> str:
        """Make it an input of an ONNX model; give its name."""
        type_ = np.str_ if self.type == "string" else np.dtype(self.type).type
        shape = () if self.length is None else (self.length,)
        return graph.input(self.name, type_, *shape)


@dataclass(frozen=True)
class Description:
    """What the page and the card say about a kind of features.

    Each may hold `{label}`, `{labels}`, `{group}` and `{groups}`, which they replace by the words
    of `evaluate` in params.yaml.
    """

    columns: str  # what it is made of
    treatment: str  # what becomes of that
    reason: str  # why
    limit: str | None = None  # what to keep in mind when the model is used


class Block(ABC):
    """Features of one kind."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the importance and the page call it: the kind's or the column's name."""

    @property
    @abstractmethod
    def inputs(self) -> list[Input]:
        """The columns that it is made of."""

    @property
    @abstractmethod
    def feature_names(self) -> list[str]:
        """The names of its m features; those of no other block are among them."""

    @property
    @abstractmethod
    def description(self) -> Description:
        """What people are told about it."""

    @abstractmethod
    def add_to(self, graph: Graph, *inputs: str) -> tuple[str, list[str]]:
        """Add it to an ONNX model, whose inputs have these names.

        Every step is in 64 bits and rounded once to 32: trees cut features at values that rows
        have, where the last bit decides.

        Returns the name of the features, (n, m) float32, and those of conditions, (n,) bool, that
        a row has to meet to be used.
        """

    def describe(self) -> dict[str, Any]:
        """What the model's file says about it, as JSON has it."""
        inputs = [asdict(value) for value in self.inputs]
        return {"name": self.name, "inputs": inputs, "features": len(self.feature_names)} | asdict(
            self.description
        )


class ColumnBlock(Block):
    """Features of one column, as `featurize.columns` asks by the name of the kind's file."""

    # What the column has to hold: float64 with nan where a number is missing, or texts.
    takes: ClassVar[ExtraKind]
    column: str

    @classmethod
    @abstractmethod
    def fit(cls, column: str, values: np.ndarray) -> Self:
        """Fit it on the values (n,) of the training rows.

        Raises PipelineError when they cannot be such features.
        """

    @property
    def name(self) -> str:
        return self.column


def left_out(name: str, description: Description) -> dict[str, Any]:
    """What `Block.describe` gives, for a kind that the parameters leave out."""
    return {"name": name, "inputs": [], "features": 0} | asdict(description)


def by_numpy(
    add: Callable[..., str], inputs: Sequence[Input], type_: type[np.generic], length: int
) -> Callable[[Artefacts], np.ndarray]:
    """A function that gives what operators make of n artefacts, run by NumPy.

    `add(graph, *names of the inputs)` adds them to a graph, and gives the name of their result,
    (n, length) of `type_`.
    """
    graph = Graph()
    names = [value.add_to(graph) for value in inputs]
    graph.output("result", add(graph, *names), type_, length)
    model = onnx.load_from_string(graph.to_bytes({}, "Features of artefacts."))
    # Without what is there for the result's conditions alone.
    nodes = nodes_between(model, names, ["result"])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    evaluator = ReferenceEvaluator(model)

    def run(artefacts: Artefacts) -> np.ndarray:
        result = np.empty((len(artefacts), length), dtype=type_)
        for start in range(0, len(artefacts), ROWS):
            rows = slice(start, start + ROWS)
            (result[rows],) = evaluator.run(None, {name: artefacts[name][rows] for name in names})
        return result

    return run
