"""The rows that are measured, and what the model says of them."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from stages.common.errors import PipelineError, shorten
from stages.common.files import REMAKE
from stages.common.memory import SHUFFLED_ROWS
from stages.evaluation.consistency import Consistent, consistent
from stages.evaluation.metrics import metrics_of
from stages.model_file.interface import MODEL
from stages.model_file.scoring import ModelFile, Prepared
from stages.tables.artefacts import (
    ARTEFACTS,
    Artefacts,
    embedding_length,
    read_artefacts,
)
from stages.tables.val_probabilities import other_val_rows, read_val_probabilities

# Columns that are read whatever the model takes: for baselines, metrics and the predictions table.
COLUMNS = ("medium", "museum", "museum_based_instance_id", "width", "height")
PROGRESS = "evaluate"  # the title of the progress bars


@dataclass(frozen=True)
class Scored:
    """The n rows of val or test, and what the model says of them."""

    image_files: np.ndarray  # (n,) object, texts
    mediums: np.ndarray  # (n,) object, texts
    artefacts: Artefacts
    probabilities: np.ndarray  # (n, k) float32

    def take(self, rows: np.ndarray) -> "Scored":
        """Some of the rows; `rows` (n,) bool says which."""
        return Scored(
            self.image_files[rows],
            self.mediums[rows],
            self.artefacts.take(rows),
            self.probabilities[rows],
        )

    @property
    def best(self) -> np.ndarray:
        """The places of the rows' first answers among the labels: (n,) int."""
        return self.probabilities.argmax(axis=1)

    def truth(self, labels: list[str]) -> np.ndarray:
        """The places of the rows' mediums among the labels, which are sorted: (n,) int."""
        return np.searchsorted(np.array(labels, dtype=object), self.mediums)

    @cached_property
    def if_calibrated(self) -> Consistent:
        """What the rows would show if the probabilities were exactly right."""
        return consistent(self.probabilities)

    def metrics(self, labels: list[str]) -> dict[str, float]:
        """The seven metrics of the rows."""
        return metrics_of(self.mediums, self.probabilities, np.array(labels))


def read_columns(subset: str, subset_of: Mapping[str, str], columns: Collection[str]) -> Artefacts:
    """The image files and some columns of the rows of one subset."""
    return Artefacts.join(list(read_artefacts(subset, subset_of, columns, PROGRESS)))


def read_inputs(subset: str, model: ModelFile, subset_of: Mapping[str, str]) -> Iterator[Artefacts]:
    """What the model takes of the rows of a subset, batch by batch."""
    return read_artefacts(subset, subset_of, model.inputs, PROGRESS)


def read_rows(subset: str, model: ModelFile, subset_of: Mapping[str, str]) -> Scored:
    """Read the rows of a subset, without embeddings, and with no probabilities yet: (n, 0).

    Raises PipelineError when the subset has no rows, when the model takes embeddings and the
    table has none, or when a row has a label that the model does not know.
    """
    with_embedding = model.embedding_length is not None
    if with_embedding and embedding_length(ARTEFACTS) is None:
        raise PipelineError(
            f"{MODEL} was trained on embeddings, and the table has none: run `dvc repro`"
        )
    artefacts = read_columns(subset, subset_of, COLUMNS)
    image_files, mediums = artefacts["image_file"], artefacts["medium"]
    if not len(mediums):
        raise PipelineError(f"no rows are in {subset}: set another `split.strategy`")
    unknown = sorted(set(mediums) - set(model.labels))
    if unknown:
        raise PipelineError(
            f"{MODEL} does not know the label {unknown[0]} of {subset} "
            f"(labels that it does not know: {len(unknown)}): run `dvc repro`"
        )
    return Scored(image_files, mediums, artefacts, np.empty((len(mediums), 0), np.float32))


def score(
    model: ModelFile, rows: Scored, batches: Iterable[Artefacts]
) -> tuple[dict[str, Scored], Prepared]:
    """The rows with what each output of the model says of them, by its name, and some prepared.

    These are the `shuffled_rows`. `batches` have the model's inputs for all rows, in parts.

    Raises PipelineError when the model takes other embeddings than the table has, or has no answer
    to a row.
    """
    parts: dict[str, list[np.ndarray]] = {output: [] for output in model.outputs}
    taken, kept, start = shuffled_rows(len(rows.mediums)), [], 0
    for part in model.prepare(batches):
        for output, answers in parts.items():
            answers.append(part.predict_proba(output))
        kept.append(part.take(taken[start : start + len(part)]))
        start += len(part)
    found = {}
    for output, answers in parts.items():
        probabilities = np.concatenate(answers)
        unanswered = rows.image_files[np.isnan(probabilities).any(axis=1)]
        if len(unanswered) == len(probabilities):
            raise PipelineError(f"{MODEL} has no answer to any row: {REMAKE}")
        if len(unanswered):
            raise PipelineError(
                f"{MODEL} has no answer to {len(unanswered):,} of these rows, the first is "
                f"{shorten(unanswered[0])}: its numbers are too large; mend it in your table, or "
                "take it out"
            )
        found[output] = replace(rows, probabilities=probabilities)
    return found, Prepared.join(kept)


def shuffled_rows(count: int) -> np.ndarray:
    """Which of so many rows tell how much each kind of features matters: (n,) bool.

    All, or `SHUFFLED_ROWS` of them, evenly spaced: what more would say is within the interval.
    """
    found = np.zeros(count, dtype=bool)
    found[np.linspace(0, count - 1, min(count, SHUFFLED_ROWS)).astype(int)] = True
    return found


def read_val(model: ModelFile, subset_of: Mapping[str, str]) -> dict[str, Scored]:
    """The rows of val with the probabilities that `train` wrote, for each output of the model.

    Each row's come from models that had not seen the row and from decisions that it had no part in,
    where the model itself may have learned from all of val.

    Raises PipelineError as `read_rows` does, and when the probabilities are of other rows.
    """
    rows = read_rows("val", model, subset_of)
    image_files, probabilities = read_val_probabilities(model.labels, model.outputs)
    if image_files != rows.image_files.tolist():
        raise other_val_rows()
    return {output: replace(rows, probabilities=found) for output, found in probabilities.items()}
