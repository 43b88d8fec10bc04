"""Photographs to embeddings by a network in an ONNX file, run by ONNX Runtime.

Each photograph is computed by itself in one thread, so that its numbers depend neither on the
number of cores nor on the photographs beside it. They do depend on the processor, in the last
bits: docs/photographs.md says how much.
"""

import socket
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from photographs.networks.description import LAST, Resize, read_description
from photographs.pictures.cache import Embedded
from photographs.pictures.picture import (
    OWN,
    Limits,
    PictureError,
    Reading,
    in_few_words,
    network_input,
    read_picture,
)
from stages.common.errors import PipelineError
from stages.common.files import sha256

# Characters of what ONNX Runtime says: the numbers that disagree stand at the end of a sentence.
MOST_SHOWN = 200
# Numbers that one picture may become on the way.
MOST_NUMBERS = 2**30


class Embedder:
    """A network and how photographs are read for it. Several threads may use one."""

    def __init__(
        self,
        network: Path,
        layers: str = LAST,
        resize: Resize | None = None,
        exif_rotation: bool = False,
    ) -> None:
        """`layers` is `last`, `all`, or names with commas between; without a resize, the network's
        own is taken.

        Raises PipelineError when there is no network, or when it is not what its description says.
        """
        self.path = network
        self._asked = layers, resize, exif_rotation
        self.description = read_description(network)
        self.outputs = self.description.outputs(layers)
        self.identity = self.description.identity(
            self.outputs, resize or self.description.resize, exif_rotation
        )
        self._reading = Reading.of(self.description, resize, exif_rotation)
        self._session = _session(network)
        inputs = [value.name for value in self._session.get_inputs()]
        if len(inputs) != 1:
            raise PipelineError(f"{network} has the inputs {', '.join(inputs)}, and not one alone")
        self._input = inputs[0]
        known = [value.name for value in self._session.get_outputs()]
        for name in self.outputs:
            if name not in known:
                raise PipelineError(
                    f"{network} has no output `{name}`, which its description names; it has "
                    f"{', '.join(known)}"
                )
        if self.outputs != known:
            self._session = _session(network, inputs, self.outputs)

    def __reduce__(self) -> tuple[Callable[..., "Embedder"], tuple[Any, ...]]:
        # Elsewhere it is read from the same path: a network is large, and a worker needs it once.
        answer = self.answer.tobytes()
        return embedder_at, (self.path.resolve(), sha256(self.path), answer, *self._asked)

    def embed(self, content: bytes, limits: Limits = OWN) -> Embedded:
        """The embedding of a photograph, by the content of its file.

        Raises PictureError when it cannot be read as a picture.
        """
        pixels, width, height = read_picture(content, self._reading, limits)
        numbers = np.concatenate(self._run(pixels), axis=1)[0]
        if not np.isfinite(numbers).all():
            raise PictureError("what the network says to it are no finite numbers")
        return Embedded(numbers, width, height)

    @cached_property
    def answer(self) -> np.ndarray:
        """The embedding, (d,) float32, of a picture that is always the same.

        Raises PipelineError when the network does not take and give what its description says.
        """
        shape = (self.description.height, self.description.width, 3)
        try:
            found = self._run(np.resize(np.arange(251, dtype=np.uint8), shape))
        except Exception as error:
            raise PipelineError(
                f"{self.path} does not take pictures as its description says: "
                f"{in_few_words(error, MOST_SHOWN)}"
            ) from None
        for name, part in zip(self.outputs, found, strict=True):
            if part.ndim != 2 or len(part) != 1:
                raise PipelineError(
                    f"{self.path} gives `{name}` in the shape {part.shape} for one picture, and "
                    "not (1, length): pool it"
                )
        return np.concatenate(found, axis=1)[0]

    def _run(self, pixels: np.ndarray) -> list[np.ndarray]:
        feed = {self._input: network_input(pixels, self.description)}
        return [np.asarray(part, np.float32) for part in self._session.run(self.outputs, feed)]


@cache
def embedder_at(
    network: Path,
    digest: str,
    answer: bytes,
    layers: str,
    resize: Resize | None,
    exif_rotation: bool,
) -> Embedder:
    """The embedder of a network, on a worker of a cluster.

    Raises PipelineError where the file is another one than where the work comes from, and where the
    processor gives another `answer`: ONNX Runtime computes otherwise on other kinds.
    """
    if not network.is_file() or sha256(network) != digest:
        raise PipelineError(
            f"the worker on {socket.gethostname()} has no {network}, or another one: put it where "
            "all machines reach it by the same path"
        )
    embedder = Embedder(network, layers, resize, exif_rotation)
    if embedder.answer.tobytes() != answer:
        raise PipelineError(
            f"the worker on {socket.gethostname()} has another kind of processor, on which "
            f"{network.name} gives embeddings that differ in the last bits: let machines of one "
            "kind embed photographs, the one that asks among them"
        )
    return embedder


def _session(
    network: Path, inputs: list[str] | None = None, outputs: list[str] | None = None
) -> Any:
    """ONNX Runtime in one thread, with the part of a network that these outputs need.

    It computes all outputs that a network has, also those that nobody asks for.

    Raises PipelineError when it is not a network.
    """
    import onnxruntime
    from onnx.utils import Extractor

    from stages.model_file.checking import check_model, read_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Of what goes wrong, our own sentence tells.
    options.log_severity_level = 4
    try:
        content, model = read_model(network)
        check_model(model, 1, MOST_NUMBERS)
        if inputs and outputs:
            content = Extractor(model).extract_model(inputs, outputs).SerializeToString()
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX and its runtime have an error for each kind of trouble
        raise PipelineError(
            f"{network} is no ONNX file that is run here: {in_few_words(error, MOST_SHOWN)}"
        ) from None
