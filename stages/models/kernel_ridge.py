"""Kernel ridge regression on the labels, calibrated on its leave-one-out scores.

Ridge regression in the space of a radial basis function, with 1 for a row's own class and
0 for the others as targets; also known as a least-squares support vector machine (Suykens
and Vandewalle 1999). It has a direct solution, one Cholesky factorisation for all classes,
which also gives what the model would say of a training row if it had not seen it
(leave-one-out, in closed form: Cawley and Talbot 2004). Those scores tell how the classes are mixed
up, how sure the model may be, and which parameters are the best.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field
from tqdm import tqdm

from stages.common.engine import in_order
from stages.common.errors import PipelineError
from stages.common.stage import log
from stages.common.threads import in_threads
from stages.model_file.graph import Graph
from stages.models.base import Classifier, Fitted, ModelParams, Settings, decided_nothing
from stages.models.calibration import fit_temperature
from stages.models.cholesky import factorize, inverse_diagonal, tiles_of
from stages.models.examples import Examples, log_loss
from stages.models.held_out import HeldOut, scored_rows, stratified_order
from stages.models.kernel import Kernel, feature_scales
from stages.models.stack import Opinion, fit_stack

# So many rows choose what is `auto`, among these values, beginning with the first of each.
MOST_CHOOSING_ROWS = 2000
AUTO = "auto"
TRIED = {
    "gamma": (1.0, 0.5, 2.0),
    "metadata_weight": (8.0, 2.0, 4.0, 16.0),
    "penalty": (0.01, 0.003, 0.03, 0.1),
}
# Scores lie around 0 and 1. Logits are this many times as large: for 1 against 0, a probability of
# 0.99995.
STEEPNESS = 10
# Rows whose sums are computed at a time, in each thread, where functions are around centres.
SPAN = 4096
# What is added to the kernel of a centre with itself, which is 1.
JITTER = 1e-4


def up_to(most: int) -> BeforeValidator:
    """What refuses all but `auto` and numbers above 0, in one sentence."""

    def check(value: object) -> object:
        if value == AUTO or (
            isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most
        ):
            return value
        raise ValueError(f"should be auto or a number above 0, up to {most:,}, not {value!r}")

    return BeforeValidator(check)


class Params(ModelParams):
    """The section of `kernel_ridge`."""

    gamma: Annotated[float | Literal["auto"], up_to(1_000_000)]
    metadata_weight: Annotated[float | Literal["auto"], up_to(1000)]
    penalty: Annotated[float | Literal["auto"], up_to(1_000_000)]
    most_rows: int = Field(gt=1, le=40_000)
    centres: int = Field(gt=1, le=40_000)


@dataclass(frozen=True)
class KernelRidge:
    """Logits are `kernel @ weights + offsets`."""

    kernel: Kernel
    weights: np.ndarray  # (m, k) float32
    offsets: np.ndarray  # (k,) float32
    tuned: None = None

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) float32 of (n, d) features."""
        return self.kernel.times(values, self.weights) + self.offsets

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        return graph.linear(self.kernel.add_to(graph, features), self.weights, self.offsets)


