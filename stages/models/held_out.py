"""What a model says of each row when it has not seen it, so that the rows can judge the model.

A module of a model may have a function of its own, which is faster:

    fit_held_out(params, rows, scored, settings) -> HeldOut
"""

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from stages.common.stage import log
from stages.models.base import Classifier, ModelParams, Settings
from stages.models.calibration import folds_of, own_parts
from stages.models.examples import Examples

# What models say of so many rows is enough to learn from.
MOST_SCORED_ROWS = 6000
# Of so many rows, those that are scored are few, and are left out all at once.
MANY_ROWS = 100_000


@dataclass(frozen=True)
class HeldOut:
    """A model of all rows, and what models that had not seen a row say of it."""

    model: Classifier
    logits: np.ndarray  # (s, k) of the scored rows
    rows: int  # how many it was fitted on


def fit_held_out(
    module: ModuleType, params: ModelParams, rows: Examples, scored: np.ndarray, settings: Settings
) -> HeldOut:
    """Fit a model of `module` on all rows, and score some of them; `scored` (s,) are their places.

    Without a function of its own, a model is fitted once more for each of a few folds, without it;
    of more than `MANY_ROWS`, once without the rows that are scored. What is decided while fitting,
    such as when to stop, is then decided by the fold, but not by a row's own part of it, and for
    the model of all rows by the median of the folds.
    """
    if hasattr(module, "fit_held_out"):
        return module.fit_held_out(params, rows, scored, settings)
    logits = np.empty((len(rows.classes), len(rows.labels)), dtype=np.float32)
    # The only row of a class stays, as a model has to know all classes.
    alone = np.bincount(rows.classes, minlength=len(rows.labels))[rows.classes] < 2
    decided = []
    folds: Iterable[np.ndarray] = folds_of(rows.classes)
    if len(rows.classes) > MANY_ROWS:
        folds = [np.isin(np.arange(len(rows.classes)), scored)]
        log(
            "train",
            f"{settings.name}: the {len(scored):,} rows that judge it are left out all at once, as "
            f"there are more than {MANY_ROWS:,} rows",
        )
    for fold in folds:
        if not fold.any():
            continue
        others, own = rows.take(np.flatnonzero(~fold | alone)), rows.take(np.flatnonzero(fold))
        fitted = module.fit(params, others, own, settings)
        logits[fold] = own_parts(fitted.parts_of_val(), own.classes)
        decided.append(fitted.model.tuned)
    tuned = None if decided[0] is None else int(np.median(decided))
    model = module.fit(params, rows, None, settings, tuned).model
    return HeldOut(model, logits[scored], len(rows.classes))


def scored_rows(rows: Examples, train_rows: int, seed: int) -> np.ndarray:
    """The places (s,) of rows that judge the members: `MOST_SCORED_ROWS`, and all of val.

    `rows` are `train_rows` of train, then those of val. Of train it takes rows with the classes in
    their proportions. Without its only row nothing can be said of a class.
    """
    train, val = rows.classes[:train_rows], rows.classes[train_rows:]
    most = max(0, MOST_SCORED_ROWS - len(val))
    order = stratified_order(train, seed)[max(0, train_rows - most) :]
    found = np.concatenate([order, train_rows + stratified_order(val, seed)])
    return found[np.bincount(rows.classes)[rows.classes[found]] > 1]


def stratified_order(classes: np.ndarray, seed: int) -> np.ndarray:
    """An order of n rows in which every stretch has the classes in their proportions, roughly.

    The last k rows of k classes are of one class each. Returns (n,) int.
    """
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    place = np.empty(len(classes))
    for class_ in np.unique(classes):
        rows = shuffled[classes[shuffled] == class_]
        place[rows] = np.arange(1, len(rows) + 1) / len(rows)
    return np.lexsort((classes, place))
