"""Features of the photograph's width and height."""

from dataclasses import dataclass, replace

import numpy as np

from stages.features.block import Block, Description, Input, by_numpy
from stages.features.moments import moments
from stages.model_file.graph import Graph
from stages.tables.artefacts import Artefacts

SIZES = "sizes"  # the name of the block
NAMES = ["log_width", "log_height", "log_area", "log_aspect_ratio", "abs_log_aspect_ratio"]
INPUTS = [
    Input("width", "float64", "the photograph's width in pixels", 1200.0),
    Input("height", "float64", "its height in pixels", 900.0),
]
# The shares of the training rows below the ends of what is called their range: beyond it lies one
# row in a thousand at each end, such as a single one with a slip of the pen.
RANGE = (0.001, 0.999)
LEFT_OUT = Description("width, height", "left out", "as `featurize.sizes` asks")


@dataclass(frozen=True)
class Sizes(Block):
    """Standardised logarithms."""

    mean: np.ndarray  # (5,) float64
    scale: np.ndarray  # (5,) float64
    ranges: np.ndarray  # (2, 2) float64, the range of the widths and that of the heights, pixels

    @classmethod
    def fit(cls, train: Artefacts) -> "Sizes":
        """Fit it on training rows."""
        mean, scale = moments(logarithms(train))
        ranges = [np.quantile(train[value.name], RANGE) for value in INPUTS]
        return cls(mean, scale, np.array(ranges))

    @property
    def name(self) -> str:
        return SIZES

    @property
    def inputs(self) -> list[Input]:
        return [
            replace(value, low=float(low), high=float(high))
            for value, (low, high) in zip(INPUTS, self.ranges, strict=True)
        ]

    @property
    def feature_names(self) -> list[str]:
        return NAMES

    @property
    def description(self) -> Description:
        return Description(
            "width, height",
            "logarithms of width, height, area and aspect ratio, and the absolute value of the "
            "last; standardised",
            "sizes differ by factors; long pictures are told from square ones whichever way they "
            "are turned",
            "Width and height tell how a {group} exports its photographs, not only what is on "
            "them.",
        )

    def add_to(self, graph: Graph, *inputs: str) -> tuple[str, list[str]]:
        usable = []
        for size in inputs:
            usable.append(graph.add("Greater", size, graph.constant(np.float64(0))))
            usable.append(graph.add("Less", size, graph.constant(np.float64(np.inf))))
        value = graph.standardize(_add_logarithms(graph, *inputs), self.mean, self.scale)
        return graph.cast(value, np.float32), usable


def logarithms(artefacts: Artefacts) -> np.ndarray:
    """Natural logarithms of width, height, area and aspect ratio, and the last one's absolute.

    Returns (n, 5) float64. The absolute value tells long pictures from square ones
    whichever way they are turned, which no sum of the others can.
    """
    return by_numpy(_add_logarithms, INPUTS, np.float64, len(NAMES))(artefacts)


def _add_logarithms(graph: Graph, width: str, height: str) -> str:
    logs = [graph.add("Log", size) for size in (width, height)]
    aspect = graph.add("Sub", *logs)
    return graph.columns([*logs, graph.add("Add", *logs), aspect, graph.add("Abs", aspect)])
