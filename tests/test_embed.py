"""Photographs become a table: all of them or a reason why not, once, the same on every machine."""

import csv
import io
import json
import os
import random
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
import unicodedata
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT, Project
from pictures import random_weights, write_network
from PIL import Image
from test_photographs import READABLE, UNREADABLE, drawn, encoded, jpeg, oriented, write_all, zipped

from commands import embed as command
from photographs.embed import embed
from photographs.networks.description import description_path
from photographs.pictures import picture
from photographs.pictures import table as module
from photographs.pictures.cache import Cache, Embedded
from photographs.pictures.catalogue import read_catalogue
from photographs.pictures.embedder import Embedder
from photographs.pictures.table import write_table
from stages import parse_embeddings_to_parquet, split
from stages.common.engine import AHEAD
from stages.common.errors import PipelineError
from stages.common.stage import run
from stages.tables.artefacts import ARTEFACTS, embedding_identity
from stages.tables.split import SPLIT

# pytest lets through what the program keeps quiet.
pytestmark = pytest.mark.filterwarnings("ignore:Palette images with Transparency")
COLUMN = "MobileNetV1 features"
DRAWN = 24
FOLDERS = ("Bronze", "Clay", "Gold")


def draw_folder(path: Path, count: int) -> None:
    """Photographs in three folders, 00.jpg and on, 50 pixels wide and on."""
    for number in range(count):
        medium = path / FOLDERS[number % 3]
        medium.mkdir(parents=True, exist_ok=True)
        (medium / f"{number:02}.jpg").write_bytes(jpeg(number, (50 + number, 40)))


@pytest.fixture(scope="session")
def tiny_network(shared):
    """The ONNX file of a MobileNet for pictures of 32 x 32, with its description beside it."""
    return shared("network", lambda path: write_network(path / "network.onnx")) / "network.onnx"


@pytest.fixture
def folder(tmp_path):
    draw_folder(tmp_path / "photographs", DRAWN)
    return tmp_path / "photographs"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "made/extended.parquet"


@pytest.fixture
def run_embed(folder, output, tiny_network):
    """A function that embeds the folder, or what is named, and returns what it says at the end."""

    def call(photographs=folder, to=output, network=tiny_network, how=None, **options):
        return embed(photographs, to, Embedder(network, **(how or {})), **options)

    return call


def computed(said: str) -> int:
    """The photographs that a run says it has computed."""
    return int(re.search(r"([\d,]+) of them computed now", said)[1].replace(",", ""))


def rows_of(output: Path) -> dict[str, dict]:
    """The rows by the names."""
    return {row["Image file"]: row for row in pq.read_table(output).to_pylist()}


def left_out_path(output: Path) -> Path:
    return output.with_name(f"{output.stem}.left_out.csv")


def left_out_of(output: Path) -> dict[str, str]:
    """The reasons by the names."""
    with left_out_path(output).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["Image file", "Reason"]
    assert len(rows) == len(dict(rows))
    assert rows == sorted(rows)
    return dict(rows)


# The table


def test_each_photograph_becomes_a_row_in_the_order_of_the_names(run_embed, folder, output):
    run_embed()
    table = pq.read_table(output)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")]
    assert table.column("Image file").to_pylist() == sorted(names)
    assert left_out_of(output) == {}
    row = rows_of(output)["Clay/04.jpg"]
    assert len(row.pop(COLUMN)) == 256
    assert row == {
        "Image file": "Clay/04.jpg",
        "Medium": None,
        "Museum": None,
        "Museum-based instance ID": None,
        "Subset": None,
        "Width": 54.0,
        "Height": 40.0,
        "Product size": 54.0 * 40.0,
        "Aspect ratio": 54 / 40,
    }
    # As in the course's file.
    assert table.schema.field(COLUMN).type == pa.list_(pa.float64())
    assert pq.ParquetFile(output).metadata.row_group(0).column(0).compression == "GZIP"


def said_by_network(network: Path, picture: Image.Image, outputs: list[str]) -> list[np.ndarray]:
    """What the network says to a picture of 32 x 32, without any of our own code."""
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    pixels = np.asarray(picture.convert("RGB"), np.float32)[None]
    return [part[0] for part in session.run(outputs, {"image": pixels / 127.5 - 1})]


def test_the_numbers_are_those_that_the_network_says(run_embed, folder, output, tiny_network):
    run_embed()
    rows = rows_of(output)
    for number in range(DRAWN):
        name = f"{FOLDERS[number % 3]}/{number:02}.jpg"
        picture = Image.open(folder / name).resize((32, 32), Image.Resampling.NEAREST)
        (numbers,) = said_by_network(tiny_network, picture, ["last"])
        assert np.array_equal(np.array(rows[name][COLUMN], np.float32), numbers)
        assert numbers.std() > 0


def test_several_layers_stand_one_after_the_other_in_16_bits(
    run_embed, folder, output, tiny_network
):
    names = ["conv_pw_13_relu", "conv1_relu"]
    run_embed(how={"layers": ", ".join(names)})
    table = pq.read_table(output)
    assert table.schema.field(COLUMN).type == pa.list_(pa.float16())
    picture = Image.open(folder / "Bronze/00.jpg").resize((32, 32), Image.Resampling.NEAREST)
    said = said_by_network(tiny_network, picture, names[::-1])
    expected = np.concatenate(said).astype(np.float16)
    assert np.array_equal(np.array(table.column(COLUMN)[0].as_py(), np.float16), expected)
    # They are named in the order of the numbers, however they were typed.
    assert (
        json.loads(table.schema.metadata[b"embedding"])["layers"] == "conv1_relu, conv_pw_13_relu"
    )


def test_all_layers_are_all_of_them(run_embed, output):
    said = run_embed(how={"layers": "all"})
    channels = [8, 8, 16, 16, 32, 32, 32, 32, 64, 64, 64, 64, *[128] * 11, 128, 256, 256, 256]
    assert len(rows_of(output)["Bronze/00.jpg"][COLUMN]) == sum(channels)
    assert f"{sum(channels):,} numbers each" in said


def test_the_schema_says_what_made_the_numbers(run_embed, output):
    course = {
        "network": "MobileNetV1 0.25 32",
        "weights": "drawn at random",
        "layers": "last",
        "pooling": "max",
        "input": "32 x 32",
        "scaling": "x / 127.5 - 1",
        "resize": "nearest",
        "fit": "stretch",
        "orientation": "as stored",
    }
    for how, changes in (
        ({}, {}),
        ({"resize": "lanczos"}, {"resize": "lanczos"}),
        ({"exif_rotation": True}, {"orientation": "EXIF"}),
        ({"layers": "all"}, {"layers": "all", "pooling": "average"}),
    ):
        run_embed(how=how)
        said = json.loads(pq.read_schema(output).metadata[b"embedding"])
        assert said == course | changes


