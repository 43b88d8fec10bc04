"""The trained model as one ONNX file, and how it is scored."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.artefacts import Artefacts
from stages.common.stage import PipelineError

MODEL = Path("models/model.onnx")
MODEL_CARD = Path("models/model_card.md")
TRAINING_CURVE = Path("models/training_curve.csv")

# Names of the model's outputs.
PROBABILITIES, MEDIUM = "probabilities", "medium"

# Rows that are scored at a time: it bounds the memory.
BATCH_ROWS = 1024


class ModelFile:
    """A model of `train`: from the columns of artefacts to probabilities, by ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        """Raises PipelineError for a file that is no ONNX model of this pipeline."""
        import onnxruntime

        if not path.is_file():
            raise FileNotFoundError(2, "No such file or directory", str(path))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            texts = self._session.get_modelmeta().custom_metadata_map
            self.metadata: dict[str, Any] = {k: json.loads(v) for k, v in texts.items()}
            self.labels: list[str] = self.metadata["labels"]
        except Exception as error:
            # ONNX Runtime has a dozen kinds of errors for a file that it cannot read.
            raise PipelineError(f"{path} is no model of this pipeline: run `dvc repro`") from error
        self.inputs = [node.name for node in self._session.get_inputs()]
        shapes = {node.name: node.shape for node in self._session.get_inputs()}
        self.embedding_length: int | None = (
            shapes["embedding"][1] if "embedding" in shapes else None
        )

    def predict_proba(self, artefacts: Artefacts) -> np.ndarray:
        """Probabilities (n, number of labels) float32 of n artefacts.

        Raises PipelineError when the embeddings have another length than those of train.
        """
        if self.embedding_length is not None:
            found = None if artefacts.embedding is None else artefacts.embedding.shape[1]
            if found != self.embedding_length:
                raise PipelineError(
                    f"the model takes embeddings of length {self.embedding_length}, but the "
                    f"table has {'none' if found is None else f'length {found}'}"
                )
        parts = []
        for start in range(0, len(artefacts.width), BATCH_ROWS):
            rows = slice(start, start + BATCH_ROWS)
            feed = {name: getattr(artefacts, name)[rows] for name in self.inputs}
            parts.append(self._session.run([PROBABILITIES], feed)[0])
        if not parts:
            return np.empty((0, len(self.labels)), dtype=np.float32)
        return np.concatenate(parts)
