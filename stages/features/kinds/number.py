"""A column of numbers, such as a year: standardised, and whether it is missing."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stages.common.errors import PipelineError
from stages.features.block import ColumnBlock, Description, Input
from stages.features.moments import moments
from stages.model_file.graph import Graph
from stages.tables.artefacts import ExtraKind


@dataclass(frozen=True)
class Number(ColumnBlock):
    """A missing number counts as the mean of train."""

    takes: ClassVar[ExtraKind] = "number"

    column: str
    mean: float
    scale: float
    missing: bool  # whether training rows lack it, so that there is a feature for that

    @classmethod
    def fit(cls, column: str, values: np.ndarray) -> "Number":
        known = values[~np.isnan(values)]
        if not len(known):
            raise PipelineError(
                f"no training row has a number in the column `{column}`: leave it out of the "
                "features"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            (mean,), (scale,) = (found.tolist() for found in moments(known[:, None]))
        if not (math.isfinite(mean) and math.isfinite(scale)):
            raise PipelineError(
                f"the numbers in the column `{column}` are too large for their mean and deviation: "
                "leave it out of the features"
            )
        return cls(column, mean, scale, len(known) < len(values))

    @property
    def inputs(self) -> list[Input]:
        words = f"its `{self.column}`, a number"
        return [Input(self.column, "float64", words, round(self.mean, 2))]

    @property
    def feature_names(self) -> list[str]:
        return [self.column, f"{self.column} is missing"] if self.missing else [self.column]

    @property
    def description(self) -> Description:
        treatment = "less its mean, divided by its standard deviation"
        if self.missing:
            treatment += "; a feature says where it is missing, which counts as the mean"
        return Description(self.column, treatment, "as `featurize.columns` asks")

    def add_to(self, graph: Graph, *inputs: str) -> tuple[str, list[str]]:
        (value,) = inputs
        absent = graph.add("IsNaN", value)
        standardized = graph.standardize(value, np.float64(self.mean), np.float64(self.scale))
        filled = graph.add("Where", absent, graph.constant(np.float64(0)), standardized)
        columns = [filled, graph.cast(absent, np.float64)] if self.missing else [filled]
        usable = graph.add("Not", graph.add("IsInf", value))
        return graph.cast(graph.columns(columns), np.float32), [usable]