def test_resizing_and_exif_rotation_change_the_numbers_as_they_should(
    run_embed, folder, output, tiny_network
):
    turned = encoded(drawn(), "PNG", exif=oriented(3))
    (folder / "turned.png").write_bytes(turned)
    picture = Image.open(io.BytesIO(turned))
    upright = picture.transpose(Image.Transpose.ROTATE_180)
    for how, expected in (
        ({"resize": "bicubic"}, picture.resize((32, 32), Image.Resampling.BICUBIC)),
        ({"exif_rotation": True}, upright.resize((32, 32), Image.Resampling.NEAREST)),
    ):
        run_embed(how=how)
        (numbers,) = said_by_network(tiny_network, expected, ["last"])
        assert np.array_equal(rows_of(output)["turned.png"][COLUMN], numbers)


def test_labels_are_the_names_of_the_folders(run_embed, folder, output):
    (folder / "Clay/deeper").mkdir()
    (folder / "Clay/deeper/x.jpg").write_bytes(jpeg(90))
    (folder / "x.jpg").write_bytes(jpeg(91))
    run_embed(label_from_folder=True)
    found = {name: row["Medium"] for name, row in rows_of(output).items()}
    assert found["Bronze/00.jpg"] == "Bronze"
    assert found["Gold/02.jpg"] == "Gold"
    assert found["Clay/deeper/x.jpg"] == "deeper"
    assert found["x.jpg"] is None


# What is left out


def unusual(folder: Path, outside: Path) -> None:
    """Fill a folder with all that a folder may hold."""
    folder.mkdir()
    write_all(folder)
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(jpeg(50))
    (folder / "out.jpg").symlink_to(outside / "secret.jpg")
    (folder / "out").symlink_to(outside)
    (folder / "in.jpg").symlink_to("rgb.jpg")
    (folder / "broken.jpg").symlink_to("nowhere")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    for name in (
        b"a\nb.jpg",
        b"caf\xe9.jpg",
        b"back\\slash.jpg",
        "\u7d75\u3000\u00a0.jpg".encode(),
        unicodedata.normalize("NFC", "é.jpg").encode(),
        unicodedata.normalize("NFD", "é.jpg").encode(),
        unicodedata.normalize("NFD", "ö.jpg").encode(),
    ):
        (folder / os.fsdecode(name)).write_bytes(jpeg(len(name)))


LEFT_OUT = {
    "out.jpg": "a link that leads out of the folder",
    "out": "a link that leads out of the folder",
    "broken.jpg": "there is no such file, or it is a broken link",
    "loop.jpg": "a link that leads to itself",
    "pipe.jpg": "no regular file",
    "a\nb.jpg": "its name is not UTF-8, or has control characters",
    "caf?.jpg": "its name is not UTF-8, or has control characters",
    "back\\slash.jpg": "its name has a backslash, which is / elsewhere",
    "é.jpg": "another file has the same name, typed differently",
}


def test_nothing_that_a_folder_may_hold_stops_a_run_or_is_dropped_in_silence(
    run_embed, tmp_path, output, capsys
):
    unusual(tmp_path / "unusual", tmp_path / "outside")
    run_embed(tmp_path / "unusual")
    reasons = left_out_of(output)
    expected = {name: reason for name, (_, reason) in UNREADABLE.items()} | LEFT_OUT
    assert reasons.keys() == expected.keys()
    for name, reason in reasons.items():
        assert reason.startswith(expected[name])
    embedded = {"in.jpg", "\u7d75\u3000\u00a0.jpg", "é.jpg", "ö.jpg"}
    assert list(rows_of(output)) == sorted(READABLE.keys() | embedded)
    said = capsys.readouterr().out
    assert f"{len(expected)} left out, as {left_out_path(output)} lists" in said
    # Nothing that a terminal would obey.
    assert all(line.isprintable() for line in said.splitlines())


def test_a_zip_file_gives_the_same_as_its_folder(run_embed, tmp_path, output):
    unusual(tmp_path / "unusual", tmp_path / "outside")
    files = {
        path.relative_to(tmp_path / "unusual").as_posix(): path.read_bytes()
        for path in (tmp_path / "unusual").iterdir()
        if path.is_file() and not path.is_symlink() and path.name.isascii()
    }
    files["画/é.jpg"] = files["rgb.jpg"]
    (tmp_path / "some").mkdir()
    (tmp_path / "some/画").mkdir()
    for name, content in files.items():
        (tmp_path / "some" / name).write_bytes(content)
    run_embed(tmp_path / "some")
    table, left_out = output.read_bytes(), left_out_path(output).read_bytes()
    run_embed(zipped(tmp_path / "some.zip", files, compression=zipfile.ZIP_DEFLATED))
    assert output.read_bytes() == table
    assert left_out_path(output).read_bytes() == left_out
    (tmp_path / "some.zip").unlink()
    run_embed(zipped(tmp_path / "some.zip", files | {"../x.jpg": jpeg(), "/y.jpg": jpeg()}))
    assert left_out_of(output)["../x.jpg"] == left_out_of(output)["/y.jpg"]
    assert output.read_bytes() == table


def test_a_file_that_vanishes_in_the_middle_is_listed(run_embed, folder, output, monkeypatch):
    embed_one = Embedder.embed

    def vanishing(self, content):
        (folder / "Gold/23.jpg").unlink(missing_ok=True)
        return embed_one(self, content)

    monkeypatch.setattr(Embedder, "embed", vanishing)
    run_embed(workers=1)
    assert left_out_of(output) == {"Gold/23.jpg": "there is no such file, or it is a broken link"}
    assert len(rows_of(output)) == DRAWN - 1


def test_an_answer_that_is_no_number_is_left_out(run_embed, output, monkeypatch):
    say = Embedder._run

    def wrong(self, pixels):
        (numbers,) = say(self, pixels)
        numbers[0, 3] = np.nan if pixels[0, 0, 0] > 15 else numbers[0, 3]
        return [numbers]

    monkeypatch.setattr(Embedder, "_run", wrong)
    run_embed()
    assert set(left_out_of(output).values()) == {
        "what the network says to it are no finite numbers"
    }
    assert len(left_out_of(output)) + len(rows_of(output)) == DRAWN


