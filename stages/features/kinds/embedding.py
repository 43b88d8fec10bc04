"""Features of the embedding: as it is, standardised, bent towards a normal distribution, or its
principal components.
"""

import json
import math
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import Field
from tqdm import tqdm

from stages.common.errors import PipelineError
from stages.common.large_arrays import new_rows
from stages.common.params import Section
from stages.features.block import ROWS, Block, Description, Input, by_numpy
from stages.features.moments import Moments, above_0_in_32_bits, total
from stages.model_file.graph import Graph
from stages.tables.artefacts import EMBEDDING, LONGEST_EXACT, Artefacts

# Beyond these, a row that is a little further out than those of train would get a huge number.
EXPONENTS = (-8.0, 8.0)
# The exponents at which the power transform is a logarithm, and how near one may come.
LOGARITHMS = (0.0, 2.0)
NEAREST = 1e-6
# Of the randomised solver: its passes over the rows beyond the first, which bring it nearer to the
# exact components, and its seed.
PASSES, SEED = 3, 0
# Bytes depend on the number of threads in a product, but not on that of the cores.
THREADS = 2
# A component that varies less than this share of the first is rounding, and nothing of the rows.
LEAST_VARIANCE = 1e-6

TREATMENTS = {
    "raw": ("as it is (`raw`)", "nothing is changed; numbers that vary more count more"),
    "standardize": (
        "each number less its mean, divided by its standard deviation (`standardize`)",
        "so that all numbers count alike",
    ),
    "power": (
        "each number bent towards a normal distribution, then standardised (`power`)",
        "so that a few large values don't rule",
    ),
    "pca": (
        "standardised, then {count} principal components{whitened}{scaled} (`pca`)",
        "fewer features, and most of the variance",
    ),
}
WHITENED = ", made to vary more alike"
SCALED = ", each row scaled to one length"
LEFT_OUT = Description("embedding", "left out", "as `featurize.embedding` asks")


class Pca(Section):
    """`featurize.pca`"""

    components: int = Field(gt=0)
    whitening: float = Field(ge=0, le=1)
    unit_length: bool


def _nothing() -> np.ndarray:
    return np.empty(0)


