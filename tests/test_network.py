"""The network for photographs is Keras's MobileNet, made of the right weights, or another one.

Keras itself says what is right. Importing it takes seconds, so it is asked once for all workers.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT
from pictures import random_weights
from PIL import Image, ImageFilter
from test_download import give, server, unused_url

from photographs.embed import embed
from photographs.network import make
from photographs.networks import weights as published
from photographs.networks.description import (
    Description,
    Last,
    read_description,
    write_description,
)
from photographs.networks.mobilenet import (
    IMAGE,
    LAST_OUTPUT,
    activations,
    mobilenet,
    mobilenet_description,
)
from photographs.networks.weights import (
    check_weights,
    place,
    read_weights,
    tensor_names,
)
from photographs.pictures.embedder import Embedder
from stages.common.errors import PipelineError
from stages.model_file.graph import Graph
from stages.sources import fetching
from stages.sources.identity import COURSE
from stages.tables.artefacts import EMBEDDING

SHARED = PROJECT.parent / "shared"
REAL_WEIGHTS = SHARED / "network/mobilenet_1_0_224_no_top.npz"
REAL_PINS = SHARED / "network/tensor_pins.json"
SIXTY = SHARED / "photos"
# The most that any number, of 0 to 6, may be off.
TOLERANCE = 1e-3
ALPHAS = (0.25, 0.5, 0.75, 1.0)
# The pictures that Keras is asked about: how many of each size, and by which networks.
PICTURES = {64: 2, 224: 1}
ASKED = [*((alpha, 64) for alpha in ALPHAS), (0.25, 224)]
# What `mobilenet` and Keras's layers call the two ways to pool.
POOLINGS = ("max", "average")


def pixels_of(size: int) -> np.ndarray:
    """(n, size, size, 3) float32 in [-1, 1]"""
    random = np.random.default_rng(size)
    return random.uniform(-1, 1, (PICTURES[size], size, size, 3)).astype(np.float32)


def photograph(seed: int, size: tuple[int, int] = (90, 70), form: str = "JPEG") -> bytes:
    """A picture's file: soft blobs of colour."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    picture = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4))
    picture = picture.point([min(255, max(0, 4 * (value - 96))) for value in range(256)] * 3)
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


@pytest.fixture(scope="session")
def folder_of_photographs(shared):
    """A folder with seven of them, of several sizes."""

    def make_folder(folder: Path) -> None:
        folder.mkdir()
        for seed in range(7):
            size = (64, 64) if seed == 3 else (60 + 20 * seed, 100 - 5 * seed)
            (folder / f"{seed}.jpg").write_bytes(photograph(seed, size))

    return shared("photographs-of-the-network", make_folder)


ASK_KERAS = """
import json, sys
from pathlib import Path
import h5py, keras, numpy as np
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
assert keras.backend.backend() == "jax"
folder, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
# Its own random weights are not used, and JAX takes long for the random numbers of each shape.
keras.initializers.VarianceScaling.__call__ = lambda self, shape, dtype=None: np.zeros(shape, "f4")
for alpha in sorted({alpha for alpha, _ in asked}):
    model = keras.applications.MobileNet(
        weights=None, include_top=False, input_shape=(None, None, 3), alpha=alpha
    )
    with np.load(folder / f"weights-{alpha}.npz") as weights:
        for variable in model.weights:
            layer, tensor = variable.path.split("/")
            if layer.startswith("conv_dw") and tensor == "kernel":
                tensor = "depthwise_kernel"
            variable.assign(weights[f"{layer}/{tensor}"])
    layers = keras.layers
    relus = [layer for layer in model.layers if layer.name.endswith("_relu")]
    outputs = {layer.name: layers.GlobalAveragePooling2D()(layer.output) for layer in relus}
    outputs["average"] = layers.GlobalAveragePooling2D()(model.output)
    outputs["max"] = layers.GlobalMaxPooling2D()(model.output)
    telling = keras.Model(model.input, outputs)
    for size in [size for other, size in asked if other == alpha]:
        said = telling.predict(np.load(folder / f"pictures-{size}.npy"), verbose=0)
        np.savez(folder / f"said-{alpha}-{size}.npz", **said)
    if alpha == 0.25:
        with h5py.File(folder / "keras3.h5", "w") as file:
            save_weights_to_hdf5_group(file, model)
"""


