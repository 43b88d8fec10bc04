"""What the project is compared with does the same work, on the same rows."""

import json
import math
import re
import runpy
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT, TESTS_PARAMS, read_yaml, tiny_rows
from PIL import Image
from test_network import folder_of_photographs, small, small_network  # noqa: F401

from benchmarks import models, peers, photograph_peers, photographs
from benchmarks import parse as parsing
from benchmarks.long_embeddings import MEDIUMS, NUMBERS, ROWS, SUBSETS, write_table
from benchmarks.model_peers import PEERS, run_peer
from photographs.pictures.picture import Reading, read_picture
from stages import featurize, split, train
from stages.models.kernel_ridge import MOST_CHOOSING_ROWS, TRIED
from stages.sources.simulator import COLUMNS
from stages.tables.artefacts import ARTEFACTS
from stages.tables.parquet import matrix, source_of

CSV = Path("data/raw/table.csv")
NOTEBOOK, COURSE = (PROJECT / f"benchmarks/{name}.py" for name in ("notebook", "course"))
# Those that need no package beside requirements.txt.
PANDAS = ("pandas-literal-eval", "pandas-json", "pandas-fromstring")
PACKAGES = {"keras": ("keras", "jax")}


# Parsing


@pytest.mark.parametrize("name", PANDAS)
def test_pandas_gives_the_embeddings_of_the_stage(parse, name):
    rows = tiny_rows()
    parse(rows)
    peers.PEERS[name](str(CSV), "peer.parquet")
    assert parsing.compare(ARTEFACTS, Path("peer.parquet")) == "equal"
    assert pq.read_table("peer.parquet").column_names == list(rows[0])


def test_pandas_gives_the_embeddings_of_the_stage_from_parquet(parse):
    artefacts = parse(tiny_rows())
    table = pa.table({peers.FEATURES: artefacts["embedding"].cast(pa.list_(pa.float64()))})
    pq.write_table(table, "raw.parquet")
    peers.PEERS["pandas-parquet"]("raw.parquet", "peer.parquet")
    assert parsing.compare(ARTEFACTS, Path("peer.parquet")) == "equal"


def test_every_way_to_parse_is_a_peer_and_every_peer_is_a_way():
    assert {*parsing.CSV_WAYS, *parsing.PARQUET_WAYS} == set(peers.PEERS)
    assert peers.FEATURES in COLUMNS


# Scripts of a student


@pytest.mark.parametrize("script", [NOTEBOOK, COURSE], ids=lambda path: path.stem)
def test_scripts_use_nothing_of_the_project(script):
    code = script.read_text(encoding="utf-8")
    assert "stages" not in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)


def test_the_course_has_the_same_rows_embeddings_and_sizes(parse, monkeypatch, capsys):
    table = parse(tiny_rows())
    monkeypatch.setattr(sys, "argv", ["course.py", str(CSV)])
    found = runpy.run_path(str(COURSE), run_name="__main__")
    assert np.array_equal(found["embedding"].astype(np.float32), matrix(table["embedding"]))
    assert found["train"].sum() == table["subset"].to_pylist().count("train")
    assert found["model"].n_iter_.max() < found["model"].max_iter  # it converges
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["accuracy"] > 0.5
    assert printed["log_loss"] < np.log(6)


def test_the_notebook_does_the_work_of_the_default_pipeline(parse, monkeypatch, capsys):
    expected = matrix(parse(tiny_rows())["embedding"])
    monkeypatch.setattr(sys, "argv", ["notebook.py", "data/raw/table.csv", "output"])
    found = runpy.run_path(str(NOTEBOOK), run_name="__main__")
    assert found["embedding"].dtype == expected.dtype
    assert np.array_equal(found["embedding"], expected)
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["accuracy"] > 0.5
    assert printed["log_loss"] < np.log(6)
    code = (PROJECT / "stages/reporting/figures.py").read_text(encoding="utf-8")
    assert len(list(Path("output").glob("*.png"))) == code.count(" ReportFigure(\n")
    check_parameters(found)


