"""Each row and photograph has an answer or a reason why not, and each mistake a sentence."""

import csv
import gzip
import json
import shutil
import sys
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import MUSEUMS, tiny_rows, write_csv_table, write_params
from pictures import draw, random_weights, write_network
from test_models import metadata_of

from answers import photographs as answers_photographs
from answers import table as answers_table
from answers.answerer import SYNTHETIC, Answerer
from answers.output import answers_schema, write_answers
from commands import predict
from photographs.embed import embed
from photographs.pictures import table as photographs_table
from photographs.pictures.embedder import Embedder
from scripts.params import set_params
from stages.common.stage import run
from stages.featurize import Params as FeaturizeParams
from stages.featurize import fit as fit_transformer
from stages.model_file.interface import MODEL, PROBABILITIES, PROBABILITIES_WITHOUT_SIZES
from stages.models.base import OnFeatures
from stages.models.file import model_bytes
from stages.models.linear import Linear
from stages.parser.contract import RULES
from stages.sources.identity import COURSE
from stages.tables.artefacts import Artefacts
from stages.tables.split import SPLIT, split_schema
from stages.train import places_without_sizes

COLUMN = "MobileNetV1 features"
LENGTH = 6
SIZES = ("Width", "Height", "Product size", "Aspect ratio")


def train_rows(length=LENGTH):
    """Rows whose museum says something of their medium."""
    rows = tiny_rows(mediums=6, rows_each=16, length=length)
    return [row | {"Museum": MUSEUMS[int(row["Medium"][-1]) % 2]} for row in rows]


def artefacts_of(rows):
    """The columns of a model, of rows as the course's table has them."""
    return Artefacts(
        {
            "embedding": np.array([row[COLUMN] for row in rows], np.float32),
            "width": np.array([row["Width"] for row in rows]),
            "height": np.array([row["Height"] for row in rows]),
            "museum": np.array([row["Museum"] for row in rows], object),
            "Year": np.array([1850.0 + place for place in range(len(rows))]),
        }
    )


