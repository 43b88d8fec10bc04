"""A difference between two models is called real when it is, and what stops it is one sentence."""

import contextlib
import hashlib
import itertools
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Project

from commands import compare as module
from commands.compare import (
    ALIKE,
    Difference,
    Predictions,
    as_text,
    check_same_rows,
    compare,
    holm,
    mcnemar,
    read_predictions,
    verdict,
)
from stages.common.errors import PipelineError
from stages.common.stage import run
from stages.evaluation.intervals import interval, metrics_of_sums, resample, row_terms
from stages.tables.parquet import fixed_size_list
from stages.tables.predictions import PREDICTIONS, predictions_schema

LABELS = ["bronze", "clay", "gold"]
NAMES = ("main", "other")


def predictions(mediums, answers, confidence=0.8, labels=LABELS, source="synthetic"):
    """A model that gives its answers with one confidence, and shares the rest among the others."""
    rest = (1 - confidence) / (len(labels) - 1)
    probabilities = np.full((len(mediums), len(labels)), rest, np.float32)
    probabilities[np.arange(len(mediums)), [labels.index(answer) for answer in answers]] = (
        confidence
    )
    image_files = np.array([f"{row:05}.jpg" for row in range(len(mediums))])
    return Predictions(image_files, np.array(mediums), probabilities, list(labels), source)


