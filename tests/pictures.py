"""Drawn pictures and a small network, for tests of photographs."""

from pathlib import Path

import numpy as np
from PIL import Image

from photographs.networks.description import write_description
from photographs.networks.mobilenet import mobilenet, mobilenet_description
from photographs.networks.weights import BLOCKS

SIZE = 32  # pixels, of what the small network takes
# Channels that go into each block, and those that come out, at alpha 1.0.
CHANNELS = (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)


def random_weights(alpha: float = 0.25, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights with which the activations of every layer are of all sizes between 0 and 6."""
    random = np.random.default_rng(seed)
    channels = [int(number * alpha) for number in CHANNELS]
    found = {}

    def add(name: str, kernel: str, *shape: int) -> None:
        outputs, inputs = (shape[2], 1) if kernel == "depthwise_kernel" else (shape[3], shape[2])
        scale = 1 / np.sqrt(shape[0] * shape[1] * inputs)
        found[f"{name}/{kernel}"] = random.normal(0, scale, shape)
        found[f"{name}_bn/gamma"] = random.uniform(0.7, 1.6, outputs)
        found[f"{name}_bn/beta"] = random.normal(1, 0.7, outputs)
        found[f"{name}_bn/moving_mean"] = random.normal(0, 0.5, outputs)
        found[f"{name}_bn/moving_variance"] = random.uniform(0.3, 3, outputs)

    add("conv1", "kernel", 3, 3, 3, channels[0])
    for block in range(BLOCKS):
        before, after = channels[block], channels[block + 1]
        add(f"conv_dw_{block + 1}", "depthwise_kernel", 3, 3, before, 1)
        add(f"conv_pw_{block + 1}", "kernel", 1, 1, before, after)
    return {name: values.astype(np.float32) for name, values in found.items()}


def write_network(path: Path, weights: dict[str, np.ndarray] | None = None) -> Path:
    """A small network with random weights, and its description."""
    weights = weights or random_weights()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mobilenet(weights, "max", SIZE))
    write_description(path, mobilenet_description(weights, "drawn at random", "max", SIZE))
    return path


def draw(path: Path, kind: int, number: int) -> Path:
    """A picture of stripes; `number` makes it one of many.

    `kind` is their colour and direction, and how wide the picture is.
    """
    random = np.random.default_rng((kind, number))
    height, width = random.integers(40, 90, 2)
    width += 25 * kind
    across = np.arange(width)[None, :] * (kind % 2) + np.arange(height)[:, None] * (1 - kind % 2)
    stripes = 90 * np.sin(across / (2 + kind) + random.uniform(0, 6))
    colour = np.array([60 + 60 * kind, 200 - 50 * kind, 40 + 25 * kind])
    pixels = colour + stripes[:, :, None] + random.normal(0, 12, (height, width, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=95)
    return path