def test_what_embedding_writes_is_no_photograph(run_embed, folder, tmp_path):
    metadata = folder / "catalogue.csv"
    metadata.write_text("Image file\n00.jpg\n01.jpg\n")
    (folder / ".here.parquet.99999999.partial").write_bytes(b"after a kill")
    (folder / ".here.left_out.csv.99999999.partial").write_bytes(b"after a kill")
    output = folder / "here.parquet"
    for _ in range(2):
        run_embed(to=output, metadata=metadata)
        reasons = left_out_of(output)
        assert set(reasons.values()) == {"the catalogue has no row for it"}
        assert len(reasons) == DRAWN - 2


def test_no_photograph_at_all(run_embed, tmp_path, output):
    (tmp_path / "empty/empty").mkdir(parents=True)
    with pytest.raises(PipelineError, match="photographs is empty"):
        run_embed(tmp_path / "empty")
    (tmp_path / "empty/notes.txt").write_text("of the museum")
    with pytest.raises(
        PipelineError,
        match=r"^no photograph is left: of 1, the first is notes.txt \(no picture of a",
    ):
        run_embed(tmp_path / "empty")
    assert left_out_of(output) == {"notes.txt": "no picture of a format that is read"}
    assert not output.exists()


# What was computed before


def test_only_new_and_changed_photographs_are_computed(run_embed, folder, output):
    assert computed(run_embed()) == DRAWN
    before = output.read_bytes()
    assert computed(run_embed()) == 0
    assert output.read_bytes() == before
    # By content: a file that is only touched is not computed, a changed one of the same age is.
    os.utime(folder / "Clay/01.jpg", (1, 1))
    assert computed(run_embed()) == 0
    changed = folder / "Clay/04.jpg"
    status = changed.stat()
    changed.write_bytes(jpeg(99, (54, 40)))
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    (folder / "Gold/new.jpg").write_bytes(jpeg(98))
    old = rows_of(output)
    assert computed(run_embed()) == 2
    new = rows_of(output)
    assert new.keys() - old.keys() == {"Gold/new.jpg"}
    assert [name for name in old if old[name] != new[name]] == ["Clay/04.jpg"]


def test_deleted_photographs_leave_the_table(run_embed, folder, output):
    run_embed()
    (folder / "Clay/04.jpg").unlink()
    assert computed(run_embed()) == 0
    assert "Clay/04.jpg" not in rows_of(output)
    assert len(rows_of(output)) == DRAWN - 1
    assert left_out_of(output) == {}


def test_moved_and_copied_photographs_are_not_computed_again(run_embed, folder, output):
    run_embed()
    (folder / "Clay/04.jpg").rename(folder / "Gold/moved.jpg")
    (folder / "copy.jpg").write_bytes((folder / "Bronze/00.jpg").read_bytes())
    assert computed(run_embed()) == 0
    rows = rows_of(output)
    assert rows["copy.jpg"][COLUMN] == rows["Bronze/00.jpg"][COLUMN]
    assert "Gold/moved.jpg" in rows


@pytest.mark.parametrize("workers", [1, 5])
def test_copies_are_computed_once_also_beside_each_other(run_embed, folder, workers):
    for number in range(20):
        (folder / f"Bronze/00 copy {number}.jpg").write_bytes(
            (folder / "Bronze/00.jpg").read_bytes()
        )
    assert computed(run_embed(workers=workers)) == DRAWN


def test_another_network_or_another_way_to_read_computes_anew(
    run_embed, folder, output, tmp_path, tiny_network
):
    run_embed()
    write_network(tmp_path / "other.onnx", random_weights(seed=1))
    other = {"network": tmp_path / "other.onnx"}
    for changes in (
        other,
        {"how": {"layers": "all"}},
        {"how": {"resize": "box"}},
        {"how": {"exif_rotation": True}},
    ):
        assert computed(run_embed(**changes)) == DRAWN
        assert computed(run_embed(**changes)) == 0
    # What was computed first is still known.
    assert computed(run_embed()) == 0
    # A description that says something else of the same network.
    path = description_path(tmp_path / "other.onnx")
    text = path.read_text()
    path.write_text(text.replace("127.5", "100.0", 1))
    assert computed(run_embed(**other)) == DRAWN
    assert pq.read_schema(output).metadata[b"embedding"] != b""
    path.write_text(text)
    # The same network by another path.
    (tmp_path / "moved.onnx").write_bytes((tmp_path / "other.onnx").read_bytes())
    (tmp_path / "moved.json").write_text(text)
    assert computed(run_embed(network=tmp_path / "moved.onnx")) == 0


def test_a_network_that_names_other_files_to_read_is_refused(run_embed, tmp_path, tiny_network):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tiny_network)
    path = tmp_path / "outside.onnx"
    description_path(path).write_bytes(description_path(tiny_network).read_bytes())
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=100)
    with pytest.raises(PipelineError, match="keeps numbers in another file, which is not read"):
        run_embed(network=path)


KILLED = """
import os, signal, sys, threading
from commands import embed
from photographs.pictures.embedder import Embedder
from stages.common.stage import run

embed_one, lock, calls = Embedder.embed, threading.Lock(), 0

def stopping(self, content):
    global calls
    with lock:
        calls += 1
        if calls == 15:
            os.kill(os.getpid(), signal.Signals[os.environ["STOP_BY"]])
    return embed_one(self, content)

Embedder.embed = stopping
run(embed.STAGE, embed.main)
"""


@pytest.mark.parametrize("way", ["SIGKILL", "SIGINT"])
def test_a_run_that_is_stopped_goes_on(run_embed, folder, output, tiny_network, tmp_path, way):
    run_embed(cache=tmp_path / "other cache")
    whole = output.read_bytes()
    output.write_bytes(b"an older table")
    network = ["--network", str(tiny_network), "--workers", "2"]
    stopped = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), "-o", str(output), *network],
        cwd=PROJECT,
        env=os.environ | {"STOP_BY": way},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in stopped.stderr
    if way == "SIGINT":
        assert stopped.returncode == 130
        assert stopped.stderr == "[embed] error: stopped by Ctrl-C\n"
        assert list(output.parent.glob(".*")) == []
    else:
        assert stopped.returncode == -signal.Signals[way]
    assert output.read_bytes() == b"an older table"
    # What was being computed when it was stopped is lost, two at most.
    assert computed(run_embed()) <= DRAWN - 14 + 1
    assert output.read_bytes() == whole
    assert list(output.parent.glob(".*")) == []


