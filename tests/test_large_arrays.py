"""Rows that the memory has no room for lie in a file, and change no result."""

import mmap
from collections import namedtuple

import numpy as np
import pytest
from conftest import tiny_rows

from stages import evaluate, featurize, split, train
from stages.common import large_arrays
from stages.common.errors import PipelineError
from stages.common.large_arrays import (
    lies_in_file,
    new_rows,
    numbers_in_memory,
    take_columns,
    take_rows,
)
from stages.features.kinds import embedding
from stages.features.transformer import TRANSFORMER
from stages.model_file.interface import MODEL
from stages.models.registry import NAMES
from stages.tables.results import METRICS
from stages.tables.split import SPLIT

Usage = namedtuple("Usage", "free")


def short_of_memory(monkeypatch):
    """Put all rows in files, however few, where the memory suffices for the rest."""
    monkeypatch.setattr(large_arrays, "FEW_BYTES", 0)
    monkeypatch.setattr(large_arrays, "free_for_stage", lambda: 1)


def in_file(values):
    while isinstance(values, np.ndarray):
        values = values.base
    # NumPy may hold what it was given as a view.
    return isinstance(getattr(values, "obj", values), mmap.mmap)


def test_rows_lie_in_a_file_where_they_take_more_than_an_eighth_of_the_memory(monkeypatch):
    monkeypatch.setattr(large_arrays, "free_for_stage", lambda: 8 * 4 * 10**7)
    assert not lies_in_file(10**6, 10)
    assert lies_in_file(10**6 + 1, 10)
    monkeypatch.setattr(large_arrays, "free_for_stage", lambda: None)
    assert not lies_in_file(10**9, 10**3)


def test_a_limit_of_addresses_leaves_no_more_of_them_for_a_file(monkeypatch):
    short_of_memory(monkeypatch)
    assert lies_in_file(10, 10)
    assert numbers_in_memory(10, 10) == 0
    monkeypatch.setattr(large_arrays, "address_limit", lambda: 10**12)
    assert not lies_in_file(10, 10)
    assert numbers_in_memory(10, 10) == 100


def test_nobody_asks_what_is_free_for_few_rows(monkeypatch):
    monkeypatch.setattr(large_arrays, "free_for_stage", lambda: 1)
    assert not lies_in_file(1000, 1000)


def test_the_file_has_no_name_and_gives_the_numbers_that_it_took(monkeypatch, tmp_path):
    monkeypatch.setattr(large_arrays, "FOLDER", tmp_path)
    values = np.random.default_rng(0).standard_normal((30, 7), dtype=np.float32)
    assert not in_file(new_rows(30, 7))
    short_of_memory(monkeypatch)
    rows = new_rows(30, 7)
    assert in_file(rows)
    rows[:] = values
    places = np.array([29, 0, 3, 3])
    assert in_file(take_rows(rows, places))
    np.testing.assert_array_equal(take_rows(rows, places), values[places])
    np.testing.assert_array_equal(take_columns(rows, places % 7), values[:, places % 7])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_a_sentence(monkeypatch):
    short_of_memory(monkeypatch)
    monkeypatch.setattr(large_arrays.shutil, "disk_usage", lambda _: Usage(3 * 10**9))
    with pytest.raises(PipelineError) as error:
        new_rows(10**6, 1024)
    assert str(error.value) == (
        "1,000,000 rows of 1,024 numbers take 4.1 GB, more than the memory has room for, and the "
        "disk below data/ has 3.0 GB free: free some, or take fewer rows"
    )


@pytest.mark.usefixtures("stage_folder")
def test_split_and_every_model_are_the_same_from_files(parse, set_params, monkeypatch, capsys):
    set_params(**{"train.ensemble.size_trees.rounds": 5, "train.xgboost.rounds": 5})
    parse(tiny_rows())

    def made():
        split.main()
        found = {"split": SPLIT.read_bytes()}
        featurize.main()
        for model in NAMES:
            set_params(**{"train.model": model})
            train.main()
            found[model] = MODEL.read_bytes()
        evaluate.main()
        return found | {"metrics": METRICS.read_bytes()}

    in_memory = made()
    assert "lie in" not in capsys.readouterr().out
    short_of_memory(monkeypatch)
    assert made() == in_memory
    said = capsys.readouterr().out
    assert "[split] embeddings of 72 rows lie in a file, as the memory is short\n" in said
    assert said.count("features of 72 rows lie in files, as the memory is short\n") == len(NAMES)


@pytest.mark.usefixtures("stage_folder")
@pytest.mark.parametrize(
    ("room", "components", "numbers"),
    # 72 rows of train and 36 of val with 13 features. All lie in files where one would not fit.
    [
        (1, 4, 270),  # 10 bytes a number of 108 rows of 4, and not 16
        (1, None, 877),
        (36, None, 877 + 36 * 13),
        (72, None, 108 * 13),
        (10**6, 4, 108 * 13),
    ],
)
def test_what_stays_in_the_memory_of_train_is_counted(
    room, components, numbers, parse, set_params, monkeypatch
):
    set_params(**{"train.model": "xgboost", "train.xgboost.components": components})
    parse(tiny_rows())
    split.main()
    featurize.main()
    monkeypatch.setattr(large_arrays, "FEW_BYTES", 0)
    monkeypatch.setattr(large_arrays, "free_for_stage", lambda: 8 * 4 * 13 * room)
    asked = []
    monkeypatch.setattr(train, "of_train", lambda _, found, *others: asked.append(found) or 0)
    _, section, content = train.read_params()
    train.check_memory_of(train.check_models("xgboost", section, content))
    assert asked == [numbers]


@pytest.mark.usefixtures("stage_folder")
@pytest.mark.parametrize("how", ["power", "pca"])
def test_features_fitted_on_rows_are_the_same_from_files(
    how, parse, set_params, monkeypatch, capsys
):
    monkeypatch.setattr(embedding, "LONGEST_EXACT", 2)  # a long embedding has more numbers
    set_params(**{"featurize.embedding": how, "featurize.pca.components": 2})
    parse(tiny_rows())
    split.main()
    featurize.main()
    in_memory = TRANSFORMER.read_bytes()
    assert "lie in" not in capsys.readouterr().out
    short_of_memory(monkeypatch)
    featurize.main()
    assert TRANSFORMER.read_bytes() == in_memory
    said = "[featurize] embeddings of 72 rows lie in files, as the memory is short\n"
    assert said in capsys.readouterr().out
