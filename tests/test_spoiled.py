"""A file that is not as it should be ends in one sentence, which names it and the way out."""

import gzip
import io
import json
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts import fuzz
from scripts.mutations import Pickled
from stages import evaluate, featurize, report, split, train
from stages.common import params
from stages.common.errors import ParameterError, PipelineError
from stages.common.files import TOO_LARGE, read_json, reading
from stages.common.params import load_params
from stages.common.stage import run
from stages.features.transformer import TRANSFORMER, Transformer
from stages.model_file.words import Words
from stages.sources.raw import PROVENANCE
from stages.tables.features import features_path
from stages.tables.predictions import PREDICTIONS
from stages.tables.results import DETAILS, METRICS
from stages.tables.split import SPLIT, SPLIT_COLUMNS, read_split
from stages.tables.val_probabilities import VAL_PROBABILITIES

# What stages write and others read.
BETWEEN = [
    name
    for name, reader in fuzz.READERS.items()
    if reader.path.parts[0] in ("data", "models", "reports") and reader.path != fuzz.NETWORK
    if reader.path.suffix and name != "network.json"
]
WAY_OUT = r": (it is no model of this pipeline as it is now: )?run `dvc repro`, which makes "


@pytest.fixture
def here(reproduced, tmp_path, monkeypatch):
    """A copy of a run's files, as the current folder."""
    for name in ("data", "models", "reports"):
        shutil.copytree(reproduced.folder / name, tmp_path / name)
    shutil.copy(reproduced.folder / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for once in (fuzz.answerer, fuzz.rows_of_test, fuzz.samples):
        once.cache_clear()
    fuzz.answerer(), fuzz.rows_of_test()
    return tmp_path


SPOILED = {
    "missing": None,
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1] if content[:4] != b"{\n  " else content[:-3],
    "text": lambda content: b"Not found, sorry\n",
    "page": lambda content: b"<!DOCTYPE html><html></html>",
    "json": lambda content: b'{"a": [1, 2, null]}',
    "packed": gzip.compress,
    "zeros": lambda content: bytes(len(content)),
    "not UTF-8": lambda content: b"\xff\xfe\xfa" + content,
}


@pytest.mark.parametrize("name", BETWEEN)
def test_a_file_between_stages_that_is_none_is_named_with_the_way_out(here, name):
    reader = fuzz.READERS[name]
    content = reader.path.read_bytes()
    reader.read()
    for how, spoil in SPOILED.items():
        if reader.path.suffix == ".npz" and how in ("cut by a byte", "not UTF-8"):
            continue  # what a zip file has before and after its parts is of no meaning
        reader.path.unlink(missing_ok=True)
        if spoil is not None:
            reader.path.write_bytes(spoil(content))
        with pytest.raises(PipelineError, match=WAY_OUT) as caught:
            reader.read()
        assert str(reader.path) in str(caught.value), how
        assert "\n" not in str(caught.value), how
    reader.path.unlink()
    reader.path.mkdir()
    with pytest.raises(PipelineError, match=re.escape(str(reader.path))):
        reader.read()


def rewritten(path, change):
    """Write a Parquet table again, changed."""
    pq.write_table(change(pq.read_table(path)), path)


def with_column(name, values):
    return lambda table: table.set_column(
        table.schema.get_field_index(name),
        table.schema.field(name),
        pa.array(values(table), table.schema.field(name).type),
    )


def one(table, name, value):
    values = table[name].to_pylist()
    values[1] = value
    return values


def nan_in(name):
    def change(table):
        values = table[name].to_pylist()
        values[1][0] = float("nan")
        return values

    return with_column(name, change)


def without_word(name):
    return lambda table: table.replace_schema_metadata(
        {k: v for k, v in table.schema.metadata.items() if k != name.encode()}
    )


def said(name, value):
    return lambda table: table.replace_schema_metadata(
        table.schema.metadata | {name.encode(): json.dumps(value).encode()}
    )