def simulated(rows, noise, seed, gain=0.0):
    """Two models whose answers are alike but for some noise; `gain` is what B has learnt more."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, rows)
    logits = random.normal(0, 1, (rows, 3))
    logits[np.arange(rows), truth] += 1.5
    models = []
    for more in (0.0, gain):
        own = logits + random.normal(0, noise, (rows, 3))
        own[np.arange(rows), truth] += more
        probabilities = np.exp(own) / np.exp(own).sum(axis=1, keepdims=True)
        mediums = np.array(LABELS)[truth]
        model = predictions(mediums, mediums, source="file")
        models.append(replace(model, probabilities=probabilities.astype(np.float32)))
    return models


MEDIUMS = ["bronze", "bronze", "bronze", "bronze", "clay", "clay"]
A = predictions(MEDIUMS, ["bronze", "bronze", "bronze", "gold", "clay", "gold"])
B = predictions(MEDIUMS, ["bronze", "gold", "gold", "gold", "clay", "clay"], confidence=0.9)


def test_figures_of_six_rows_that_can_be_counted(recwarn):
    found = compare(A, B)
    assert not list(recwarn)
    assert (found.rows, found.only_a, found.only_b, found.identical) == (6, 2, 1, False)
    accuracy, macro_f1, log_loss = found.differences
    assert (accuracy.a, accuracy.b) == pytest.approx((4 / 6, 3 / 6))
    # Gold has no rows, so it is in no mean. F1 of A: 6/7 and 2/3, of B: 2/5 and 1.
    assert (macro_f1.a, macro_f1.b) == pytest.approx(((6 / 7 + 2 / 3) / 2, (2 / 5 + 1) / 2))
    expected = [
        -(4 * np.log(0.8) + 2 * np.log(0.1)) / 6,
        -(3 * np.log(0.9) + 3 * np.log(0.05)) / 6,
    ]
    assert [log_loss.a, log_loss.b] == pytest.approx(expected)
    # Of three rows, 2 to 1 or worse: always.
    assert found.p == 1
    assert [vars(recall) for recall in found.recalls] == [
        {"label": "bronze", "rows": 4, "a": 0.75, "b": 0.25, "p": 1},
        {"label": "clay", "rows": 2, "a": 0.5, "b": 1, "p": 1},
    ]


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1),
        (1, 0, 1),
        (0, 6, 2 / 2**6),
        # Of ten rows, none or one on one side, doubled for the two sides.
        (1, 9, 2 * (1 + 10) / 2**10),
        (9, 1, 2 * (1 + 10) / 2**10),
        (4, 4, 1),
    ],
)
def test_mcnemar_by_hand(only_a, only_b, p):
    assert mcnemar(only_a, only_b) == pytest.approx(p)


def test_holm_by_hand():
    # Times 4, 3, 2 and 1 from the smallest on; never below one before, never above 1.
    found = holm(np.array([0.03, 0.01, 0.02, 0.8]))
    assert found == pytest.approx([0.06, 0.04, 0.06, 0.8])
    assert holm(np.array([0.5, 0.6])) == pytest.approx([1, 1])
    assert holm(np.array([0.6, 0.9])) == pytest.approx([1, 1])


def test_the_p_value_of_a_medium_is_corrected_for_all_mediums_with_rows():
    mediums = ["bronze"] * 20 + ["clay"] * 20
    a = predictions(mediums, ["bronze"] * 12 + ["clay"] * 28)
    b = predictions(mediums, ["bronze"] * 20 + ["clay"] * 20)
    found = {recall.label: recall.p for recall in compare(a, b).recalls}
    # Eight bronzes that only B has right. Gold has no rows, so there are two mediums.
    assert found == pytest.approx({"bronze": 2 * 2 / 2**8, "clay": 1})
    text = as_text(compare(a, b), "test", NAMES)
    assert "Holm's correction for 2 labels" in text
    assert "Below 0.05: bronze." in text


def test_the_paired_interval_is_far_narrower_than_one_of_independent_draws():
    a, b = simulated(rows=800, noise=0.1, seed=1)
    paired = compare(a, b).differences[0]
    truth = np.searchsorted(LABELS, a.mediums)
    drawn = [
        metrics_of_sums(resample(row_terms(truth, model.probabilities), seed), 3)["accuracy"]
        for seed, model in enumerate((a, b))
    ]
    low, high = interval(drawn[1] - drawn[0])
    assert paired.high - paired.low < (high - low) / 3
    assert low < paired.b - paired.a < high


def test_the_interval_is_that_of_a_slow_loop_over_the_same_draws():
    a, b = simulated(rows=40, noise=1, seed=2)
    found = compare(a, b)
    draws = np.random.default_rng(0).integers(0, 40, (1000, 40))
    truth = np.searchsorted(LABELS, a.mediums)
    right = [model.probabilities.argmax(axis=1) == truth for model in (a, b)]
    values = [right[1][drawn].mean() - right[0][drawn].mean() for drawn in draws]
    low, high = np.percentile(values, (2.5, 97.5))
    assert (found.differences[0].low, found.differences[0].high) == pytest.approx((low, high))


def test_a_real_difference_is_found_and_one_of_noise_is_not():
    a, b = simulated(rows=2000, noise=0.3, seed=3, gain=0.5)
    found = compare(a, b)
    assert [difference.result for difference in found.differences] == ["better"] * 3
    assert found.p < 0.001
    assert verdict(found).startswith("B is better: accuracy 0.")
    assert "unlikely to be chance (p < 0.0001)" in verdict(found)
    assert verdict(found).endswith("; by log loss, B is better.")
    assert "\nboth models were equally good. Such a split is unlikely.\n" in as_text(
        found, "val", NAMES
    )
    assert verdict(compare(b, a)).endswith("; by log loss, B is worse.")
    a, b = simulated(rows=2000, noise=0.3, seed=3)
    found = compare(a, b)
    assert [difference.result for difference in found.differences] == [ALIKE] * 3
    assert verdict(found).startswith("The difference may be chance: ")
    assert verdict(found).endswith("; by log loss, they cannot be told apart.")
    assert "\nboth models were equally good. Such a split may well happen by chance.\n" in as_text(
        found, "val", NAMES
    )


def test_swapped_models_have_the_opposite_signs():
    a, b = simulated(rows=500, noise=0.3, seed=4, gain=0.5)
    there, back = compare(a, b), compare(b, a)
    assert (there.only_a, there.only_b, there.p) == (back.only_b, back.only_a, back.p)
    for one, other in zip(there.differences, back.differences, strict=True):
        assert (one.a, one.b) == pytest.approx((other.b, other.a))
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
        assert (one.result, other.result) == ("better", "worse")
    assert verdict(back).startswith("A is better: ")


def test_identical_predictions_have_a_sentence_of_their_own():
    found = compare(A, A)
    assert found.identical
    assert [(d.low, d.high, d.result) for d in found.differences] == [(0, 0, ALIKE)] * 3
    text = as_text(found, "test", NAMES)
    assert text.endswith("A and B are the same: they give each row the same probabilities.")
    assert "No label's recall changed." in text


def test_the_same_answers_with_other_probabilities_are_not_identical():
    found = compare(A, predictions(MEDIUMS, np.array(LABELS)[A.probabilities.argmax(axis=1)], 0.7))
    assert (found.only_a, found.only_b, found.p, found.identical) == (0, 0, 1, False)
    assert verdict(found).startswith(
        "The difference may be chance: accuracy 0.6667 of B against 0.6667 of A (p = 1.0000)"
    )


@pytest.mark.parametrize(
    ("name", "low", "high", "result"),
    [
        ("accuracy", 0.01, 0.02, "better"),
        ("accuracy", -0.02, -0.01, "worse"),
        ("accuracy", -0.01, 0.02, ALIKE),
        ("accuracy", 0.0, 0.02, ALIKE),
        ("log_loss", 0.01, 0.02, "worse"),
        ("log_loss", -0.02, -0.01, "better"),
    ],
)
def test_the_word_for_an_interval(name, low, high, result):
    assert Difference(name, 0.5, 0.5 + (low + high) / 2, low, high).result == result


def test_when_the_interval_and_mcnemar_disagree_the_verdict_takes_no_side():
    # Five rows that only B has right, none that only A has: p is 1/16.
    found = compare(
        predictions(["clay"] * 9, ["gold"] * 5 + ["clay"] * 4),
        predictions(["clay"] * 9, ["clay"] * 9),
    )
    assert found.differences[0].result == "better"
    assert verdict(found) == (
        "The difference is on the border of chance: accuracy 1.0000 of B against 0.4444 of A "
        "(p = 0.0625); by log loss, B is better."
    )


def test_the_text_is_aligned_and_says_what_was_compared():
    lines = as_text(compare(A, B), "test", NAMES).splitlines()
    assert lines[:3] == [
        "A  main",
        "B  other",
        "The same 6 test rows, synthetic data (simulated: it says nothing about museum "
        "photographs)",
    ]
    assert lines[5:7] == [
        "metric         A       B    B - A       95 % interval  result for B",
        f"accuracy  0.6667  0.5000  -0.1667  {lines[6][35:53]}  cannot be told apart",
    ]
    at = lines.index("recall changed most  rows       A       B    B - A       p")
    assert lines[at + 1] == "bronze                  4  0.7500  0.2500  -0.5000  1.0000"
    assert "none, so that each change may be chance" in lines[at + 4]
    assert lines[-1].startswith("The difference may be chance: accuracy 0.6667 of A against 0.5000")
    assert max(map(len, lines[:-1])) <= 100
    assert "Look at test once" not in as_text(compare(A, B), "val", NAMES)


def test_whoever_looks_at_test_is_told_to_do_it_once():
    text = as_text(compare(A, B), "test", NAMES)
    assert "Look at test once, after the choice: a model chosen by it looks better than it" in text


def test_the_five_mediums_that_changed_most_are_shown_the_greatest_change_first():
    labels = [f"no. {medium}" for medium in range(8)]
    mediums = np.repeat(labels, 10)
    # Of medium i, B has i rows right and A none.
    other = np.roll(labels, 1)
    answers = [
        labels[i] if row < i else other[i] for i, row in itertools.product(range(8), range(10))
    ]
    a = predictions(mediums, np.repeat(other, 10), labels=labels)
    text = as_text(compare(a, predictions(mediums, answers, labels=labels)), "test", NAMES)
    shown = [line.split()[1] for line in text.splitlines() if line.startswith("no. ")]
    assert shown == ["7", "6", "5", "4", "3"]


def test_models_with_other_labels_are_compared_on_the_rows():
    mediums = ["clay", "clay", "gold", "gold"]
    a = predictions(mediums, mediums, labels=["bronze", "clay", "gold"])
    b = predictions(mediums, ["clay", "clay", "clay", "wood"], labels=["clay", "wood"])
    found = compare(a, b)
    assert (found.only_a, found.only_b) == (2, 0)
    # What B does not know has probability 0, which log loss takes for the least number.
    assert found.differences[2].b == pytest.approx(
        -(2 * np.log(0.8) + 2 * np.log(np.finfo(float).eps)) / 4
    )
    assert found.unknown == {"A": [], "B": ["gold"]}
    text = as_text(found, "test", NAMES)
    assert (
        "B does not know labels of these rows, which count as wrong, with probability 0: gold\n"
        in text
    )
    assert "A does not know" not in text


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (5, "no. 0, no. 1, no. 2, no. 3, no. 4"),
        (6, "no. 0, no. 1, no. 2, no. 3, no. 4 and 1 more"),
        (7, "no. 0, no. 1, no. 2, no. 3, no. 4 and 2 more"),
    ],
)
def test_five_mediums_that_a_model_does_not_know_are_named(count, names):
    labels = [f"no. {medium}" for medium in range(count)]
    knows = predictions(labels, labels, labels=labels)
    other = predictions(labels, ["wood"] * count, labels=["clay", "wood"])
    assert f"with probability 0: {names}\n" in as_text(compare(knows, other), "val", NAMES)


@pytest.mark.parametrize(
    ("a", "b", "source"),
    [
        ("mame", "mame", "MAMe data"),
        ("file", "mame", "file and mame data"),
        ("mame", "file", "mame and file data"),
    ],
)
def test_the_same_rows_may_come_from_two_sources(a, b, source):
    # As they do where a file of the user's own is a copy of the dataset.
    found = compare(replace(A, source=a), replace(B, source=b))
    assert as_text(found, "val", NAMES).splitlines()[2] == f"The same 6 val rows, {source}"


def test_fifteen_thousand_rows_are_resampled_within_the_bound_of_memory(monkeypatch):
    drawn = []
    bincount = np.bincount

    def count(values, *arguments, **named):
        drawn.append(len(values))
        return bincount(values, *arguments, **named)

    monkeypatch.setattr(np, "bincount", count)
    a, b = simulated(rows=15657, noise=0.3, seed=5)
    assert compare(a, b).rows == 15657
    assert max(drawn) <= 4_000_000


def write(model, subsets=None):
    """Write a model's rows, all of test if not said, in the working copy's predictions."""
    schema = predictions_schema(model.source, model.labels, "")
    columns = {name: pa.nulls(len(model.mediums), schema.field(name).type) for name in schema.names}
    columns |= {
        "image_file": pa.array(model.image_files),
        "subset": pa.array(subsets or ["test"] * len(model.mediums)),
        "medium": pa.array(model.mediums),
        "probabilities": fixed_size_list(model.probabilities),
    }
    table = pa.table(columns, schema=schema)
    PREDICTIONS.parent.mkdir(exist_ok=True)
    pq.write_table(table, PREDICTIONS)


def test_predictions_of_before_have_what_is_compared(tmp_path, monkeypatch):
    """Commits from before the columns of the first and second answer can be compared still."""
    monkeypatch.chdir(tmp_path)
    write(A)
    old = ["image_file", "subset", "medium", "museum", "probabilities"]
    pq.write_table(pq.read_table(PREDICTIONS).select(old), PREDICTIONS)
    found = read_predictions("workspace", "test")
    assert found.mediums.tolist() == MEDIUMS
    assert np.array_equal(found.probabilities, A.probabilities)


def take(model, rows):
    """The rows of a model in another order, or some of them."""
    return replace(
        model,
        image_files=model.image_files[rows],
        mediums=model.mediums[rows],
        probabilities=model.probabilities[rows],
    )


def test_rows_in_another_order_are_matched_by_image_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(take(B, np.array([4, 2, 5, 0, 1, 3])))
    found = read_predictions("workspace", "test")
    assert found.image_files.tolist() == B.image_files.tolist()
    assert found.mediums.tolist() == MEDIUMS
    assert np.array_equal(found.probabilities, B.probabilities)
    assert (found.labels, found.source) == (LABELS, "synthetic")


@pytest.mark.parametrize(("subset", "rows"), [("test", [1, 3, 4]), ("val", [0, 2, 5])])
def test_the_rows_of_the_subset_are_read_and_no_others(tmp_path, monkeypatch, subset, rows):
    monkeypatch.chdir(tmp_path)
    write(A, ["val", "test", "val", "test", "test", "val"])
    found = read_predictions("workspace", subset)
    assert found.image_files.tolist() == A.image_files[rows].tolist()


def test_the_working_copy_is_read_by_its_name_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(A)
    for name in ("workspaces", "Workspace"):
        with pytest.raises(
            PipelineError, match=f"no Git repository, so that it has no revision '{name}'"
        ):
            read_predictions(name, "test")


def test_a_subset_without_rows_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(A)
    with pytest.raises(PipelineError, match=r"predictions.parquet of workspace has no rows of val"):
        read_predictions("workspace", "val")


def test_other_rows_are_refused_with_their_numbers():
    check_same_rows(A, B, "test", NAMES)
    other = take(B, np.arange(4))
    other.mediums[0] = "gold"
    with pytest.raises(PipelineError) as refused:
        check_same_rows(A, other, "test", NAMES)
    assert str(refused.value) == (
        "the test rows are not the same, and a difference between models cannot be told from "
        "different rows: 2 image files are only in main, 0 only in other, and 1 have another "
        "label, probably because the table, `split` or the rows in quarantine differ"
    )


def test_rows_that_one_of_them_lacks_are_refused():
    fewer = take(B, np.arange(4))
    for a, b, numbers in (
        (A, fewer, "2 image files are only in main, 0 only in other, and 0 have"),
        (fewer, A, "0 image files are only in main, 2 only in other, and 0 have"),
    ):
        with pytest.raises(PipelineError, match=numbers):
            check_same_rows(a, b, "test", NAMES)


def test_the_same_rows_with_another_medium_are_refused():
    changed = replace(B, mediums=np.array(["gold", *MEDIUMS[1:]]))
    for a, b in ((A, changed), (changed, A)):
        with pytest.raises(PipelineError, match="and 1 have another label"):
            check_same_rows(a, b, "test", NAMES)


def test_other_rows_from_another_source_are_refused_with_the_source():
    mame = predictions(MEDIUMS[1:], ["clay"] * 5, source="mame")
    for a, b, sources in (
        (A, mame, "synthetic at main, mame at other"),
        (mame, A, "mame at main, synthetic at other"),
    ):
        with pytest.raises(PipelineError) as refused:
            check_same_rows(a, b, "test", NAMES)
        assert str(refused.value).endswith(f"probably because `download.source` differs: {sources}")


@pytest.mark.parametrize(
    ("here", "sentence"),
    [
        (False, "there is no dvc.yaml here: run this in the folder of the project"),
        (
            True,
            "there is no data/predictions.parquet: run `dvc repro`, which makes it again; if that "
            "does not help, `python -m commands.check` tells whether the cache is damaged",
        ),
    ],
)
def test_without_a_project_or_predictions_it_says_so(tmp_path, monkeypatch, capsys, here, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["compare", "workspace"])
    if here:
        (tmp_path / "dvc.yaml").touch()
    with pytest.raises(SystemExit) as stopped:
        run(module.STAGE, module.main)
    assert stopped.value.code == 1
    assert capsys.readouterr().err == f"[compare] error: {sentence}\n"


def test_an_empty_name_is_no_revision():
    with pytest.raises(PipelineError, match="there is no revision ''"):
        read_predictions("", "test")


def locked(content, md5=None):
    """A dvc.lock by which the predictions have this content."""
    digest = md5 or hashlib.md5(content).hexdigest()
    out = {"path": PREDICTIONS.as_posix(), "hash": "md5", "md5": digest, "size": len(content)}
    return json.dumps({"schema": "2.0", "stages": {"evaluate": {"cmd": "x", "outs": [out]}}})


# Branches whose dvc.lock is this, and how the sentence about each begins.
SPOILED = {
    "no-yaml": ("stages: [", "DVC cannot read no-yaml: "),
    "no-text": (b"\0\xff\xfe", "DVC cannot read no-text: "),
    "empty": ("", "DVC cannot read empty: "),
    "conflict": ("<<<<<<< HEAD\n", "DVC cannot read conflict: "),
    "outside": (locked(b"", "../../../../etc/passwd"), "the content of "),
    "not-pushed": (locked(b"elsewhere"), "the content of "),
    "no-table": (locked(b"PAR1 or not"), "data/predictions.parquet of no-table cannot be used ("),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A small repository with predictions in DVC's cache, and the branches of `SPOILED`."""
    folder = tmp_path_factory.mktemp("repository")
    project = Project(folder)
    project.git("init", "--quiet", "--initial-branch", "main")
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").touch()
    (folder / ".gitignore").write_text(f"/{PREDICTIONS.parent}\n/.dvc/cache\n/.dvc/tmp\n")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    project.commit()
    project.git("tag", "before")
    with contextlib.chdir(folder):
        write(predictions(["a", "b"] * 3, ["a", "b"] * 3, labels=["a", "b"]))
    content = (folder / PREDICTIONS).read_bytes()
    for kept in (content, b"PAR1 or not"):
        cached(folder, kept).parent.mkdir(parents=True)
        cached(folder, kept).write_bytes(kept)
    (folder / "dvc.yaml").write_text(
        f"stages:\n  evaluate:\n    cmd: x\n    outs: [{PREDICTIONS.as_posix()}]\n"
    )
    (folder / "dvc.lock").write_text(locked(content))
    project.commit()
    project.git("tag", "--annotate", "--message", "x", "annotated")
    project.git("tag", "file", "HEAD:dvc.yaml")
    for name, (lock, _) in SPOILED.items():
        project.git("checkout", "--quiet", "-b", name, "main")
        (folder / "dvc.lock").write_bytes(lock if isinstance(lock, bytes) else lock.encode())
        project.commit()
    project.git("checkout", "--quiet", "main")
    return project


