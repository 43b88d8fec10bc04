"""What a model's file says of artefacts: with their sizes or without them, and how sure it is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.common.errors import PipelineError
from stages.model_file.interface import MODEL, PROBABILITIES, PROBABILITIES_WITHOUT_SIZES
from stages.model_file.scoring import ModelFile, is_sure
from stages.tables.artefacts import EMBEDDING, Artefacts

SIZES = ("width", "height")
# Sizes are far outside those of train when they are so many times smaller or larger than the ends
# of its range.
FAR = 2.0
SYNTHETIC = (
    "the model was trained on synthetic data: its answers show that the pipeline works, and say "
    "nothing about photographs"
)
SHOWN = 5  # labels of an answer
# Rows that are best asked about at a time: more take more memory, and are no faster.
ROWS = 256


@dataclass(frozen=True)
class Answers:
    """What a model says of n artefacts."""

    labels: list[str]  # k
    probabilities: np.ndarray  # (n, k) float32; nan where there is no answer
    with_sizes: np.ndarray  # (n,) bool, whether width and height were looked at
    sure: np.ndarray  # (n,) bool

    def best(self, row: int, count: int = SHOWN) -> list[tuple[str, float]]:
        """The most probable labels of a row, the most probable first.

        With their probabilities, of six decimals: what lies below says nothing, but for the order.
        """
        said = self.probabilities[row]
        order = np.argsort(-said, kind="stable")[:count]
        return [(self.labels[place], round(float(said[place]), 6)) for place in order]


class Answerer:
    """A model of `train`. Several threads may use one."""

    def __init__(self, path: Path = MODEL) -> None:
        """Raises PipelineError for a file that is no model of this pipeline, as it is now."""
        if not path.is_file():
            raise PipelineError(f"there is no model {path}: `dvc repro` makes it")
        self.path = path
        self.model = ModelFile(path)
        kinds = self.model.metadata["kinds"]
        inputs = {value["name"]: value for kind in kinds for value in kind["inputs"]}
        # The columns of artefacts that it takes beside the embedding and the sizes: their types.
        self.further: dict[str, str] = {
            name: value["type"] for name, value in inputs.items() if name not in (EMBEDDING, *SIZES)
        }
        # The range of the widths and of the heights of train, in pixels; none without sizes.
        self.ranges: dict[str, tuple[float, float]] = {
            name: (value["low"], value["high"])
            for name in SIZES
            for kind in kinds
            for value in kind["inputs"]
            # A column of numbers may be one of them, too.
            if value["name"] == name and value["low"] is not None
        }

    @property
    def synthetic(self) -> bool:
        """Whether it was trained on simulated data, so that it says nothing of photographs."""
        return self.model.metadata["source"] == "synthetic"

    @property
    def can_ignore_sizes(self) -> bool:
        """Whether it can answer without the sizes."""
        return not self.ranges or PROBABILITIES_WITHOUT_SIZES in self.model.outputs

    def output(self, without_sizes: bool) -> str:
        """Which of the model's outputs answers with the sizes, or without them."""
        return PROBABILITIES_WITHOUT_SIZES if without_sizes and self.ranges else PROBABILITIES

    def check_ignore_sizes(self) -> None:
        """Raises PipelineError when it cannot answer without the sizes."""
        if not self.can_ignore_sizes:
            raise PipelineError(
                f"{self.path} cannot answer without the sizes: train with `train.without_sizes` "
                "true, on embeddings or further columns"
            )

    def far(self, artefacts: Artefacts) -> np.ndarray:
        """Which of n artefacts have no sizes, or sizes far outside those of train: (n,) bool.

        Where the model does not take sizes, none have.
        """
        found = np.zeros(len(artefacts), dtype=bool)
        for name, (low, high) in self.ranges.items():
            sizes = artefacts[name]
            found |= ~((sizes >= low / FAR) & (sizes <= high * FAR))
        return found

    def ignored(self, far: np.ndarray, asked: bool) -> np.ndarray:
        """Which of n artefacts are to be answered without the sizes: (n,) bool.

        All where that is asked, else those whose sizes are `far`, (n,) bool, if it can.
        """
        return (far & self.can_ignore_sizes) | asked

    def answer(self, artefacts: Artefacts, without_sizes: np.ndarray | bool = False) -> Answers:
        """What the model says of n artefacts; `without_sizes`, (n,) bool or one for all.

        Raises PipelineError as `check_ignore_sizes` does, and for embeddings of another length.
        """
        rows = len(artefacts)
        ignored = np.broadcast_to(np.asarray(without_sizes, dtype=bool), rows)
        if ignored.any():
            self.check_ignore_sizes()
        probabilities = np.full((rows, len(self.model.labels)), np.nan, dtype=np.float32)
        sure = np.zeros(rows, dtype=bool)
        for without, some in ((True, ignored), (False, ~ignored)):
            if some.any():
                output = self.output(without)
                found = self.model.predict_proba(artefacts.take(some), output)
                probabilities[some] = found
                sure[some] = is_sure(found, self.model.threshold(output))
        with_sizes = ~ignored if self.ranges else np.zeros(rows, dtype=bool)
        return Answers(self.model.labels, probabilities, with_sizes, sure)
