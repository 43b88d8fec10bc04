"""What benchmarks/photographs.py runs beside this project, each in a process of its own.

    python -m benchmarks.photograph_peers keras FOLDER weights.npz embeddings.npy

Each does one thing with the photographs of a folder, in the order of their names, and prints as
JSON what it took. Nothing of the packages `stages` and `photographs` is imported: it would limit
the threads of the others, too. `keras` needs Keras, the backend that KERAS_BACKEND names, NumPy and
Pillow, so that another Python may run it.
"""

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SEED = 29
SIDE = 256  # pixels, the shorter side of a photograph
LONGER = (300, 380)  # the least and the most of the other
NETWORK_SIDE = 224
BATCH = 32


def draw(folder: Path, count: Path) -> None:
    """Draw photographs as museums publish them, in colours, shapes and grain, and no two alike."""
    from PIL import Image, ImageDraw, ImageFilter

    random = np.random.default_rng(SEED)
    folder.mkdir(parents=True)
    for number in range(int(str(count))):
        size = (SIDE, int(random.integers(*LONGER)))
        if number % 2:
            size = size[::-1]
        # A backdrop of soft light, an object on it, marks on the object, and the film's grain.
        light = random.integers(60, 256, (3, 3, 3), np.uint8)
        picture = Image.fromarray(light).resize(size, Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(picture)
        for scale in (3, *[12] * 60):
            x, y = (int(random.integers(0, side)) for side in size)
            radius = int(random.integers(2, 2 * SIDE // scale))
            colour = tuple(int(part) for part in random.integers(0, 256, 3))
            pen.ellipse((x - radius, y - radius, x + radius, y + radius // 2), colour)
        pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.5)), np.float32)
        grain = random.normal(0, 8, pixels.shape[:2])[..., None].astype(np.float32)
        pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.jpg", quality=90)


def make_weights(path: Path) -> None:
    """Random weights of Keras's MobileNet, under Keras's names, that keep the layers alive."""
    random = np.random.default_rng(SEED)
    found = {}
    for name, variable in _variables(_mobilenet()):
        shape = tuple(variable.shape)
        kind = name.split("/")[1]
        if kind.endswith("kernel"):
            inputs = 1 if kind == "depthwise_kernel" else shape[2]
            values = random.normal(0, np.sqrt(2 / (shape[0] * shape[1] * inputs)), shape)
        elif kind in ("gamma", "moving_variance"):
            values = random.uniform(0.5, 1.5, shape)
        else:
            values = random.normal(0, 0.3, shape)
        found[name] = values.astype(np.float32)
    np.savez(path, **found)  # type: ignore[arg-type]  # NumPy's types take no names


def keras_predict(folder: Path, weights: Path, target: Path) -> dict[str, float]:
    """As in the course's notebook: `load_img`, `preprocess_input` and `predict` in batches."""
    model = _mobilenet()
    import keras

    with np.load(weights) as arrays:
        for name, variable in _variables(model):
            variable.assign(arrays[name])
    size = (NETWORK_SIDE, NETWORK_SIDE)
    found = []
    with _took() as took:
        for paths in _batches(sorted(folder.iterdir())):
            images = [
                keras.utils.img_to_array(keras.utils.load_img(path, target_size=size))
                for path in paths
            ]
            values = keras.applications.mobilenet.preprocess_input(np.stack(images))
            found.append(model.predict(values, verbose=0))
    np.save(target, np.concatenate(found))
    return took


def decode(folder: Path) -> dict[str, float]:
    """Pillow alone: from the bytes of a file to the pixels that the network takes."""
    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    _pixels(contents[0])
    with _took() as took:
        for content in contents:
            _pixels(content)
    return took


def run_network(folder: Path, network: Path) -> dict[str, float]:
    """ONNX Runtime alone, in one thread, on decoded pictures, with the last layer as output."""
    import onnx
    import onnxruntime
    from onnx.utils import Extractor

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = onnx.load(network)
    name = model.graph.input[0].name
    part = Extractor(model).extract_model([name], ["last"]).SerializeToString()
    session = onnxruntime.InferenceSession(part, options, providers=["CPUExecutionProvider"])
    pictures = [
        _pixels(path.read_bytes())[None].astype(np.float32) / np.float32(127.5) - 1
        for path in sorted(folder.iterdir())
    ]
    session.run(["last"], {name: pictures[0]})
    with _took() as took:
        for picture in pictures:
            session.run(["last"], {name: picture})
    return took


def compare(table: Path, embeddings: Path) -> dict[str, float]:
    """How far the first rows of a table are from embeddings, and how these are spread."""
    import pyarrow.parquet as pq

    expected = np.load(embeddings)
    column = pq.read_table(table, columns=["MobileNetV1 features"]).slice(0, len(expected))
    found = np.array(column[0].to_pylist())
    between = float(((expected > 0) & (expected < 6)).mean())
    return {"difference": float(np.abs(found - expected).max()), "between": between}


def _mobilenet() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import keras

    return keras.applications.MobileNet(
        weights=None,
        include_top=False,
        input_shape=(NETWORK_SIDE, NETWORK_SIDE, 3),
        pooling="max",
    )


def _variables(model: Any) -> Iterator[tuple[str, Any]]:
    """The variables of a model, with the names that Keras's published weights have."""
    for variable in model.weights:
        layer, kind = variable.path.split("/")
        depthwise = layer.startswith("conv_dw") and kind == "kernel"
        yield f"{layer}/{'depthwise_kernel' if depthwise else kind}", variable


def _batches(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), BATCH):
        yield paths[start : start + BATCH]


def _pixels(content: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        size = (NETWORK_SIDE, NETWORK_SIDE)
        return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.NEAREST))


@contextmanager
def _took() -> Iterator[dict[str, float]]:
    """Fill a mapping with the seconds of what is done within, and those of the processor."""
    took: dict[str, float] = {}
    start, start_cpu = time.perf_counter(), time.process_time()
    yield took
    took["seconds"] = time.perf_counter() - start
    took["cpu_seconds"] = time.process_time() - start_cpu


PEERS: dict[str, Callable[..., dict[str, float] | None]] = {
    "draw": draw,
    "weights": make_weights,
    "keras": keras_predict,
    "decode": decode,
    "onnx": run_network,
    "compare": compare,
}


if __name__ == "__main__":
    peer, *arguments = sys.argv[1:]
    print(json.dumps(PEERS[peer](*map(Path, arguments))))