def test_an_error_stops_all_threads_and_keeps_what_was_computed(
    run_embed, folder, output, monkeypatch
):
    embed_one, calls = Embedder.embed, []

    def failing(self, content):
        calls.append(content)
        if len(calls) == 10:
            raise PipelineError("a trouble")
        return embed_one(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "embed", failing)
        threads = threading.active_count()
        with pytest.raises(PipelineError, match="a trouble"):
            run_embed(workers=2)
        assert threading.active_count() == threads
        assert len(calls) < 10 + 2 * AHEAD + 2
    assert computed(run_embed()) <= DRAWN - 8


def test_two_runs_may_share_a_cache(tmp_path):
    recipe = "00" * 32
    path = tmp_path / "cache"
    with closing(Cache(path, recipe)) as one, closing(Cache(path, recipe)) as other:
        for number in range(20):
            kept = Embedded(np.full(4, number, np.float32), number, 1)
            one.add({bytes([number]): kept})
            other.add({bytes([100 + number]): kept, bytes([200 + number]): kept})
            found = other.get(bytes([number]))
            assert found.width == number
            assert np.array_equal(found.embedding, kept.embedding)
            assert one.get(bytes([200 + number])).width == number
        one.add({})
        assert other.get(bytes([99])) is None
    with closing(Cache(path, "11" * 32)) as of_another_network:
        assert of_another_network.get(bytes([1])) is None


def test_what_is_no_cache_is_left_as_it_is(run_embed, tmp_path, folder):
    text = tmp_path / "notes.txt"
    text.write_text("of the museum, and long enough to be no empty file" * 100)
    base = tmp_path / "photographs.sqlite"
    with closing(sqlite3.connect(base)) as other:
        other.execute("CREATE TABLE embeddings (of TEXT)")
        other.commit()
    (tmp_path / "a folder").mkdir()
    for path, reason in (
        (text, "file is not a database"),
        (base, "it is the file of another program"),
        (tmp_path / "a folder", "unable to open database file"),
    ):
        content = None if path.is_dir() else path.read_bytes()
        with pytest.raises(PipelineError, match=re.escape(f"{path} cannot be used")) as error:
            run_embed(cache=path)
        assert f"({reason}): move it away, or name another with --cache" in str(error.value)
        assert content is None or path.read_bytes() == content