def cached(folder, content):
    digest = hashlib.md5(content).hexdigest()
    return folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


def sentence_about(revision):
    with pytest.raises(PipelineError) as error:
        read_predictions(revision, "test")
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize("revision", ["main", "HEAD", "annotated", "main^{commit}"])
def test_a_commit_may_be_named_in_any_way(repository, monkeypatch, revision):
    monkeypatch.chdir(repository.folder)
    assert len(read_predictions(revision, "test").mediums) == 6


@pytest.mark.parametrize(
    "revision",
    [
        "main:dvc.yaml",  # a file
        "main:",  # a folder
        "main^{tree}",
        "file",
        "x" * 3000,
        "a\0b",
        "a\nb",
        "-x",
        "--help",
        "main..before",
        "^main",
        "HEAD~9",
        "0" * 40,
        "\udcff",  # what Python makes of bytes that are not UTF-8
        "$(id)",
    ],
)
def test_what_is_no_commit_ends_with_a_sentence(repository, monkeypatch, revision):
    monkeypatch.chdir(repository.folder)
    sentence = sentence_about(revision)
    assert sentence.startswith("there is no revision '")
    assert sentence.endswith("`dvc exp list --all-commits` list those that there are")
    assert len(sentence) < 300


@pytest.mark.parametrize("revision", SPOILED)
def test_a_revision_with_a_spoiled_lock_file_ends_with_a_sentence(
    repository, monkeypatch, revision
):
    monkeypatch.chdir(repository.folder)
    assert sentence_about(revision).startswith(SPOILED[revision][1])


