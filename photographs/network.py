"""Make the network that turns photographs into embeddings.

As a stage of photographs/dvc.yaml it reads Keras's weights from where they are published, or from
a file of one's own, and writes data/network.onnx with its description, data/network.json.
"""

import os
import tempfile
from pathlib import Path

from pydantic import Field

from photographs.networks.description import NETWORK, Text, description_path, write_description
from photographs.networks.mobilenet import Pooling, mobilenet, mobilenet_description
from photographs.networks.weights import KERAS, check_weights, place, read_weights
from stages.common.errors import PipelineError
from stages.common.files import atomic_write
from stages.common.params import Section, load_params
from stages.common.stage import log, run
from stages.sources.fetching import fetch
from stages.sources.identity import COURSE
from stages.sources.url import is_url, url_problem

STAGE = "network"
FILE = Path("data/network.onnx")


class Params(Section):
    """`network`"""

    weights: str = Field(min_length=1)
    name: Text | None
    pooling: Pooling


def main() -> str:
    os.chdir(Path(__file__).parent)
    params = load_params(STAGE, Params)
    return make(params.weights, FILE, params.pooling, params.name)


def make(weights: str, output: Path, pooling: Pooling, name: str | None) -> str:
    """Write the network and its description; return what was done.

    `weights` is a path, a URL, or `keras` for the place where Keras publishes them. Without a name
    of their own they have to be those that Keras publishes.

    Raises PipelineError when they cannot be had, or are others.
    """
    if output.suffix != NETWORK.suffix:
        raise PipelineError(f"the network {output} needs a name that ends in {NETWORK.suffix}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(weights)
        url = place() if weights == KERAS else weights
        if is_url(url):
            path = Path(folder) / "weights"
            fetch_weights(url, path)
        if not path.is_file():
            raise PipelineError(f"there is no file of weights {path}")
        if path.resolve() == output.resolve():
            raise PipelineError(f"{output} would overwrite the weights: name another file")
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


def fetch_weights(url: str, target: Path) -> None:
    """Download weights to `target`.

    Raises PipelineError, which says how to go on without a connection.
    """
    if (problem := url_problem(url)) is not None:
        raise PipelineError(f"the URL of the weights {problem}")
    log(STAGE, f"weights from {url}")
    try:
        fetch(url, target)
    except PipelineError as error:
        raise PipelineError(
            f"{url}: {error}; bring the file from another machine and give its path: python -m "
            f"commands.{STAGE} FILE, or `{STAGE}.weights` in photographs/params.yaml"
        ) from None


if __name__ == "__main__":
    run(STAGE, main)
