"""Weights of MobileNet as Keras keeps them, and whether they are those that Keras publishes.

keras_mobilenet.json has the SHA-256 of each tensor of the published weights (alpha 1.0, 224, no
top), as little-endian float32 in C order, and of all of them one after the other. They were
computed from two independent copies that agree bit for bit. The file's own SHA-256 was seen in one
place only and is not relied on: the tensors are what counts.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.errors import PipelineError

PINS = Path(__file__).with_name("keras_mobilenet.json")
KERAS = "keras"  # what stands for the place where they are published
# Blocks of MobileNetV1 (Howard et al. 2017), each a depthwise and a pointwise convolution.
BLOCKS = 13
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def place() -> str:
    """Where Keras publishes the weights."""
    return str(_pinned()["place"])


def tensor_names() -> list[str]:
    """The names of the 135 tensors, in the order of the layers."""
    names = ["conv1/kernel", *(f"conv1_bn/{name}" for name in BATCH_NORM)]
    for block in range(1, BLOCKS + 1):
        for layer, kernel in (("dw", "depthwise_kernel"), ("pw", "kernel")):
            names.append(f"conv_{layer}_{block}/{kernel}")
            names += [f"conv_{layer}_{block}_bn/{name}" for name in BATCH_NORM]
    return names


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file of weights, .h5 as Keras writes it or .npz, by their names.

    Raises PipelineError when it is neither, or when a tensor is missing or of another network.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        found = _read_h5(path)
    elif start.startswith(b"PK"):
        found = _read_npz(path)
    else:
        raise PipelineError(f"{path} is neither an .h5 file nor an .npz file of weights")
    lacking = [name for name in tensor_names() if name not in found]
    if lacking:
        raise PipelineError(
            f"{path} holds no weights of MobileNet: {len(lacking)} of {len(tensor_names())} "
            f"tensors are missing, the first is {lacking[0]}"
        )
    _check_shapes(path, found)
    return {name: np.ascontiguousarray(found[name], "<f4") for name in tensor_names()}


def check_weights(weights: Mapping[str, np.ndarray]) -> None:
    """Compare tensors with the pins.

    Raises PipelineError, which names the first tensor that is another one.
    """
    pins = _pinned()
    together = hashlib.sha256()
    for name in tensor_names():
        content = np.ascontiguousarray(weights[name], "<f4").tobytes()
        together.update(content)
        if hashlib.sha256(content).hexdigest() != pins["tensors"][name]:
            raise PipelineError(
                f"the tensor {name} is not the one that Keras publishes: if these are weights of "
                "your own, give them a name: --name, or `network.name` in photographs/params.yaml"
            )
    if together.hexdigest() != pins["all"]:
        raise PipelineError(f"{PINS.name} disagrees with itself: restore it from Git")


def _check_shapes(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Whether each tensor fits the one before it, at any width (alpha) of the network."""
    channels = 3
    for name in tensor_names():
        layer, tensor = name.split("/")
        shape = np.shape(weights[name])
        expected: tuple[int, ...] = (channels,)
        if tensor == "depthwise_kernel":
            expected = (3, 3, channels, 1)
        elif tensor == "kernel":
            window = 3 if layer == "conv1" else 1
            expected = (window, window, channels, shape[-1] if shape else 0)
        if shape != expected or not shape[-1] or weights[name].dtype.kind != "f":
            raise PipelineError(
                f"{path} holds no weights of MobileNet: the tensor {name} has the shape {shape} "
                f"of {weights[name].dtype}, and not {expected} of floats"
            )
        if tensor == "kernel":
            channels = shape[-1]


def _pinned() -> dict[str, Any]:
    return json.loads(PINS.read_text(encoding="utf-8"))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        # Without pickles: a file of weights must not be able to run code.
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise PipelineError(f"{path} cannot be read as .npz: {error}") from None


def _read_h5(path: Path) -> dict[str, np.ndarray]:
    import h5py

    found = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        # conv1/conv1/kernel:0, below model_weights/ where the file holds a whole model.
        layer, *_, tensor = name.removeprefix("model_weights/").split("/")
        tensor = tensor.partition(":")[0]
        if layer.startswith("conv_dw_") and tensor == "kernel":  # as Keras 3 calls it
            tensor = "depthwise_kernel"
        found[f"{layer}/{tensor}"] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError, KeyError) as error:
        raise PipelineError(f"{path} cannot be read as .h5: {error}") from None
    return found