@pytest.fixture(scope="session")
def keras_says(shared):
    """A folder with what Keras makes of the random weights of each alpha and of the pictures."""

    def ask(folder: Path) -> None:
        folder.mkdir()
        for alpha in ALPHAS:
            np.savez(folder / f"weights-{alpha}.npz", **random_weights(alpha))
        for size in PICTURES:
            np.save(folder / f"pictures-{size}.npy", pixels_of(size))
        subprocess.run(
            [sys.executable, "-c", ASK_KERAS, folder, json.dumps(ASKED)],
            env=os.environ | {"KERAS_BACKEND": "jax"},
            check=True,
        )

    return shared("keras", ask)


def run_network(content: bytes, values: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs of an ONNX file, by name."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {IMAGE: values}), strict=True))


@pytest.mark.parametrize(("alpha", "size"), ASKED)
def test_every_activation_and_both_poolings_are_those_of_keras(keras_says, alpha, size):
    with np.load(keras_says / f"said-{alpha}-{size}.npz") as file:
        said = dict(file)
    assert len(activations()) == 27
    assert said.keys() == {*activations(), *POOLINGS}
    for pooling in POOLINGS:
        found = run_network(mobilenet(random_weights(alpha), pooling, size), pixels_of(size))
        assert found.keys() == {*activations(), LAST_OUTPUT}
        found[pooling] = found.pop(LAST_OUTPUT)
        for name, values in found.items():
            assert values.shape == said[name].shape
            assert values.dtype == np.float32
            assert np.abs(values - said[name]).max() <= TOLERANCE, name
    # With weights that give nothing but 0 and 6 the comparison would say little.
    for name in activations():
        assert ((said[name] > 0.01) & (said[name] < 5.99)).mean() > 0.6, name
    assert ((said["max"] > 0) & (said["max"] < 6)).mean() > 0.2


def run_command(name: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", f"commands.{name}", *map(str, arguments)],
        cwd=PROJECT,
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    )


def run_well(name: str, *arguments: object) -> None:
    result = run_command(name, *arguments)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("pooling", "reference"),
    [("max", "MobileNetV1 features"), ("average", "MobileNetV1 features (avg)")],
)
def test_real_photographs_get_the_embeddings_that_keras_gave_them(tmp_path, pooling, reference):
    if not REAL_WEIGHTS.is_file() or not SIXTY.is_dir():
        pytest.skip("Keras's weights and sixty photographs are not in ../shared")
    network, table = tmp_path / "network.onnx", tmp_path / "sixty.parquet"
    run_well("network", REAL_WEIGHTS, "--pooling", pooling, "-o", network)
    run_well("embed", SIXTY / "images", "--network", network, "-o", table)
    found = pq.read_table(table)
    said = pq.read_table(SIXTY / "sixty_reference.parquet")
    said = {
        name.removeprefix("sixty/"): values
        for name, values in zip(
            said["Image file"].to_pylist(), said[reference].to_numpy(), strict=True
        )
        if name.startswith("sixty/")
    }
    assert found["Image file"].to_pylist() == sorted(said)
    names = found["Image file"].to_pylist()
    for name, values in zip(names, found["MobileNetV1 features"].to_numpy(), strict=True):
        assert np.abs(values - said[name]).max() <= TOLERANCE, name
    identity = json.loads(found.schema.metadata[EMBEDDING.encode()])
    assert identity == COURSE | {"pooling": pooling}


# -- weights -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def small():
    """Weights of the narrowest network."""
    return random_weights(0.25)


