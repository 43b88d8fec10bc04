"""Reasons are those of the run, add up to its answers, and are told in plain words."""

import contextlib
import math
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from conftest import PARAMS, PROJECT, as_published, read_yaml, write_csv_table, write_params
from pictures import draw, random_weights, write_network
from playwright.sync_api import sync_playwright
from test_report_page import CHROMIUM, SCREENSHOTS, contrast

from answers.answerer import Answerer
from answers.explanation import SAMPLE_ROWS, explain, read_asked
from answers.telling import COLUMNS, Telling, as_page, as_text, share, times
from answers.training import Training
from commands import explain as command
from photographs.embed import embed
from photographs.pictures.embedder import Embedder
from scripts.params import set_params
from stages import download, evaluate, featurize, split, train
from stages import parse_embeddings_to_parquet as parse
from stages.common.errors import PipelineError
from stages.model_file.interface import PROBABILITIES_WITHOUT_SIZES
from stages.model_file.words import Words
from stages.sources import simulator

MEDIUMS = ["Oil <on> canvas", "Etching", "Faience"]
MUSEUMS = ["LACMA", "Musée & <b>Met</b>"]
SUBSETS = ("train", "train", "val", "test")
EACH = 24  # photographs of a medium
WRONG = "0-11.jpg"  # a row of test, whose catalogue says something else than is on it
WORDS = Words("material", "materials", "house", "houses")


def run_stages(*modules):
    for module in modules:
        module.main()


@pytest.fixture(scope="session")
def run(shared):
    """The folder of a run on drawn photographs, with these and the network that embedded them.

    Beside it lies that of a run on the same ones with the museum, of a model that is no blend and
    cannot do without the sizes.
    """

    def make(folder):
        catalogue = []
        for kind, medium in enumerate(MEDIUMS):
            for number in range(EACH):
                name = f"{kind}-{number}.jpg"
                draw(folder / "photographs" / str(kind) / name, kind, number)
                row = {"Image file": name, "Medium": MEDIUMS[1] if name == WRONG else medium}
                row |= {"Museum": MUSEUMS[number % 2], "Subset": SUBSETS[number % 4]}
                catalogue.append(row)
        write_csv_table(folder / "catalogue.csv", catalogue)
        first, other = folder / "run", folder / "other"
        first.mkdir()
        network = write_network(first / "models/network.onnx")
        table = folder / "table.parquet"
        embed(folder / "photographs", table, Embedder(network), folder / "catalogue.csv")
        write_params(first)
        values = {"download.source": "file", "download.file.path": str(table)}
        with contextlib.chdir(first):
            set_params(Path("params.yaml"), values)
            run_stages(download, parse, split, featurize, train, evaluate)
        shutil.copytree(first, other)
        values = {"train.model": "lda", "train.without_sizes": False, "featurize.museum": True}
        with contextlib.chdir(other):
            set_params(Path("params.yaml"), values)
            run_stages(featurize, train, evaluate)

    return shared("explained", make)


@pytest.fixture
def here(run, monkeypatch):
    monkeypatch.chdir(run / "run")
    return run


@pytest.fixture
def other(run, monkeypatch):
    monkeypatch.chdir(run / "other")
    return run


def explained(name, ignore_sizes=False):
    training = Training.read(Answerer())
    asked, sample = read_asked(name, training)
    return explain(training, asked, sample, ignore_sizes)


def main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["explain", *map(str, arguments)])
    return command.main()


def prediction(name):
    table = pq.read_table("data/predictions.parquet", filters=[("image_file", "==", name)])
    (row,) = table.to_pylist()
    return SimpleNamespace(**row)


def plain(text):
    """A text without the breaks of its lines, and blanks as they are typed."""
    return " ".join(text.split())


@pytest.mark.parametrize("name", ["1-7.jpg", WRONG, "2-2.jpg"])
def test_the_answer_to_a_row_is_that_of_the_run(here, name):
    found, said = explained(name), prediction(name)
    assert found.subset == said.subset
    assert [found.answer.label, found.medium] == [said.predicted, said.medium]
    stored = sorted(said.probabilities, reverse=True)
    assert [c.probability for c in found.best] == [round(number, 6) for number in stored]
    assert (found.mistake is None) == (said.predicted == said.medium)


@pytest.mark.parametrize("name", ["1-7.jpg", "2-2.jpg"])
def test_without_the_sizes_the_answer_is_the_other_one_of_the_run(here, name):
    found, said = explained(name, ignore_sizes=True), prediction(name)
    assert not found.with_sizes
    assert found.answer.label == said.predicted_without_sizes
    assert found.answer.probability == pytest.approx(said.probability_without_sizes, abs=5e-6)
    assert [group.name for group in found.groups] == ["embedding"]
    assert found.without_sizes is None