def test_a_commit_of_before_the_predictions_ends_with_a_sentence(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    assert sentence_about("before").startswith("before has no data/predictions.parquet, as it is")


def test_a_shallow_clone_says_how_to_get_older_commits(repository, monkeypatch, tmp_path):
    repository.git("clone", "--quiet", "--depth=1", repository.folder.as_uri(), str(tmp_path / "a"))
    monkeypatch.chdir(tmp_path / "a")
    assert sentence_about("HEAD~1").endswith(
        "`git fetch --unshallow` brings those that this shallow clone lacks"
    )


@pytest.mark.parametrize("spoil", ["a flipped byte", "cut off", "empty", "a folder"])
def test_a_spoiled_cache_ends_with_a_sentence_and_gives_no_wrong_numbers(
    repository, monkeypatch, tmp_path, spoil
):
    project = repository.copy(tmp_path / "copy")
    monkeypatch.chdir(project.folder)
    content = (project.folder / PREDICTIONS).read_bytes()
    path = cached(project.folder, content)
    path.unlink()
    if spoil == "a folder":
        path.mkdir()
    else:
        flipped = bytearray(content)
        flipped[len(content) // 4] ^= 1
        kept = {"a flipped byte": bytes(flipped), "cut off": content[:99], "empty": b""}
        path.write_bytes(kept[spoil])
    said = "cannot be read" if spoil == "a folder" else "is damaged in the cache: `python"
    assert f"data/predictions.parquet of main {said}" in sentence_about("main")


def test_a_repository_without_commits_ends_with_a_sentence(repository, monkeypatch, tmp_path):
    Project(tmp_path).git("init", "--quiet")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    monkeypatch.chdir(tmp_path)
    assert sentence_about("main").endswith(
        "cannot be read: Empty git repo: `git log` and `dvc status` tell more"
    )


def test_without_git_or_dvc_it_says_so(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert sentence_about("main").startswith("this folder is no Git repository")
    monkeypatch.setitem(sys.modules, "dvc.api", None)
    assert "requirements.txt` mends it" in sentence_about("main")


def test_predictions_that_are_damaged_in_the_working_copy_end_with_a_sentence(
    monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    PREDICTIONS.parent.mkdir()
    PREDICTIONS.write_bytes(b"PAR1")
    assert "workspace cannot be used (" in sentence_about("workspace")


@pytest.fixture(scope="module")
def branches(reproduced, tmp_path_factory):
    """The project with a branch `other` that has another model, and an experiment `stronger`.

    The branch `before` does not declare the predictions.
    """
    project = reproduced.copy(tmp_path_factory.mktemp("branches") / "project")
    project.git("checkout", "--quiet", "-b", "other")
    project.set_params(**{"train.model": "lda", "train.ensemble.lda.features": "metadata"})
    project.repro("evaluate")
    project.commit()
    project.git("checkout", "--quiet", "-b", "before", "main")
    declared = project.folder / "dvc.yaml"
    text = declared.read_text(encoding="utf-8")
    assert f"      - {PREDICTIONS}\n" in text
    declared.write_text(text.replace(f"      - {PREDICTIONS}\n", ""), encoding="utf-8")
    project.commit()
    project.git("checkout", "--quiet", "main")
    project.dvc(
        "exp", "run", "--name", "stronger", "-S", "train.logistic_regression.C=100", "evaluate"
    )
    return project


def run_compare(project, *arguments):
    return project.run(sys.executable, "-m", "commands.compare", *arguments, check=False)


def accuracies(printed):
    """Accuracy of A and of B as they stand in what was printed."""
    line = next(line for line in printed.splitlines() if line.startswith("accuracy "))
    return line.split()[1:3]


def accuracy_of(metrics, subset="val"):
    return f"{json.loads(metrics)[subset]['accuracy']:.4f}"


@pytest.mark.slow
@pytest.mark.parametrize("subset", ["test", "val"])
def test_two_branches_have_the_accuracies_of_their_metrics(branches, subset):
    result = run_compare(branches, "main", "other", "--subset", subset)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    expected = [
        accuracy_of(branches.git("show", f"{revision}:reports/metrics.json").stdout, subset)
        for revision in ("main", "other")
    ]
    assert accuracies(result.stdout) == expected
    assert expected[0] != expected[1]  # so that a mix-up would be seen
    assert f"The same 36 {subset} rows, data of a file of the user's own" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("[compare] 36 rows, ")


@pytest.mark.slow
def test_an_experiment_is_compared_by_its_name_and_is_what_the_workspace_has(branches):
    workspace = accuracy_of((branches.folder / "reports/metrics.json").read_text())
    main = accuracy_of(branches.git("show", "main:reports/metrics.json").stdout)
    assert accuracies(run_compare(branches, "main", "stronger").stdout) == [main, workspace]
    assert "A and B are the same" in run_compare(branches, "stronger").stdout


STOPPED = {
    "nowhere": "there is no revision 'nowhere', which has to be a commit: `git branch --all`, "
    "`git tag` and "
    "`dvc exp list --all-commits` list those that there are",
    "before": "before has no data/predictions.parquet, as it is from before `evaluate` wrote "
    "that file: run `dvc repro` with its params.yaml and the scripts of today, and compare with "
    "`workspace`",
}


@pytest.mark.slow
@pytest.mark.parametrize("revision", STOPPED)
def test_a_revision_that_cannot_be_compared_ends_with_its_sentence(branches, revision):
    result = run_compare(branches, "main", revision)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"[compare] error: {STOPPED[revision]}\n"


@pytest.mark.slow
def test_other_rows_end_with_their_sentence(branches, tmp_path):
    project = branches.copy(tmp_path / "project")
    predicted = project.folder / PREDICTIONS
    table = pq.read_table(predicted)
    predicted.unlink()  # it may be a link to the cache
    pq.write_table(table.slice(2), predicted)  # val comes first
    result = run_compare(project, "main")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("[compare] error: the val rows are not the same, ")
    assert "2 image files are only in main, 0 only in workspace" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_an_empty_cache_ends_with_its_sentence(branches, tmp_path):
    project = branches.copy(tmp_path / "project")
    shutil.rmtree(project.folder / ".dvc/cache")
    result = run_compare(project, "main", "other")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "[compare] error: the content of data/predictions.parquet of main is neither in the cache "
        "nor on a remote: check that revision out and run `dvc repro`, or `dvc pull` if it was "
        "pushed\n"
    )


@pytest.mark.slow
def test_a_folder_without_git_ends_with_its_sentence(branches, tmp_path):
    project = branches.copy(tmp_path / "project")
    shutil.rmtree(project.folder / ".git")
    result = run_compare(project, "main")
    assert result.returncode == 1
    assert result.stderr == (
        "[compare] error: this folder is no Git repository, so that it has no revision 'main': "
        "run this in a clone of the project\n"
    )


@pytest.mark.slow
def test_a_broken_pipeline_file_ends_with_its_sentence(branches, tmp_path):
    project = branches.copy(tmp_path / "project")
    (project.folder / "dvc.yaml").write_text("stages: [\n")
    project.commit()
    result = run_compare(project, "HEAD")
    assert result.returncode == 1
    assert result.stderr.startswith("[compare] error: DVC cannot read HEAD: ")
    assert result.stderr.count("\n") == 1