TRAIN = features_path("train")
TABLES = [
    ("artefacts.parquet", lambda t: t.drop_columns("width"), "it has no columns `width`"),
    ("artefacts.parquet", with_column("width", lambda t: one(t, "width", -1.0)), "`width` holds"),
    ("artefacts.parquet", nan_in("embedding"), "`embedding` holds what no artefact has"),
    ("artefacts.parquet", without_word("source"), "it lacks `source`"),
    ("artefacts.parquet", said("embedding", ["x"]), "what it says of its embeddings"),
    ("artefacts.parquet", lambda t: t.slice(1), "does not belong to the split table"),
    ("artefacts.parquet", lambda t: pa.concat_tables([t, t]), "does not belong to the split"),
    ("split.parquet", with_column("subset", lambda t: one(t, "subset", "tset")), "subset `tset`"),
    ("split.parquet", with_column("subset", lambda t: one(t, "subset", None)), "has gaps"),
    ("split.parquet", lambda t: pa.concat_tables([t, t]), "an image file is there twice"),
    ("split.parquet", lambda t: t.append_column("subset", t["subset"]), "2 columns `subset`"),
    ("features", nan_in("features"), r"tiny-\S+ has features that are no finite numbers"),
    ("features", lambda t: t.slice(0, 0), "it has no rows"),
    ("features", said("feature_names", ["a"]), r"`features` holds fixed_size_list"),
    ("features", said("feature_names", {"a": 1}), "`feature_names` are no list of texts"),
    ("features", said("feature_names", ["a", "a"]), "one is there twice"),
    ("val_probabilities", nan_in("probabilities"), "row 2 holds no probabilities"),
    ("val_probabilities", said("labels", ["a", "b"]), "it is of other labels than the model"),
    ("val_probabilities", lambda t: t.drop_columns("probabilities"), "no columns `probabilities`"),
    ("predictions.parquet", nan_in("probabilities"), "row 2 holds no probabilities"),
    ("predictions.parquet", without_word("labels"), "it lacks `labels`"),
    ("predictions.parquet", without_word("model"), "it lacks `model`"),
    ("predictions.parquet", said("labels", ["a", "b"]), "`probabilities` holds"),
    ("predictions.parquet", lambda t: t.drop_columns("predicted"), "no columns `predicted`"),
]


@pytest.mark.parametrize(("name", "change", "problem"), TABLES)
def test_a_table_of_other_columns_or_values_is_named_with_what_is_wrong(
    here, name, change, problem
):
    reader = fuzz.READERS[name]
    rewritten(reader.path, change)
    with pytest.raises(PipelineError, match=problem) as caught:
        reader.read()
    assert re.search(r"run `dvc repro`", str(caught.value))


MAINS = {"split": split, "featurize": featurize, "train": train, "evaluate": evaluate}
# What no longer belongs together: the file, its change, the stage that reads it, and the sentence.
APART = [
    (SPLIT, lambda t: t.slice(3), "featurize", "has no subset"),
    (SPLIT, lambda t: t.slice(3), "evaluate", "has no subset"),
    (TRAIN, said("feature_names", [f"f{i}" for i in range(13)]), "train", "different features"),
    (TRAIN, lambda t: t.filter(pa.compute.not_equal(t["medium"], "Medium 1")), "train", "lacks"),
    (features_path("val"), lambda t: pq.read_table(TRAIN), "train", "is in train and in val"),
    (features_path("test"), lambda t: t.slice(2), "evaluate", "is of other rows than test"),
    (VAL_PROBABILITIES, lambda t: t.slice(2), "evaluate", "is of other rows than val"),
]


