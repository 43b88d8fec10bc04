"""Features of the embedding: as it is, standardised, bent towards a normal distribution, or its
principal components.
"""

import json
import math
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from stages.common.stage import PipelineError
from stages.features.block import Block, Description, Input, by_numpy
from stages.model_file.graph import Graph
from stages.tables.artefacts import EMBEDDING, Artefacts

# Beyond these, a row that is a little further out than those of train would get a huge number.
EXPONENTS = (-8.0, 8.0)
# The exponents at which the power transform is a logarithm, and how near one may come.
LOGARITHMS = (0.0, 2.0)
NEAREST = 1e-6

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
        "standardised, then {count} principal components (`pca`)",
        "fewer features, and most of the variance",
    ),
}
LEFT_OUT = Description("embedding", "left out", "as `featurize.embedding` asks")


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
    )  # (k, d) float64, the rows are principal components
    identity: str = ""  # what made the embeddings, as JSON; empty where nobody knows

    @classmethod
    def fit(
        cls,
        how: str,
        train: Artefacts,
        components: int = 0,
        identity: dict[str, str] | None = None,
    ) -> "Embedding":
        """Fit it on training rows; `components` are those of `pca`, `identity` is what made them.

        Raises PipelineError when the training rows are too few for the principal components.
        """
        from sklearn.preprocessing import StandardScaler

        values = train[EMBEDDING]
        length = values.shape[1]
        made_by = "" if identity is None else json.dumps(identity, sort_keys=True)
        if how == "raw":
            return cls(how, length, identity=made_by)
        exponents = _nothing()
        if how == "power":
            exponents = fit_exponents(values)
            values = yeo_johnson(train, exponents)
        scaler = StandardScaler().fit(values)
        if how != "pca":
            return cls(how, length, exponents, scaler.mean_, scaler.scale_, identity=made_by)
        from sklearn.decomposition import PCA

        if components >= len(values):
            raise PipelineError(
                f"`featurize.pca.components` is {components}, but {len(values)} training rows "
                "have fewer principal components"
            )
        # The exact solver: the default one may draw at random.
        pca = PCA(components, svd_solver="covariance_eigh").fit(scaler.transform(values))
        directions = pca.components_.astype(np.float64)
        return cls(how, length, exponents, scaler.mean_, scaler.scale_, directions, made_by)

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
            treatment.format(count=len(self.components)),
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
            value = graph.add("MatMul", value, graph.constant(self.components.T))
        return graph.cast(value, np.float32), [graph.cast(all_finite, np.bool_)]


def _input(length: int) -> Input:
    return Input(EMBEDDING, "float32", "the embedding of its photograph", length=length)


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


def yeo_johnson(artefacts: Artefacts, exponents: np.ndarray) -> np.ndarray:
    """The power transform of Yeo and Johnson 2000 of the embeddings (n, d), number by number.

    `exponents` (d,) are neither 0 nor 2, where the transform is a logarithm. Returns
    (n, d) float64.
    """

    def add(graph: Graph, embedding: str) -> str:
        return _add_yeo_johnson(graph, graph.cast(embedding, np.float64), exponents)

    return by_numpy(add, [_input(len(exponents))], np.float64, len(exponents))(artefacts)


def _add_yeo_johnson(graph: Graph, values: str, exponents: np.ndarray) -> str:
    zero, one = graph.constant(np.float64(0)), graph.constant(np.float64(1))

    def half(part: str, powers: np.ndarray) -> str:
        """((max(part, 0) + 1) ** powers - 1) / powers"""
        power = graph.constant(powers)
        raised = graph.add("Pow", graph.add("Add", graph.add("Max", part, zero), one), power)
        return graph.add("Div", graph.add("Sub", raised, one), power)

    below = graph.add("Neg", values)
    return graph.add("Sub", half(values, exponents), half(below, 2 - exponents))
