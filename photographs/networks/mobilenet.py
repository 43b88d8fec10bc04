"""MobileNetV1 without its top, as `keras.applications.MobileNet` builds it, as an ONNX model.

Howard et al. 2017, MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications. Batch normalisation is folded into the convolution before it.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from photographs.networks.description import Description, Last, Layers
from photographs.networks.weights import BLOCKS
from stages.model_file.graph import Graph
from stages.sources.identity import COURSE_COLUMN

Pooling = Literal["max", "average"]
IMAGE = "image"
LAST_OUTPUT = "last"
# What Keras's BatchNormalization adds to the variance in this network.
EPSILON = 1e-3
# The blocks that halve width and height, as the first convolution does.
HALVING = (2, 4, 6, 12)
POOLING = {"max": "GlobalMaxPool", "average": "GlobalAveragePool"}


def activations() -> list[str]:
    """The names of the 27 activations, in the order of the layers."""
    blocks = [f"conv_{layer}_{n}_relu" for n in range(1, BLOCKS + 1) for layer in ("dw", "pw")]
    return ["conv1_relu", *blocks]


def mobilenet(weights: Mapping[str, np.ndarray], pooling: Pooling, size: int = 224) -> bytes:
    """The network as an ONNX file.

    `weights` are Keras's tensors by their names, as `read_weights` gives them, for any width
    (alpha). It takes n pictures, (n, size, size, 3) float32 in [-1, 1], and gives the last
    activation, pooled as `pooling` says, and each of the 27 activations, average-pooled:
    (n, channels) float32 each.
    """
    graph = Graph()
    picture = graph.input(IMAGE, np.float32, size, size, 3)
    value = graph.add("Transpose", picture, perm=[0, 3, 1, 2])
    zero, six = graph.constant(np.float32(0)), graph.constant(np.float32(6))

    def layer(value: str, name: str, kernel: np.ndarray, halves: bool, groups: int) -> str:
        """Convolution, batch normalisation and ReLU6; `kernel` is (out, in / groups, h, w)."""
        scale, offset = _batch_norm(weights, f"{name}_bn")
        folded = kernel.astype(np.float64) * scale[:, None, None, None]
        edge = kernel.shape[-1] // 2
        convolved = graph.add(
            "Conv",
            value,
            graph.constant(folded.astype(np.float32)),
            graph.constant(offset.astype(np.float32)),
            strides=[2, 2] if halves else [1, 1],
            # Keras pads below and to the right where it halves, and on all sides elsewhere.
            pads=[0, 0, 1, 1] if halves else [edge] * 4,
            group=groups,
        )
        return graph.add("Clip", convolved, zero, six)

    value = layer(value, "conv1", weights["conv1/kernel"].transpose(3, 2, 0, 1), True, 1)
    found = [value]
    for block in range(1, BLOCKS + 1):
        kernel = weights[f"conv_dw_{block}/depthwise_kernel"].transpose(2, 3, 0, 1)
        value = layer(value, f"conv_dw_{block}", kernel, block in HALVING, len(kernel))
        found.append(value)
        kernel = weights[f"conv_pw_{block}/kernel"].transpose(3, 2, 0, 1)
        value = layer(value, f"conv_pw_{block}", kernel, False, 1)
        found.append(value)

    lengths = _channels(weights)
    for name, value in zip(activations(), found, strict=True):
        pooled = graph.add("Flatten", graph.add(POOLING["average"], value))
        graph.output(name, pooled, np.float32, lengths[name])
    pooled = graph.add("Flatten", graph.add(POOLING[pooling], found[-1]))
    graph.output(LAST_OUTPUT, pooled, np.float32, lengths[activations()[-1]])
    return graph.to_bytes({}, "MobileNetV1 without its top.")


def mobilenet_description(
    weights: Mapping[str, np.ndarray], name: str, pooling: Pooling, size: int = 224
) -> Description:
    """What `mobilenet` takes and gives; `name` is that of the weights."""
    alpha = weights["conv1/kernel"].shape[-1] / 32
    return Description(
        network=f"MobileNetV1 {alpha} {size}",
        weights=name,
        column=COURSE_COLUMN,
        width=size,
        height=size,
        layout="NHWC",
        divide=[127.5] * 3,
        subtract=[1.0] * 3,
        resize="nearest",
        fit="stretch",
        last=Last(output=LAST_OUTPUT, pooling=pooling),
        layers=Layers(outputs=activations(), pooling="average", bits=16),
    )


def _batch_norm(weights: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """What batch normalisation multiplies by and adds, (channels,) float64 each."""
    gamma, beta, mean, variance = (
        weights[f"{name}/{part}"].astype(np.float64)
        for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    scale = gamma / np.sqrt(variance + EPSILON)
    return scale, beta - mean * scale


def _channels(weights: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The channels of each activation."""
    return {name: len(weights[f"{name.removesuffix('relu')}bn/beta"]) for name in activations()}