def test_a_cache_that_is_damaged_is_one_sentence(run_embed, tmp_path):
    cache = tmp_path / "cache"
    run_embed(cache=cache)
    content = bytearray(cache.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    cache.write_bytes(content)
    with pytest.raises(PipelineError, match="cache cannot be used as a cache of embeddings"):
        run_embed(cache=cache)
    cache.unlink()
    assert computed(run_embed(cache=cache)) == DRAWN


# The same bytes, and no more memory for more photographs


@pytest.mark.parametrize("blob", [b"", b"123", bytes(12), "text", None])
def test_what_is_no_embedding_of_the_network_in_a_cache_is_computed_again(
    run_embed, tmp_path, blob
):
    cache = tmp_path / "kept"
    assert computed(run_embed(cache=cache)) == DRAWN
    with closing(sqlite3.connect(cache)) as base, base:
        base.execute("UPDATE embeddings SET embedding = ?", (blob,))
    assert computed(run_embed(cache=cache)) == DRAWN
    assert computed(run_embed(cache=cache)) == 0


def test_workers_listing_and_cache_change_no_byte(run_embed, tmp_path, folder, output, monkeypatch):
    unusual(tmp_path / "unusual", tmp_path / "outside")
    monkeypatch.setattr(module, "GROUP_ROWS", 7)
    found, scan, shuffle = set(), os.scandir, random.Random(1)

    def shuffled(path):
        entries = list(scan(path))
        shuffle.shuffle(entries)
        return entries

    monkeypatch.setattr(os, "scandir", shuffled)
    for workers, cache in ((1, "one"), (2, "two"), (5, "five"), (5, "one"), (2, "one")):
        for copy in (tmp_path / "unusual", tmp_path / "unusual"):
            run_embed(copy, workers=workers, cache=tmp_path / cache)
            found.add((output.read_bytes(), left_out_path(output).read_bytes()))
    assert len(found) == 1


class EndlessPlace:
    """Files of 100 kB that are made when they are read."""

    awaited = 0

    def __init__(self, count: int) -> None:
        self.count = count

    def names(self) -> list[str]:
        return [f"{number:06}.jpg" for number in range(self.count)]

    def read(self, name: str) -> bytes:
        return name.encode() * 10_000


class QuickEmbedder:
    """Many numbers for each file, in no time."""

    def __init__(self, network: Path) -> None:
        real = Embedder(network)
        self.description, self.identity = real.description, real.identity

    def embed(self, content: bytes) -> Embedded:
        return Embedded(np.full(5000, len(content), np.float32), 10, 10)


def test_memory_does_not_grow_with_the_photographs(tmp_path, tiny_network, monkeypatch):
    monkeypatch.setattr(module, "GROUP_ROWS", 20)

    def peak(count: int) -> int:
        embedder = QuickEmbedder(tiny_network)
        with closing(Cache(tmp_path / f"{count}", "00" * 32)) as cache:
            tracemalloc.start()
            try:
                place = EndlessPlace(count)
                result = write_table(place, embedder, cache, None, tmp_path / "t.parquet", True, 2)
                assert result.rows == count
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    peak(10)
    few, many = peak(150), peak(800)
    # 650 more files have 65 MB, and their numbers 13 MB. Their names are in memory.
    assert many - few < 2_000_000


def test_a_bar_shows_how_far_it_is(run_embed, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    run_embed()
    assert f"{DRAWN}/{DRAWN}" in screen.getvalue()
    assert "photographs" in screen.getvalue()


# Catalogues


def write_catalogue(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def catalogue(tmp_path, folder):
    """A function that writes a catalogue."""
    return lambda text: write_catalogue(tmp_path / "catalogue.csv", text)


def test_a_catalogue_says_what_is_known(run_embed, catalogue, output):
    text = (
        "Image file,Medium,Museum,Museum-based instance ID,Subset,Width,Height,Product size,"
        "Aspect ratio,Year,Number\n"
        "Clay/04.jpg,Terracotta,The Met,12.3,train,4000,2000,8000000,2.0,1890,007\n"
        'Bronze/00.jpg,"Bronze, gilt",,,val,,,,,,"two\nlines"\n'
        "Gold/02.jpg,Gold,,,test,100,,,,0,\n"
    )
    run_embed(metadata=catalogue(text))
    assert list(rows_of(output)) == ["Bronze/00.jpg", "Clay/04.jpg", "Gold/02.jpg"]
    rows = rows_of(output)
    for row in rows.values():
        assert len(row.pop(COLUMN)) == 256
    assert rows["Clay/04.jpg"] == {
        "Image file": "Clay/04.jpg",
        "Medium": "Terracotta",
        "Museum": "The Met",
        "Museum-based instance ID": "12.3",
        "Subset": "train",
        "Width": 4000.0,
        "Height": 2000.0,
        "Product size": 8e6,
        "Aspect ratio": 2.0,
        "Year": "1890",
        "Number": "007",
    }
    bronze, gold = rows["Bronze/00.jpg"], rows["Gold/02.jpg"]
    assert (bronze["Medium"], bronze["Museum"]) == ("Bronze, gilt", None)
    assert (bronze["Width"], bronze["Height"]) == (50.0, 40.0)
    assert (bronze["Product size"], bronze["Aspect ratio"]) == (2000.0, 1.25)
    assert (bronze["Year"], bronze["Number"]) == (None, "two\nlines")
    assert (gold["Width"], gold["Height"], gold["Product size"]) == (100.0, 40.0, 4000.0)


def test_rows_and_photographs_without_each_other_are_listed(run_embed, catalogue, output, folder):
    (folder / "Gold/02.jpg").write_bytes(b"damaged")
    run_embed(metadata=catalogue("Image file\nClay/04.jpg\nnowhere.jpg\nGold/02.jpg\n"))
    assert list(rows_of(output)) == ["Clay/04.jpg"]
    reasons = left_out_of(output)
    assert reasons.pop("nowhere.jpg") == "there is no photograph of this row"
    assert reasons.pop("Gold/02.jpg") == "no picture of a format that is read"
    assert set(reasons.values()) == {"the catalogue has no row for it"}
    assert len(reasons) == DRAWN - 2


def test_a_row_may_name_a_photograph_without_its_folders(run_embed, catalogue, output, folder):
    (folder / "Gold/04.jpg").write_bytes(jpeg(70))
    run_embed(metadata=catalogue("Image file\n02.jpg\n04.jpg\nBronze/00.jpg\n"))
    assert list(rows_of(output)) == ["02.jpg", "Bronze/00.jpg"]
    assert rows_of(output)["02.jpg"]["Width"] == 52
    reasons = left_out_of(output)
    assert reasons["04.jpg"] == "2 photographs are called so: give the path"
    assert len(reasons) == DRAWN + 1 - 2 + 1


def test_names_match_however_they_were_typed(run_embed, catalogue, output, folder):
    (folder / unicodedata.normalize("NFD", "é.jpg")).write_bytes(jpeg(70))
    (folder / "ü.jpg").write_bytes(jpeg(71))
    typed = unicodedata.normalize("NFD", "ü.jpg")
    run_embed(metadata=catalogue(f"Image file\né.jpg\n{typed}\n"))
    assert list(rows_of(output)) == ["é.jpg", "ü.jpg"]


def test_columns_may_have_other_names(run_embed, catalogue, output):
    text = "filename,Material,Width,note\nClay/04.jpg,Terracotta,12,x\n"
    columns = {"Image file": "filename", "Medium": "Material", "Height": "Width", "Width": "note"}
    with pytest.raises(PipelineError, match="conversion error to double: invalid value 'x'"):
        run_embed(metadata=catalogue(text), columns=columns)
    run_embed(metadata=catalogue(text.replace(",x\n", ",48\n")), columns=columns)
    (row,) = rows_of(output).values()
    assert (row["Medium"], row["Height"], row["Width"]) == ("Terracotta", 12.0, 48.0)
    assert not {"filename", "Material", "note"} & row.keys()


def test_a_parquet_catalogue_says_the_same_as_csv(run_embed, tmp_path, output):
    names = ["Clay/04.jpg", "Gold/02.jpg"]
    table = pa.table(
        {
            "Image file": pa.array(names).dictionary_encode(),
            "Medium": pa.array(["Clay", "Gold"], pa.large_string()),
            "Width": pa.array([7, None], pa.int16()),
            "Height": pa.array([float("nan"), 5.0], pa.float32()),
            "Year": pa.array([1890, 1900], pa.int32()),
            "Tags": pa.array([["a"], []], pa.list_(pa.string())),
        }
    ).replace_schema_metadata({"embedding": "of something else"})
    pq.write_table(table, tmp_path / "catalogue.parquet")
    run_embed(metadata=tmp_path / "catalogue.parquet")
    rows = rows_of(output)
    clay, gold = (rows[name] for name in names)
    assert (clay["Width"], clay["Height"], clay["Year"], clay["Tags"]) == (7.0, 40.0, 1890, ["a"])
    assert (gold["Width"], gold["Height"], gold["Medium"]) == (52.0, 5.0, "Gold")
    assert b"something else" not in pq.read_schema(output).metadata[b"embedding"]


def test_numbers_of_a_catalogue_are_kept_for_the_parser_to_judge(run_embed, catalogue, output):
    run_embed(metadata=catalogue("Image file,Width,Height\n04.jpg,-3,0\n02.jpg,inf,1\n"))
    rows = rows_of(output)
    assert (rows["04.jpg"]["Width"], rows["04.jpg"]["Height"]) == (-3.0, 0.0)
    assert rows["02.jpg"]["Width"] == float("inf")


READS = {
    "with a byte order mark": b"\xef\xbb\xbfImage file,Medium\nClay/04.jpg,Clay\n",
    "with a quoted first name": b'\xef\xbb\xbf"Image file",Medium\nClay/04.jpg,Clay\n',
    "with the line ends of Windows": b"Image file,Medium\r\nClay/04.jpg,Clay\r\n",
    "with more text than pyarrow takes at a time": b"Image file,Medium,Text\nClay/04.jpg,Clay,"
    + b"x" * 500_000
    + b"\nGold/02.jpg,Gold,"
    + b"y" * 900_000
    + b"\n",
    "with texts of many lines where pyarrow cuts": b"Image file,Medium,Text\n"
    + b"".join(b'%d.jpg,Clay,"%s"\n' % (row, b"\n" * 3000) for row in range(800))
    + b"Clay/04.jpg,Clay,\n",
    "with numbers that become texts later": b"Image file,Medium,Code\n"
    + b"".join(b"%d.jpg,Clay,%d\n" % (row, row) for row in range(100_000))
    + b"Clay/04.jpg,Clay,A7\n",
}


@pytest.mark.parametrize("form", READS)
def test_catalogues_of_this_form_are_read(run_embed, catalogue, output, form):
    run_embed(metadata=catalogue(READS[form]))
    assert rows_of(output)["Clay/04.jpg"]["Medium"] == "Clay"


SENTENCES = {
    "": "has no column `Image file`; it has none",
    "Image file,Medium\n": "no photograph is left: of 24, the first is Bronze/00.jpg (the "
    "catalogue has no row for it)",
    "name,Medium\na.jpg,x\n": "has no column `Image file`; it has name, Medium: say which one "
    'names the photographs, by --column "Image file=...", or by `embed.columns`',
    "Image file;Medium\n04.jpg;x, y\n": "has semicolons between its columns: save it with commas",
    "Image file\tMedium\n04.jpg\tx\n": "has tabs between its columns: save it with commas",
    "Image file,Medium\n04.jpg,x\n04.jpg,y\n": "names 04.jpg in the rows 1 and 2: each photograph "
    "needs one row",
    "Image file,Medium\n,x\n": "no photograph is left: of 25, the first is Bronze/00.jpg (the "
    "catalogue has no row for it)",
    "Image file,Medium\n04.jpg,x,y\n": "cannot be read as a catalogue: CSV parse error: Expected 2 "
    "columns, got 3",
    "Image file,Width\n04.jpg,unknown\n": "cannot be read as a catalogue: In CSV column #1: CSV "
    "conversion error to double: invalid value 'unknown'",
    "Image file,Medium,Medium\n04.jpg,x,y\n": "has 2 columns called `Medium`: rename one",
    "Image file,Medium\nother.jpg,x\n": "no row's `Image file` is the name of a photograph: the "
    "first row names other.jpg, the first photograph is Bronze/00.jpg",
    f"Image file,{COLUMN}\n04.jpg,x\n": f"`{COLUMN}` is what the network's description calls "
    "the embedding, and a column of the table already: rename one",
    "Image file,Künstler\n04.jpg,x\n".encode("latin-1"): "is not UTF-8: save it as CSV in UTF-8",
    # Where Python has not looked yet when it has read the names of the columns.
    ("Image file,Artist\n" + "04.jpg,x\n" * 10_000 + "02.jpg,Müller\n").encode(
        "latin-1"
    ): "invalid UTF8 data: save it as CSV in UTF-8",
    "Image file,Medium\n04.jpg,x\n".encode("utf-16"): "is not UTF-8: save it as CSV in UTF-8",
    b"PAR1 and no more": "cannot be read as a catalogue: ",
    b"PK\x03\x04\x00\x00\xff\xfe": "is not UTF-8: save it as CSV in UTF-8",
    b"Image file\x00\n\x00": "cannot be read|has no column|no row's",
}


def test_rows_that_name_no_photograph_or_the_one_of_another_row_are_left_out(
    run_embed, catalogue, output, folder
):
    text = "Image file,Medium\n,x\n04.jpg,Clay\nClay/04.jpg,Gold\n02.jpg,Gold\n"
    run_embed(metadata=catalogue(text))
    assert list(rows_of(output)) == ["Gold/02.jpg"] or list(rows_of(output)) == ["02.jpg"]
    left_out = dict(csv.reader(output.with_name("extended.left_out.csv").open(newline="")))
    assert left_out["row 1 of the catalogue"] == "it names no photograph"
    twice = "another row names the same photograph"
    assert (left_out["04.jpg"], left_out["Clay/04.jpg"]) == (twice, twice)


def test_numbers_that_16_bits_cannot_hold_are_refused_and_not_infinite():
    numbers = np.array([[70_000.0]], np.float32)
    with pytest.raises(PipelineError, match="too large for 16 bits: set `bits` to 32"):
        module._lists(numbers, pa.list_(pa.float16()))
    assert module._lists(numbers, pa.list_(pa.float32())).to_pylist() == [[70_000.0]]


def test_another_way_to_read_pictures_computes_anew(run_embed, tmp_path, monkeypatch, capsys):
    run_embed()
    other = tmp_path / "picture.py"
    other.write_bytes(Path(picture.__file__).read_bytes() + b"# turned by 180 degrees")
    monkeypatch.setattr(picture, "__file__", str(other))
    capsys.readouterr()
    assert "24 of them computed now" in run_embed()
    monkeypatch.undo()


def test_a_column_whose_name_is_nearly_that_of_the_course_is_pointed_out(
    run_embed, catalogue, output, capsys
):
    path = catalogue("Image file,medium,Museum,museum\n04.jpg,Clay,Met,x\n")
    run_embed(metadata=path)
    said = capsys.readouterr().out
    assert '`medium` is not taken for `Medium`: if it is that, say --column "Medium=medium"' in said
    assert "museum" not in said
    (row,) = rows_of(output).values()
    assert (row["Medium"], row["medium"], row["Museum"]) == (None, "Clay", "Met")


def test_a_catalogue_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "catalogue.csv")
    with pytest.raises(PipelineError, match=r"catalogue\.csv is no file"):
        read_catalogue(tmp_path / "catalogue.csv", {})


def test_sizes_that_are_smaller_than_the_photographs_are_asked_about(run_embed, catalogue, capsys):
    run_embed(metadata=catalogue("Image file,Width,Height\n04.jpg,12.5,30\n02.jpg,4000,3000\n"))
    asked = "1 of 2 photographs have more pixels than the catalogue's `Width` and `Height` say"
    assert asked in capsys.readouterr().out
    run_embed(metadata=catalogue("Image file,Width\n04.jpg,1250\n02.jpg,\n"))
    assert "more pixels" not in capsys.readouterr().out


@pytest.mark.parametrize("text", SENTENCES, ids=range(len(SENTENCES)))
def test_catalogues_that_cannot_be_used_are_one_sentence(run_embed, catalogue, output, text):
    with pytest.raises(PipelineError) as error:
        run_embed(metadata=catalogue(text))
    assert any(part in str(error.value) for part in SENTENCES[text].split("|"))
    assert str(error.value).isprintable()
    assert not output.exists()


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"Medium": "Material"}, "has no column `Material` to be the Medium; it has Image file, N"),
        ({"Colour": "Note"}, "`Colour` is none of the columns Image file, Medium, Museum,"),
        ({"Medium": "Note", "Museum": "Note"}, "has one column `Note` for 2 columns of the table"),
        ({"Width": "Note"}, "has 2 columns that would be called `Width`: rename one"),
    ],
)
def test_columns_that_cannot_be_had_are_one_sentence(run_embed, catalogue, columns, sentence):
    path = catalogue("Image file,Note,Width\n04.jpg,1,2\n")
    with pytest.raises(PipelineError, match=re.escape(sentence)):
        run_embed(metadata=path, columns=columns)


