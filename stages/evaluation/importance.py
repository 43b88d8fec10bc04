"""What the model leans on: the accuracy that it loses without each kind of features."""

import numpy as np
import pandas as pd

from stages.evaluation.intervals import interval, resample
from stages.evaluation.rows import Scored
from stages.model_file.scoring import ModelFile
from stages.tables.artefacts import EMBEDDING

SHUFFLE_SEED = 0


def importance(model: ModelFile, rows: Scored) -> pd.DataFrame:
    """How much accuracy is lost when the columns of one kind of features are shuffled between rows.

    Columns group, accuracy_drop, low, high: one line for each kind that the model
    takes, with a 95 % interval over rows. Permutation importance (Breiman 2001) of groups,
    because one number of an embedding says little, and width and height belong together.
    """
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(rows.mediums))
    truth = rows.truth(model.labels)
    right = rows.best == truth
    score, artefacts, stand_for_embedding = model.once_embedded(rows.artefacts)
    lines = []
    for kind in model.metadata["kinds"]:
        if not kind["inputs"]:
            continue
        columns = {value["name"] for value in kind["inputs"]}
        if EMBEDDING in columns:
            columns = (columns - {EMBEDDING}).union(stand_for_embedding)
        shuffled = {name: artefacts[name][order] for name in columns}
        there = score(artefacts.with_columns(shuffled))
        lost = right.astype(float) - (there.argmax(axis=1) == truth)
        low, high = interval(resample(lost[:, None])[:, 0] / len(lost))
        lines.append(
            {
                "group": kind["name"],
                "accuracy_drop": lost.mean(),
                "low": float(low),
                "high": float(high),
            }
        )
    return pd.DataFrame(lines)