@pytest.fixture
def pinned(small, tmp_path, monkeypatch):
    """As if Keras published the small weights; gives them."""
    contents = {name: small[name].astype("<f4").tobytes() for name in tensor_names()}
    pins = {
        "place": "http://127.0.0.1/",
        "all": hashlib.sha256(b"".join(contents.values())).hexdigest(),
        "tensors": {n: hashlib.sha256(content).hexdigest() for n, content in contents.items()},
    }
    path = tmp_path / "pins.json"
    path.write_text(json.dumps(pins))
    monkeypatch.setattr(published, "PINS", path)
    return dict(small)


def write_npz(path: Path, weights: dict[str, np.ndarray]) -> Path:
    np.savez(path, **weights)
    return path


def write_keras2_h5(path: Path, weights: dict[str, np.ndarray], below: str = "") -> Path:
    """As Keras 2 wrote weights: the layer's name twice, and a number behind the tensor's."""
    with h5py.File(path, "w") as file:
        file.create_group(f"{below}conv1_relu")  # a layer without weights
        for name, values in weights.items():
            layer, tensor = name.split("/")
            file[f"{below}{layer}/{layer}/{tensor}:0"] = values
    return path


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return list(found) == tensor_names() and all(
        found[name].dtype == np.float32 and np.array_equal(found[name], expected[name])
        for name in tensor_names()
    )


@pytest.mark.parametrize(
    "write",
    [write_npz, write_keras2_h5, partial(write_keras2_h5, below="model_weights/")],
    ids=["npz", "Keras 2", "Keras 2, the whole model"],
)
def test_weights_of_each_form_are_read(small, tmp_path, write):
    # In another order, and with the layer that names classes beside.
    tensors = dict(reversed(small.items())) | {"conv_preds/bias": np.zeros(1000, np.float32)}
    path = write(tmp_path / ("weights.npz" if write is write_npz else "weights.h5"), tensors)
    assert same(read_weights(path), small)


def test_weights_that_keras_3_wrote_are_read(keras_says, small):
    assert same(read_weights(keras_says / "keras3.h5"), small)


def test_weights_that_keras_publishes_need_no_name(pinned, tmp_path):
    network = tmp_path / "network.onnx"
    said = make(str(write_npz(tmp_path / "w.npz", pinned)), network, "max", None)
    assert "weights Keras ImageNet, 135 tensors" in said
    assert read_description(network).weights == COURSE["weights"]
    assert network.read_bytes() == mobilenet(pinned, "max")


@pytest.mark.parametrize("name", ["conv1/kernel", "conv_dw_7_bn/beta", "conv_pw_13/kernel"])
def test_one_flipped_bit_is_refused_and_its_tensor_named(pinned, tmp_path, name):
    values = pinned[name].copy()
    values.reshape(-1).view(np.uint32)[-1] ^= 1
    path = write_npz(tmp_path / "w.npz", pinned | {name: values})
    with pytest.raises(PipelineError, match=rf"the tensor {name} .*--name"):
        make(str(path), tmp_path / "network.onnx", "max", None)
    assert not (tmp_path / "network.onnx").exists()


def test_pins_that_disagree_with_each_other_are_no_proof(pinned):
    pins = json.loads(published.PINS.read_text())
    published.PINS.write_text(json.dumps(pins | {"all": "0" * 64}))
    with pytest.raises(PipelineError, match="disagrees with itself"):
        check_weights(pinned)


def test_the_pins_are_those_that_two_copies_of_the_weights_gave():
    pins = json.loads(published.PINS.read_text())
    assert list(pins["tensors"]) == tensor_names()
    assert place().startswith("https://storage.googleapis.com/tensorflow/keras-applications/")
    if not REAL_PINS.is_file():
        pytest.skip("other pins of the weights are not in ../shared")
    others = json.loads(REAL_PINS.read_text())
    assert pins["all"] == others["sha256_concat"]
    assert pins["tensors"] == {name: sha256 for name, _, sha256 in others["tensors"]}