def test_the_shares_of_the_parts_add_up_to_the_log_odds(here):
    found = explained(WRONG)
    assert found.other.label == found.medium == MEDIUMS[1]
    own = Answerer().model.predict_proba(read_asked(WRONG, Training.read(Answerer()))[0].artefact)
    labels = Answerer().model.labels
    first, right = (labels.index(label) for label in (found.answer.label, found.medium))
    odds = math.log(own[0, first] / own[0, right])
    assert sum(part.nats for part in found.members) == pytest.approx(odds, abs=1e-4)
    assert found.log_odds == pytest.approx(odds, abs=1e-4)
    assert {part.name for part in found.members} == {"kernel_ridge", "lda", "size_trees"}
    # Without one of them, the others' sum is left.
    for part, without in zip(found.members, found.without_members, strict=True):
        assert without.log_odds == pytest.approx(found.log_odds - part.nats, abs=1e-6)


def test_a_kind_of_features_is_measured_with_the_values_of_other_training_rows(here):
    training = Training.read(Answerer())
    asked, sample = read_asked("1-7.jpg", training)
    found = explain(training, asked, sample)
    assert len(sample) == min(SAMPLE_ROWS, len(training.image_files))
    assert set(sample["image_file"]) <= set(training.image_files)
    sizes = next(group for group in found.groups if group.name == "sizes")
    model = training.answerer.model
    place = model.labels.index(found.answer.label)
    one_by_one = [
        model.predict_proba(
            asked.artefact.with_columns(
                {name: sample[name][row : row + 1] for name in ("width", "height")}
            )
        )[0, place]
        for row in range(len(sample))
    ]
    assert sizes.answer == pytest.approx(np.mean(one_by_one), abs=2e-6)


def test_the_sample_is_the_same_each_time_and_without_the_row_itself(here):
    training = Training.read(Answerer())
    _, sample = read_asked("1-7.jpg", training)
    _, again = read_asked("1-7.jpg", training)
    assert sample["image_file"].tolist() == again["image_file"].tolist()
    assert "1-0.jpg" in sample["image_file"]
    _, others = read_asked("1-0.jpg", training)
    assert "1-0.jpg" not in others["image_file"]


def test_a_mistake_has_what_is_known_of_both_labels(here):
    found = explained(WRONG)
    mistake, table = found.mistake, pq.read_table("data/predictions.parquet").to_pandas()
    of_label = table[table["medium"] == found.medium]
    assert mistake.rows == len(of_label)
    assert mistake.taken == (of_label["predicted"] == found.answer.label).sum() >= 1
    assert mistake.training_rows == mistake.training_rows_answered == EACH // 2
    assert mistake.nearest.medium == found.medium
    assert mistake.nearest_answered.medium == found.answer.label
    assert mistake.nearest_answered == next(
        near for near in found.similar if near.medium == found.answer.label
    )
    assert found.best[mistake.rank - 1].label == found.medium


def test_a_row_of_train_proves_nothing_and_is_not_its_own_neighbour(here, monkeypatch, capsys):
    main(monkeypatch, "1-0.jpg")
    said = plain(capsys.readouterr().out)
    assert "The model was fitted on this very row, of train" in said
    assert "proves nothing" in said
    assert "1-0.jpg" not in [near.image_file for near in explained("1-0.jpg").similar]


def test_probabilities_of_val_are_said_to_be_cross_fitted(here, monkeypatch, capsys):
    main(monkeypatch, "2-2.jpg")
    said = plain(capsys.readouterr().out)
    assert "cross-fitted, as they stand in data/predictions.parquet" in said
    assert "file, which has learned from this row too; there, Faience has" in said
    before = plain(as_text(Telling(WORDS, replace(explained("2-2.jpg"), refitted=False))))
    assert "file, whose decisions it may have had a part in; there, Faience has" in before


def test_a_text_fits_a_terminal_and_tells_all(here, monkeypatch, capsys):
    assert main(monkeypatch, WRONG).startswith(MEDIUMS[0])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= COLUMNS
    said = plain(said)
    for part in (
        f"That is wrong: the table has {MEDIUMS[1]}.",
        "It is a row of test, which had no part in making the model",
        "answers on val and test that were the most nearly as probable",
        "With the embedding of 36 other artefacts instead of its own, the probability of",
        "A second model in the file was fitted without width and height.",
        "The model adds up the opinions of 3 parts",
        "kernel_ridge comparison with",
        "Of these 5, ",
        f"The right medium, {MEDIUMS[1]}, is in place ",
        f"Train has 12 of {MEDIUMS[1]} and 12 of {MEDIUMS[0]}.",
    ):
        assert part in said
    assert "synthetic" not in said


