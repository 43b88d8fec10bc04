"""Every strategy gives a split that can be trusted, or says why it cannot."""

import json
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import tiny_rows, write_csv_table

from stages import parse_embeddings_to_parquet, split
from stages.common.errors import PipelineError
from stages.common.params import ParameterError, check_section
from stages.features import neighbours
from stages.features.neighbours import (
    LARGEST,
    STEPS,
    exact_search,
    how_to_search,
    search_among,
    signs_of,
)
from stages.split import HoldoutMuseum, Params, Stratified, assign_subsets, check_split, stratified
from stages.tables.artefacts import ARTEFACTS, LONGEST_EXACT, METADATA, artefacts_schema
from stages.tables.parquet import fixed_size_list, metadata_of, write_batches
from stages.tables.split import SPLIT, read_split, unit_rows


def artefacts(rows=100, mediums=5):
    return pd.DataFrame(
        {
            "image_file": [f"{row}.jpg" for row in range(rows)],
            "medium": [f"medium {row % mediums}" for row in range(rows)],
            "museum": [("Met", "LACMA", "Cleveland")[row // mediums % 3] for row in range(rows)],
            "subset": [("train", "val", "test")[row // mediums % 3] for row in range(rows)],
        }
    )


def columns(table):
    """A table as the stage has it."""
    return {name: table[name].to_numpy(dtype=object) for name in table}


def params(strategy, museum="Cleveland", seed=1):
    return Params(
        strategy=strategy,
        stratified=Stratified(val_fraction=0.1, test_fraction=0.3, seed=seed),
        holdout_museum=HoldoutMuseum(museum=museum, val_fraction=0.2, seed=seed),
    )


def test_official_is_the_column_of_the_table():
    table = artefacts()
    assert assign_subsets(columns(table), params("official")).tolist() == table["subset"].tolist()


def test_official_refuses_an_unknown_subset():
    table = artefacts()
    table.loc[3, "subset"] = "dev"
    table.loc[8, "subset"] = "holdout"
    with pytest.raises(PipelineError, match="2 do not, the first has `dev`"):
        assign_subsets(columns(table), params("official"))


def test_stratified_gives_every_medium_its_fractions():
    table = artefacts()
    subset = assign_subsets(columns(table), params("stratified"))
    counts = pd.crosstab(table["medium"], subset)
    assert (counts["train"] == 12).all()
    assert (counts["val"] == 2).all()
    assert (counts["test"] == 6).all()


@pytest.mark.parametrize(
    ("rows", "val", "test"),
    # 0.16 and 0.34 of them, to the nearest whole number; a half goes to the even one.
    [(10, 2, 3), (11, 2, 4), (13, 2, 4), (25, 4, 8), (1, 0, 0), (2, 0, 1)],
)
def test_stratified_gives_the_nearest_whole_number_of_rows(rows, val, test):
    subset = stratified(np.array(["clay"] * rows), 0.16, 0.34, seed=1).tolist()
    assert (subset.count("val"), subset.count("test")) == (val, test)


def test_stratified_is_drawn_by_its_seed():
    table = artefacts()
    first, again, other = (
        assign_subsets(columns(table), params("stratified", seed=seed)) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_stratified_leaves_a_medium_of_one_row_in_train():
    assert stratified(np.array(["rare"]), 0.1, 0.3, seed=1).tolist() == ["train"]


@pytest.mark.parametrize(("test_fraction", "total"), [(0.8, "1"), (0.9, r"1\.1")])
def test_fractions_that_leave_nothing_for_train_are_refused(test_fraction, total):
    section = {"val_fraction": 0.2, "test_fraction": test_fraction, "seed": 1}
    with pytest.raises(
        ParameterError, match=rf"`split\.stratified` .* add up to {total}, which leaves n"
    ):
        check_section("split.stratified", section, Stratified)


# The least that each may be.
SECTIONS = {
    Stratified: {"val_fraction": 1e-9, "test_fraction": 1e-9, "seed": 0},
    HoldoutMuseum: {"museum": "M", "val_fraction": 1e-9, "seed": 0},
}


@pytest.mark.parametrize(
    ("schema", "key", "value"),
    [
        (Stratified, "val_fraction", 0),
        (Stratified, "val_fraction", 1),
        (Stratified, "test_fraction", 0),
        (Stratified, "test_fraction", 1),
        (Stratified, "seed", -1),
        (HoldoutMuseum, "val_fraction", 0),
        (HoldoutMuseum, "val_fraction", 1),
        (HoldoutMuseum, "seed", -1),
        (HoldoutMuseum, "museum", ""),
    ],
)
def test_values_out_of_bounds_are_refused_by_name(schema, key, value):
    check_section("split", SECTIONS[schema], schema)
    with pytest.raises(ParameterError, match=rf"`split\.{key}` "):
        check_section("split", SECTIONS[schema] | {key: value}, schema)


def test_holdout_museum_tests_on_all_of_one_museum_and_nothing_else():
    table = artefacts()
    subset = assign_subsets(columns(table), params("holdout_museum"))
    np.testing.assert_array_equal(subset == "test", table["museum"] == "Cleveland")
    assert {"train", "val"} <= set(subset[table["museum"] != "Cleveland"])


def test_holdout_museum_knows_a_museum_however_its_accents_are_typed():
    table = artefacts()
    table["museum"] = table["museum"].replace("Cleveland", "Mus\u00e9e")
    subset = assign_subsets(columns(table), params("holdout_museum", museum="Muse\u0301e"))
    np.testing.assert_array_equal(subset == "test", table["museum"] == "Mus\u00e9e")


def test_holdout_museum_draws_its_fraction_of_val_by_its_seed():
    table = artefacts(rows=150)
    first, again, other = (
        assign_subsets(columns(table), params("holdout_museum", seed=seed)) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()
    drawn = pd.crosstab(table["medium"], first)
    assert (drawn["val"] == 4).all()  # 0.2 of the 20 that a medium has in the other museums


def test_holdout_museum_names_the_museums_when_there_is_no_such_one():
    with pytest.raises(PipelineError, match=r"no artefact is of the museum `Louvre`.*LACMA, Met"):
        assign_subsets(columns(artefacts()), params("holdout_museum", museum="Louvre"))


def test_no_more_than_twenty_museums_are_named():
    table = artefacts(rows=25)
    table["museum"] = [f"museum {row:02}" for row in range(25)]
    with pytest.raises(PipelineError, match=r"the table has museum 00, .*, museum 19$"):
        assign_subsets(columns(table), params("holdout_museum", museum="Louvre"))


def test_rows_without_a_museum_are_of_no_museum():
    table = artefacts()
    table["museum"] = table["museum"].astype(object)
    table.loc[::7, "museum"] = None
    table.loc[1::7, "museum"] = ""
    subset = assign_subsets(columns(table), params("holdout_museum"))
    np.testing.assert_array_equal(subset == "test", table["museum"] == "Cleveland")
    with pytest.raises(PipelineError, match=r"museum`\); the table has Cleveland, LACMA, Met$"):
        assign_subsets(columns(table), params("holdout_museum", museum="Louvre"))
    table["museum"] = None
    with pytest.raises(PipelineError, match=r"the table has none$"):
        assign_subsets(columns(table), params("holdout_museum", museum="Louvre"))


def test_an_image_in_two_subsets_is_refused():
    table = artefacts()
    # Of two such images the first is named, and one that is twice in train is none.
    for row, same in ((15, 0), (20, 10), (25, 5)):
        table.loc[row, "image_file"] = table.loc[same, "image_file"]
    with pytest.raises(PipelineError, match=r"image file 10\.jpg is in more than one subset"):
        check_split(columns(table), table["subset"].to_numpy(), "official")


def test_a_medium_without_training_rows_is_refused():
    table = artefacts()
    table.loc[(table["medium"] == "medium 2") & (table["subset"] == "train"), "subset"] = "val"
    with pytest.raises(PipelineError, match=r"no training rows for medium 2 \(labels without: 1\)"):
        check_split(columns(table), table["subset"].to_numpy(), "official")


def test_no_more_than_ten_mediums_without_training_rows_are_named():
    table = artefacts(rows=60, mediums=12)
    table["medium"] = [f"medium {row % 12:02}" for row in range(60)]
    subset = np.where(table["subset"] == "train", "val", table["subset"])
    subset[59] = "train"
    with pytest.raises(PipelineError, match=r"medium 00, .*, medium 09 \(labels without: 11\)"):
        check_split(columns(table), subset, "official")


@pytest.mark.parametrize("strategy", get_args(Params.model_fields["strategy"].annotation))
@pytest.mark.parametrize("kept", [["train"], ["val"], ["test"], ["train", "test"]], ids=" ".join)
def test_empty_subsets_are_refused_with_what_to_do(kept, strategy):
    table = artefacts()
    subset = np.array([name if name in kept else kept[0] for name in table["subset"]])
    empty = [name for name in ("train", "val", "test") if name not in kept]
    with pytest.raises(PipelineError) as error:
        check_split(columns(table), subset, strategy)
    assert f"no rows for {' and '.join(empty)}, and" in str(error.value)
    remedy = "`split.stratified`" if strategy == "stratified" else "`-S split.strategy=stratified`"
    assert remedy in str(error.value)


def parse(folder, rows):
    (folder / "data/raw").mkdir(parents=True)
    write_csv_table(folder / "data/raw/t.csv", rows)
    provenance = {"source": "file", "file": "t.csv"}
    (folder / "data/raw/provenance.json").write_text(json.dumps(provenance))
    parse_embeddings_to_parquet.main()


def test_the_stage_prints_the_counts_of_each_subset(stage_folder, capsys):
    parse(stage_folder, tiny_rows())
    assert split.main() == "official: 144 rows, 6 labels"
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "[split] train: 72 rows, 6 labels",
        "[split] val: 36 rows, 6 labels",
        "[split] test: 36 rows, 6 labels",
    ]


def test_the_stage_checks_its_split(stage_folder):
    rows = tiny_rows()
    for row in rows:
        if row["Medium"] == "Medium 1" and row["Subset"] == "train":
            row["Subset"] = "val"
    parse(stage_folder, rows)
    with pytest.raises(PipelineError, match="no training rows for Medium 1"):
        split.main()


def likeness(monkeypatch, embeddings, subset, at_a_time=1, how="exact"):
    """Run `nearest_training_rows` on rows of embeddings, in row groups of 3."""
    schema = artefacts_schema("file", len(embeddings[0]))
    columns = {name: pa.nulls(len(subset), type_) for name, type_ in METADATA.items()}
    columns["embedding"] = fixed_size_list(np.array(embeddings, dtype=np.float32))
    batch = pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)
    write_batches(ARTEFACTS, schema, [batch], row_group_rows=3)
    monkeypatch.setattr(split, "ROWS_AT_A_TIME", at_a_time)
    return split.nearest_training_rows(np.array(subset, dtype=object), len(embeddings[0]), how)


@pytest.mark.usefixtures("stage_folder")
def test_the_nearest_training_row_is_the_one_that_points_the_same_way(monkeypatch):
    # Standardised, the training rows are (-1, -1), (1, -1), (-1, 1) and (1, 1); the third
    # number is the same in all of them.
    embeddings = [[0, 0, 3], [4, 0, 3], [9, 3, 3], [0, 2, 3], [4, 2, 3], [2, 1, 3], [4, 1.5, 3]]
    subset = ["train", "train", "test", "train", "train", "val", "test"]
    nearest, cosine = likeness(monkeypatch, embeddings, subset)
    assert nearest.tolist() == [-1, -1, 4, -1, -1, 0, 4]
    expected = [(3.5 + 2) / np.hypot(3.5, 2) / np.sqrt(2), 0, 1.5 / np.hypot(1, 0.5) / np.sqrt(2)]
    np.testing.assert_allclose(cosine[[2, 5, 6]], expected, rtol=1e-6)


@pytest.mark.usefixtures("stage_folder")
def test_the_nearest_training_row_is_named_by_its_place_among_all_rows(monkeypatch):
    # Rows of val and test stand before those of train.
    embeddings = [[3, 3], [1, 2], [0, 0], [4, 0], [0, 4], [4, 4]]
    subset = ["val", "test", "train", "train", "train", "train"]
    nearest, cosine = likeness(monkeypatch, embeddings, subset)
    assert nearest.tolist() == [5, 2, -1, -1, -1, -1]
    # Less the mean (2, 2) and divided by 2: (1/2, 1/2) beside (1, 1), (-1/2, 0) beside (-1, ±1).
    np.testing.assert_allclose(cosine[:2], [1, np.sqrt(0.5)], rtol=1e-6)


@pytest.mark.usefixtures("stage_folder")
def test_a_number_that_all_training_rows_share_counts_as_it_is_elsewhere(monkeypatch):
    embeddings = [[0, 3], [4, 3], [4, 5]]
    nearest, cosine = likeness(monkeypatch, embeddings, ["train", "train", "val"])
    assert nearest.tolist() == [-1, -1, 1]
    # (4 - 2) / 2 and 5 - 3, beside the training row (1, 0).
    np.testing.assert_allclose(cosine[2], 1 / np.sqrt(1 + 2**2), rtol=1e-6)


@pytest.mark.usefixtures("stage_folder")
def test_a_number_that_varies_by_less_than_32_bits_can_hold_does_not_count(monkeypatch):
    # The deviation of 0 and the least number that is not 0 would be 0 as float32.
    embeddings = [[0, 0], [4, 0], [4, 0], [0, 1e-45], [4, 0]]
    nearest, cosine = likeness(monkeypatch, embeddings, ["train"] * 4 + ["val"])
    assert nearest.tolist() == [-1, -1, -1, -1, 1]
    assert cosine[4] == 1


@pytest.mark.usefixtures("stage_folder")
@pytest.mark.parametrize("at_a_time", [1, 2])
def test_no_more_rows_are_compared_at_a_time_than_memory_allows(at_a_time, monkeypatch):
    blocks = []
    array_split = np.array_split

    def watched(rows, parts):
        blocks.append([len(part) for part in array_split(rows, parts)])
        return array_split(rows, parts)

    monkeypatch.setattr(np, "array_split", watched)
    embeddings, subset = [[0], [1], [2], [3], [4], [5]], ["train", "train", *["val"] * 4]
    nearest, _ = likeness(monkeypatch, embeddings, subset, at_a_time)
    assert nearest.tolist() == [-1, -1, 1, 1, 1, 1]
    assert [sum(sizes) for sizes in blocks] == [1, 3]
    for sizes in blocks:
        assert max(sizes) <= at_a_time
        assert len(sizes) <= 3 // at_a_time + 1  # many small products would take long


@pytest.mark.usefixtures("stage_folder")
def test_the_split_table_names_the_nearest_training_row(parse):
    rows = tiny_rows()
    for row in rows:  # one photograph twice
        if row["Image file"] == "tiny-2-2.jpg":
            row["MobileNetV1 features"] = rows[0]["MobileNetV1 features"]
    parse(rows)
    split.main()
    table = pd.read_parquet(SPLIT).set_index("image_file")
    assert table["nearest_train"].isna().eq(table["subset"] == "train").all()
    assert table.loc["tiny-2-2.jpg", "nearest_train"] == rows[0]["Image file"]
    assert table.loc["tiny-2-2.jpg", "nearest_train_cosine"] == pytest.approx(1)


@pytest.mark.usefixtures("stage_folder")
def test_without_embeddings_no_row_has_a_nearest_one(parse):
    parse([{k: v for k, v in row.items() if "features" not in k} for row in tiny_rows()])
    split.main()
    table = pd.read_parquet(SPLIT)
    assert table["nearest_train"].isna().all()
    assert table["nearest_train_cosine"].isna().all()


def rows_with_near_ones(numbers: int, seed: int = 0) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Embeddings, their subsets, and for the test rows the training row that each is made of."""
    random = np.random.default_rng(seed)
    train = random.standard_normal((200, numbers), dtype=np.float32)
    of = random.integers(0, 200, 40)
    test = train[of] + 0.6 * random.standard_normal((40, numbers), dtype=np.float32)
    return np.concatenate([train, test]), ["train"] * 200 + ["test"] * 40, of


@pytest.mark.usefixtures("stage_folder")
def test_the_nearest_training_row_of_a_long_embedding_is_found_by_sketches(monkeypatch):
    embeddings, subset, of = rows_with_near_ones(LONGEST_EXACT + 1)
    nearest, cosine = likeness(monkeypatch, embeddings, subset, at_a_time=16)
    np.testing.assert_array_equal(nearest[200:], of)
    monkeypatch.setattr(split, "search_among", lambda train, how: exact_search(train))
    exact_nearest, exact_cosine = likeness(monkeypatch, embeddings, subset, at_a_time=16)
    np.testing.assert_array_equal(nearest, exact_nearest)
    np.testing.assert_allclose(cosine, exact_cosine, atol=1e-6)


@pytest.mark.usefixtures("stage_folder")
@pytest.mark.parametrize("numbers", [64, LONGEST_EXACT + 1])
def test_an_index_finds_the_training_rows_that_are_near(monkeypatch, numbers):
    embeddings, subset, of = rows_with_near_ones(numbers)
    nearest, cosine = likeness(monkeypatch, embeddings, subset, 16, "approximate")
    assert (cosine[200:] > 0.8).mean() > 0.5
    np.testing.assert_array_equal(nearest[200:], of)
    exact_nearest, exact_cosine = likeness(monkeypatch, embeddings, subset, at_a_time=16)
    np.testing.assert_array_equal(nearest, exact_nearest)
    np.testing.assert_allclose(cosine, exact_cosine, atol=1e-6)


@pytest.mark.parametrize("how", ["exact", "approximate"])
def test_the_cosine_that_is_given_is_that_of_the_row_that_is_named(how):
    # Rows without structure are the hardest case: all are about as near.
    random = np.random.default_rng(0)
    rows = (random.standard_normal((n, LONGEST_EXACT + 1)) for n in (400, 50))
    train, asked = (unit_rows(row.astype(np.float32)) for row in rows)
    places, cosines = search_among(train, how)(asked)
    np.testing.assert_allclose(cosines, np.einsum("nd,nd->n", asked, train[places]), atol=1e-6)
    best = exact_search(train)(asked)[1]
    assert (cosines <= best + 1e-6).all()
    assert (best - cosines).mean() < 0.015


@pytest.mark.parametrize("how", ["exact", "approximate"])
@pytest.mark.parametrize("numbers", [3, LONGEST_EXACT + 1])
def test_of_equal_training_rows_the_first_is_named_and_few_are_enough(how, numbers):
    row = np.random.default_rng(0).standard_normal((1, numbers)).astype(np.float32)
    row = unit_rows(row)
    places, cosines = search_among(np.repeat(row, 5, axis=0), how)(row)
    assert places.tolist() == [0]
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 100, LONGEST_EXACT, 10_944])
def test_the_signs_of_a_sketch_are_those_of_exact_sums(length):
    """Also of rows where one number rules: so they do not depend on how a processor adds."""
    random = np.random.default_rng(0)
    rows = unit_rows((random.standard_normal((50, length)) ** 5).astype(np.float32))
    axes = random.choice(np.array([-1, 1], np.float32), (length, 64))
    steps = np.clip(np.rint(rows * np.float32(STEPS * length**0.5)), -LARGEST, LARGEST)
    sums = steps.astype(np.int64) @ axes.astype(np.int64)
    np.testing.assert_array_equal(np.unpackbits(signs_of(rows, axes), axis=1), sums > 0)
    assert length * LARGEST < 2**24


def test_an_index_finds_the_same_with_any_instructions_and_number_of_threads(monkeypatch):
    import faiss

    few_lists(monkeypatch)
    random = np.random.default_rng(0)
    rows = unit_rows(random.standard_normal((5000, 64), dtype=np.float32) ** 5)
    before, own_threads = faiss.SIMDConfig.get_level(), faiss.omp_get_max_threads()
    found = {}
    try:
        for level in faiss.SIMDLevel_NONE, before:
            for threads in 1, 2, 4:
                faiss.SIMDConfig.set_level(level)
                faiss.omp_set_num_threads(threads)
                places, cosines = search_among(rows, "approximate")(rows[:300] + rows[300:600])
                found[level, threads] = places.tobytes() + cosines.tobytes()
    finally:
        faiss.SIMDConfig.set_level(before)
        faiss.omp_set_num_threads(own_threads)
    assert len(found) == 6
    assert len(set(found.values())) == 1


def test_an_index_looks_into_some_of_its_lists(monkeypatch):
    few_lists(monkeypatch)
    random = np.random.default_rng(0)
    train = unit_rows(random.standard_normal((5000, 64), dtype=np.float32))
    away = unit_rows(random.standard_normal((500, 64), dtype=np.float32))
    asked = unit_rows(0.9 * train[:500] + 0.3 * away)
    right = np.arange(500)

    def found(**chosen):
        for name, value in chosen.items():
            monkeypatch.setattr(neighbours, name, value)
        return (search_among(train, "approximate")(asked)[0] == right).mean()

    assert found() > 0.95
    assert found(CONSIDERED=1) < 0.9  # the graph leads to others
    assert found(CONSIDERED=96, PROBED=1) < 0.8


def test_an_index_finds_its_way_where_half_of_the_rows_are_one(monkeypatch):
    few_lists(monkeypatch)
    random = np.random.default_rng(0)
    train = unit_rows(random.standard_normal((5000, 64), dtype=np.float32))
    train[::2] = train[0]
    search = search_among(train, "approximate")
    assert (search(train[1:1001:2])[0] == np.arange(1, 1001, 2)).mean() > 0.99
    assert search(train[:2])[0].tolist() == [0, 1]


def few_lists(monkeypatch):
    """Give an index of some thousand rows as many lists as one of many more would have."""
    for name, value in {"LISTED": 16, "PROBED": 64, "CONSIDERED": 96}.items():
        monkeypatch.setattr(neighbours, name, value)


def test_a_search_leaves_the_threads_of_other_libraries_as_they_were():
    import faiss

    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(3)
        rows = np.eye(4, dtype=np.float32)
        search_among(rows, "approximate")(rows)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_many_rows_are_looked_for_by_an_index():
    assert how_to_search(15_657 + 1_450, 20_300, 1024) == "exact"  # MAMe
    assert how_to_search(457_330, 542_677, 1024) == "approximate"
    # A short embedding takes as long as one of 64 numbers; of a long one, 512 are compared.
    assert how_to_search(10**5, 10**5, 1) == how_to_search(10**5, 10**5, 64) == "exact"
    assert how_to_search(10**5, 10**5, 101) == "approximate"
    assert how_to_search(44_000, 44_000, 10_944) == "exact"


@pytest.mark.usefixtures("stage_folder")
def test_the_log_and_the_table_say_how_near_duplicates_were_looked_for(parse, monkeypatch, capsys):
    parse(tiny_rows())
    split.main()
    assert "by an index" not in capsys.readouterr().out
    assert metadata_of(read_split().schema, "search") == "exact"
    before = read_split()
    monkeypatch.setattr(neighbours, "MOST_PRODUCTS", 0)
    split.main()
    assert "are looked for by an index, which may miss a few" in capsys.readouterr().out
    assert metadata_of(read_split().schema, "search") == "approximate"
    assert read_split()["nearest_train"].equals(before["nearest_train"])


def test_labels_that_look_alike_are_named(parse, capsys):
    rows = tiny_rows()
    for row in rows[:24:2]:
        row["Medium"] = "MEDIUM\u00a00\u200b"
    parse(rows)
    split.main()
    said = "are these one label? They are told apart: 'MEDIUM\\xa00\\u200b', 'Medium 0'\n"
    assert capsys.readouterr().out.count(said) == 1
    assert split.look_alike(["Etching", "Engraving", "\u65e5", "!", "?"]) == []