def test_weights_of_ones_own_need_a_name_and_keep_it(small, tmp_path):
    path, network = write_npz(tmp_path / "w.npz", small), tmp_path / "network.onnx"
    refused = run_command("network", path, "-o", network)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "the tensor conv1/kernel is not the one that Keras publishes" in refused.stderr
    assert not network.exists()
    run_well("network", path, "-o", network, "--name", "trained on coins", "--pooling", "average")
    description = read_description(network)
    assert description == mobilenet_description(small, "trained on coins", "average")
    identity = Embedder(network).identity
    assert identity["weights"] == "trained on coins"
    assert identity["network"] == "MobileNetV1 0.25 224"
    assert identity["pooling"] == "average"


def test_the_same_weights_give_the_same_file_in_every_form(small, tmp_path):
    contents = set()
    for write in (write_npz, write_keras2_h5):
        path = write(tmp_path / f"w{len(contents)}.{write.__name__[-3:]}", small)
        make(str(path), tmp_path / "network.onnx", "max", "mine")
        contents.add((tmp_path / "network.onnx").read_bytes())
    assert len(contents) == 1


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_a_pickle_among_the_weights_is_never_run(small, tmp_path):
    trace = tmp_path / "it ran"
    bomb = np.array([Bomb(trace)], dtype=object)
    path = write_npz(tmp_path / "w.npz", {**small, "conv_pw_5_bn/gamma": bomb})
    with np.load(path, allow_pickle=True) as file:
        file["conv_pw_5_bn/gamma"]
    assert trace.exists()
    trace.unlink()
    with pytest.raises(PipelineError, match=r"w\.npz cannot be read as \.npz"):
        read_weights(path)
    assert not trace.exists()


def spoil_end(content: bytes) -> bytes:
    return content[: len(content) // 2]


def spoil_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(200) + content[middle + 200 :]


@pytest.mark.parametrize(
    ("write", "spoil", "problem"),
    [
        (write_npz, spoil_end, r"cannot be read as \.npz"),
        (write_npz, spoil_middle, r"cannot be read as \.npz"),
        (write_keras2_h5, spoil_end, r"cannot be read as \.h5"),
        (write_npz, lambda content: b"conv1/kernel = 0.1, 0.2\n", "neither an .h5 file nor an"),
        (write_npz, lambda content: b"", "neither an .h5 file nor an"),
        (write_npz, lambda content: b"PK", r"cannot be read as \.npz"),
    ],
    ids=["npz cut off", "npz damaged", "h5 cut off", "text", "empty", "two letters"],
)
def test_what_is_no_file_of_weights_ends_with_a_sentence(small, tmp_path, write, spoil, problem):
    path = write(tmp_path / "w.npz", small)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(PipelineError, match=problem) as error:
        read_weights(path)
    assert "\n" not in str(error.value)


def test_a_damaged_file_that_is_packed_ends_with_a_sentence(small, tmp_path):
    path = tmp_path / "w.npz"
    np.savez_compressed(path, **small)
    path.write_bytes(spoil_middle(path.read_bytes()))
    with pytest.raises(PipelineError, match=r"cannot be read as \.npz"):
        read_weights(path)


@pytest.mark.parametrize("write", [write_npz, write_keras2_h5])
def test_tensors_that_are_missing_are_counted_and_the_first_named(small, tmp_path, write):
    tensors = dict(small)
    del tensors["conv_dw_2/depthwise_kernel"], tensors["conv_pw_9_bn/moving_mean"]
    path = write(tmp_path / "w.npz", tensors)
    with pytest.raises(PipelineError) as error:
        read_weights(path)
    assert str(error.value) == (
        f"{path} holds no weights of MobileNet: 2 of 135 tensors are missing, the first is "
        "conv_dw_2/depthwise_kernel"
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("conv_pw_3/kernel", np.zeros((1, 1, 7, 32), np.float32)),
        ("conv1/kernel", np.zeros((3, 3), np.float32)),
        ("conv_dw_4_bn/gamma", np.zeros(1, np.float32)),
        ("conv_dw_1/depthwise_kernel", np.zeros((5, 5, 8, 1), np.float32)),
        ("conv_pw_13_bn/beta", np.full(256, "one")),
    ],
)
def test_a_tensor_that_is_of_another_network_is_named(small, tmp_path, name, values):
    path = write_npz(tmp_path / "w.npz", {**small, name: values})
    with pytest.raises(PipelineError, match=f"the tensor {name} ") as error:
        read_weights(path)
    assert "\n" not in str(error.value)


