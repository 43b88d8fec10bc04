"""The artefacts that a model was trained on, and how often it was right on those that it was not.

Both come from the run that made the model: data/features/train.parquet, data/artefacts.parquet and
data/predictions.parquet.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from answers.answerer import Answerer
from stages.common.errors import PipelineError
from stages.common.files import REMAKE
from stages.evaluation.intervals import wilson
from stages.features.transformer import is_embedding
from stages.model_file.interface import PROBABILITIES
from stages.tables.artefacts import ARTEFACTS, METADATA, Artefacts
from stages.tables.features import features_path, read_features
from stages.tables.parquet import metadata_of, read_columns
from stages.tables.predictions import PREDICTIONS, read_predictions
from stages.tables.split import unit_rows

# Rows of val and test, at least, that are about as sure as an answer, whose share of right ones is
# told.
ALIKE_ROWS = 100
# Of few rows one in so many: those that are farther away say nothing of the answer.
FEWEST = 5


class Similar(NamedTuple):
    """An artefact of train, and how alike an artefact it is."""

    image_file: str
    medium: str
    museum: str
    cosine: float  # of the features that come from the embeddings, or of all where none do


class RightWhen(NamedTuple):
    """How often first answers were right that were about as probable."""

    rows: int
    right: int
    low: float  # the ends of the 95 % interval of the share
    high: float
    least: float  # their probabilities, from and to
    most: float


@dataclass(frozen=True)
class Training:
    """The training rows of a run, n of them."""

    answerer: Answerer
    image_files: np.ndarray  # (n,) object, texts
    mediums: np.ndarray  # (n,) object, texts
    museums: np.ndarray  # (n,) object, texts
    columns: np.ndarray  # (m,) int, the places of the features that are compared
    directions: np.ndarray  # (n, m) float32, of length 1
    predictions: pa.Table  # what the model said of the rows of val and test

    @classmethod
    def read(cls, answerer: Answerer) -> "Training":
        """Read the run in the current folder.

        Raises PipelineError when there is none, or when it has made another model.
        """
        for path in (ARTEFACTS, features_path("train"), PREDICTIONS):
            if not path.is_file():
                raise PipelineError(
                    f"there is no run in this folder, as {path} is missing: `dvc repro` makes it, "
                    "and `dvc pull` fetches it where a team shares results"
                )
        rows = read_features("train")
        predictions = read_predictions()
        model = answerer.model
        if (
            metadata_of(predictions.schema, "model") != model.digest
            or model.metadata["feature_names"] != rows.names
        ):
            raise PipelineError(
                f"{answerer.path} is not the model of the run in this folder, by whose results its "
                "answers are explained: run `dvc repro`, or name the model of this run"
            )
        embedding = [place for place, name in enumerate(rows.names) if is_embedding(name)]
        columns = np.array(embedding or range(len(rows.names)))
        types = {"image_file": METADATA["image_file"], "museum": METADATA["museum"]}
        table = read_columns(ARTEFACTS, types, "image_file")
        places = pc.index_in(pa.array(rows.image_files, pa.string()), table["image_file"])
        if places.null_count:
            raise PipelineError(
                f"{features_path('train')} is of other rows than {ARTEFACTS}: {REMAKE}"
            )
        museums = table["museum"].take(places).to_numpy()
        directions = unit_rows(rows.values[:, columns])
        return cls(
            answerer, rows.image_files, rows.mediums, museums, columns, directions, predictions
        )

    def similar(
        self, artefact: Artefacts, count: int = 5, medium: str | None = None
    ) -> list[Similar]:
        """The training rows that are the most alike to an artefact (one row), itself left out.

        Those of one medium, where that is given.
        """
        cosines = self.cosines(artefact)
        others = self.image_files != artefact["image_file"][0]
        if medium is not None:
            others &= self.mediums == medium
        places = np.flatnonzero(others)
        places = places[np.argsort(-cosines[places], kind="stable")[:count]]
        return [
            Similar(
                self.image_files[place],
                self.mediums[place],
                self.museums[place],
                float(cosines[place]),
            )
            for place in places
        ]

    def cosines(self, artefact: Artefacts) -> np.ndarray:
        """How alike each training row is to an artefact (one row): (n,) float32."""
        features = self.answerer.model.features(artefact)[:, self.columns]
        return self.directions @ unit_rows(features)[0]

    def right_when(
        self, probability: float, output: str = PROBABILITIES, image_file: str | None = None
    ) -> RightWhen | None:
        """How often the first answers of val and test were right that were about as probable.

        Those of the `ALIKE_ROWS` rows with the nearest probabilities, or of a fifth of all where
        that is less, and of all that are as near
        as the last of these; the row with the `image_file` is left out. Test has decided nothing,
        and those of val are cross-fitted. None where nothing is known.
        """
        end = output.removeprefix(PROBABILITIES)
        names = ["image_file", "medium", f"predicted{end}", f"probability{end}"]
        table = self.predictions.select(names).drop_null()
        if image_file is not None:
            table = table.filter(pc.field("image_file") != image_file)
        if not len(table):
            return None
        _, medium, predicted, probabilities = (column.to_numpy() for column in table.columns)
        away = np.abs(probabilities - probability)
        # Not the first of those that are alike: rows stand in an order that may mean something.
        count = min(ALIKE_ROWS, -(-len(away) // FEWEST))
        nearest = away <= np.sort(away)[count - 1]
        rows, right = int(nearest.sum()), int((medium == predicted)[nearest].sum())
        low, high = wilson(np.array(right), np.array(rows))
        some = probabilities[nearest]
        return RightWhen(rows, right, float(low), float(high), float(some.min()), float(some.max()))