def check_parameters(notebook: dict) -> None:
    """The parameters of the script's models are those of params.yaml, as the tests have it."""
    params = read_yaml(TESTS_PARAMS)
    assert params["train"]["model"] == "ensemble"
    assert params["featurize"]["embedding"] == "pca"
    pca, code = params["featurize"]["pca"], NOTEBOOK.read_text(encoding="utf-8")
    assert f"PCA(min({pca['components']}, " in code
    assert f"explained_variance_**{pca['whitening'] / 2}\n" in code
    assert np.square(notebook["X_embedding"]).mean(axis=1) == pytest.approx(1, rel=1e-5)
    assert pca["unit_length"]
    assert params["featurize"]["sizes"]
    assert not params["featurize"]["museum"]
    ridge, lda, trees = params["train"]["ensemble"].values()
    assert ridge["gamma"] == ridge["penalty"] == "auto"
    assert f"min({TRIED['gamma']}, " in code
    assert f"min({TRIED['penalty']}, " in code
    assert f"[:{MOST_CHOOSING_ROWS}]" in code
    assert notebook["ridge"].X.shape[1] == notebook["X_embedding"].shape[1]
    assert notebook["lda"].shrinkage == lda["shrinkage"]
    assert notebook["lda"].coef_.shape[1] == notebook["X_embedding"].shape[1]
    assert params["train"]["refit_on_val"]
    assert len(notebook["ridge"].X) == len(notebook["train"]) + len(notebook["val"])
    # What the script does not set has XGBoost's default.
    defaults = {"colsample_bynode": 1, "reg_lambda": 1, "max_bin": 256}
    chosen = {**defaults, **{k: v for k, v in notebook["trees"].get_params().items() if v}}
    # Those of all rows have as many rounds as others needed.
    assert f"boosted({trees.pop('rounds')}, " in code
    assert f"early_stopping_rounds={trees.pop('early_stopping_rounds')})" in code
    for name, value in trees.items():
        if name != "features":
            assert chosen[name] == value


# Models


@pytest.fixture
def features(parse):
    """A folder with the features of a tiny table, made by the stages in the current folder."""
    parse(tiny_rows())
    split.main()
    featurize.main()
    return Path("data/features")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", PEERS)
def test_each_other_way_learns_from_the_features(features, name):
    for package in PACKAGES.get(name, ()):
        if not find_spec(package):
            pytest.skip(f"{package} is installed by `make bench` only")
    found = run_peer(name, features)
    assert found["accuracy"] > 0.5
    assert found["log_loss"] < math.log(6)


@pytest.mark.slow
def test_other_ways_do_not_load_the_stages_which_limit_threads(features):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from benchmarks import model_peers\n"
        "model_peers.run_peer('linear-discriminant-analysis', Path(sys.argv[1]))\n"
        "print(sum(name.split('.')[0] == 'stages' for name in sys.modules))"
    )
    command = [sys.executable, "-c", code, str(features.resolve())]
    assert subprocess.check_output(command, cwd=PROJECT, text=True) == "0\n"


def test_every_other_way_is_measured():
    assert [peer.name for peer in models.PEERS] == list(PEERS)


def test_the_test_rows_are_scored_with_the_model_of_the_folder(features, set_params):
    set_params(**{"train.model": "lda"})
    train.main()
    found = models.score()
    assert found.pop("seconds") > 0
    assert found == {"rows": 36, "training_rows": 108, "mediums": 6}


# Photographs


@pytest.mark.parametrize("name", ["photographs", "photograph_peers", "model_peers"])
def test_what_is_compared_imports_nothing_of_the_project(name):
    code = (PROJECT / f"benchmarks/{name}.py").read_text(encoding="utf-8")
    imported = re.findall(r"^\s*(?:from|import) (\w+)", code, re.MULTILINE)
    assert imported
    assert not {"stages", "photographs", "commands"} & set(imported)


