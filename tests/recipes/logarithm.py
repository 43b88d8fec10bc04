"""A column of amounts: its logarithm; what is missing or not above 0 counts as 1."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stages.features.block import ColumnBlock, Description, Input
from stages.model_file.graph import Graph
from stages.tables.artefacts import ExtraKind


@dataclass(frozen=True)
class Logarithm(ColumnBlock):
    """The kind that the guide's recipe adds in a test."""

    takes: ClassVar[ExtraKind] = "number"

    column: str

    @classmethod
    def fit(cls, column: str, values: np.ndarray) -> "Logarithm":
        return cls(column)

    @property
    def inputs(self) -> list[Input]:
        return [Input(self.column, "float64", f"its `{self.column}`, an amount", 10.0)]

    @property
    def feature_names(self) -> list[str]:
        return [f"log {self.column}"]

    @property
    def description(self) -> Description:
        return Description(
            self.column, "its logarithm", "amounts differ by factors", "Amounts mislead."
        )

    def add_to(self, graph: Graph, *inputs: str) -> tuple[str, list[str]]:
        (value,) = inputs
        positive = graph.add("Greater", value, graph.constant(np.float64(0)))
        amount = graph.add("Where", positive, value, graph.constant(np.float64(1)))
        return graph.cast(graph.columns([graph.add("Log", amount)]), np.float32), []
