"""A column of texts, such as the museum: one feature for each text that training rows have."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stages.common.errors import PipelineError
from stages.features.block import ColumnBlock, Description, Input
from stages.model_file.graph import ML, Graph
from stages.tables.artefacts import ExtraKind

MUSEUM = "museum"
MUSEUM_LEFT_OUT = Description(
    MUSEUM,
    "left out",
    "a model would learn which {group} has what, not what a {label} looks like",
)
# A column with more texts names rows, and does not put them in groups.
MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class Category(ColumnBlock):
    """1 for the text that a row has, 0 for all others; a text that train lacks gives zeros."""

    takes: ClassVar[ExtraKind] = "category"

    column: str
    values: np.ndarray  # (m,) str

    @classmethod
    def fit(cls, column: str, values: np.ndarray) -> "Category":
        found = np.unique(values).astype(str)
        if len(found) > MOST_CATEGORIES:
            raise PipelineError(
                f"the column `{column}` has {len(found):,} different texts in train, more than the "
                f"{MOST_CATEGORIES:,} of a category: leave it out of the features"
            )
        return cls(column, found)

    @property
    def inputs(self) -> list[Input]:
        museum = self.column == MUSEUM
        words = "the name of the {group}" if museum else f"its `{self.column}`"
        return [Input(self.column, "string", words, str(self.values[-1]))]

    @property
    def feature_names(self) -> list[str]:
        return [f"{self.column}={value}" for value in self.values]

    @property
    def description(self) -> Description:
        if self.column == MUSEUM:
            return Description(
                MUSEUM,
                "one feature for each {group} of train",
                "{groups} differ in what they hold",
                "It knows the {groups} of its training rows; for others the {group} tells nothing.",
            )
        return Description(
            self.column,
            "one feature for each text that train has",
            "as `featurize.columns` asks",
            f"It knows the `{self.column}` of its training rows; others tell nothing.",
        )

    def add_to(self, graph: Graph, *inputs: str) -> tuple[str, list[str]]:
        place = graph.add(
            "LabelEncoder",
            *inputs,
            domain=ML,
            keys_strings=self.values.tolist(),
            values_int64s=list(range(len(self.values))),
            default_int64=-1,
        )
        places = graph.constant(np.arange(len(self.values)))
        any_text = graph.add("Equal", place, place)
        features = graph.add("Equal", graph.columns([place]), places)
        return graph.cast(features, np.float32), [any_text]
