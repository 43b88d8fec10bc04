"""Probabilities that can be taken at their word: what is fitted on val after a model."""

import numpy as np

from stages.common.examples import log_loss, log_softmax

# Between these the temperature is sought: beyond, a model is surely or never right.
LEAST_LOG, MOST_LOG = -5.0, 5.0


def fit_temperature(
    logits: np.ndarray, classes: np.ndarray, row_weights: np.ndarray | None = None
) -> float:
    """The number by which to divide logits (n, k), so that the log loss of n rows is least.

    From Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return log_loss(logits / np.exp(log_temperature), classes, row_weights)

    found = minimize_scalar(loss, bounds=(LEAST_LOG, MOST_LOG), method="bounded")
    return float(np.exp(found.x))


def fit_weights(
    members: list[np.ndarray], classes: np.ndarray, row_weights: np.ndarray | None = None
) -> np.ndarray:
    """Weights (j,), none below 0, of j models' logarithms of probabilities, each (n, k).

    Their weighted sum, through a softmax, has the least log loss on n rows: a logarithmic
    opinion pool (Genest and Zidek 1986).
    """
    from scipy.optimize import minimize

    rows = np.arange(len(classes))
    share = np.ones(len(classes)) if row_weights is None else row_weights
    share = share / share.sum()

    def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total = log_softmax(sum(w * member for w, member in zip(weights, members, strict=True)))
        probabilities = np.exp(total)
        gradient = [
            share @ ((probabilities * member).sum(axis=1) - member[rows, classes])
            for member in members
        ]
        return -share @ total[rows, classes], np.array(gradient)

    start = np.full(len(members), 1 / len(members))
    bounds = [(0, None)] * len(members)
    found = minimize(loss_and_gradient, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return found.x
