"""Spoil files and have every reader of the project read them.

    python -m scripts.fuzz --inputs 100000 --seed 0 [READER ...]

Each input is a small valid file that was spoiled, and is read in a process with limits of memory
and of time. It has to be read, or refused in one sentence. Anything else has failed, and

    python -m scripts.fuzz --replay READER SEED

reads that input once more, here, with what Python says.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

import stages  # noqa: F401  (before NumPy, as each stage does it)
from answers.answerer import Answerer
from answers.table import Table
from commands.compare import read_predictions
from photographs.networks.description import Description, Last, write_description
from photographs.networks.weights import read_weights
from photographs.pictures.cache import Cache, Embedded
from photographs.pictures.catalogue import read_catalogue
from photographs.pictures.embedder import Embedder
from photographs.pictures.picture import PictureError
from photographs.pictures.places import open_place
from scripts import mutations
from scripts.params import set_params
from stages import (
    download,
    evaluate,
    featurize,
    parse_embeddings_to_parquet,
    split,
    train,
)
from stages.common import files, params
from stages.common.errors import PipelineError
from stages.features.transformer import TRANSFORMER, Transformer
from stages.model_file.graph import Graph
from stages.model_file.interface import CURVE_COLUMNS, MODEL, TRAINING_CURVE
from stages.model_file.scoring import ModelFile
from stages.reporting import inputs
from stages.sources.raw import PROVENANCE, RAW_FOLDER, read_provenance
from stages.tables.artefacts import (
    ARTEFACTS,
    Artefacts,
    embedding_identity,
    read_artefacts,
    schema_of_artefacts,
)
from stages.tables.features import features_path, read_features
from stages.tables.predictions import PREDICTIONS
from stages.tables.quarantine import QUARANTINE, read_quarantine
from stages.tables.results import DETAILS, METRICS, PLOT_COLUMNS, PLOTS, read_results
from stages.tables.split import SPLIT, subsets_of_artefacts
from stages.tables.val_probabilities import VAL_PROBABILITIES, read_val_probabilities

SECONDS, SECONDS_TO_START = 20.0, 120.0  # that an input may take, and the first one
MEMORY = 2_000_000_000  # bytes, beside what the process has when it begins
LONGEST = 1000  # characters of a sentence
PER_PROCESS = 1000  # inputs
READ, REFUSED = "read", "refused"
TOO_LONG, ENDED = "it takes too long", "it ended the process"
MOST_SHOWN = 100
NETWORK, PHOTOGRAPHS = Path("models/network.onnx"), Path("photographs.zip")
EMBEDDED = Embedded(np.zeros(3, np.float32), 4, 5)
CATALOGUE, WEIGHTS, CACHE = Path("catalogue"), Path("weights"), Path("kept.embeddings")


@dataclass(frozen=True)
class Reader:
    """What reads a file."""

    path: Path  # where it reads it
    read: Callable[[], Any]
    mutation: mutations.Mutation | None
    # More valid files of the kind, beside that of the run; their names end as they are to.
    more: Callable[[], dict[str, bytes]] = dict
    # What may ask for more memory than there is, such as a picture with many pixels.
    large: bool = False


@dataclass
class Outcome:
    """What became of the inputs of a reader."""

    read: int = 0
    refused: int = 0
    seconds: float = 0
    failed: list[tuple[int, str]] = field(default_factory=list)  # a seed, and what happened

    def count(self, seed: int, said: str) -> None:
        """Add what `outcome` says of an input."""
        self.read += said == READ
        self.refused += said == REFUSED
        if said not in (READ, REFUSED):
            self.failed.append((seed, said))

    @property
    def inputs(self) -> int:
        """How many there were."""
        return self.read + self.refused + len(self.failed)


# --- What is read --------------------------------------------------------------------------------


def make_run(folder: Path) -> None:
    """Make the files of a run of a few rows in a folder; it stands in for those of any run."""
    project = Path(__file__).resolve().parents[1]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_bytes((project / "params.yaml").read_bytes())
    (folder / "rows.csv").write_text(raw_table(), encoding="utf-8")
    values = {
        "download.source": "file",
        "download.file.path": str(folder / "rows.csv"),
        "train.model": "ensemble",
        "train.ensemble.size_trees.rounds": 3,
    }
    with contextlib.chdir(folder), silence():
        set_params(Path("params.yaml"), values)
        for stage in (download, parse_embeddings_to_parquet, split, featurize, train, evaluate):
            stage.main()


def raw_table() -> str:
    """Rows of three labels as the course's file has them."""
    random = np.random.default_rng(0)
    lines = [
        "Image file,Medium,Museum,Museum-based instance ID,Subset,Width,Height,Product size,"
        "Aspect ratio,MobileNetV1 features"
    ]
    for row in range(48):
        label, subset = row % 3, ("train", "train", "val", "test")[row // 3 % 4]
        width, height = (int(size) for size in random.integers(400, 900, 2))
        numbers = np.clip(random.normal(2 + label, 1, 4), 0, 6).round(3).tolist()
        lines.append(
            f"{row}.jpg,Medium {label},Museum {row % 2},{row}.1,{subset},{width},{height},"
            f'{width * height},{width / height:.4f},"{numbers}"'
        )
    return "\n".join([*lines, ""])


def write_network(path: Path) -> None:
    """A network that takes pictures of 8 x 8 pixels and gives the mean of each colour."""
    graph = Graph()
    picture = graph.input("image", np.float32, 8, 8, 3)
    weights = graph.constant(np.eye(3, dtype=np.float32)[:, :, None, None])
    value = graph.add("Conv", graph.add("Transpose", picture, perm=[0, 3, 1, 2]), weights)
    graph.output("last", graph.add("Flatten", graph.add("GlobalAveragePool", value)), np.float32, 3)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(graph.to_bytes({}, ""))
    description = Description(
        network="mean",
        weights="none",
        column="features",
        width=8,
        height=8,
        layout="NHWC",
        divide=[255.0] * 3,
        subtract=[0.5] * 3,
        resize="nearest",
        fit="stretch",
        last=Last(output="last", pooling="average"),
    )
    write_description(path, description)


@cache
def pictures() -> dict[str, bytes]:
    """A small picture in several formats."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    found = {}
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "ICO", "TGA", "PCX", "DDS"):
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, kind)
        found[f"picture.{kind.lower()}"] = content.getvalue()
    moving = io.BytesIO()
    frames = [Image.fromarray(np.roll(pixels, turn)) for turn in range(3)]
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:])
    return found | {"moving.gif": moving.getvalue()}


def zip_of_pictures() -> dict[str, bytes]:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, picture in pictures().items():
            archive.writestr(zipfile.ZipInfo(name), picture)
    return {".zip": content.getvalue()}


def catalogues() -> dict[str, bytes]:
    rows = "Image file,Medium,Width,Note\na.jpg,Gold,10,x\nb/b.jpg,,20.5,\n"
    return {".csv": rows.encode(), ".parquet": as_parquet(rows)}


def as_parquet(text: str) -> bytes:
    import pandas as pd

    return pd.read_csv(io.StringIO(text)).to_parquet()


def packed(text: str) -> dict[str, bytes]:
    """A CSV table in the forms in which the parser takes one."""
    import pyarrow as pa

    found = {".csv": text.encode(), ".parquet": as_parquet(text)}
    for end, kind in ((".csv.gz", "gzip"), (".csv.zst", "zstd")):
        found[end] = pa.Codec(kind).compress(text.encode(), asbytes=True)
    return found


def weights() -> dict[str, bytes]:
    import h5py

    arrays: dict[str, Any] = {"conv1/kernel": np.zeros((3, 3, 3, 8), np.float32)}
    content = io.BytesIO()
    np.savez(content, **arrays)
    other = io.BytesIO()
    with h5py.File(other, "w") as file:
        file["conv1/conv1/kernel:0"] = arrays["conv1/kernel"]
    return {".npz": content.getvalue(), ".h5": other.getvalue()}


def cache_of_embeddings() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CACHE
        with contextlib.closing(Cache(path, "00")) as kept:
            kept.add({b"x": EMBEDDED})
        return {"": path.read_bytes()}


# --- Readers -------------------------------------------------------------------------------------


def read_model() -> None:
    model, some = ModelFile(MODEL), rows_of_test()
    for output in model.outputs:
        model.predict_proba(some, output)
        model.members(some, output)
        model.threshold(output)
    model.features(some)
    for prepared in model.prepare([some]):
        prepared.predict_proba()
    Answerer().answer(some)


@cache
def rows_of_test() -> Artefacts:
    columns = ["medium", "museum", "embedding", "width", "height"]
    return next(iter(read_artefacts("test", subsets_of_artefacts(), columns, "fuzz")))


def read_every_artefact() -> None:
    schema = schema_of_artefacts()
    embedding_identity(ARTEFACTS)
    list(read_artefacts("train", subsets_of_artefacts(), schema.names, "fuzz"))
    inputs.read_table()


def read_predicted() -> None:
    read_predictions("workspace", "test")
    inputs.read_predictions("test", answerer().model.digest)


def read_params() -> None:
    for stage in (download, parse_embeddings_to_parquet, split, featurize, evaluate):
        choice = {"download": "source", "split": "strategy", "featurize": "embedding"}
        params.load_params(stage.STAGE, stage.Params, choice.get(stage.STAGE))
    train.check_models(*_train_params())
    params.load_value("split.strategy")


def _train_params() -> tuple[str, str, Any]:
    found, section, content = train.read_params()
    return found.model, section, content


def read_network() -> None:
    found = Embedder(NETWORK)
    found.answer  # noqa: B018
    found.embed(pictures()["picture.png"])


def read_photographs() -> None:
    place = open_place(path_of(PHOTOGRAPHS), single=True)
    for name in place.names():
        with contextlib.suppress(PictureError):  # it is listed, and the others are read
            place.read(name)


def read_a_photograph() -> None:
    embedder().embed(path_of(Path("photograph")).read_bytes())


@cache
def embedder() -> Embedder:
    return Embedder(NETWORK)


def read_cache() -> None:
    with contextlib.closing(Cache(CACHE, "00")) as kept:
        kept.get(b"x")
        kept.add({b"y": EMBEDDED})


def path_of(path: Path) -> Path:
    """Where the input lies, whose name may have another end."""
    (found,) = path.parent.glob(f"{path.name}*")
    return found


def read_raw() -> None:
    parse_embeddings_to_parquet.main()


def read_table() -> None:
    for _ in Table(path_of(Path("table")), answerer(), {}).rows():
        pass


@cache
def answerer() -> Answerer:
    return Answerer()


def plots_of(name: str, held: Mapping[str, type]) -> Reader:
    path = PLOTS / f"{name}.csv"
    return Reader(path, lambda: files.read_csv(path, held), mutations.of_text)


def of_table(content: bytes, random: Random) -> bytes:
    kind = mutations.of_parquet if content.startswith(b"PAR1") else mutations.of_text
    return kind(content, random)


READERS = {
    "params.yaml": Reader(params.PARAMS_FILE, read_params, mutations.of_yaml),
    "raw table": Reader(RAW_FOLDER / "table", read_raw, of_table, lambda: packed(raw_table())),
    "table to predict": Reader(Path("table"), read_table, of_table, lambda: packed(raw_table())),
    "provenance.json": Reader(
        PROVENANCE, lambda: read_provenance("location", "bytes", "sha256"), mutations.of_json
    ),
    "artefacts.parquet": Reader(ARTEFACTS, read_every_artefact, mutations.of_parquet),
    "split.parquet": Reader(SPLIT, subsets_of_artefacts, mutations.of_parquet),
    "features": Reader(
        features_path("train"), lambda: read_features("train"), mutations.of_parquet
    ),
    "transformer.npz": Reader(TRANSFORMER, lambda: Transformer.load(TRANSFORMER), mutations.of_npz),
    "val_probabilities": Reader(
        VAL_PROBABILITIES,
        lambda: read_val_probabilities(answerer().model.labels, answerer().model.outputs),
        mutations.of_parquet,
    ),
    "predictions.parquet": Reader(PREDICTIONS, read_predicted, mutations.of_parquet),
    "quarantine.csv": Reader(QUARANTINE, read_quarantine, mutations.of_text),
    "training_curve.csv": Reader(
        TRAINING_CURVE, lambda: files.read_csv(TRAINING_CURVE, CURVE_COLUMNS), mutations.of_text
    ),
    "metrics.json": Reader(METRICS, read_results, mutations.of_json),
    "details.json": Reader(DETAILS, read_results, mutations.of_json),
    **{f"{name}.csv": plots_of(name, held) for name, held in PLOT_COLUMNS.items()},
    "model.onnx": Reader(MODEL, read_model, mutations.of_onnx),
    "network.onnx": Reader(NETWORK, read_network, mutations.of_onnx),
    "network.json": Reader(NETWORK.with_suffix(".json"), read_network, mutations.of_json),
    "weights": Reader(WEIGHTS, lambda: read_weights(path_of(WEIGHTS)), mutations.of_npz, weights),
    "catalogue": Reader(
        CATALOGUE, lambda: read_catalogue(path_of(CATALOGUE), {}), of_table, catalogues
    ),
    "photograph": Reader(Path("photograph"), read_a_photograph, None, pictures, large=True),
    "photographs.zip": Reader(PHOTOGRAPHS, read_photographs, mutations.of_zip, zip_of_pictures),
    "cache of embeddings": Reader(CACHE, read_cache, None, cache_of_embeddings),
}


# --- Inputs and outcomes -------------------------------------------------------------------------


@cache
def samples(name: str) -> dict[str, bytes]:
    """The valid files of a reader, by how their names end, in the folder of a run."""
    reader = READERS[name]
    return reader.more() or {"": reader.path.read_bytes()}


def write_input(name: str, seed: int) -> Path:
    """Write the spoiled file of this number where the reader reads it."""
    random, reader, valid = Random(f"{name} {seed}"), READERS[name], samples(name)
    end = random.choice(list(valid))
    content = mutations.spoil(valid[end], list(valid.values()), reader.mutation, random)
    if end:
        for before in reader.path.parent.glob(f"{reader.path.name}*"):
            before.unlink()
    path = reader.path.with_name(f"{reader.path.name}{end}")
    path.write_bytes(content)
    if name == "raw table":
        text = f'{{"source": "file", "file": "{path.name}"}}'
        PROVENANCE.write_text(text, encoding="utf-8")
    return path


def outcome(name: str) -> str:
    """Read the input: `read`, `refused`, or what went wrong."""
    reader = READERS[name]
    try:
        reader.read()
        found = READ
    except (PipelineError, PictureError) as error:
        found = REFUSED
        text = str(error)
        if files.TOO_LARGE in text and not reader.large:
            found = f"asks for memory: {text}"
        elif not text.strip() or len(text.split("\n")[0]) > LONGEST or not is_plain(text):
            found = f"no sentence: {text!r}"
    except BaseException as error:
        found = "".join(traceback.format_exception_only(error)).strip()[:300]
    if Path("executed").exists():
        Path("executed").unlink()
        found = "a pickle was run"
    return found


def is_plain(text: str) -> bool:
    """Whether a sentence holds nothing that a terminal would obey."""
    return not any(unicodedata.category(char) == "Cc" for char in text.replace("\n  ", ""))


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Let nothing be printed, also not by libraries in C."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


def prepare(name: str, folder: Path) -> None:
    """Go to the folder of a run, and read what inputs of a reader do not change."""
    os.chdir(folder)
    write_network(NETWORK)
    for once in (answerer, rows_of_test, embedder, pictures, partial(samples, name)):
        once()
    if name != "params.yaml":
        content = params._read_yaml()
        params._read_yaml = lambda: content


def limit_memory(more: int) -> None:
    """Let this process have so many bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def work(name: str, folder: Path, seeds: range, pipe: Connection) -> None:
    """In a process of its own: read the inputs of these seeds, and tell each outcome."""
    with silence():
        prepare(name, folder)
        limit_memory(MEMORY)
        for seed in seeds:
            write_input(name, seed)
            pipe.send(outcome(name))


def fuzz(name: str, run: Path, seeds: range) -> Outcome:
    """Have a reader read the inputs of these seeds; `run` is the folder of a run."""
    found, start, seed = Outcome(), time.perf_counter(), seeds.start
    spawn = multiprocessing.get_context("spawn")  # a copy of this process would share its threads
    while seed < seeds.stop:
        some = range(seed, min(seed + PER_PROCESS, seeds.stop))
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "run"
            shutil.copytree(run, folder)
            ours, theirs = spawn.Pipe(duplex=False)
            process = spawn.Process(target=work, args=(name, folder, some, theirs), daemon=True)
            process.start()
            theirs.close()
            for seed in some:
                said = listen(ours, SECONDS_TO_START if seed == some.start else SECONDS)
                found.count(seed, said)
                if said in (TOO_LONG, ENDED):
                    process.kill()
                    break
            process.join()
            seed += 1
    found.seconds = time.perf_counter() - start
    return found


def listen(pipe: Connection, seconds: float) -> str:
    """What the process tells of an input."""
    try:
        return pipe.recv() if pipe.poll(seconds) else TOO_LONG
    except EOFError:
        return ENDED


def main() -> int:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        make_run(run)
        if arguments.replay:
            return replay(run, *arguments.replay)
        print(as_row("reader", "inputs", "read", "refused", "failed", "seconds"))
        print(as_row("---", *["---:"] * 5), flush=True)
        failed = []
        for name in arguments.readers or READERS:
            found = fuzz(name, run, range(arguments.seed, arguments.seed + arguments.inputs))
            failed += [(name, *one) for one in found.failed]
            counts = (found.inputs, found.read, found.refused, len(found.failed))
            print(as_row(name, *(f"{n:,}" for n in counts), f"{found.seconds:.0f}"), flush=True)
    for name, seed, said in failed[:MOST_SHOWN]:
        print(f"--replay '{name}' {seed}: {said}")
    return 1 if failed else 0


def replay(run: Path, name: str, seed: str) -> int:
    """Read one input once more; say where it is, and what Python says."""
    prepare(name, run)
    path = write_input(name, int(seed))
    kept = Path(tempfile.gettempdir()) / f"{seed}-{path.name}"
    kept.write_bytes(path.read_bytes())
    print(f"the input is {kept}", flush=True)
    READERS[name].read()
    return 0


def as_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", choices=[[], *READERS], metavar="READER")
    parser.add_argument("--inputs", type=int, default=1000, help="for each reader")
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    parser.add_argument("--replay", nargs=2, metavar=("READER", "SEED"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
