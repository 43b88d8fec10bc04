"""Artefacts to features, with everything in it fitted on training rows: a list of blocks."""

import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from inspect import isabstract, isclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from stages.common.files import atomic_write, reading
from stages.features.block import Block, ColumnBlock, Input, by_numpy, left_out
from stages.features.kinds import category, embedding, sizes
from stages.model_file.checking import OPERATORS, check_model
from stages.model_file.graph import Graph
from stages.model_file.metadata import check_kinds
from stages.tables.artefacts import Artefacts

TRANSFORMER = Path("data/features/transformer.npz")
KINDS_FOLDER = Path(__file__).with_name("kinds")
# More features than these, and more numbers on the way to those of a row, have no model.
MOST, MOST_NUMBERS = 1_000_000, 2**26
# What is told about the kinds that a run may leave out.
LEFT_OUT = {
    "embedding": embedding.LEFT_OUT,
    "sizes": sizes.LEFT_OUT,
    category.MUSEUM: category.MUSEUM_LEFT_OUT,
}


def _find_kinds() -> dict[str, type[Block]]:
    """The kind of each file in stages/features/kinds/, by the file's name."""
    found = {}
    for name in sorted(path.stem for path in KINDS_FOLDER.glob("*.py")):
        module = import_module(f"stages.features.kinds.{name}")
        (found[name],) = (
            value
            for value in vars(module).values()
            if isclass(value) and issubclass(value, Block) and not isabstract(value)
        )
    return found


KINDS = _find_kinds()
# Those that `featurize.columns` may name.
COLUMN_KINDS = {name: kind for name, kind in KINDS.items() if issubclass(kind, ColumnBlock)}


@dataclass(frozen=True)
class Transformer:
    """Artefacts to features, block by block."""

    blocks: list[Block]

    @property
    def feature_names(self) -> list[str]:
        """The names of the features, in the order of the columns that `transform` gives."""
        return [name for block in self.blocks for name in block.feature_names]

    @property
    def inputs(self) -> list[Input]:
        """The columns of the artefacts table that the blocks are made of, each once."""
        return list({value.name: value for block in self.blocks for value in block.inputs}.values())

    def transform(self, artefacts: Artefacts) -> np.ndarray:
        """The features of n artefacts, (n, number of feature names) float32."""
        return self._transform(artefacts)

    @cached_property
    def _transform(self) -> Callable[[Artefacts], np.ndarray]:
        def add(graph: Graph, *inputs: str) -> str:
            return self._add_blocks(graph, inputs)[0]

        return by_numpy(add, self.inputs, np.float32, len(self.feature_names))

    def add_to(self, graph: Graph) -> tuple[str, dict[str, list[str]]]:
        """Add `transform` to an ONNX model, with an input for each column that it takes.

        Returns the name of the features, and by the name of each block those of conditions, (n,)
        bool, that a row has to meet so that its features can be used.
        """
        return self._add_blocks(graph, [value.add_to(graph) for value in self.inputs])

    def _add_blocks(self, graph: Graph, inputs: Iterable[str]) -> tuple[str, dict[str, list[str]]]:
        name_of = dict(zip((value.name for value in self.inputs), inputs, strict=True))
        parts, conditions = [], {}
        for block in self.blocks:
            part, conditions[block.name] = block.add_to(
                graph, *(name_of[value.name] for value in block.inputs)
            )
            parts.append(part)
        return graph.add("Concat", *parts, axis=1), conditions

    @property
    def embedding_identity(self) -> dict[str, str] | None:
        """What made the embeddings, None where they are left out or nobody knows."""
        for block in self.blocks:
            if isinstance(block, embedding.Embedding) and block.identity:
                return json.loads(block.identity)
        return None

    def describe(self) -> list[dict[str, Any]]:
        """What people are told about each kind of features, and about those that are left out."""
        used = {block.name: block.describe() for block in self.blocks}
        known = {
            name: used.get(name, left_out(name, description))
            for name, description in LEFT_OUT.items()
        }
        return [*known.values(), *(used[name] for name in used if name not in known)]

    def save(self, path: Path) -> None:
        """Write the fields of the blocks to an .npz file; the same fields give the same bytes.

        Not by `np.savez`: it asks for the large form of ZIP, in which Python up to 3.11.3 writes
        other bytes than later ones.
        """
        names = {kind: name for name, kind in KINDS.items()}
        with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for number, block in enumerate(self.blocks):
                for field, value in vars(block).items():
                    content = io.BytesIO()
                    np.lib.format.write_array(content, np.asarray(value), allow_pickle=False)
                    entry = f"{number}.{names[type(block)]}.{field}.npy"
                    archive.writestr(zipfile.ZipInfo(entry), content.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Transformer":
        """Read what `save` wrote.

        Raises PipelineError for another file; a pickle in it is not run.
        """
        fields: dict[tuple[int, str], dict[str, Any]] = {}
        with reading(path), zipfile.ZipFile(path) as archive:
            # What `save` writes is not packed, so that a few bytes hold few numbers.
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is packed")
            for entry in archive.infolist():
                number, kind, field, _ = entry.filename.split(".")
                value = _read_array(archive.read(entry))
                block = fields.setdefault((int(number), kind), {})
                block[field] = value if value.ndim else value.item()
            blocks = [KINDS[kind](**values) for (_, kind), values in sorted(fields.items())]
            transformer = cls(blocks)
            transformer._check()
        return transformer

    def _check(self) -> None:
        """Raises an error where blocks do not fit each other, or their own fields do not."""
        for block in self.blocks:
            for name, value in vars(block).items():
                if isinstance(value, int) and value > MOST:
                    raise ValueError(f"its `{name}` is too large")
                if np.asarray(value).dtype.kind == "f" and not np.isfinite(value).all():
                    raise ValueError(f"its `{name}` is no finite number")
        graph = Graph()
        features, _ = self.add_to(graph)
        graph.output("features", features, np.float32, len(self.feature_names))
        model = onnx.load_model_from_string(graph.to_bytes({}, ""))
        shapes = check_model(model, 1, MOST_NUMBERS, OPERATORS)
        if shapes["features"] != (1, len(self.feature_names)):
            raise ValueError("it makes other features than it names")
        check_kinds({"kinds": self.describe(), "embedding": self.embedding_identity})


def _read_array(content: bytes) -> np.ndarray:
    """The array of an .npy file, without a pickle. Raises ValueError for anything else."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("it is of another version")
    shape, _, type_ = np.lib.format.read_array_header_1_0(file)
    numbers = math.prod(shape)
    if type_.hasobject or numbers * type_.itemsize != len(content) - file.tell():
        raise ValueError("it holds a pickle, or is cut off")
    if numbers > len(content):
        raise ValueError("it holds numbers of no bytes")
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def is_embedding(feature: str) -> bool:
    """Whether a feature comes from the embedding; the others come from the metadata."""
    return re.fullmatch(r"(embedding|pca)_\d+", feature) is not None