def changed(found, **labels):
    """The explanation of a mistake in which these changes lead to the right label."""
    return replace(
        found,
        without_members=[
            part._replace(first=part.first._replace(label=labels.get(part.name, "Gold")))
            for part in found.without_members
        ],
        groups=[g._replace(first=g.first._replace(label="Gold")) for g in found.groups],
        without_sizes=None,
    )


def test_the_changes_that_give_the_right_label_are_named(here):
    found = explained(WRONG)
    none = plain(as_text(Telling(WORDS, changed(found))))
    assert f"None of the changes below would have given {found.medium}." in none
    one = plain(as_text(Telling(WORDS, changed(found, lda=found.medium))))
    assert f"would have given {found.medium}: without the part lda." in one


def test_a_mistake_of_val_alone_is_no_shortage_of_the_file(here):
    said = plain(as_text(Telling(WORDS, replace(explained(WRONG), log_odds=-0.5))))
    assert "nats short" not in said
    assert f"file itself has it before {MEDIUMS[0]}" in said


def test_words_of_the_run_and_hostile_names_are_kept_harmless(here):
    found = replace(explained(WRONG), image_file="<script>\x1b[2J" + "long-" * 40, synthetic=True)
    telling = Telling(WORDS, found)
    text = as_text(telling)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= COLUMNS
    assert "The right material" in plain(text)
    assert "trained on synthetic data" in plain(text)
    page = as_page(telling, {})
    assert "<script>" not in page
    assert "<on>" not in page
    assert "<b>Met" not in page
    assert 'class="banner"' in page
    assert ">house</th>" in page


def test_the_page_shows_photographs_that_are_there(here, tmp_path, monkeypatch):
    found = explained(WRONG)
    folder = tmp_path / "pictures"
    shutil.copytree(here / "photographs", folder)
    (gone, broken, *_) = (near.image_file for near in found.similar)
    (gone_path,), (broken_path,) = (list(folder.rglob(name)) for name in (gone, broken))
    gone_path.unlink()
    broken_path.write_bytes(b"no picture")
    page = tmp_path / "why.html"
    main(monkeypatch, WRONG, "--html", page, "--photographs", folder)
    content = page.read_text(encoding="utf-8")
    assert content.count('<img src="data:image/jpeg;base64,') == 4
    assert f'alt="photograph {WRONG}"' in content
    assert "no picture: the file is not there" in content
    assert "no picture: no picture of a format that is read" in content
    assert not re.search(r'(src|href)="(?!data:)', content)
    assert list(tmp_path.glob(".why*")) == []


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_the_page_reads_well_in_a_browser(here, tmp_path, monkeypatch):
    page = tmp_path / "why.html"
    main(monkeypatch, WRONG, "--html", page, "--photographs", here / "photographs")
    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, scheme in ((390, "light"), (1280, "dark")):
            opened = browser.new_page(
                viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
            )
            opened.on("request", lambda sent: asked.append(sent.url))
            opened.goto(page.as_uri())
            shown = opened.evaluate(
                """() => {
                    const body = getComputedStyle(document.body);
                    const tables = document.querySelectorAll(".scroll");
                    const parts = [document.documentElement, ...tables];
                    const narrow = parts.every(part => part.scrollWidth <= part.clientWidth);
                    const sizes = [...document.images].map(image => image.naturalWidth);
                    return [narrow, sizes, body.color, body.backgroundColor];
                }"""
            )
            assert shown[0]
            assert len(shown[1]) == 6
            assert all(shown[1])
            assert contrast(*shown[2:]) > 7
            SCREENSHOTS.mkdir(exist_ok=True)
            opened.screenshot(path=SCREENSHOTS / f"explain-{width}-{scheme}.png", full_page=True)
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}


def test_a_photograph_is_answered_as_its_row_is(here, tmp_path, monkeypatch, capsys):
    path = here / "photographs/1/1-7.jpg"
    page = tmp_path / "why.html"
    main(monkeypatch, path, "--html", page)
    said = plain(capsys.readouterr().out)
    row = prediction("1-7.jpg")
    assert f"answers {row.predicted}, with a probability of {share(row.probability)}, and" in said
    assert "That is" not in said
    assert page.read_text(encoding="utf-8").count("<img ") == 1