@dataclass(frozen=True)
class Embedding(Block):
    """Features of embeddings with d dimensions. Arrays are empty where a step is left out."""

    how: str  # raw, standardize, power or pca
    length: int  # d
    exponents: np.ndarray = field(
        default_factory=_nothing
    )  # (d,) float64, of the transform of Yeo and Johnson
    mean: np.ndarray = field(default_factory=_nothing)  # (d,) float64
    scale: np.ndarray = field(default_factory=_nothing)  # (d,) float64
    components: np.ndarray = field(
        default_factory=_nothing
    )  # (k, d) float16, the rows are principal components
    factors: np.ndarray = field(default_factory=_nothing)  # (k,) float64, of the components
    unit_length: bool = False  # whether rows of components are scaled to the length sqrt(k)
    identity: str = ""  # what made the embeddings, as JSON; empty where nobody knows

    @classmethod
    def fit(
        cls,
        how: str,
        values: np.ndarray | Moments,
        pca: Pca | None = None,
        identity: dict[str, str] | None = None,
    ) -> "Embedding":
        """Fit it on the embeddings (n, d) float32 of the training rows.

        Where `needs_rows` is false, their moments will do, for `pca` with products. `pca` is for
        that way alone, `identity` is what made the embeddings.

        Raises PipelineError when the training rows have no principal components.
        """
        made_by = "" if identity is None else json.dumps(identity, sort_keys=True)
        length = len(values.mean) if isinstance(values, Moments) else values.shape[1]
        plain = cls(how, length, identity=made_by)
        if how == "raw":
            return plain
        exponents = _nothing()
        if isinstance(values, Moments):
            found = values
        elif how == "power":
            exponents = fit_exponents(values)
            found = total(
                Moments.of(yeo_johnson(values[start : start + ROWS], exponents))
                for start in range(0, len(values), ROWS)
            )
        else:
            products = pca is not None and not needs_rows(how, length)
            found = Moments.in_parts(values, products)
        if pca is None:
            return replace(plain, exponents=exponents, mean=found.mean, scale=found.deviations)
        scale = above_0_in_32_bits(found.deviations)
        standardized: np.ndarray | Moments = found.divided(scale)
        if isinstance(values, np.ndarray) and needs_rows(how, length):
            standardized = new_rows(*values.shape)
            mean, by = found.mean.astype(np.float32), scale.astype(np.float32)
            for start in range(0, len(values), ROWS):
                some = slice(start, start + ROWS)
                standardized[some] = (values[some] - mean) / by
        components, variances = principal_components(standardized, pca.components)
        return replace(
            plain,
            mean=found.mean,
            scale=scale,
            # 16 bits make the model's file and the transformer small, and change the features by
            # less than anything can tell.
            components=components.astype(np.float16),
            factors=variances ** (-pca.whitening / 2),
            unit_length=pca.unit_length,
        )

    @property
    def name(self) -> str:
        return EMBEDDING

    @property
    def inputs(self) -> list[Input]:
        return [_input(self.length)]

    @property
    def feature_names(self) -> list[str]:
        if self.components.size:
            return [f"pca_{i}" for i in range(len(self.components))]
        return [f"embedding_{i}" for i in range(self.length)]

    @property
    def description(self) -> Description:
        treatment, reason = TREATMENTS[self.how]
        return Description(
            "embedding",
            treatment.format(
                count=len(self.components),
                whitened=WHITENED if (self.factors != 1).any() else "",
                scaled=SCALED if self.unit_length else "",
            ),
            reason,
            "A photograph must be turned into an embedding in the same way as those of the "
            "training rows.",
        )

    def add_to(self, graph: Graph, *inputs: str) -> tuple[str, list[str]]:
        (embedding,) = inputs
        # nan is not below infinity either.
        finite = graph.add("Less", graph.add("Abs", embedding), graph.constant(np.float32(np.inf)))
        all_finite = graph.add("ReduceMin", graph.cast(finite, np.int32), axes=[1], keepdims=0)
        value = graph.cast(embedding, np.float64)
        if self.exponents.size:
            value = _add_yeo_johnson(graph, value, self.exponents)
        if self.mean.size:
            value = graph.standardize(value, self.mean, self.scale)
        if self.components.size:
            components = graph.constant(np.ascontiguousarray(self.components.T))
            value = graph.add("MatMul", value, graph.cast(components, np.float64))
            value = graph.add("Mul", value, graph.constant(self.factors))
        if self.unit_length:
            value = _add_unit_length(graph, value, len(self.components))
        return graph.cast(value, np.float32), [graph.cast(all_finite, np.bool_)]


def _input(length: int) -> Input:
    return Input(EMBEDDING, "float32", "the embedding of its photograph", length=length)


def needs_rows(how: str, length: int) -> bool:
    """Whether this way is fitted on the rows themselves, and not on their moments."""
    return how == "power" or (how == "pca" and length > LONGEST_EXACT)


