"""A fitted model, and all that comes before it, as the content of one ONNX file."""

from typing import Any

import numpy as np

from stages.features.transformer import Transformer
from stages.model_file.graph import Graph
from stages.model_file.interface import MEDIUM, PROBABILITIES
from stages.models.base import Classifier


def model_bytes(
    transformer: Transformer, model: Classifier, temperature: float, metadata: dict[str, Any]
) -> bytes:
    """The ONNX file: from the columns of artefacts to calibrated probabilities and a label.

    `metadata["labels"]` are the labels in the order of the model's classes. A row that cannot be
    used, or that overflows on the way, has nan for each probability, and an empty text as its
    label.
    """
    graph = Graph()
    labels = metadata["labels"]
    features, usable = transformer.add_to(graph)
    calibrated = graph.add(
        "Mul",
        graph.cast(model.add_to(graph, features), np.float32),
        graph.constant(np.float32(1 / temperature)),
    )
    softmax = graph.add("Softmax", calibrated, axis=1)
    total = graph.add("ReduceSum", softmax, graph.constant(np.array([1])), keepdims=0)
    usable = graph.all_of([usable, graph.add("Not", graph.add("IsNaN", total))])
    column = graph.columns([usable])
    probabilities = graph.add("Where", column, softmax, graph.constant(np.float32(np.nan)))
    best = graph.add("ArgMax", softmax, axis=1, keepdims=0)
    place = graph.add("Where", usable, best, graph.constant(np.int64(len(labels))))
    texts = graph.constant(np.array([*labels, ""], dtype=object))
    graph.output(PROBABILITIES, probabilities, np.float32, len(labels))
    graph.output(MEDIUM, graph.add("Gather", texts, place), np.str_)
    return graph.to_bytes(
        metadata,
        "Tells the label of a row from its columns: probabilities of the labels, in the order of "
        "the metadata.",
    )