@pytest.mark.parametrize(("path", "change", "stage", "problem"), APART)
def test_tables_that_do_not_belong_together_stop_the_stage_and_nothing_is_written(
    here, capsys, path, change, stage, problem
):
    rewritten(path, change)
    before = {p: p.read_bytes() for p in here.rglob("*") if p.is_file()}
    with pytest.raises(SystemExit) as stopped:
        run(stage, MAINS[stage].main)
    last = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 1
    assert last.startswith(f"[{stage}] error: ")
    assert problem in last
    assert "run `dvc repro`" in last
    assert {p: p.read_bytes() for p in here.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("path", [TRAIN, features_path("val"), TRANSFORMER])
@pytest.mark.parametrize("how", ["missing", "empty", "text"])
def test_train_names_a_spoiled_input_before_its_work(here, path, how):
    path.unlink()
    if how != "missing":
        path.write_text("" if how == "empty" else "text")
    with pytest.raises(PipelineError, match=f"{path}.*{WAY_OUT}"):
        train.main()


def test_the_page_is_not_made_of_tables_of_other_rows(here):
    rewritten(SPLIT, lambda t: t.take(list(reversed(range(len(t))))))
    with pytest.raises(PipelineError, match=r"split.parquet is of other rows than data/artefacts"):
        report.main()


def test_the_page_is_not_made_of_the_predictions_of_another_model(here):
    rewritten(
        PREDICTIONS,
        lambda t: t.replace_schema_metadata(t.schema.metadata | {b"model": b"another"}),
    )
    with pytest.raises(PipelineError, match=r"predictions.parquet is of another model than models"):
        report.main()


def test_a_few_bytes_that_stand_for_millions_of_rows_are_not_unpacked(here):
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3_000_000, np.int8)), ["train"])
    nothing = {name: pa.nulls(3_000_000, type_) for name, type_ in SPLIT_COLUMNS.items()}
    table = pa.table(nothing | {"image_file": names, "subset": names})
    pq.write_table(table, SPLIT, compression="zstd")
    assert SPLIT.stat().st_size < 100_000
    with pytest.raises(PipelineError, match=r"it has more rows than its bytes can hold"):
        read_split()


@pytest.mark.parametrize(
    ("path", "place", "value", "problem"),
    [
        (METRICS, ("test", "accuracy"), "0.7", "`test.accuracy`: Input should be a valid number"),
        (METRICS, ("test",), None, "`test`: "),
        (METRICS, ("data", "source"), "web", "`data.source`: "),
        (DETAILS, ("test_museum",), [], "`test_museum`: "),
        (PROVENANCE, ("file",), "../../secret.csv", "`file`: Value error, it is no name of a file"),
        (PROVENANCE, ("source",), "web", "`source`: "),
        (PROVENANCE, ("bytes",), None, "it lacks `bytes`"),
    ],
)
def test_json_that_lacks_or_mistakes_something_is_named_with_it(here, path, place, value, problem):
    content = json.loads(path.read_text())
    part = content
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path.write_text(json.dumps(content))
    name = {METRICS: "metrics.json", DETAILS: "details.json"}.get(path, "provenance.json")
    with pytest.raises(PipelineError, match=re.escape(f"{path} cannot be used ({problem}")):
        fuzz.READERS[name].read()


def test_json_is_an_object_without_nan_and_of_a_size_that_is_read(tmp_path):
    path = tmp_path / "a.json"
    for text, problem in (
        ("[" * 100_000, "it is nested too deeply"),
        ('{"a": NaN}', "it holds NaN"),
        ("[1]", "it holds no JSON object"),
        ("<<<<<<< HEAD\n{}\n", "Expecting value"),
    ):
        path.write_text(text)
        with pytest.raises(PipelineError, match=problem):
            read_json(path)
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a file with a hole: it takes no room
    with pytest.raises(PipelineError, match="it has more than 16 MB"):
        read_json(path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_pickle_among_the_arrays_is_not_run(here, packed):
    content = io.BytesIO()
    np.lib.format.write_array(content, np.array([Pickled()], dtype=object), allow_pickle=True)
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(TRANSFORMER, "w", kind) as archive:
        archive.writestr("0.category.values.npy", content.getvalue())
    with pytest.raises(PipelineError, match=r"transformer.npz cannot be used .*: run `dvc repro`"):
        Transformer.load(TRANSFORMER)
    TRANSFORMER.write_bytes(pickle.dumps(Pickled()))
    with pytest.raises(PipelineError, match=r"transformer.npz cannot be used"):
        Transformer.load(TRANSFORMER)
    assert not Path("executed").exists()
    content.seek(0)
    np.load(content, allow_pickle=True)  # what would have happened
    assert Path("executed").exists()


def npz(**arrays):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asarray(array))
            archive.writestr(f"0.{name.replace('_', '.', 1)}.npy", part.getvalue())
    return content.getvalue()