def test_a_photograph_with_sizes_far_from_those_of_train_is_answered_without(here, run):
    training = Training.read(Answerer())
    asked, sample = read_asked("1-7.jpg", training)
    far = replace(
        asked, subset=None, artefact=asked.artefact.with_columns({"width": np.array([90_000.0])})
    )
    found = explain(training, far, sample)
    assert found.far
    assert not found.with_sizes
    expected = training.answerer.model.predict_proba(asked.artefact, PROBABILITIES_WITHOUT_SIZES)
    assert found.answer.probability == pytest.approx(float(expected.max()), abs=1e-6)
    assert "so that this answer does without" in plain(as_text(Telling(WORDS, found)))
    # A row of the run is answered as the run did it.
    row = replace(far, subset="test", of_run={})
    assert explain(training, row, sample).with_sizes


def test_a_model_that_is_no_blend_says_so_in_a_line(other):
    found = explained("1-7.jpg")
    assert found.members == found.without_members == []
    assert [group.name for group in found.groups] == ["embedding", "sizes", "museum"]
    said = plain(as_text(Telling(WORDS, found)))
    assert "no blend but one model alone, `lda`" in said
    assert "With the house of 36 other artefacts" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["1-77.jpg"], r"neither .* nor the path of a photograph; .* are 1-7\.jpg, 1-17\.jpg, "),
        (["1-7.jpg", "--model", "none.onnx"], "there is no model none.onnx: `dvc repro`"),
        (["1-7.jpg", "--museum", "LACMA"], "row of the run, which has its museum"),
        (["1-7.jpg", "--model", "../other/models/model.onnx"], "is not the model of the run"),
        (["../catalogue.csv"], "catalogue.csv cannot be embedded: no picture of a format"),
        (["../photographs/1/1-7.jpg", "--network", "none.onnx"], r"none\.onnx"),
        (["1-7.jpg", "--html", "../photographs/1/1-7.jpg"], r"name ends in \.html"),
        (["1-7.jpg", "--photographs", "nowhere"], "there is no folder or zip file nowhere"),
    ],
)
def test_what_stops_it_is_one_sentence(here, monkeypatch, arguments, sentence):
    with pytest.raises(PipelineError, match=sentence) as error:
        main(monkeypatch, *arguments)
    assert "\n" not in str(error.value)


def test_another_network_is_refused(here, monkeypatch, tmp_path):
    network = write_network(tmp_path / "network.onnx", random_weights(alpha=0.5))
    with pytest.raises(PipelineError, match="name the right network with --network"):
        main(monkeypatch, here / "photographs/1/1-7.jpg", "--network", network)


def test_a_model_that_cannot_do_without_is_not_asked_to(other, monkeypatch):
    with pytest.raises(PipelineError, match="cannot answer without the sizes"):
        main(monkeypatch, "1-7.jpg", "--ignore-sizes")


def test_a_museum_that_the_model_takes_has_to_be_said(other, monkeypatch, capsys):
    path = other / "photographs/1/1-7.jpg"
    with pytest.raises(PipelineError, match="takes the museum: say it with --museum, one of LACMA"):
        main(monkeypatch, path)
    main(monkeypatch, path, "--museum", MUSEUMS[1])
    assert share(prediction("1-7.jpg").probability) in plain(capsys.readouterr().out)


def test_no_run_is_a_sentence(here, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"no run in this folder.*`dvc repro`.*`dvc pull`"):
        main(monkeypatch, "1-7.jpg", "--model", here / "run/models/model.onnx")


def test_the_model_of_another_run_is_refused_though_it_has_the_same_features(
    run, tmp_path, monkeypatch
):
    shutil.copytree(run / "run", tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    path = Path("models/model.onnx")
    model = onnx.load(path)
    model.doc_string = "another"
    onnx.save(model, path)
    with pytest.raises(PipelineError, match="is not the model of the run in this folder"):
        main(monkeypatch, "1-7.jpg")


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.314, "31.4 %"), (0.0, "0.0 %"), (1e-6, "under 0.1 %"), (0.99999, "over 99.9 %")],
)
def test_no_probability_looks_impossible_or_certain_that_is_not(probability, shown):
    assert share(probability) == shown


@as_published
def test_the_row_that_the_readme_asks_about_is_one_of_test():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    (name,) = re.findall(r"commands\.explain (\S+)\n", readme)
    synthetic = read_yaml(PARAMS)["download"]["synthetic"]
    table = simulator.simulate_metadata(synthetic["preset"], synthetic["seed"])
    assert table.set_index("Image file").loc[name, "Subset"] == "test"


def test_odds_are_told_as_how_many_times():
    assert times(math.log(3)) == "3.0 times"
    assert times(math.log(1234)) == "1,234 times"
    assert times(500.0) == "more than a million times"
