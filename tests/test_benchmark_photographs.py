"""The benchmark of embedding compares equal things, and writes down what was measured."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT
from PIL import Image
from test_network import folder_of_photographs, small, small_network  # noqa: F401

from benchmarks import photograph_peers as peers
from benchmarks import photographs as benchmark
from benchmarks.harness import Run, write_part
from benchmarks.photographs import KERAS, OURS, TENSORFLOW, Pair, Results
from photographs.pictures.picture import Reading, read_picture


@pytest.mark.parametrize("name", ["photographs", "photograph_peers"])
def test_the_benchmark_starts_the_project_and_imports_nothing_of_it(name):
    code = (PROJECT / f"benchmarks/{name}.py").read_text(encoding="utf-8")
    imported = re.findall(r"^\s*(?:from|import) (\w+)", code, re.MULTILINE)
    assert "numpy" in imported or "argparse" in imported
    assert not {"stages", "photographs", "commands"} & set(imported)


def test_photographs_are_drawn_and_no_two_are_alike(tmp_path):
    folder = tmp_path / "drawn"
    peers.draw(folder, Path("4"))
    paths = sorted(folder.iterdir())
    assert len({path.read_bytes() for path in paths}) == 4
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "JPEG"
            assert min(picture.size) == peers.SIDE
            assert peers.LONGER[0] <= max(picture.size) < peers.LONGER[1]
    part = benchmark.first(folder, tmp_path / "part", 3)
    assert sorted(path.name for path in part.iterdir()) == [path.name for path in paths[:3]]


def test_the_decoder_that_is_measured_alone_is_the_one_of_the_project(tmp_path):
    peers.draw(tmp_path / "drawn", Path("1"))
    content = (tmp_path / "drawn/0000.jpg").read_bytes()
    side = peers.NETWORK_SIDE
    pixels, *_ = read_picture(content, Reading(side, side, "nearest", "stretch", False))
    assert np.array_equal(peers._pixels(content), pixels)
    assert set(peers.decode(tmp_path / "drawn")) == {"seconds", "cpu_seconds"}


def test_embeddings_are_compared_row_by_row(tmp_path):
    ours = np.array([[0, 1, 6], [2, 3, 4], [5, 5, 5]], np.float64)
    pq.write_table(pa.table({"MobileNetV1 features": ours.tolist()}), tmp_path / "ours.parquet")
    # Keras had fewer photographs.
    theirs = ours[:2].astype(np.float32)
    theirs[1, 1] += 0.5
    np.save(tmp_path / "theirs.npy", theirs)
    found = peers.compare(tmp_path / "ours.parquet", tmp_path / "theirs.npy")
    assert found["difference"] == 0.5
    assert found["between"] == pytest.approx(4 / 6)


def test_keras_has_whole_batches_and_every_size_a_folder():
    assert benchmark.BATCH == peers.BATCH
    for most in (100, 800, 1000):
        few, many = benchmark.of_keras(most)
        assert few % benchmark.BATCH == many % benchmark.BATCH == 0
        assert 0 < few < many <= most
        assert {few, many, most, benchmark.quarter(most)} == benchmark.sizes(most)


def pair(rate: float, start: float = 1.0, megabytes: float = 300, few: int = 10) -> Pair:
    """So many photographs a CPU second, and half of that a second, on 10 and 30."""
    many = 3 * few
    runs = [
        Run(start + 2 * n / rate, megabytes + n, cpu_seconds=start + n / rate) for n in (few, many)
    ]
    return Pair(few, many, *runs)


def some_results(rate: float = 90.0) -> Results:
    pairs = {
        OURS: [pair(rate), pair(2 * rate), pair(rate / 2)],
        KERAS: [pair(rate / 6, 16, 900, 8), pair(rate / 10, 16, 900, 8), pair(rate / 14, 16, 900)],
    }
    again = [Run(2, 100, 1), Run(3, 100, 1.5), Run(9, 100, 4)]
    return Results(30, pairs, again, [1000, 500, 2000], [50, 100, 200], 2e-5, 0.9)


def test_the_start_is_no_part_of_the_speed():
    one = pair(50.0, start=3.0)
    assert one.per_cpu_second() == pytest.approx(50)
    assert one.per_second() == pytest.approx(25)
    assert one.start() == pytest.approx(3)


def test_a_table_has_medians_and_the_medians_of_ratios_within_rounds():
    _, _, ours, theirs = benchmark.table_of_ways(some_results().pairs).splitlines()
    assert ours == ("| this project | 3 | 90.0 | 45.0 to 180.0 | 1.0 | 45.0 | 1.0 | 1.0 | 330 |")
    # Ratios of the rounds: 6, 20 and 7.
    assert theirs == "| Keras, JAX | 3 | 9.0 | 6.4 to 15.0 | 7.0 | 4.5 | 7.0 | 16.0 | 924 |"


@pytest.mark.parametrize(("rate", "reached"), [(90.0, "yes"), (79.0, "no"), (79.96, "yes")])
def test_the_verdict_is_that_of_the_figure_shown(rate, reached):
    first, second = benchmark.table_of_aims(some_results(rate).pairs).splitlines()[2:]
    assert first.endswith(f"| at least 80 | {rate:.1f} | {reached} |")
    assert second == "| times Keras, JAX | at least 5 | 7.0 | yes |"


def test_the_document_says_what_was_measured():
    results = some_results()
    text = benchmark.document(results, {"keras": "1.2.3"})
    assert "```sh\nmake bench-photographs\n```" in text
    assert "**A trial.**" in text
    assert "**drawn**" in text
    assert "| Pillow alone: decode and resize | 1.0 | 1,000 |" in text
    assert "| ONNX Runtime alone | 10.0 | 100 |" in text
    assert "| `commands.embed`, all that it does | 11.1 | 90 |" in text
    words = " ".join(text.split())
    assert "ours on 10 and 30, Keras on 8 and 24" in words
    assert "310 MB for 10 photographs and 330 MB for 30" in words
    assert "takes 3.0 seconds (1.5 CPU seconds)" in words
    assert "is 2e-05, where 90 % of" in words
    assert "keras 1.2.3" in text
    assert "TensorFlow" not in text
    results.pairs[TENSORFLOW] = [pair(30.0)] * 3
    text = benchmark.document(results, {})
    assert "| Keras, TensorFlow | 3 | 30.0 |" in text
    assert "TensorFlow is no dependency of the project" in text


def test_a_part_of_a_document_leaves_the_others_as_they_are(tmp_path):
    path = tmp_path / "document.md"
    for name, text in (("a", "one\n"), ("b", "two \\1\n"), ("a", "three\n")):
        write_part(path, name, text)
    assert path.read_text() == (
        "<!-- part: a -->\nthree\n<!-- end: a -->\n\n<!-- part: b -->\ntwo \\1\n<!-- end: b -->\n"
    )


def test_the_page_has_a_part_of_each_benchmark():
    text = (PROJECT / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert re.findall("<!-- part: (.*) -->", text) == ["make bench", "make bench-photographs"]
    assert "**A trial" not in text


def test_onnx_runtime_is_measured_on_the_network_of_the_project(
    small_network,  # noqa: F811
    folder_of_photographs,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(peers, "NETWORK_SIDE", 64)
    took = peers.run_network(folder_of_photographs, small_network)
    assert json.dumps(took)
    assert took["cpu_seconds"] > 0