SIZES = {"sizes_mean": np.zeros(5), "sizes_scale": np.ones(5), "sizes_ranges": np.ones((2, 2))}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (npz(**SIZES | {"sizes_mean": np.zeros(4)}), "cannot be used"),
        (npz(**SIZES | {"sizes_mean": np.full(5, np.nan)}), "`mean` is no finite number"),
        (npz(**SIZES | {"sizes_more": 1}), "unexpected keyword"),
        (npz(sizes_mean=np.zeros(5)), "missing 2 required"),
        (npz(what_mean=np.zeros(5)), "it lacks `what`"),
        (npz(embedding_how="raw", embedding_length=10**12), "`length` is too large"),
        (npz(), "cannot be used"),
    ],
)
def test_a_transformer_whose_parts_do_not_fit_is_refused(tmp_path, content, problem):
    (tmp_path / "a.npz").write_bytes(npz(**SIZES))
    assert len(Transformer.load(tmp_path / "a.npz").feature_names) == 5
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(PipelineError, match=problem):
        Transformer.load(tmp_path / "a.npz")


def test_too_little_memory_for_a_file_is_a_sentence(tmp_path):
    with (
        pytest.raises(PipelineError, match=f"a.npz cannot be read, {TOO_LARGE}"),
        reading(Path("a.npz")),
    ):
        raise MemoryError


# --- params.yaml ---------------------------------------------------------------------------------

OFFICIAL = b"  : 1\n  strategy: official\n  official: {}\n"
LINES = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe\xfa", "is not valid YAML"),
        (b"split:\n  strategy: \xe9", "is not valid YAML|cannot be read"),
        (b"split: {a: \x00}", "is not valid YAML"),
        (b"split:\n  a: 1\n  a: 2\n", "is not valid YAML"),
        (b"split: " + b"[" * 500, "is nested too deeply"),
        ("\n".join([*LINES, "split: *a59", ""]).encode(), "references to other values make too"),
        (b"split: &a [*a]\n", "references to other values make too many"),
        (b"- split\n", "has no sections"),
        (b"", "has no sections"),
        (b"split:\n  ? " + b"x" * 5000 + b"\n" + OFFICIAL, "unknown key `split.x"),
        (b"split:\n  strategy: " + b"[1, 2, " * 90 + b"]" * 90, "should be 'official'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parameters_that_cannot_be_read_are_one_sentence(stage_folder, content, problem):
    (stage_folder / "params.yaml").write_bytes(content)
    with pytest.raises(ParameterError, match=problem) as caught:
        load_params("split", split.Params, "strategy")
    text = str(caught.value)
    assert text.startswith("params.yaml")
    assert len(text) < 500
    assert text.isprintable()


def test_parameters_that_are_a_folder_or_far_too_large_are_one_sentence(stage_folder):
    path = stage_folder / "params.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(ParameterError, match="it has more than 300,000 bytes"):
        load_params("split", split.Params, "strategy")
    path.unlink()
    path.mkdir()
    with pytest.raises(ParameterError, match=r"cannot be read \(Is a directory\)"):
        load_params("split", split.Params, "strategy")


@pytest.mark.parametrize("value", [3, None, ["a"]])
def test_a_word_that_is_none_is_named(set_params, value):
    set_params(**{"evaluate.label": value})
    with pytest.raises(ParameterError, match=r"`evaluate.label` should be a word"):
        Words.read()


# --- By chance -----------------------------------------------------------------------------------

QUICK = [name for name in fuzz.READERS if name not in ("params.yaml", "raw table")]


@pytest.mark.parametrize("name", QUICK)
def test_what_is_spoiled_by_chance_is_read_or_refused_in_a_sentence(here, monkeypatch, name):
    monkeypatch.setattr(params, "_read_yaml", params._read_yaml)  # it comes back at the end
    fuzz.prepare(name, here)
    for seed in range(25):
        fuzz.write_input(name, seed)
        assert fuzz.outcome(name) in (fuzz.READ, fuzz.REFUSED), seed


@pytest.mark.slow
def test_hundreds_of_spoiled_files_of_each_reader_within_the_limits():
    command = [sys.executable, "-m", "scripts.fuzz", "--inputs", "300"]
    readers = [name for name in fuzz.READERS if name != "params.yaml"]
    result = subprocess.run([*command, *readers], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert len(re.findall(r"^\| [^|]+ \| 300 \|", result.stdout, re.MULTILINE)) == len(readers)