def test_a_parquet_catalogue_with_texts_for_numbers_is_one_sentence(run_embed, tmp_path):
    path = tmp_path / "catalogue.parquet"
    pq.write_table(pa.table({"Image file": ["04.jpg"], "Width": ["wide"]}), path)
    with pytest.raises(PipelineError, match=r"the column `Width` cannot be used: .*wide"):
        run_embed(metadata=path)
    path.write_bytes(path.read_bytes()[:-30] + b"x" * 22 + path.read_bytes()[-8:])
    with pytest.raises(PipelineError, match="cannot be read as a catalogue"):
        run_embed(metadata=path)


# The command


@pytest.fixture
def typed(folder, output, tiny_network, monkeypatch, capfd):
    """A function that runs the command and returns its exit code, and what it says."""

    def call(*arguments, photographs=folder, to=output, network=tiny_network):
        words = [photographs, "-o", to, "--network", network, *arguments]
        monkeypatch.setattr(sys, "argv", ["embed", *map(str, words)])
        capfd.readouterr()
        try:
            run(command.STAGE, command.main)
            code = 0
        except SystemExit as end:
            code = end.code
        said = capfd.readouterr()
        return code, said.out if code == 0 else said.err

    return call


def test_every_option_of_the_command_counts(typed, folder, output, tmp_path, catalogue):
    path = catalogue("filename,what\nClay/04.jpg,Terracotta\n")
    columns = ["--column", "Image file=filename", "--column", "Medium=what"]
    options = ["--layers", "conv1_relu,conv_pw_2_relu", "--resize", "hamming", "--exif-rotation"]
    cache = tmp_path / "in a new folder/cache"
    more = ["--cache", cache, "--workers", "3"]
    code, said = typed("--metadata", path, *columns, *options, *more)
    assert code == 0
    assert "1 photographs, 1 of them computed now, 40 numbers each" in said
    (row,) = rows_of(output).values()
    assert (row["Image file"], row["Medium"]) == ("Clay/04.jpg", "Terracotta")
    identity = json.loads(pq.read_schema(output).metadata[b"embedding"])
    assert identity["layers"] == "conv1_relu, conv_pw_2_relu"
    assert (identity["resize"], identity["orientation"]) == ("hamming", "EXIF")
    assert cache.is_file()
    assert not output.with_suffix(".embeddings").exists()
    code, said = typed("--label-from-folder")
    assert rows_of(output)["Gold/02.jpg"]["Medium"] == "Gold"
    assert output.with_suffix(".embeddings").is_file()