def test_weights_are_fetched_from_a_url(small, tmp_path):
    path, network = write_keras2_h5(tmp_path / "w.h5", small), tmp_path / "network.onnx"
    with server(give(path.read_bytes())) as (url, asked):
        run_well("network", url, "--name", "mine", "-o", network)
    assert len(asked) == 1
    assert network.read_bytes() == mobilenet(small, "max")


def test_weights_from_a_url_are_compared_with_the_pins_too(small, tmp_path):
    path, network = write_npz(tmp_path / "w.npz", small), tmp_path / "network.onnx"
    with server(give(path.read_bytes())) as (url, _):
        result = run_command("network", url, "-o", network)
    assert result.returncode == 1
    assert "the tensor conv1/kernel is not the one that Keras publishes" in result.stderr
    assert not network.exists()


def test_without_a_connection_one_sentence_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching, "PAUSES_SECONDS", ())
    url = unused_url()
    with pytest.raises(PipelineError) as error:
        make(url, tmp_path / "network.onnx", "max", None)
    assert str(error.value) == (
        f"{url}: no connection to the server, it refuses: check host and port, or try again later; "
        "bring the file from another machine and give its path: python -m commands.network FILE, "
        "or `network.weights` in photographs/params.yaml"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_has_no_weights_ends_with_the_same_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with (
        server(give(b"", 404)) as (url, _),
        pytest.raises(
            PipelineError,
            match="it has no such file: check the URL; bring the file from another machine",
        ),
    ):
        make(url, tmp_path / "network.onnx", "max", None)


# -- embedding -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def small_network(shared, small):
    """A network of random weights that takes small pictures."""

    def write(folder: Path) -> None:
        folder.mkdir()
        network = folder / "network.onnx"
        network.write_bytes(mobilenet(small, "max", 64))
        write_description(network, mobilenet_description(small, "random", "max", 64))

    return shared("small-network", write) / "network.onnx"


def test_the_default_network_is_the_one_of_the_course(tmp_path):
    network, tensors = tmp_path / "network.onnx", random_weights(1.0)
    network.write_bytes(mobilenet(tensors, "max"))
    write_description(network, mobilenet_description(tensors, COURSE["weights"], "max"))
    embedder = Embedder(network)
    assert embedder.identity == COURSE
    assert embedder.answer.shape == (1024,)


def test_neither_neighbours_nor_threads_change_a_bit(
    small_network, folder_of_photographs, tmp_path
):
    tables = []
    for workers in (1, 2, 3, 16):
        path = tmp_path / f"{workers}.parquet"
        # A cache of its own each, so that each is computed.
        embed(folder_of_photographs, path, Embedder(small_network), workers=workers)
        tables.append(path.read_bytes())
    assert len(set(tables)) == 1
    together = pq.read_table(io.BytesIO(tables[0]))
    names = together["Image file"].to_pylist()
    assert len(names) == 7
    for row, name in enumerate(names):
        folder = tmp_path / f"alone-{row}"
        folder.mkdir()
        shutil.copy(folder_of_photographs / name, folder)
        path = tmp_path / f"alone-{row}.parquet"
        embed(folder, path, Embedder(small_network))
        assert pq.read_table(path).equals(together.slice(row, 1))
    assert len({str(values) for values in together["MobileNetV1 features"].to_pylist()}) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="processes are pinned to cores on Linux")
