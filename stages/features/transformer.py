"""Artefacts to features, with everything in it fitted on training rows."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.common.files import atomic_write
from stages.tables.artefacts import Artefacts

if TYPE_CHECKING:
    from stages.model_file.graph import Graph

TRANSFORMER = Path("data/features/transformer.npz")
DIMENSIONS = ["log_width", "log_height", "log_area", "log_aspect_ratio", "abs_log_aspect_ratio"]


@dataclass(frozen=True)
class Transformer:
    """Artefacts to features.

    An array is empty where its part of the features is left out.
    """

    exponents: np.ndarray  # (d,) float64, of `yeo_johnson`
    embedding_mean: np.ndarray  # (d,) float64
    embedding_scale: np.ndarray  # (d,) float64
    components: np.ndarray  # (k, d) float64, the rows are principal components
    dimensions_mean: np.ndarray  # (5,) float64
    dimensions_scale: np.ndarray  # (5,) float64
    museums: np.ndarray  # (m,) str

    @property
    def feature_names(self) -> list[str]:
        """The names of the features, in the order of the columns that `transform` gives."""
        if self.components.size:
            embedding = [f"pca_{i}" for i in range(len(self.components))]
        else:
            embedding = [f"embedding_{i}" for i in range(len(self.embedding_mean))]
        dimensions = DIMENSIONS if self.dimensions_mean.size else []
        return [*embedding, *dimensions, *(f"museum={name}" for name in self.museums)]

    def transform(self, artefacts: Artefacts) -> np.ndarray:
        """The features of n artefacts, (n, number of feature names) float32.

        A museum that no training row has gives zeros in all museum columns.
        """
        blocks = []
        if self.embedding_mean.size:
            embedding = artefacts.embedding
            if self.exponents.size:
                embedding = yeo_johnson(embedding, self.exponents)
            standardized = (embedding - self.embedding_mean) / self.embedding_scale
            blocks.append(
                standardized @ self.components.T if self.components.size else standardized
            )
        if self.dimensions_mean.size:
            dimensions = dimensions_of(artefacts)
            blocks.append((dimensions - self.dimensions_mean) / self.dimensions_scale)
        if self.museums.size:
            blocks.append(artefacts.museum[:, None] == self.museums[None, :])
        return np.hstack(blocks).astype(np.float32)

    def add_to(self, graph: "Graph") -> tuple[str, str]:
        """Add `transform` to an ONNX model, with an input for each column that it takes.

        Every step is in 64 bits and rounded once to 32, as `transform` does it: trees
        cut features at values that rows have, where the last bit decides.

        Returns the name of the features, and that of which rows can be used: those whose sizes
        are numbers above 0 and whose embeddings are finite.
        """
        blocks, usable = [], []
        if self.embedding_mean.size:
            embedding = graph.input("embedding", np.float32, len(self.embedding_mean))
            # nan is not below infinity either.
            finite = graph.add(
                "Less", graph.add("Abs", embedding), graph.constant(np.float32(np.inf))
            )
            all_finite = graph.add("ReduceMin", graph.cast(finite, np.int32), axes=[1], keepdims=0)
            usable.append(graph.cast(all_finite, np.bool_))
            block = graph.cast(embedding, np.float64)
            if self.exponents.size:
                block = _add_yeo_johnson(graph, block, self.exponents)
            block = graph.standardize(block, self.embedding_mean, self.embedding_scale)
            if self.components.size:
                block = graph.add("MatMul", block, graph.constant(self.components.T))
            blocks.append(graph.cast(block, np.float32))
        if self.dimensions_mean.size:
            sizes = [graph.input(name, np.float64) for name in ("width", "height")]
            for size in sizes:
                usable.append(graph.add("Greater", size, graph.constant(np.float64(0))))
                usable.append(graph.add("Less", size, graph.constant(np.float64(np.inf))))
            logs = [graph.add("Log", size) for size in sizes]
            aspect = graph.add("Sub", *logs)
            columns = [*logs, graph.add("Add", *logs), aspect, graph.add("Abs", aspect)]
            last_axis = graph.constant(np.array([1]))
            dimensions = graph.add(
                "Concat", *(graph.add("Unsqueeze", c, last_axis) for c in columns), axis=1
            )
            block = graph.standardize(dimensions, self.dimensions_mean, self.dimensions_scale)
            blocks.append(graph.cast(block, np.float32))
        if self.museums.size:
            museum = graph.add(
                "LabelEncoder",
                graph.input("museum", np.str_),
                domain="ai.onnx.ml",
                keys_strings=self.museums.tolist(),
                values_int64s=list(range(len(self.museums))),
                default_int64=-1,
            )
            column = graph.add("Unsqueeze", museum, graph.constant(np.array([1])))
            is_it = graph.add("Equal", column, graph.constant(np.arange(len(self.museums))))
            blocks.append(graph.cast(is_it, np.float32))
        if not usable:  # a model of museums alone
            usable.append(graph.add("Equal", museum, museum))
        return graph.add("Concat", *blocks, axis=1), graph.all_of(usable)

    def save(self, path: Path) -> None:
        """Write the arrays to an .npz file; the same arrays give the same bytes.

        Not by `np.savez`: it asks for the large form of ZIP, in which Python up to 3.11.3 writes
        other bytes than later ones.
        """
        with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, array in vars(self).items():
                content = io.BytesIO()
                np.lib.format.write_array(content, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Transformer":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**arrays)


def is_embedding(feature: str) -> bool:
    """Whether a feature comes from the embedding; the others come from the metadata."""
    return feature.startswith(("embedding_", "pca_"))


def yeo_johnson(values: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """The power transform of Yeo and Johnson 2000 of (n, d) values, column by column.

    `exponents` (d,) are neither 0 nor 2, where the transform is a logarithm. Returns
    (n, d) float64.
    """
    above = np.maximum(values, 0).astype(np.float64)
    below = np.maximum(-values, 0).astype(np.float64)
    return ((above + 1) ** exponents - 1) / exponents - ((below + 1) ** (2 - exponents) - 1) / (
        2 - exponents
    )


def _add_yeo_johnson(graph: "Graph", values: str, exponents: np.ndarray) -> str:
    zero, one = graph.constant(np.float64(0)), graph.constant(np.float64(1))

    def half(part: str, powers: np.ndarray) -> str:
        """((max(part, 0) + 1) ** powers - 1) / powers"""
        power = graph.constant(powers)
        raised = graph.add("Pow", graph.add("Add", graph.add("Max", part, zero), one), power)
        return graph.add("Div", graph.add("Sub", raised, one), power)

    below = graph.add("Neg", values)
    return graph.add("Sub", half(values, exponents), half(below, 2 - exponents))


def dimensions_of(artefacts: Artefacts) -> np.ndarray:
    """Natural logarithms of width, height, area and aspect ratio, and the last one's absolute.

    Returns (n, 5) float64. The absolute value tells long pictures from square ones
    whichever way they are turned, which no sum of the others can.
    """
    width, height = np.log(artefacts.width), np.log(artefacts.height)
    aspect = width - height
    return np.column_stack([width, height, width + height, aspect, np.abs(aspect)])