@dataclass(frozen=True)
class Weighed:
    """A model, and what becomes of its logits."""

    model: Classifier
    opinion: Opinion
    tuned: None = None

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Logits (n, k) float64 of (n, d) features."""
        return self.opinion.of(self.model.logits(values))

    def add_to(self, graph: Graph, features: str) -> str:
        """Add the model to an ONNX model; give the logits of what `features` names."""
        return self.opinion.add_to(graph, self.model.add_to(graph, features))


def fit(
    params: Params,
    train: Examples,
    val: Examples | None,
    settings: Settings,
    tuned: None = None,
) -> Fitted:
    """Fit as `stages.models.base` says; the solution is direct, so the curve has one row.

    Raises PipelineError as `fit_held_out` does.
    """
    scored = scored_rows(train, len(train.classes), settings.seed)
    found = fit_held_out(params, train, scored, settings)
    weights = train.row_weights(settings.class_weight)[scored]
    (opinion,) = fit_stack([found.logits], train.classes[scored], weights)
    model = Weighed(found.model, opinion)
    return replace(decided_nothing(model, train, val, settings), rows={settings.name: found.rows})


def fit_held_out(params: Params, rows: Examples, scored: np.ndarray, settings: Settings) -> HeldOut:
    """Fit as `stages.models.held_out` says, with the rows that are scored left out one by one.

    Up to `most_rows` each row has a radial basis function around it. Of more, `centres` have one,
    with the classes in their proportions, and the weights of these are fitted on all rows.

    Raises PipelineError when the penalty is too small for single precision, or when
    `centres` are fewer than two a class.
    """
    order = stratified_order(rows.classes, settings.seed)
    weights = rows.row_weights(settings.class_weight)
    if len(order) <= params.most_rows:
        log("train", f"{settings.name}: solving for {len(order):,} rows")
        order = np.concatenate([order[~np.isin(order, scored)], scored])
        model, logits = solve(params, rows.take(order), weights[order], len(scored))
        return HeldOut(model, logits, len(order))
    if params.centres < 2 * len(rows.labels):
        raise PipelineError(
            f"`{settings.section}.centres` is {params.centres}, fewer than two for each of the "
            f"{len(rows.labels)} labels"
        )
    log(
        "train",
        f"{settings.name}: solving for {len(order):,} rows, more than `most_rows`, with functions "
        f"around {params.centres:,} of them",
    )
    # A row that is left out and has a function around it all the same says too much of itself.
    order = np.concatenate([scored, order[~np.isin(order, scored)]])
    if (own := params.centres + len(scored) - len(order)) > 0:
        log(
            "train",
            f"{settings.name}: {own:,} of the rows that judge it have functions of their own, so "
            "that it may seem surer than it is: lower `centres`, or raise `most_rows`",
        )
    centres = rows.take(order[-params.centres :])
    model, logits = solve_around(params, centres, rows, weights, scored)
    return HeldOut(model, logits, len(order))


def chosen(params: Params, train: Examples, settings: Settings) -> Params:
    """The parameters with numbers in place of `auto`.

    Each is chosen in turn by the log loss of the leave-one-out scores of some training rows.
    """
    both_kinds = len(set(feature_scales(train.names, 2.0))) > 1
    automatic = [name for name in TRIED if getattr(params, name) == AUTO]
    if not automatic:
        return params
    found = params.model_copy(update={name: TRIED[name][0] for name in automatic})
    if "metadata_weight" in automatic and not both_kinds:
        automatic.remove("metadata_weight")  # nothing to weigh it against
    if not automatic:
        return found
    some = train.take(stratified_order(train.classes, settings.seed)[-MOST_CHOOSING_ROWS:])
    weights = some.row_weights(settings.class_weight)

    def loss(tried: Params) -> float:
        _, logits = solve(tried, some, weights, len(some.classes))
        temperature = fit_temperature(logits, some.classes, weights)
        return log_loss(logits / temperature, some.classes, weights)

    least = loss(found)
    for name in automatic:
        for value in TRIED[name][1:]:
            tried = found.model_copy(update={name: value})
            if (own := loss(tried)) < least:
                found, least = tried, own
    values = ", ".join(f"{name} {getattr(found, name):g}" for name in automatic)
    log("train", f"{settings.name}: {values}, of what {len(some.classes):,} rows have tried")
    return found


def solve(
    params: Params, rows: Examples, row_weights: np.ndarray, left_out: int
) -> tuple[KernelRidge, np.ndarray]:
    """Fit ridge regression on n rows; give its logits of the last ones as if they were left out.

    `row_weights` (n,) are how much each row counts. Returns the model and the logits
    (`left_out`, k) float32.

    Raises PipelineError when the matrix is not positive definite in single precision.
    """
    from scipy.linalg import lapack

    scales = feature_scales(rows.names, float(params.metadata_weight))
    kernel = Kernel.around(rows.values, scales, float(params.gamma))
    centres = kernel.centres()
    count = len(centres)
    matrix = np.empty((count, count), dtype=np.float32)
    with tqdm(desc="train kernel", total=count, unit=" rows", leave=False, disable=None) as bar:

        def fill(rows: slice) -> None:
            # The matrix is symmetric: what lies above the diagonal is never read.
            matrix[rows, : rows.stop] = kernel.between(centres[rows], centres[: rows.stop])
            bar.update(rows.stop - rows.start)

        in_threads(fill, tiles_of(0, count))
    diagonal = np.einsum("ii->i", matrix)
    diagonal += (float(params.penalty) / row_weights).astype(np.float32)
    targets = np.eye(len(rows.labels))[rows.classes]
    means = np.average(targets, axis=0, weights=row_weights)
    targets = (targets - means).astype(np.float32)
    try:
        factorize(matrix)
    except np.linalg.LinAlgError:
        raise PipelineError(
            "the `penalty` of kernel ridge regression is too small for single precision: raise it, "
            "or raise `gamma`"
        ) from None
    ones = np.ones((count, 1), dtype=np.float32)
    # LAPACK stores by columns: for it this is the transposed factor.
    solution, _ = lapack.spotrs(matrix.T, np.hstack([targets, ones]), lower=0)
    coefficients, of_ones = solution[:, :-1], solution[:, -1:]
    scores = np.empty((0, len(rows.labels)))
    if left_out:
        # The last block of the inverse matrix comes from the last block of the factor alone.
        last = slice(count - left_out, count)
        inverse = inverse_diagonal(matrix[last, last])
        # Without a row, the means move away from its class, and all targets with them.
        moved = (row_weights / (row_weights.sum() - row_weights))[last, None] * targets[last]
        without = coefficients[last] + of_ones[last] * moved
        scores = targets[last] - without / inverse[:, None] + means
    return _scaled(kernel, coefficients, means), (STEEPNESS * scores).astype(np.float32)


def solve_around(
    params: Params,
    centres: Examples,
    rows: Examples,
    row_weights: np.ndarray,
    left_out: np.ndarray,
) -> tuple[KernelRidge, np.ndarray]:
    """Fit what `solve` fits on n rows, with functions around m of them alone.

    The subset of regressors (Poggio and Girosi 1990; Rasmussen and Williams 2006, section 8.3.1):
    with the kernel K of rows and centres, and that of the centres M, it solves
    (K'WK + penalty M) a = K'Wy. Both sides are sums over rows. `row_weights` (n,) are how much
    each row counts, `left_out` (s,) places of rows. Returns the model and the logits (s, k) float32
    of these rows, each as if it were left out.

    Raises PipelineError when the matrix is not positive definite.
    """
    from scipy.linalg import lapack

    scales = feature_scales(rows.names, float(params.metadata_weight))
    kernel = Kernel.around(centres.values, scales, float(params.gamma))
    count, penalty = len(centres.classes), float(params.penalty)
    targets = np.eye(len(rows.labels))[rows.classes]
    means = np.average(targets, axis=0, weights=row_weights)
    targets -= means
    between = kernel.between(kernel.centres(), kernel.centres())
    matrix = penalty * between.astype(np.float64)
    # Centres that are alike are one: without this, rounding would decide between them.
    np.einsum("ii->i", matrix)[:] += penalty * JITTER
    # With a column of ones: what a change of the means does.
    right = np.zeros((count, len(rows.labels) + 1))
    spans = [slice(start, start + SPAN) for start in range(0, len(rows.classes), SPAN)]
    items = ((rows.values[s], targets[s], row_weights[s]) for s in spans)
    with tqdm(desc="train kernel", total=len(rows.classes), unit=" rows", disable=None) as bar:
        for own_matrix, own_right, number in in_order(partial(sums_of, kernel), items):
            matrix += own_matrix
            right += own_right
            bar.update(number)
    factor, failed = lapack.dpotrf(matrix, lower=1, overwrite_a=1)
    if failed:
        raise PipelineError(
            "the `penalty` of kernel ridge regression is too small: raise it, or raise `gamma`"
        )
    solution, _ = lapack.dpotrs(factor, right, lower=1)
    coefficients, of_ones = solution[:, :-1], solution[:, -1]
    scores = np.empty((len(left_out), len(rows.labels)), dtype=np.float32)
    total = row_weights.sum()

    def score(some: slice) -> None:
        own = left_out[some]
        functions = kernel.between(rows.values[own] * scales, kernel.centres()).astype(np.float64)
        half, _ = lapack.dtrtrs(factor, functions.T, lower=1)
        weight = row_weights[own]
        leverage = (weight * np.einsum("mn,mn->n", half, half))[:, None]
        # Without a row, the means move away from its class, and all targets with them.
        moved = (weight / (total - weight))[:, None] * targets[own]
        fitted = functions @ coefficients + (functions @ of_ones)[:, None] * moved
        scores[some] = (fitted - leverage * (targets[own] + moved)) / (1 - leverage) - moved + means

    in_threads(score, tiles_of(0, len(left_out)))
    return _scaled(kernel, coefficients, means), STEEPNESS * scores


def sums_of(
    kernel: Kernel, rows: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, int]:
    """What some rows add to both sides of the equations of `solve_around`, and their number.

    They are features (n, d), targets (n, k) and weights (n,). In 64 bits: the sums are far larger
    than what the penalty adds.
    """
    values, targets, weights = rows
    functions = kernel.between(values * kernel.scales, kernel.centres()).astype(np.float64)
    functions *= np.sqrt(weights)[:, None]
    right = np.column_stack([targets, np.ones(len(targets))]) * np.sqrt(weights)[:, None]
    # NumPy computes half of such a product, which is symmetric.
    return functions.T @ functions, functions.T @ right, len(values)


def _scaled(kernel: Kernel, coefficients: np.ndarray, means: np.ndarray) -> KernelRidge:
    """The model whose scores, of 0 and 1, are logits."""
    return KernelRidge(
        kernel,
        (STEEPNESS * coefficients).astype(np.float32),
        (STEEPNESS * means).astype(np.float32),
    )
