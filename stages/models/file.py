"""Fitted models, and all that comes before them, as the content of one ONNX file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.features.kinds.sizes import SIZES
from stages.features.transformer import Transformer
from stages.model_file.graph import Graph
from stages.model_file.interface import (
    ANSWERS,
    FEATURES,
    PROBABILITIES_WITHOUT_SIZES,
)
from stages.models.base import Classifier


def model_bytes(
    transformer: Transformer,
    models: Mapping[str, tuple[Classifier, float]],
    metadata: dict[str, Any],
) -> bytes:
    """The ONNX file: from the columns of artefacts to calibrated probabilities and a label.

    `models` are what gives each of the outputs, `PROBABILITIES` and maybe
    `PROBABILITIES_WITHOUT_SIZES`, and the number by which its logits are divided.
    `metadata["labels"]` are the labels in the order of the models' classes. A row that cannot be
    used, or that overflows on the way, has nan for each probability, and an empty text as its
    label. Without the sizes, it may have any sizes, or none.
    """
    graph = Graph()
    features, conditions = transformer.add_to(graph)
    features = graph.name(features, FEATURES.removeprefix("/"))
    for output, (model, temperature) in models.items():
        usable = [
            name
            for block, names in conditions.items()
            for name in names
            if block != SIZES or output != PROBABILITIES_WITHOUT_SIZES
        ]
        _add_answer(graph, features, usable, output, model, temperature, metadata["labels"])
    return graph.to_bytes(
        metadata,
        "Tells the label of a row from its columns: probabilities of the labels, in the order of "
        "the metadata.",
    )


def _add_answer(
    graph: Graph,
    features: str,
    conditions: list[str],
    output: str,
    model: Classifier,
    temperature: float,
    labels: list[str],
) -> None:
    """Add the probabilities that a model gives, as `output`, and the most probable label."""
    graph.scope = output
    logits = graph.cast(model.add_to(graph, features), np.float32)
    scaled = graph.add("Mul", logits, graph.constant(np.float32(1 / temperature)))
    softmax = graph.add("Softmax", scaled, axis=1)
    total = graph.add("ReduceSum", softmax, graph.constant(np.array([1])), keepdims=0)
    usable = graph.all_of([*conditions, graph.add("Not", graph.add("IsNaN", total))])
    column = graph.columns([usable])
    probabilities = graph.add("Where", column, softmax, graph.constant(np.float32(np.nan)))
    best = graph.add("ArgMax", softmax, axis=1, keepdims=0)
    place = graph.add("Where", usable, best, graph.constant(np.int64(len(labels))))
    texts = graph.constant(np.array([*labels, ""], dtype=object))
    graph.output(output, probabilities, np.float32, len(labels))
    graph.output(ANSWERS[output], graph.add("Gather", texts, place), np.str_)