def principal_components(values: np.ndarray | Moments, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The `most` principal components, or as many as there are, of standardised rows.

    `values` are the rows, (n, d) float32, or their moments with products, which do up to
    `LONGEST_EXACT` dimensions. Returns the components (k, d), unit vectors with the one that varies
    most first, and their variances (k,) float64.

    Up to `LONGEST_EXACT` dimensions they are exact, beyond that those of a randomised solver
    (Halko, Martinsson and Tropp 2011), which overwrites the rows.

    Raises PipelineError when the rows are all alike.
    """
    if isinstance(values, np.ndarray) and values.shape[1] > LONGEST_EXACT:
        found: np.ndarray | Moments = values
        rows, length = values.shape
        varies = np.ptp(values, axis=0).any()
    else:
        found = values if isinstance(values, Moments) else Moments.in_parts(values, products=True)
        rows, length = found.count, len(found.mean)
        varies = found.squares.any()
    if not varies:
        raise PipelineError(
            "the embeddings of the training rows are all alike, so that they have no principal "
            "components: set `featurize.embedding` to standardize or none"
        )
    count = min(most, length, rows - 1)
    if isinstance(found, Moments):
        components, variances = exact(found.squares / (rows - 1), count)
    else:
        components, variances = randomized(found, count)
    kept = variances > LEAST_VARIANCE * variances[0]
    return components[kept], variances[kept]


def exact(covariance: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` components (k, d) for a covariance (d, d), and their variances (k,).

    They are those of scikit-learn's `PCA`, by the eigenvectors of the covariance, without loading
    it. All are float64.
    """
    variances, vectors = np.linalg.eigh(covariance)
    found = np.ascontiguousarray(vectors[:, : -count - 1 : -1].T)
    # A vector may point either way: its largest number is above 0.
    largest = np.abs(found).argmax(axis=1)[:, None]
    found *= np.sign(np.take_along_axis(found, largest, axis=1))
    return found, np.maximum(variances[: -count - 1 : -1], 0)


def randomized(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What `exact` gives, by scikit-learn's randomised solver, of (n, d) values.

    It overwrites them. Its time does not grow with the cube of d.
    """
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    pca = PCA(
        count,
        copy=False,
        svd_solver="randomized",
        iterated_power=PASSES,
        # Without it, passes in 32 bits lose all but the first components; QR takes far longer.
        power_iteration_normalizer="LU",
        random_state=SEED,
    )
    with threadpool_limits(THREADS, user_api="blas"):
        pca.fit(values)
    return pca.components_, pca.explained_variance_.astype(np.float64)


def _add_unit_length(graph: Graph, values: str, width: int) -> str:
    """Rows (n, width) scaled so that the mean of their squares is 1; zeros stay zeros."""
    squares = graph.add("ReduceSumSquare", values, axes=[1], keepdims=1)
    mean = graph.add("Div", squares, graph.constant(np.float64(width)))
    least = graph.constant(np.float64(np.finfo(np.float32).tiny))
    return graph.add("Div", values, graph.add("Sqrt", graph.add("Max", mean, least)))


def fit_exponents(embedding: np.ndarray) -> np.ndarray:
    """For each of d numbers, the exponent of `yeo_johnson` that makes it most like a normal one.

    `embedding` is (n, d) float32. Returns (d,) float64. A number that is the same in all rows
    is left as it is: its exponent is 1.
    """
    from sklearn.preprocessing import PowerTransformer

    exponents = np.ones(embedding.shape[1])
    varies = np.flatnonzero(np.ptp(embedding, axis=0) > 0)
    for column in tqdm(varies, desc="featurize exponents", unit=" numbers", disable=None):
        values = embedding[:, [column]].astype(np.float64)
        fitted = PowerTransformer(standardize=False).fit(values).lambdas_[0]
        exponents[column] = np.clip(apart_from_logarithms(fitted), *EXPONENTS)
    return exponents


def apart_from_logarithms(exponent: float) -> float:
    """The nearest exponent with which `yeo_johnson` is a power: the same to 6 decimals."""
    for logarithm in LOGARITHMS:
        if abs(exponent - logarithm) < NEAREST:
            return logarithm + math.copysign(NEAREST, exponent - logarithm)
    return exponent


def yeo_johnson(embedding: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """The power transform of Yeo and Johnson 2000 of embeddings (n, d) float32, number by number.

    `exponents` (d,) are neither 0 nor 2, where the transform is a logarithm. Returns
    (n, d) float64.
    """

    def add(graph: Graph, embedding: str) -> str:
        return _add_yeo_johnson(graph, graph.cast(embedding, np.float64), exponents)

    return by_numpy(add, [_input(len(exponents))], np.float64, len(exponents))(
        Artefacts({EMBEDDING: embedding})
    )


def _add_yeo_johnson(graph: Graph, values: str, exponents: np.ndarray) -> str:
    zero, one = graph.constant(np.float64(0)), graph.constant(np.float64(1))

    def half(part: str, powers: np.ndarray) -> str:
        """((max(part, 0) + 1) ** powers - 1) / powers"""
        power = graph.constant(powers)
        raised = graph.add("Pow", graph.add("Add", graph.add("Max", part, zero), one), power)
        return graph.add("Div", graph.add("Sub", raised, one), power)

    below = graph.add("Neg", values)
    return graph.add("Sub", half(values, exponents), half(below, 2 - exponents))