def test_mistakes_are_one_sentence(typed, folder, output, tmp_path, tiny_network, catalogue):
    path = catalogue("Image file\n04.jpg\n")
    (tmp_path / "a file").write_text("text")
    (tmp_path / "a folder.parquet").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    cases = {
        "there is no network .*nowhere.onnx: `python -m commands.network` makes it": {
            "network": tmp_path / "nowhere.onnx"
        },
        "`conv9` names no layers: MobileNetV1 0.25 32 gives last, or all, or some of conv1_": (
            "--layers",
            "conv9",
        ),
        "`` names no layers: ": ("--layers", ""),
        "`last,all` names no layers: ": ("--layers", "last,all"),
        "there is no folder or zip file .*nowhere": {"photographs": tmp_path / "nowhere"},
        "there is no folder or zip file .*loop": {"photographs": tmp_path / "loop"},
        "a file is neither a folder nor a zip file": {"photographs": tmp_path / "a file"},
        "made is a folder: name a file, .*made/extended.parquet": {"to": output.parent},
        "a folder.parquet is a folder: name a file": {"to": tmp_path / "a folder.parquet"},
        "the table .*a.jpg is to have a name that ends in .parquet": {"to": tmp_path / "a.jpg"},
        "a file: (File exists|Not a directory)": {"to": tmp_path / "a file/extended.parquet"},
        "labels come from the catalogue or from the folders, not from both": (
            "--metadata",
            path,
            "--label-from-folder",
        ),
        "names of columns are those of a catalogue, and none is given": (
            "--column",
            "Medium=Material",
        ),
        '--column Medium: write it as "Image file=filename"': (
            "--metadata",
            path,
            "--column",
            "Medium",
        ),
        "there is no catalogue .*nowhere.csv": ("--metadata", tmp_path / "nowhere.csv"),
        "Gold cannot be read as a catalogue: .*Is a directory": ("--metadata", folder / "Gold"),
        "there can be 1 to 256 workers, not 0": ("--workers", "0"),
        "a file cannot be used as a cache of embeddings": ("--cache", tmp_path / "a file"),
        "extended.parquet is named twice: photographs, catalogue,": ("--cache", output),
        "network.onnx is named twice: photographs, catalogue,": ("--cache", tiny_network),
        "--column Medium is given twice": ("--column", "Medium=a", "--column", "Medium=b"),
    }
    output.parent.mkdir()
    for sentence, given in cases.items():
        named = given if isinstance(given, dict) else {}
        code, said = typed(*([] if named else given), **named)
        assert code == 1, sentence
        assert re.match(rf"\[embed\] error: .*{sentence}", said), (sentence, said)
        assert said.count("\n") == 1
    assert list(output.parent.iterdir()) == []


def test_a_catalogue_is_never_overwritten(run_embed, tmp_path, folder):
    path = tmp_path / "extended.parquet"
    pq.write_table(pa.table({"Image file": ["04.jpg"]}), path)
    with pytest.raises(PipelineError, match="is named twice"):
        run_embed(to=path, metadata=path)


# Networks


@pytest.fixture
def other_network(tmp_path, tiny_network):
    """A function that copies the network, with another description, and returns its path."""

    def copy(text: str | None = None, **changes) -> Path:
        path = tmp_path / "other.onnx"
        path.write_bytes(tiny_network.read_bytes())
        said = json.loads(description_path(tiny_network).read_text()) | changes
        description_path(path).write_text(json.dumps(said) if text is None else text)
        return path

    return copy


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": 64}, "does not take pictures as its description says: .*Got: 64 Expected: 32"),
        ({"layout": "NCHW"}, "does not take pictures as its description says"),
        (
            {"last": {"output": "first", "pooling": "max"}},
            "has no output `first`, which its description names; it has conv1_relu, ",
        ),
        ({"divide": [1.0]}, "other.json is no description of a network: `divide`: "),
        ({"resize": "cubic"}, "other.json is no description of a network: `resize`: "),
        ({"unknown": 1}, "other.json is no description of a network: `unknown`: "),
        ({"text": "no JSON"}, "other.json is no description of a network: Invalid JSON"),
        ({"text": ""}, "other.json is no description of a network: Invalid JSON"),
    ],
)
def test_a_description_that_disagrees_with_its_network(typed, other_network, changes, sentence):
    code, said = typed(network=other_network(**changes))
    assert code == 1
    assert re.match(rf"\[embed\] error: .*{sentence}", said)
    assert said.count("\n") == 1


