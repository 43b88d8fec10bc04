"""Drawn pictures and a small network, for tests of photographs."""

from pathlib import Path

import numpy as np
from PIL import Image

from photographs.networks.description import write_description
from photographs.networks.mobilenet import mobilenet, mobilenet_description
from photographs.networks.weights import BATCH_NORM, BLOCKS

SIZE = 32  # pixels, of what the small network takes
# Channels that the pointwise convolutions of MobileNet give at alpha 1.
CHANNELS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


def random_weights(alpha: float = 0.25, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of MobileNet by Keras's names, drawn so that activations neither die nor explode."""
    random = np.random.default_rng(seed)
    weights = {}

    def layer(name: str, kernel: str, shape: tuple[int, ...], inputs: int) -> None:
        channels = shape[2] if kernel == "depthwise_kernel" else shape[3]
        spread = np.sqrt(2 / inputs)
        weights[f"{name}/{kernel}"] = random.normal(0, spread, shape).astype(np.float32)
        for part, (low, high) in zip(
            BATCH_NORM, ((0.7, 1.5), (-0.2, 1.0), (-0.3, 0.3), (0.5, 1.5)), strict=True
        ):
            values = random.uniform(low, high, channels)
            weights[f"{name}_bn/{part}"] = values.astype(np.float32)

    channels = int(32 * alpha)
    layer("conv1", "kernel", (3, 3, 3, channels), 27)
    for block in range(1, BLOCKS + 1):
        layer(f"conv_dw_{block}", "depthwise_kernel", (3, 3, channels, 1), 9)
        after = int(CHANNELS[block - 1] * alpha)
        layer(f"conv_pw_{block}", "kernel", (1, 1, channels, after), channels)
        channels = after
    return weights


def write_network(path: Path, weights: dict[str, np.ndarray] | None = None) -> Path:
    """A small network with random weights, and its description."""
    weights = weights or random_weights()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mobilenet(weights, "max", SIZE))
    write_description(path, mobilenet_description(weights, "drawn at random", "max", SIZE))
    return path


def draw(path: Path, kind: int, number: int) -> Path:
    """A picture of stripes; `kind` is their colour and direction, `number` makes it one of many."""
    random = np.random.default_rng((kind, number))
    height, width = random.integers(40, 90, 2)
    across = np.arange(width)[None, :] * (kind % 2) + np.arange(height)[:, None] * (1 - kind % 2)
    stripes = 90 * np.sin(across / (2 + kind) + random.uniform(0, 6))
    colour = np.array([60 + 60 * kind, 200 - 50 * kind, 40 + 25 * kind])
    pixels = colour + stripes[:, :, None] + random.normal(0, 12, (height, width, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=95)
    return path
