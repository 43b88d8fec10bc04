"""What the model leans on: the accuracy that it loses without each kind of features."""

import numpy as np
import pandas as pd

from stages.evaluation.intervals import INTERVAL, resample
from stages.evaluation.rows import Scored, shuffled_rows
from stages.model_file.scoring import ModelFile, Prepared

SHUFFLE_SEED = 0


def importance(model: ModelFile, prepared: Prepared, rows: Scored) -> pd.DataFrame:
    """How much accuracy is lost when the columns of one kind of features are shuffled between rows.

    Columns group, accuracy_drop, low, high: one line for each kind that the model
    takes, with a 95 % interval over rows. Permutation importance (Breiman 2001) of groups,
    because one number of an embedding says little, and width and height belong together.
    `prepared` are the `shuffled_rows` of the rows.
    """
    rows = rows.take(shuffled_rows(len(rows.mediums)))
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(rows.mediums))
    truth = rows.truth(model.labels)
    right = rows.best == truth
    groups = [kind["name"] for kind in model.metadata["kinds"] if kind["inputs"]]
    there = [prepared.shuffled(group, order).predict_proba() for group in groups]
    lost = np.column_stack([right.astype(float) - (one.argmax(axis=1) == truth) for one in there])
    low, high = np.percentile(resample(lost) / len(lost), INTERVAL, axis=0)
    return pd.DataFrame(
        {"group": groups, "accuracy_drop": lost.mean(axis=0), "low": low, "high": high}
    )