def write_model(
    path=MODEL,
    length=LENGTH,
    without_sizes=True,
    identity=None,
    source="file",
    **features,
):
    """A model that names the medium whose mean is nearest; `features` are keys of `featurize`."""
    rows = train_rows(length)
    train = artefacts_of(rows)
    chosen = {"embedding": "standardize", "sizes": True, "museum": False, "columns": {}} | features
    transformer = fit_transformer(train, FeaturizeParams(**chosen), train["embedding"])
    values, names = transformer.transform(train), transformer.feature_names
    mediums = np.array([row["Medium"] for row in rows])
    labels = sorted(set(mediums))

    def nearest(places):
        means = np.stack([values[mediums == label][:, places].mean(axis=0) for label in labels])
        return Linear(means.T, -(means**2).sum(axis=1) / 2)

    # Longer embeddings are further from every mean.
    temperature = length / LENGTH
    models = {PROBABILITIES: (nearest(np.arange(len(names))), temperature)}
    if without_sizes:
        others = places_without_sizes(names, {"all"})
        models[PROBABILITIES_WITHOUT_SIZES] = (OnFeatures(nearest(others), others), temperature)
    metadata = metadata_of(
        transformer,
        labels,
        models,
        embedding=identity,
        source=source,
        training_rows=len(rows),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model_bytes(transformer, models, metadata))
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own, as the current one, with a model and a table of rows new to it."""
    monkeypatch.chdir(tmp_path)
    write_model()
    return tmp_path


@pytest.fixture
def ask(monkeypatch, capfd):
    """A function that runs the command and returns what it says, on standard error if it fails."""

    def call(*words, fails=False):
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            run(predict.STAGE, predict.main)
        except SystemExit as end:
            code = end.code
        said = capfd.readouterr()
        assert (code != 0) == fails, said
        if not fails:
            return said.out
        assert said.err.count("\n") == 1
        assert "Traceback" not in said.err
        return said.err

    return call


def new_rows(count=24, **changes):
    """Rows that are labelled, of no subset."""
    rows = tiny_rows(mediums=6, rows_each=count // 6, length=LENGTH, seed=0)
    return [row | {"Subset": "", "Image file": f"{row['Image file']}"} | changes for row in rows]


def without(rows, *columns):
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def table_of(rows, path="table.csv"):
    """Write rows in the form that the name says."""
    path = Path(path)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".gz":
        plain = write_csv_table(path.with_suffix(""), rows)
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    else:
        write_csv_table(path, rows)
    return path


def read(path="predictions.csv"):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def left_out(path="predictions.left_out.csv"):
    with Path(path).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["Image file", "Reason"]
    return [tuple(row) for row in rows]


def same(found, expected):
    """Whether answers agree that were computed beside other rows, which may change the last bit."""
    return len(found) == len(expected) and all(
        {name: value for name, value in one.items() if "probability" not in name}
        == {name: value for name, value in other.items() if "probability" not in name}
        and all(
            float(value) == pytest.approx(float(other[name]), abs=1e-5)
            for name, value in one.items()
            if "probability" in name
        )
        for one, other in zip(found, expected, strict=True)
    )


# What comes out


@pytest.mark.parametrize("at_a_time", [7, 256])
def test_each_row_has_the_models_answer_in_the_order_of_the_input(
    here, ask, at_a_time, monkeypatch
):
    monkeypatch.setattr(answers_table, "ROWS", at_a_time)
    rows = new_rows()[::-1]
    ask(table_of(rows), "-o", "predictions.csv")
    answers = Answerer().answer(artefacts_of(rows))
    found = read()
    assert [row["image_file"] for row in found] == [row["Image file"] for row in rows]
    for place, row in enumerate(found):
        best = answers.best(place)
        ends = ["", "_2", "_3", "_4", "_5"]
        assert [row[f"medium{end}"] for end in ends] == [medium for medium, _ in best]
        found_probabilities = [row[f"probability{end}"] for end in ends]
        assert all(len(text.partition(".")[2]) == 6 for text in found_probabilities)
        expected = [probability for _, probability in best]
        assert list(map(float, found_probabilities)) == pytest.approx(expected, abs=2e-6)
        assert row["unsure"] == ("false" if answers.sure[place] else "true")
        assert (row["with_sizes"], row["actual"]) == ("true", rows[place]["Medium"])
    assert {row["unsure"] for row in found} == {"true", "false"}
    assert left_out() == []


def test_every_form_of_table_and_of_output_says_the_same(here, ask):
    tables = [table_of(new_rows(), name) for name in ("a.csv", "b.csv.gz", "c.parquet")]
    by_dimension = [
        without([row], COLUMN)[0] | {f"d{n}": value for n, value in enumerate(row[COLUMN])}
        for row in new_rows()
    ]
    tables.append(table_of(by_dimension, "d.csv"))
    for table in tables:
        ask(table, "-o", f"{table.name}.out.csv")
    first, *others = [Path(f"{table.name}.out.csv").read_bytes() for table in tables]
    assert all(other == first for other in others)
    for end in ("parquet", "jsonl"):
        ask(tables[0], "-o", f"out.{end}")
    expected = read("a.csv.out.csv")
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    for found in (pq.read_table("out.parquet").to_pylist(), lines):
        assert list(found[0]) == list(expected[0])
        for row, wanted in zip(found, expected, strict=True):
            assert row["medium"] == wanted["medium"]
            assert f"{row['probability']:.6f}" == wanted["probability"]
            assert str(row["unsure"]).lower() == wanted["unsure"]
    assert all(len(str(row["probability"])) <= 8 for row in lines)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_needs_no_labels(here, ask, form):
    ask(table_of(new_rows(), f"all.{form}"), "-o", "labelled.csv")
    said = ask(table_of(without(new_rows(), "Medium"), f"no.{form}"), "-o", "none.csv")
    assert "accuracy" not in said
    expected = without(read("labelled.csv"), "actual")
    assert read("none.csv") == expected
    for nothing in ("", None) if form == "parquet" else ("",):
        said = ask(table_of(new_rows(Medium=nothing), f"no.{form}"), "-o", "empty.csv")
        assert "no row has a medium" in said
        assert without(read("empty.csv"), "actual") == expected
        assert {row["actual"] for row in read("empty.csv")} == {""}


def test_few_labels_give_few_columns():
    model = SimpleNamespace(labels=["a", "b"], metadata={"source": "file"})
    assert answers_schema(SimpleNamespace(model=model), False).names == [
        "image_file",
        *("medium", "probability", "medium_2", "probability_2"),
        *("unsure", "with_sizes"),
    ]


def test_the_runs_own_test_rows_have_the_answers_of_the_run(reproduced, ask, tmp_path, monkeypatch):
    monkeypatch.chdir(reproduced.folder)
    output = tmp_path / "predictions.parquet"
    said = ask(reproduced.folder.parent / "tiny.csv", "-o", output)
    found = {row["image_file"]: row for row in pq.read_table(output).to_pylist()}
    assert len(found) == 144
    run_ = pq.read_table("data/predictions.parquet").to_pylist()
    tests = [row for row in run_ if row["subset"] == "test"]
    assert len(tests) == 36
    for row in tests:
        ours = found[row["image_file"]]
        assert ours["with_sizes"]
        assert ours["medium"] == row["predicted"]
        assert ours["probability"] == pytest.approx(row["probability"], abs=1e-5)
    assert "as they are of train or val, where a model looks better than it is: 108 rows" in said


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_memory_does_not_grow_with_the_rows(tmp_path, form):
    schema = pa.schema([("image_file", pa.string())])

    def peak(batches):
        rows = ({"image_file": f"{number}" * 100} for number in range(200))
        batch = pa.RecordBatch.from_pylist(list(rows), schema)
        tracemalloc.start()
        write_answers(tmp_path / f"answers.{form}", schema, (batch for _ in range(batches)))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(20) < 1.5 * peak(2)


# What has no answer


def test_what_breaks_a_rule_is_listed_with_its_reason_and_nothing_is_dropped(here, ask):
    rows = new_rows()
    rows[1][COLUMN] = [0.0] * LENGTH
    rows[3][COLUMN] = [1.0]
    rows[4]["Image file"] = ""
    rows[5]["Width"] = "wide"
    table = table_of(rows)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:3], "cut.jpg,off", *lines[3:]]) + "\n")
    said = ask(table, "-o", "predictions.csv")
    assert left_out() == [
        (
            rows[1]["Image file"],
            f"it {RULES['embedding_all_zero'].broken}: begins {[0.0] * LENGTH}",
        ),
        ("cut.jpg", "it has more or fewer fields than the header: 2 instead of 10"),
        (rows[3]["Image file"], "it has an embedding of another length than most: 1 numbers"),
        ("line 7", "it has no image file: nothing"),
        (
            rows[5]["Image file"],
            "it has a width that is not a number from 1 to 1,000,000: wide",
        ),
    ]
    assert [row["image_file"] for row in read()] == [
        row["Image file"] for place, row in enumerate(rows) if place not in (1, 3, 4, 5)
    ]
    assert "5 without an answer, as predictions.left_out.csv lists:" in said


def test_a_table_without_one_good_row_is_one_sentence(here, ask):
    Path("predictions.csv").write_text("of before")
    said = ask(table_of(new_rows(**{"Image file": ""})), "-o", "predictions.csv", fails=True)
    assert "nothing in table.csv has an answer: of 24, which predictions.left_out.csv lists" in said
    assert "the first is line 2 (it has no image file: nothing)" in said
    assert len(left_out()) == 24
    assert Path("predictions.csv").read_text() == "of before"


def test_rows_of_one_image_file_are_all_answered(here, ask):
    ask(table_of(new_rows(**{"Image file": "same.jpg"})), "-o", "predictions.csv")
    assert [row["image_file"] for row in read()] == ["same.jpg"] * 24


# Sizes


def test_sizes_that_are_missing_or_far_off_are_not_looked_at_and_one_line_says_so(here, ask):
    rows = new_rows()
    for row in rows:
        row |= dict.fromkeys(("Product size", "Aspect ratio"))
    rows[0]["Width"] = None
    rows[2]["Height"] = float("nan")
    rows[4]["Width"] = 300_000.0
    rows[6]["Width"] = 0.0  # as some write what they do not know
    said = ask(table_of(rows, "table.parquet"), "-o", "predictions.csv")
    found = read()
    assert [n for n, row in enumerate(found) if row["with_sizes"] == "false"] == [0, 2, 4, 6]
    (line,) = [line for line in said.splitlines() if "sizes far outside" in line]
    assert "4 of 24 have no width and height" in line
    assert f"{rows[0]['Image file']} lacks its width or its height; train has " in line
    ask(table_of(rows, "table.parquet"), "-o", "ignored.csv", "--ignore-sizes")
    ignored = read("ignored.csv")
    assert {row["with_sizes"] for row in ignored} == {"false"}
    assert same([ignored[n] for n in (0, 2, 4, 6)], [found[n] for n in (0, 2, 4, 6)])
    assert ignored[1]["probability"] != found[1]["probability"]
    said = ask(table_of(without(rows, *SIZES), "none.parquet"), "-o", "none.csv")
    assert "no column `Width`, `Height`: no answer looks at the sizes" in said
    assert read("none.csv") == ignored


def test_a_model_that_needs_the_sizes_says_so(here, ask):
    write_model(without_sizes=False)
    rows = new_rows()
    for row in rows:
        row |= dict.fromkeys(("Product size", "Aspect ratio"), "")
    rows[0]["Width"] = ""
    rows[1]["Width"] = 300_000.0
    said = ask(table_of(rows), "-o", "predictions.csv")
    ((name, reason),) = left_out()
    assert name == rows[0]["Image file"]
    assert reason.startswith("it has a width that is not a number")
    assert {row["with_sizes"] for row in read()} == {"true"}
    assert "1 of 23 have no width" in said
    assert "were answered all the same, and the answers may be off" in said
    table_of(without(rows, *SIZES), "none.csv")
    for words in (["none.csv"], ["table.csv", "--ignore-sizes"]):
        said = ask(*words, "-o", "p.csv", fails=True)
        assert "cannot answer without the sizes" in said


def test_a_model_without_sizes_looks_at_none(here, ask):
    write_model(sizes=False, without_sizes=False)
    rows = new_rows(Width="wide")
    said = ask(table_of(rows), "-o", "predictions.csv", "--ignore-sizes")
    assert {row["with_sizes"] for row in read()} == {"false"}
    assert len(read()) == 24
    assert "sizes" not in said


# Labels


def test_the_accuracy_has_its_interval_also_where_the_model_is_sure(here, ask):
    rows = new_rows()
    rows[0]["Medium"] = "Lacquer"
    rows[1]["Medium"] = ""
    said = ask(table_of(rows), "-o", "predictions.csv")
    counted = [row for row in read() if row["actual"]]
    right = sum(row["medium"] == row["actual"] for row in counted)
    sure = [row for row in counted if row["unsure"] == "false"]
    sure_right = sum(row["medium"] == row["actual"] for row in sure)
    assert f"accuracy: {right / 23:.4f} ({right} of 23 rows; 95 % interval 0." in said
    assert f"sure: {sure_right / len(sure):.4f} ({sure_right} of {len(sure)} rows; 95" in said
    assert "as the model does not know their medium, such as `Lacquer`: 1 row\n" in said


def write_split(subset_of):
    names, subsets = zip(*subset_of.items(), strict=True)
    columns = [names, subsets, [None] * len(names), [None] * len(names)]
    schema = split_schema("file")
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    SPLIT.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), SPLIT)


def test_rows_that_the_model_was_made_with_are_not_counted(here, ask):
    rows = new_rows()
    for row in rows[:4]:
        row["Subset"] = "train"
    rows[4]["Subset"] = "val"
    write_split({rows[5]["Image file"]: "train", rows[6]["Image file"]: "test"})
    said = ask(table_of(rows), "-o", "predictions.csv")
    assert "where a model looks better than it is: 6 rows" in said
    assert "of 18 rows; 95 %" in said
    assert len(read()) == 24
    # The run has drawn subsets of its own: what the table calls train was its test.
    said = ask(table_of(new_rows(Subset="train")), "-o", "predictions.csv")
    assert "where a model looks better than it is: 23 rows" in said
    SPLIT.unlink()
    said = ask(table_of(new_rows(Subset="train")), "-o", "predictions.csv")
    assert "not known: no row has a medium but those" in said


# Columns


def test_columns_may_be_called_otherwise(here, ask):
    ask(table_of(new_rows()), "-o", "expected.csv")
    theirs = {"Image file": "filename", "Medium": "material", COLUMN: "vector"}
    rows = [{theirs.get(name, name): value for name, value in row.items()} for row in new_rows()]
    table = table_of(rows, "theirs.csv")
    options = ["--column", "Image file=filename", "--column", "medium=material"]
    ask(table, "-o", "found.csv", *options, "--column", "embedding=vector")
    assert read("found.csv") == read("expected.csv")
    write_params(here)
    section = "parse_embeddings_to_parquet.columns"
    names = {"image_file": "filename", "medium": "material", "embedding": "vector", "museum": None}
    set_params(Path("params.yaml"), {f"{section}.{key}": name for key, name in names.items()})
    ask(table, "-o", "by params.csv")
    assert read("by params.csv") == read("expected.csv")


def test_a_table_with_semicolons_and_decimal_commas_is_read_by_params(here, ask):
    ask(table_of(new_rows()), "-o", "expected.csv")
    write_params(here)
    with Path("theirs.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(new_rows()[0])
        for row in new_rows():
            writer.writerow(
                [str(v).replace(".", ",") if isinstance(v, float) else v for v in row.values()]
            )
    assert "are separated by semicolons" in ask(Path("theirs.csv"), "-o", "found.csv", fails=True)
    section = "parse_embeddings_to_parquet.csv"
    set_params(Path("params.yaml"), {f"{section}.separator": ";", f"{section}.decimal": ","})
    ask(Path("theirs.csv"), "-o", "found.csv")
    assert read("found.csv") == read("expected.csv")


def test_further_columns_of_the_model_are_found_by_their_names(here, ask):
    write_model(museum=True, columns={"Year": "number"})
    rows = [row | {"Year": 1850 + n} for n, row in enumerate(new_rows())]
    rows[0]["Year"] = "long ago"
    ask(table_of(rows), "-o", "predictions.csv")
    assert left_out() == [
        (
            rows[0]["Image file"],
            "it has an extra column of numbers with something else: `Year`: long ago",
        )
    ]
    years = np.arange(1850.0, 1874)
    answers = Answerer().answer(artefacts_of(rows).with_columns({"Year": years}))
    assert read()[3]["probability"] == f"{answers.best(4)[0][1]:.6f}"
    theirs = [without([row], "Year")[0] | {"Jahr": row["Year"]} for row in rows]
    ask(table_of(theirs), "-o", "theirs.csv", "--column", "Year=Jahr")
    assert read("theirs.csv") == read()
    said = ask(table_of(theirs), "-o", "theirs.csv", fails=True)
    assert "has no column `Year`, which the model takes" in said


def test_the_museum_may_be_said_for_all_rows(here, ask):
    write_model(museum=True)
    ask(table_of(new_rows(Museum=MUSEUMS[1])), "-o", "expected.csv")
    table = table_of(without(new_rows(), "Museum"), "none.csv")
    said = ask(table, "-o", "found.csv", "--museum", MUSEUMS[1])
    assert read("found.csv") == read("expected.csv")
    assert "tells the model nothing" not in said
    said = ask(table, "-o", "found.csv", "--museum", "Louvre")
    assert "no photograph of train is from the museum Louvre" in said
    assert f"it knows {', '.join(sorted(MUSEUMS))}" in said
    assert "that train lacks" not in said
    said = ask(table_of(new_rows(Museum="Prado")), "-o", "found.csv")
    assert "24 rows are from museums that train lacks, such as `Prado`" in said
    assert "takes the museum, and none.csv has no column" in ask(table, "-o", "p.csv", fails=True)
    said = ask(table_of(new_rows()), "-o", "p.csv", "--museum", "Louvre", fails=True)
    assert "has the column `Museum`: leave out --museum" in said


def test_a_museum_that_the_model_does_not_take_changes_nothing(here, ask):
    said = ask(table_of(new_rows()), "-o", "predictions.csv", "--museum", "Louvre")
    assert "does not look at the museum: --museum changes nothing" in said


def test_what_made_the_embeddings_has_to_be_the_same(here, ask):
    write_model(identity=COURSE)
    table = pa.Table.from_pylist(new_rows())
    for weights, fails in (("Keras ImageNet", False), ("our own", True)):
        identity = json.dumps(COURSE | {"weights": weights})
        pq.write_table(table.replace_schema_metadata({"embedding": identity}), "table.parquet")
        said = ask("table.parquet", "-o", "predictions.csv", fails=fails)
        assert "does not say what made" not in said
    assert "embeddings of another kind (weights Keras ImageNet) than the table" in said
    said = ask(table_of(new_rows()), "-o", "predictions.csv")
    assert "table.csv does not say what made its embeddings" in said


def test_a_model_of_simulated_data_says_so(here, ask):
    write_model(source="synthetic")
    said = ask(table_of(new_rows()), "-o", "predictions.csv")
    assert said.count(SYNTHETIC) == 1


# Mistakes


def other_length(rows):
    return [row | {COLUMN: row[COLUMN][:4]} for row in rows]


MISTAKES = {
    "no input": (["nothing.csv", "-o", "p.csv"], "there is no file or folder nothing.csv"),
    "no model": (["table.csv", "-o", "p.csv", "--model", "no.onnx"], "there is no model no.onnx"),
    "another file": (["table.csv", "-o", "p.csv", "--model", "table.csv"], "named twice"),
    "no model at all": (
        ["table.csv", "-o", "p.csv", "--model", "notes.txt"],
        "it is no model of this pipeline as it is now: run `dvc repro`",
    ),
    "an ending": (
        ["table.csv", "-o", "p.xlsx"],
        "are written to a file that ends in .csv, .parquet or .jsonl",
    ),
    "a folder": (["table.csv", "-o", "folder.csv"], "folder.csv is a folder: name a file in it"),
    "the input": (["table.csv", "-o", "table.csv"], "is named twice"),
    "the input, by a link": (["table.csv", "-o", "link.csv"], "is named twice"),
    "the list": (["p.left_out.csv", "-o", "p.csv"], "is named twice"),
    "the length": (
        ["short.csv", "-o", "p.csv"],
        "takes embeddings of 6 numbers, and those of short.csv have 4",
    ),
    "no embeddings": (
        ["sizes.csv", "-o", "p.csv"],
        "sizes.csv has no embeddings, which models/model.onnx takes: no column is called "
        f"`{COLUMN}`",
    ),
    "no image file": (["images.csv", "-o", "p.csv"], "has no column `Image file`, which every"),
    "no rows": (["none.csv", "-o", "p.csv"], "none.csv has a header but no rows"),
    "a column": (["table.csv", "-o", "p.csv", "--column", "Wide=Width"], "--column Wide: it is"),
    "their column": (
        ["table.csv", "-o", "p.csv", "--column", "Medium=what"],
        "--column Medium=what: table.csv has no such column",
    ),
    "two columns": (
        ["table.csv", "-o", "p.csv", "--column", "Medium=Museum"],
        "the column `Museum` would be medium and museum",
    ),
    "columns of photographs": (
        ["photographs", "-o", "p.csv", "--column", "Medium=what"],
        "--column says what a table calls columns, and photographs is none",
    ),
    "no network": (["photographs", "-o", "p.csv"], "there is no network models/network.onnx"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(here, ask, mistake):
    words, sentence = MISTAKES[mistake]
    table = table_of(new_rows())
    table_of(other_length(new_rows()), "short.csv")
    table_of(without(new_rows(), COLUMN), "sizes.csv")
    table_of(without(new_rows(), "Image file"), "images.csv")
    Path("none.csv").write_text(table.read_text().splitlines()[0] + "\n")
    Path("notes.txt").write_text("notes")
    Path("p.left_out.csv").write_text("Image file,Reason\n")
    Path("folder.csv").mkdir()
    Path("link.csv").symlink_to(table)
    Path("photographs").mkdir()
    before = table.read_bytes()
    assert sentence in ask(*words, fails=True)
    assert table.read_bytes() == before
    assert not Path("p.csv").exists()


# Photographs


@pytest.fixture(scope="session")
def pictures(shared):
    """A folder with photographs in folders, and beside it a network that takes them."""

    def make(folder):
        write_network(folder / "network.onnx")
        for number in range(6):
            draw(folder / f"photographs/{number % 2}/{number}.jpg", number % 2, number)

    return shared("pictures-to-predict", make)


@pytest.fixture
def network(pictures):
    return ["--network", pictures / "network.onnx"]


@pytest.fixture
def photographs(here, pictures):
    """A copy of the photographs, in a folder whose model takes what the network makes."""
    shutil.copytree(pictures / "photographs", here / "photographs")
    write_model(length=256, identity=Embedder(pictures / "network.onnx").identity)
    return here / "photographs"


def test_photographs_are_answered_in_the_order_of_their_names(
    photographs, ask, network, monkeypatch
):
    (photographs / "0/notes.txt").write_text("no picture")
    said = ask(photographs, "-o", "predictions.csv", *network)
    names = [f"{number % 2}/{number}.jpg" for number in (0, 2, 4, 1, 3, 5)]
    assert [row["image_file"] for row in read()] == names
    assert "actual" not in read()[0]
    assert left_out() == [("0/notes.txt", "no picture of a format that is read")]
    assert "1 without an answer" in said
    assert not list(Path().glob("*embeddings*"))
    with zipfile.ZipFile("photographs.zip", "w") as file:
        for path in photographs.rglob("*.*"):
            file.write(path, path.relative_to(photographs))
    monkeypatch.setattr(answers_photographs, "ROWS", 4)
    ask("photographs.zip", "-o", "zip.csv", *network)
    assert same(read("zip.csv"), read())
    ask("photographs.zip", "-o", "ignored.csv", *network, "--ignore-sizes")
    assert {row["with_sizes"] for row in read("ignored.csv")} == {"false"}
    ask(photographs / "1/3.jpg", "-o", "single.csv", *network)
    assert same(read("single.csv"), [read()[4] | {"image_file": "3.jpg"}])


@pytest.mark.parametrize("layers", ["last", "all"])
def test_the_answer_is_the_same_by_way_of_a_table(photographs, ask, network, layers):
    embedder = Embedder(network[1], layers, "bilinear", True)
    length = 256 if layers == "last" else 2736
    write_model(length=length, identity=embedder.identity)
    embed(photographs, Path("table.parquet"), embedder)
    ask("table.parquet", "-o", "table.csv")
    ask(photographs, "-o", "photographs.csv", *network)
    assert same(read("photographs.csv"), without(read("table.csv"), "actual"))


def test_photographs_of_a_store_are_answered_as_those_of_a_folder(
    photographs, ask, network, memory_store
):
    memory_store.put(str(photographs), "/bucket/photographs", recursive=True)
    ask(photographs, "-o", "folder.csv", *network)
    ask("memory://bucket/photographs", "-o", "store.csv", *network)
    assert Path("store.csv").read_bytes() == Path("folder.csv").read_bytes()
    said = ask("memory://bucket/t.parquet", "-o", "gone.csv", *network, fails=True)
    assert "memory://bucket/t.parquet: there is no such file or folder" in said
    memory_store.rm("/bucket/photographs", recursive=True)
    memory_store.mkdir("/bucket/photographs")
    said = ask("memory://bucket/photographs", "-o", "empty.csv", *network, fails=True)
    assert "there are no photographs in memory://bucket/photographs" in said


def test_a_cache_saves_the_network(photographs, ask, network, monkeypatch):
    ask(photographs, "-o", "first.csv", *network, "--cache", "cache")
    monkeypatch.setattr(photographs_table.Embedder, "embed", None)
    ask(photographs, "-o", "second.csv", *network, "--cache", "cache")
    assert read("second.csv") == read("first.csv")


def test_what_is_written_among_the_photographs_is_none(photographs, ask, network):
    for _ in range(2):
        ask(photographs, "-o", photographs / "p.csv", *network, "--cache", photographs / "cache")
        assert len(read(photographs / "p.csv")) == 6
        assert left_out(photographs / "p.left_out.csv") == []


def test_the_museum_of_photographs_has_to_be_said(photographs, ask, network):
    write_model(length=256, museum=True)
    said = ask(photographs, "-o", "p.csv", *network, fails=True)
    assert "takes the museum: say it with --museum" in said
    ask(photographs, "-o", "p.csv", *network, "--museum", MUSEUMS[0])
    ask(photographs, "-o", "other.csv", *network, "--museum", "Louvre")
    assert read("p.csv") != read("other.csv")
    write_model(length=256, columns={"Year": "number"})
    assert "takes the column `Year`" in ask(photographs, "-o", "p.csv", *network, fails=True)


def test_photographs_that_the_model_cannot_look_at_are_one_sentence(photographs, ask, network):
    def refused(given=photographs):
        return ask(given, "-o", "p.csv", *network, fails=True)

    other = random_weights(seed=1)
    write_network(Path("other/network.onnx"), other)
    identity = Embedder(network[1]).identity | {"weights": "Keras ImageNet"}
    write_model(length=256, identity=identity)
    assert "makes other embeddings (weights drawn at random) than" in refused()
    write_model(length=LENGTH)
    assert "gives 256 numbers, and models/model.onnx takes 6" in refused()
    write_model(embedding="none", without_sizes=False)
    assert "was trained without embeddings" in refused()
    write_model(length=256)
    Path("empty").mkdir()
    assert "there are no photographs in empty" in refused("empty")
    Path("notes.txt").write_text("notes")
    said = refused("notes.txt")
    assert "nothing in notes.txt has an answer: of 1, which p.left_out.csv lists" in said
    assert "a table has a name that ends in .csv, .csv.gz, .csv.zst, .parquet" in said