def test_photographs_are_drawn_and_no_two_are_alike(tmp_path):
    folder = tmp_path / "drawn"
    photograph_peers.draw(folder, Path("4"))
    paths = sorted(folder.iterdir())
    assert len({path.read_bytes() for path in paths}) == 4
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "JPEG"
            assert min(picture.size) == photograph_peers.SIDE
            assert photograph_peers.LONGER[0] <= max(picture.size) < photograph_peers.LONGER[1]
    part = photographs.first(folder, tmp_path / "part", 3)
    assert sorted(path.name for path in part.iterdir()) == [path.name for path in paths[:3]]


def test_the_decoder_that_is_measured_alone_is_the_one_of_the_project(tmp_path):
    photograph_peers.draw(tmp_path / "drawn", Path("1"))
    content = (tmp_path / "drawn/0000.jpg").read_bytes()
    side = photograph_peers.NETWORK_SIDE
    pixels, *_ = read_picture(content, Reading(side, side, "nearest", "stretch", False))
    assert np.array_equal(photograph_peers._pixels(content), pixels)
    assert set(photograph_peers.decode(tmp_path / "drawn")) == {"seconds", "cpu_seconds"}


def test_embeddings_are_compared_row_by_row(tmp_path):
    ours = np.array([[0, 1, 6], [2, 3, 4], [5, 5, 5]], np.float64)
    pq.write_table(pa.table({"MobileNetV1 features": ours.tolist()}), tmp_path / "ours.parquet")
    # Keras had fewer photographs.
    theirs = ours[:2].astype(np.float32)
    theirs[1, 1] += 0.5
    np.save(tmp_path / "theirs.npy", theirs)
    found = photograph_peers.compare(tmp_path / "ours.parquet", tmp_path / "theirs.npy")
    assert found["difference"] == 0.5
    assert found["between"] == pytest.approx(4 / 6)


def test_onnx_runtime_is_measured_on_the_network_of_the_project(
    small_network,  # noqa: F811
    folder_of_photographs,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(photograph_peers, "NETWORK_SIDE", 64)
    took = photograph_peers.run_network(folder_of_photographs, small_network)
    assert json.dumps(took)
    assert took["cpu_seconds"] > 0


def test_batches_are_those_that_are_measured():
    assert photographs.BATCH == photograph_peers.BATCH


# Long embeddings


def test_the_table_is_of_the_size_of_mame():
    assert (ROWS, MEDIUMS) == (37_407, 29)
    assert sum(SUBSETS.values()) == ROWS
    # The channels of MobileNetV1's 27 activations: the first convolution, then thirteen blocks of a
    # depthwise and a pointwise one.
    pointwise = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    assert 32 + sum([32, *pointwise[:-1]]) + sum(pointwise) == NUMBERS


def test_the_table_is_read_as_synthetic_half_floats(parse):
    write_table(Path("long.parquet"), rows=2400, numbers=12)
    table = parse(Path("long.parquet").read_bytes(), "long.parquet")
    assert source_of(ARTEFACTS) == "synthetic"
    assert table.num_rows == 2400
    assert table["embedding"].type == pa.list_(pa.float16(), 12)
    assert len(set(table["medium"].to_pylist())) == MEDIUMS
    counts = Counter(table["subset"].to_pylist())
    for subset, rows in SUBSETS.items():
        assert abs(counts[subset] - 2400 * rows / ROWS) <= 1
    values = matrix(table["embedding"])
    assert values.min() >= 0
    assert values.max() <= 6
    assert (values.std(axis=0) > 0).all()


def test_the_table_is_the_same_each_time_and_lies_in_lists_as_the_courses_does(tmp_path):
    for name in ("one", "other"):
        write_table(tmp_path / name, rows=1100, numbers=5)
    one, other = (pq.read_table(tmp_path / name) for name in ("one", "other"))
    assert one.equals(other)
    assert one.schema.field("MobileNetV1 features").type == pa.list_(pa.float16())
    assert len(np.unique(one["Image file"].to_numpy())) == 1100