def test_one_core_gives_the_bytes_of_all(small_network, folder_of_photographs, tmp_path):
    if shutil.which("taskset") is None:
        pytest.skip("there is no taskset (util-linux), which pins processes to a core")
    command = [sys.executable, "-m", "commands.embed", folder_of_photographs]
    command += ["--network", small_network, "--layers", "all", "-o"]
    pinned = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
    for path, before in ((tmp_path / "all.parquet", []), (tmp_path / "one.parquet", pinned)):
        subprocess.run([*before, *command, path], cwd=PROJECT, check=True, capture_output=True)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "all.parquet").read_bytes()


def test_all_layers_are_those_of_the_network_side_by_side(small_network, folder_of_photographs):
    content = (folder_of_photographs / "3.jpg").read_bytes()  # of the network's size
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.float32)
    found = run_network(small_network.read_bytes(), pixels[None] / np.float32(127.5) - 1)
    expected = np.concatenate([found[name][0] for name in activations()])
    everything = Embedder(small_network, "all").embed(content)
    assert np.array_equal(everything.embedding, expected)
    assert (everything.width, everything.height) == (64, 64)
    some = Embedder(small_network, "conv_pw_13_relu,conv1_relu")
    assert some.identity["layers"] == "conv1_relu, conv_pw_13_relu"
    assert some.identity["pooling"] == "average"
    first, last = found["conv1_relu"][0], found["conv_pw_13_relu"][0]
    assert np.array_equal(some.embed(content).embedding, [*first, *last])
    assert np.array_equal(Embedder(small_network).embed(content).embedding, found["last"][0])


# A network of another kind: the means of the four quarters of each channel.
OTHER = Description(
    network="Quarters 1",
    weights="none",
    column="Quarters",
    width=12,
    height=8,
    layout="NCHW",
    divide=[50.0, 100.0, 200.0],
    subtract=[0.5, 0.25, 0.125],
    resize="bilinear",
    fit="crop",
    last=Last(output="quarters", pooling="average"),
)


def write_other(network: Path, description: Description = OTHER, channels: int = 3) -> Path:
    graph = Graph()
    picture = graph.input("data", np.float32, channels, 8, 12)
    means = graph.add("AveragePool", picture, kernel_shape=[4, 6], strides=[4, 6])
    graph.output("quarters", graph.add("Flatten", means), np.float32, 4 * channels)
    network.write_bytes(graph.to_bytes({}, "Means."))
    write_description(network, description)
    return network


def test_another_network_needs_no_code(tmp_path):
    network = write_other(tmp_path / "quarters.onnx")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    # Half as high again as the network's shape: a quarter above and below is cut off.
    picture = Image.new("RGB", (24, 32), (255, 255, 255))
    corners = {(0, 8): (10, 20, 30), (12, 8): (40, 50, 60), (0, 16): (70, 80, 90)}
    corners[12, 16] = (100, 110, 120)
    for (x, y), colour in corners.items():
        picture.paste(colour, (x, y, x + 12, y + 8))
    picture.save(photographs / "one.png")
    table = tmp_path / "table.parquet"
    run_well("embed", photographs, "--network", network, "--resize", "nearest", "-o", table)
    found = pq.read_table(table)
    # Channel by channel, as NCHW has them: each quarter, scaled.
    expected = [
        colour[channel] / OTHER.divide[channel] - OTHER.subtract[channel]
        for channel in range(3)
        for colour in corners.values()
    ]
    assert found["Quarters"].to_pylist()[0] == pytest.approx(expected, abs=1e-6)
    assert json.loads(found.schema.metadata[EMBEDDING.encode()]) == {
        "network": "Quarters 1",
        "weights": "none",
        "layers": "last",
        "pooling": "average",
        "input": "12 x 8",
        "scaling": "x / [50, 100, 200] - [0.5, 0.25, 0.125]",
        "resize": "nearest",
        "fit": "crop",
        "orientation": "as stored",
    }


