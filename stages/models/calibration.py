"""Probabilities that can be taken at their word: what is fitted after a model, on rows
that it has not seen.

Few rows say little. So what is fitted on them begins from a guess, and leaves it as far
as they speak against it: the mode of a posterior with a normal prior. With a few hundred rows, the
guess hardly matters.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from stages.models.examples import log_softmax, row_losses

# Between these the logarithm of the temperature is sought.
LEAST_LOG, MOST_LOG = -5.0, 5.0
# Standard deviations of the priors: of the logarithm of a temperature, which is 0 (logits as they
# are), and of a weight in a blend, which is that of a plain mean.
LOG_TEMPERATURE_SPREAD = 0.5
WEIGHT_SPREAD = 0.25
# With fewer rows, the priors still count.
FEW_ROWS = 100
# Parts of the rows for cross-fitting.
FOLDS = 5
# Rows of val whose answers are sure, without which nothing is promised of sure answers.
LEAST_SURE_ROWS = 30


def fit_temperature(
    logits: np.ndarray, classes: np.ndarray, row_weights: np.ndarray | None = None
) -> float:
    """The number by which to divide logits (n, k), so that the log loss of n rows is least.

    From Guo et al. 2017, On Calibration of Modern Neural Networks; the prior is ours. Without
    rows it is 1. It has six decimals: what lies below says nothing.
    """
    from scipy.optimize import minimize_scalar

    # What `log_loss` does, with what no temperature changes done once.
    shifted = logits - logits.max(axis=1, keepdims=True).astype(np.float64)
    own = shifted[np.arange(len(classes)), classes]
    scaled = np.empty_like(shifted)

    def loss(log_temperature: float) -> float:
        prior = (log_temperature / LOG_TEMPERATURE_SPREAD) ** 2 / 2
        if not len(classes):
            return prior
        temperature = np.exp(log_temperature)
        np.divide(shifted, temperature, out=scaled)
        losses = np.log(np.exp(scaled, out=scaled).sum(axis=1)) - own / temperature
        return len(classes) * float(np.average(losses, weights=row_weights)) + prior

    found = minimize_scalar(loss, bounds=(LEAST_LOG, MOST_LOG), method="bounded")
    return round(float(np.exp(found.x)), 6)


def fit_weights(
    members: list[np.ndarray], classes: np.ndarray, row_weights: np.ndarray | None = None
) -> np.ndarray:
    """Weights (j,), none below 0, of j models' logarithms of probabilities, each (n, k).

    Their weighted sum, through a softmax, has the least log loss on n rows: a logarithmic
    opinion pool (Genest and Zidek 1986). The prior is ours; without rows, all weigh the same.
    """
    from scipy.optimize import minimize

    rows = np.arange(len(classes))
    share = np.ones(len(classes)) if row_weights is None else row_weights
    plain = np.full(len(members), 1 / len(members))

    def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total = log_softmax(sum(w * member for w, member in zip(weights, members, strict=True)))
        probabilities = np.exp(total)
        gradient = [
            share @ ((probabilities * member).sum(axis=1) - member[rows, classes])
            for member in members
        ]
        away = (weights - plain) / WEIGHT_SPREAD
        loss = away @ away / 2 - share @ total[rows, classes]
        return loss, np.array(gradient) + away / WEIGHT_SPREAD

    bounds = [(0, None)] * len(members)
    found = minimize(loss_and_gradient, plain, jac=True, bounds=bounds, method="L-BFGS-B")
    return found.x


@dataclass(frozen=True)
class Sure:
    """From which probability of its first answer on a model is sure: right often enough on val."""

    accuracy: float  # of the sure answers, that was asked for
    threshold: float | None  # the probability; None where no answers are right so often
    share: float  # of the rows of val, whose answers are sure


def sure(probabilities: np.ndarray, classes: np.ndarray, accuracy: float) -> Sure:
    """The least probability from which on the first answers are right in a share of `accuracy`.

    `probabilities` (n, k) are those of n rows of val, by decisions that they had no part in. Fewer
    than `LEAST_SURE_ROWS` promise nothing.
    """
    best = probabilities.max(axis=1).astype(np.float64).round(6)
    order = np.argsort(-best, kind="stable")
    right = np.cumsum(probabilities.argmax(axis=1)[order] == classes[order])
    rows = np.arange(1, len(order) + 1)
    # All rows of one probability are sure, or none of them.
    ends = np.append(best[order][:-1] != best[order][1:], True)
    enough = ends & (right >= accuracy * rows) & (rows >= LEAST_SURE_ROWS)
    if not enough.any():
        return Sure(accuracy, None, 0.0)
    last = int(np.flatnonzero(enough)[-1])
    threshold = float(best[order][last])
    return Sure(accuracy, round(threshold, 6), round(float(rows[last] / len(rows)), 6))


def folds_of(classes: np.ndarray) -> Iterator[np.ndarray]:
    """The `FOLDS` folds of n rows: in each, which are in it, (n,) bool.

    `classes` (n,) are those of the rows; each fold has its share of each.
    """
    fold = np.empty(len(classes), dtype=int)
    fold[np.argsort(classes, kind="stable")] = np.arange(len(classes)) % FOLDS
    for number in range(FOLDS):
        yield fold == number


def best_steps(
    logits: Iterable[np.ndarray], classes: np.ndarray, row_weights: np.ndarray
) -> list[int]:
    """For each fold of val, the step of s that has the least log loss on all other rows.

    `logits` are those (n, k) of n rows of val after each step of training. A fold that has
    all rows leaves none to decide, and gets the last step.
    """
    losses = np.array([row_losses(step, classes) for step in logits]) * row_weights
    found = []
    for fold in folds_of(classes):
        others = losses[:, ~fold].sum(axis=1)
        found.append(int(others.argmin()) if not fold.all() else len(losses) - 1)
    return found


def own_parts(parts: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Of `FOLDS` matrices (f, n, k), the rows of each fold from the matrix of that fold: (n, k)."""
    result = np.empty(parts.shape[1:], dtype=parts.dtype)
    for part, fold in zip(parts, folds_of(classes), strict=True):
        result[fold] = part[fold]
    return result


def cross_fitted(
    without_fold: np.ndarray, classes: np.ndarray, row_weights: np.ndarray
) -> np.ndarray:
    """Probabilities (n, k) of the n rows of val, each by decisions that its fold had no part in.

    `without_fold` is that of `Fitted`. The temperature is fitted without the fold too.
    """
    parts = []
    for logits, fold in zip(without_fold, folds_of(classes), strict=True):
        temperature = fit_temperature(logits[~fold], classes[~fold], row_weights[~fold])
        parts.append(np.exp(log_softmax(logits / temperature)))
    return own_parts(np.array(parts), classes)