def test_a_network_without_a_description_and_a_file_that_is_none(typed, other_network):
    path = other_network()
    path.write_bytes(b"no network")
    code, said = typed(network=path)
    assert (code, said.count("\n")) == (1, 1)
    assert "other.onnx is no ONNX file that is run here: " in said
    description_path(path).unlink()
    code, said = typed(network=path)
    assert (code, said.count("\n")) == (1, 1)
    assert "has no description beside it: write" in said


def test_what_goes_wrong_inside_the_network_is_one_sentence(typed, other_network):
    onnx = pytest.importorskip("onnx")
    path = other_network(layout="NCHW")
    model = onnx.load(path)
    for dimension in model.graph.input[0].type.tensor_type.shape.dim:
        dimension.dim_param = f"any {id(dimension)}"  # so that it shows in a layer
    onnx.save(model, path)
    code, said = typed(network=path)
    assert (code, said.count("\n")) == (1, 1)
    assert "does not take pictures as its description says: " in said


def test_an_output_that_is_not_pooled_is_one_sentence(typed, tmp_path, tiny_network):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tiny_network)
    *_, flatten = (node for node in model.graph.node if node.op_type == "Flatten")
    flatten.op_type = "Identity"
    del flatten.attribute[:]
    del model.graph.output[:-1]
    (output,) = model.graph.output
    output.type.tensor_type.ClearField("shape")
    path = tmp_path / "unpooled.onnx"
    onnx.save(model, path)
    description_path(path).write_bytes(description_path(tiny_network).read_bytes())
    code, said = typed(network=path)
    assert code == 1
    assert "gives `last` in the shape (1, 256, 1, 1) for one picture" in said


# On to the pipeline


def parsed(stage_folder: Path, table: Path) -> pa.Table:
    """What the parser makes of the table."""
    raw = stage_folder / "data/raw"
    raw.mkdir(parents=True)
    (raw / table.name).write_bytes(table.read_bytes())
    (raw / "provenance.json").write_text(json.dumps({"source": "file", "file": table.name}))
    parse_embeddings_to_parquet.main()
    return pq.read_table(ARTEFACTS)


def test_the_parser_takes_the_table_as_it_is(run_embed, stage_folder, set_params, output, folder):
    run_embed(label_from_folder=True)
    set_params(**{"split.strategy": "stratified"})
    table = parsed(stage_folder, output)
    ours = pq.read_table(output)
    assert table.column("image_file").to_pylist() == ours.column("Image file").to_pylist()
    assert set(table.column("medium").to_pylist()) == set(FOLDERS)
    assert table.column("embedding").to_pylist() == ours.column(COLUMN).to_pylist()
    assert embedding_identity(ARTEFACTS)["weights"] == "drawn at random"
    split.main()
    assert set(pq.read_table(SPLIT).column("subset").to_pylist()) == {"train", "val", "test"}


def test_the_parser_takes_several_layers_and_further_columns(
    run_embed, stage_folder, set_params, output, catalogue
):
    path = catalogue("Image file,Medium,Year,Code\n04.jpg,Clay,1890,007\n02.jpg,Gold,,A7\n")
    run_embed(metadata=path, how={"layers": "all"})
    key = "parse_embeddings_to_parquet.extra_columns"
    set_params(**{"split.strategy": "stratified", key: {"Year": "number", "Code": "category"}})
    table = parsed(stage_folder, output)
    assert table.column("Year").to_pylist() == [None, 1890.0]
    assert table.column("Code").to_pylist() == ["A7", "007"]
    assert embedding_identity(ARTEFACTS)["layers"] == "all"


def switches(said: str) -> list[str]:
    """Those of the command that the run says to type."""
    begin = "to train on it, in the project's folder: "
    (line,) = (line for line in said.splitlines() if begin in line)
    program, *words = shlex.split(line.partition(begin)[2])
    assert [program, *words[:2], *words[2::2]] == ["dvc", "exp", "run"] + ["-S"] * (
        len(words) // 2 - 1
    )
    return words[3::2]


def test_it_says_how_to_train_on_the_table(typed, output, catalogue, other_network, tmp_path):
    ours = ["download.source=file", f"download.file.path={output}"]
    _, said = typed("--label-from-folder")
    assert switches(said) == [*ours, "split.strategy=stratified"]
    path = catalogue("Image file,Medium,Subset\n02.jpg,Gold,test\n04.jpg,Clay,train\n")
    _, said = typed("--metadata", path)
    official = "split.strategy=official"
    assert switches(said) == [*ours, official]
    path = catalogue("Image file,Medium,Subset\n02.jpg,Gold,test\n04.jpg,Clay,\n")
    _, said = typed("--metadata", path, network=other_network(column="Our numbers"))
    column = 'parse_embeddings_to_parquet.columns.embedding="Our numbers"'
    assert switches(said) == [*ours, column, "split.strategy=stratified"]
    odd = tmp_path / "a, (b)'s/extended.parquet"
    _, said = typed("--label-from-folder", to=odd)
    assert switches(said)[1] == f'download.file.path="{odd}"'
    path = catalogue("Image file,Medium,Subset\n02.jpg,Gold,test\n04.jpg,,train\n")
    _, said = typed("--metadata", path)
    parse = "parse_embeddings_to_parquet"
    quarantine = [f"{parse}.on_bad_row=quarantine", f"{parse}.max_bad_fraction=0.5"]
    assert switches(said) == [*ours, *quarantine, official]
    assert "1 of 2 photographs have no `Medium`" in said
    _, said = typed()
    assert "24 of 24 photographs have no `Medium`, so that no model can be trained" in said
    assert "to train on it" not in said


@pytest.mark.slow
def test_what_embedding_says_to_type_brings_the_table(clone_project, tmp_path, tiny_network, typed):
    photographs = tmp_path / "photographs, ours (1)"
    draw_folder(photographs, 60)
    output = tmp_path / "made, it's here/extended.parquet"
    code, said = typed("--label-from-folder", photographs=photographs, to=output)
    assert code == 0
    project: Project = clone_project()
    project.commit()
    typed_switches = (word for switch in switches(said) for word in ("-S", switch))
    # Up to here; tests/test_documents.py goes on to the report.
    project.dvc("exp", "run", *typed_switches, "split")
    table = project.folder / ARTEFACTS
    assert pq.read_metadata(table).num_rows == 60
    assert embedding_identity(table)["weights"] == "drawn at random"
    assert project.repro("split") == []