def test_the_resize_of_the_description_is_used_unless_another_is_asked_for(tmp_path):
    network = write_other(tmp_path / "quarters.onnx")
    content = photograph(1)
    assert Embedder(network).identity["resize"] == "bilinear"
    default, bilinear, nearest = (
        Embedder(network, resize=resize).embed(content).embedding
        for resize in (None, "bilinear", "nearest")
    )
    assert np.array_equal(default, bilinear)
    assert not np.array_equal(default, nearest)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"layout": "NHWC"}, "does not take pictures as its description says"),
        ({"width": 100}, "does not take pictures as its description says"),
        ({"last": {"output": "halves", "pooling": "max"}}, "no output `halves`.*it has quarters"),
    ],
)
def test_a_description_of_another_network_ends_with_a_sentence(tmp_path, change, problem):
    description = Description.model_validate(OTHER.model_dump(exclude_none=True) | change)
    network = write_other(tmp_path / "quarters.onnx", description)
    with pytest.raises(PipelineError, match=problem) as error:
        assert len(Embedder(network).answer)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no description of a network"),
        ("[1, 2]", "is no description of a network"),
        (OTHER.model_dump_json().replace('"crop"', '"squeeze"'), "`fit`"),
        (OTHER.model_dump_json().replace("[50.0,100.0,200.0]", "[50.0]"), "`divide`"),
        (OTHER.model_dump_json().replace('"column"', '"columns"'), "`columns?`"),
        (OTHER.model_dump_json().replace("[50.0,100.0,200.0]", "[0,1,1]"), r"`divide\.0`"),
    ],
)
def test_a_broken_description_ends_with_a_sentence(tmp_path, text, problem):
    network = write_other(tmp_path / "quarters.onnx")
    network.with_suffix(".json").write_text(text)
    with pytest.raises(PipelineError, match=problem) as error:
        Embedder(network)
    assert "\n" not in str(error.value)


def test_what_is_missing_is_named(tmp_path):
    network = tmp_path / "quarters.onnx"
    with pytest.raises(PipelineError, match=r"commands\.network` makes it"):
        Embedder(network)
    write_other(network)
    network.with_suffix(".json").unlink()
    with pytest.raises(PipelineError, match="has no description beside it"):
        Embedder(network)
    write_other(network)
    network.write_bytes(b"no network")
    with pytest.raises(PipelineError, match="is no ONNX file"):
        Embedder(network)


@pytest.mark.parametrize(
    ("weights", "output", "problem"),
    [
        ("w.onnx", "photo.json", "the network photo.json needs a name that ends in .onnx"),
        ("w.onnx", "w.onnx", "w.onnx would overwrite the weights: name another file"),
        ("models/none.h5", "n.onnx", "there is no file of weights models/none.h5"),
        ("ftp://x/y.h5", "n.onnx", "the URL of the weights should be an http or https URL"),
    ],
    ids=["suffix", "weights", "none", "ftp"],
)
def test_a_network_is_not_written_over_something_else(
    tmp_path, monkeypatch, weights, output, problem
):
    monkeypatch.chdir(tmp_path)
    Path("w.onnx").write_bytes(b"weights of mine")
    with pytest.raises(PipelineError, match=re.escape(problem)):
        make(weights, Path(output), "max", "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["w.onnx"]
    assert Path("w.onnx").read_bytes() == b"weights of mine"


@pytest.mark.parametrize(
    ("network", "layers", "has"),
    [
        ("small", "conv99", "gives last, or all, or some of conv1_relu"),
        ("other", "all", "gives last alone"),
    ],
)
def test_layers_that_a_network_lacks_are_refused(small_network, tmp_path, network, layers, has):
    path = small_network if network == "small" else write_other(tmp_path / "quarters.onnx")
    with pytest.raises(PipelineError, match=f"`{layers}` names no layers: .*{has}"):
        Embedder(path, layers)
