"""The tables of the plots: one function for each."""

import numpy as np
import pandas as pd

from stages.evaluation.intervals import f1_interval, metrics_of_sums, row_terms, wilson
from stages.evaluation.metrics import calibration_bins
from stages.evaluation.rows import Scored

# Of more labels, the table of confusions has no pairs that never occur: it would have millions.
MOST_PAIRED = 300


def confusion_counts(rows: Scored, labels: list[str]) -> pd.DataFrame:
    """How many rows of each actual label were taken for which: actual, predicted, count.

    All pairs of labels are there, also those that never occur. Of more than `MOST_PAIRED` labels,
    those are left out, but for each label with itself.
    """
    count = len(labels)
    pairs = np.bincount(rows.truth(labels) * count + rows.best, minlength=count * count)
    shown = np.arange(len(pairs))
    actual, named = np.divmod(shown, count)
    if count > MOST_PAIRED:
        shown = np.flatnonzero((pairs > 0) | (actual == named))
    names = np.array(labels, dtype=object)
    return pd.DataFrame(
        {
            "actual": names[actual[shown]],
            "predicted": names[named[shown]],
            "count": pairs[shown],
        }
    )


def per_class(rows: Scored, labels: list[str]) -> pd.DataFrame:
    """One line for each label: its rows, precision, recall and F1, the last two with intervals.

    Columns medium, rows, precision, recall, recall_low, recall_high, f1, f1_low, f1_high.
    The metrics of a label without rows are empty.
    """
    truth, answers = rows.truth(labels), rows.best
    terms = row_terms(truth, rows.probabilities)
    exact = metrics_of_sums(terms.sum(axis=0, keepdims=True), len(labels))
    actual, named, hits = (
        np.bincount(places, minlength=len(labels))
        for places in (truth, answers, truth[truth == answers])
    )
    table = {"medium": labels, "rows": actual, "precision": exact["precision"][0]}
    # Of a label without rows nothing is said, also where it was named.
    either = np.where(actual > 0, actual + named - hits, 0)
    ends = {"recall": wilson(hits, actual), "f1": f1_interval(hits, either)}
    for name, (low, high) in ends.items():
        table |= {name: exact[name][0], f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(table)


def reliability(rows: Scored, labels: list[str]) -> pd.DataFrame:
    """How sure the model is, and how often it is right then.

    Columns confidence, accuracy, low, high, rows: one line for each bin of confidence that has
    rows. The first two are means over them; `low` and `high` are the ends of the range in which
    the accuracy of a calibrated model lies in 95 of 100 cases.
    """
    right = rows.best == rows.truth(labels)
    confidence, bins = calibration_bins(rows.probabilities)
    expected = rows.if_calibrated
    counts = np.bincount(bins)
    used = np.flatnonzero(counts)
    return pd.DataFrame(
        {
            "confidence": np.bincount(bins, confidence)[used] / counts[used],
            "accuracy": np.bincount(bins, right)[used] / counts[used],
            "low": expected.bin_low[used],
            "high": expected.bin_high[used],
            "rows": counts[used],
        }
    )
