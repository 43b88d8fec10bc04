"""What becomes of a row group, wherever that is done: moments of embeddings, and features."""

import numpy as np
import pyarrow as pa

from stages.common.errors import PipelineError, shorten
from stages.features.moments import Moments
from stages.features.transformer import Transformer
from stages.tables.artefacts import EMBEDDING, Artefacts
from stages.tables.parquet import fixed_size_list
from stages.tables.values import SUBSETS


def moments_of_train(artefacts: Artefacts, subsets: np.ndarray, products: bool) -> Moments | None:
    """The moments of the embeddings of training rows; None where no row is one."""
    own = artefacts[EMBEDDING][subsets == "train"]
    return Moments.of(own, products) if len(own) else None


def features_of(
    artefacts: Artefacts, subsets: np.ndarray, transformer: Transformer, schema: pa.Schema
) -> dict[str, pa.RecordBatch]:
    """The rows of a features table with this schema, by the subsets (n,) that artefacts are in."""
    features = finite_features(transformer, artefacts)
    batches = {}
    for subset in SUBSETS:
        own = subsets == subset
        columns = [
            pa.array(artefacts["image_file"][own], pa.string()),
            pa.array(artefacts["medium"][own], pa.string()),
            fixed_size_list(features[own]),
        ]
        batches[subset] = pa.RecordBatch.from_arrays(columns, schema=schema)
    return batches


def finite_features(transformer: Transformer, artefacts: Artefacts) -> np.ndarray:
    """The features (n, d) float32 of n artefacts.

    Raises PipelineError for one that 32 bits cannot hold: a number is far beyond those of train.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values = transformer.transform(artefacts)
    if not np.isfinite(values).all():
        row, feature = np.argwhere(~np.isfinite(values))[0]
        raise PipelineError(
            f"the feature `{shorten(transformer.feature_names[feature])}` of "
            f"{shorten(artefacts['image_file'][row])} is beyond all bounds, as a number there is "
            "far from those of train: mend that row, or leave its column out of the features"
        )
    return values
