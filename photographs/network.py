"""Make the network that turns photographs into embeddings.

As a stage of photographs/dvc.yaml it reads Keras's weights from where they are published, or from
a file of one's own, and writes data/network.onnx with its description, data/network.json.
"""

import tempfile
from pathlib import Path

from photographs.networks.description import description_path, write_description
from photographs.networks.mobilenet import Pooling, mobilenet, mobilenet_description
from photographs.networks.weights import check_weights, read_weights
from stages.common.files import atomic_write
from stages.common.stage import log
from stages.sources.fetching import fetch
from stages.sources.identity import COURSE

STAGE = "network"


def make(weights: str, output: Path, pooling: Pooling, name: str | None) -> str:
    """Write the network and its description; return what was done.

    `weights` is a path or a URL. Without a name of their own they have to be those that Keras
    publishes.

    Raises PipelineError when they can't be had, or are others.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(weights)
        if "://" in weights:
            path = Path(folder) / "weights"
            log(STAGE, f"weights from {weights}")
            fetch(weights, path)
        tensors = read_weights(path)
    if name is None:
        check_weights(tensors)
    content = mobilenet(tensors, pooling)
    description = mobilenet_description(tensors, name or COURSE["weights"], pooling)
    with atomic_write(output) as temporary:
        temporary.write_bytes(content)
    write_description(output, description)
    return (
        f"{output} and {description_path(output).name}: {description.network}, weights "
        f"{description.weights}, {len(tensors)} tensors, {len(content) / 1e6:.1f} MB"
    )
