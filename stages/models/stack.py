"""How the opinions of several models become one: fitted on rows that none of them has seen.

Each model's logits are divided by a temperature. The blend is the weighted sum of the logarithms of
their probabilities (a logarithmic opinion pool: Genest and Zidek 1986), and on top of it a
multinomial logistic regression on these probabilities, which learns what each model mixes up
(stacking: Wolpert 1992).

Few rows say little. So all of it begins from a guess, and leaves it as far as the rows speak
against it: the mode of a posterior with a normal prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.model_file.graph import Graph
from stages.models.calibration import fit_temperature, fit_weights, folds_of
from stages.models.examples import log_softmax

# Standard deviation of the prior of a correction, which is 0.
CORRECTION_SPREAD = 1.0
# Of more labels nothing is corrected: what each is taken for are so many numbers that hardly any of
# them would leave 0, in hours.
MOST_CORRECTED = 300
# The relative change of the loss at which the corrections are good enough.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Opinion:
    """What becomes of the logits of a model."""

    temperature: float
    weight: float
    correction: np.ndarray  # (k, k) float32: what a probability adds to the logit of each class

    def of(self, logits: np.ndarray) -> np.ndarray:
        """What the model adds to the logits of the blend, (n, k) float64, for logits (n, k)."""
        logarithms = log_softmax(logits / self.temperature)
        weighted = self.weight * logarithms
        if not self.correction.any():
            return weighted
        return weighted + np.exp(logarithms) @ self.correction

    def add_to(self, graph: Graph, logits: str) -> str:
        """Add it to an ONNX model; give what is added to the logits of the blend."""
        tempered = graph.add("Mul", logits, graph.constant(np.float32(1 / self.temperature)))
        logarithms = graph.add("LogSoftmax", tempered, axis=1)
        weighted = graph.add("Mul", logarithms, graph.constant(np.float32(self.weight)))
        if not self.correction.any():
            return weighted
        probabilities = graph.add("Exp", logarithms)
        correction = graph.add("MatMul", probabilities, graph.constant(self.correction))
        return graph.add("Add", weighted, correction)


def fit_stack(
    members: Sequence[np.ndarray], classes: np.ndarray, row_weights: np.ndarray
) -> list[Opinion]:
    """Fit the opinions of j models, whose logits are (n, k) each, on the n rows' classes.

    None has a weight below 0. `row_weights` (n,) are how much each row counts. Without rows,
    temperatures are 1, all weigh the same, and nothing is corrected.
    """
    temperatures = [fit_temperature(logits, classes, row_weights) for logits in members]
    logarithms = [
        log_softmax(logits / temperature)
        for logits, temperature in zip(members, temperatures, strict=True)
    ]
    weights = fit_weights(logarithms, classes, row_weights)
    pool = sum(w * logs for w, logs in zip(weights, logarithms, strict=True))
    corrections = fit_corrections(
        np.asarray(pool), np.exp(np.hstack(logarithms)), classes, row_weights
    )
    return [
        Opinion(temperature, float(weight), correction)
        for temperature, weight, correction in zip(
            temperatures, weights, np.split(corrections, len(members)), strict=True
        )
    ]


def fit_corrections(
    logits: np.ndarray, probabilities: np.ndarray, classes: np.ndarray, row_weights: np.ndarray
) -> np.ndarray:
    """The matrix (m, k) float32 whose product with the `probabilities` (n, m) improves the logits.

    `logits` are (n, k). The log loss of the sum is least, but for the prior. Of more than
    `MOST_CORRECTED` labels it is 0.
    """
    if logits.shape[1] > MOST_CORRECTED:
        return np.zeros((probabilities.shape[1], logits.shape[1]), np.float32)
    from scipy.optimize import minimize

    rows = np.arange(len(classes))
    shape = (probabilities.shape[1], logits.shape[1])

    def loss_and_gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
        correction = values.reshape(shape)
        total = log_softmax(logits + probabilities @ correction)
        away = correction / CORRECTION_SPREAD
        loss = (away**2).sum() / 2 - row_weights @ total[rows, classes]
        excess = np.exp(total)
        excess[rows, classes] -= 1
        gradient = probabilities.T @ (row_weights[:, None] * excess) + away / CORRECTION_SPREAD
        return loss, gradient.ravel()

    found = minimize(
        loss_and_gradient,
        np.zeros(shape).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"ftol": TOLERANCE},
    )
    return found.x.reshape(shape).astype(np.float32)


def blended(opinions: Sequence[Opinion], members: Sequence[np.ndarray]) -> np.ndarray:
    """The logits (n, k) float64 of the blend, of the logits (n, k) of each of its members."""
    first, *others = (opinion.of(logits) for opinion, logits in zip(opinions, members, strict=True))
    return sum(others, start=first)


def cross_fitted_stack(
    members: Sequence[np.ndarray], classes: np.ndarray, row_weights: np.ndarray
) -> tuple[np.ndarray, float]:
    """Blend rows by opinions that are fitted without their fold, and calibrate that.

    Returns logits (n, k) of the n rows, divided by a temperature that is fitted without their fold
    too, and the temperature that all rows give.
    """
    result = np.empty(members[0].shape)
    folds = list(folds_of(classes))
    for fold in folds:
        opinions = fit_stack(
            [logits[~fold] for logits in members], classes[~fold], row_weights[~fold]
        )
        result[fold] = blended(opinions, [logits[fold] for logits in members])
    temperature = fit_temperature(result, classes, row_weights)
    divisors = np.ones((len(classes), 1))
    for fold in folds:
        divisors[fold] = fit_temperature(result[~fold], classes[~fold], row_weights[~fold])
    return result / divisors, temperature
