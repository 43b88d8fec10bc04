"""The benchmark of the models runs every way, and writes down what was measured."""

import json
import math
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import PROJECT, tiny_rows
from ruamel.yaml import YAML

from benchmarks import models as benchmark
from benchmarks.harness import Run, measure
from benchmarks.model_peers import PEERS, run_peer
from benchmarks.models import VARIANTS, ModelRun, Peer, PeerRun, Results, Source, VariantRun
from stages import featurize, split, train
from stages.common.params import load_params
from stages.models.registry import DESCRIPTIONS, ENSEMBLE, MODELS

# Those that need packages beside requirements.txt.
PACKAGES = {"keras": ("keras", "jax")}


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
            pytest.skip(f"{package} is installed by `make bench-models` only")
    found = run_peer(name, features)
    assert found["accuracy"] > 0.5
    assert found["log_loss"] < math.log(6)


@pytest.mark.slow
def test_other_ways_do_not_load_the_stages_which_limit_threads(features):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from benchmarks import models, model_peers\n"
        "model_peers.run_peer('linear-discriminant-analysis', Path(sys.argv[1]))\n"
        "print(sum(name.split('.')[0] == 'stages' for name in sys.modules))"
    )
    command = [sys.executable, "-c", code, str(features.resolve())]
    _, found, _ = benchmark.measure_json(command, PROJECT)
    assert found == 0


@pytest.mark.slow
def test_what_another_way_takes_and_prints_is_read(features):
    name = "linear-discriminant-analysis"
    command = [sys.executable, "-m", "benchmarks.model_peers", name, str(features.resolve())]
    run, found, fate = benchmark.measure_json(command, PROJECT, most_seconds=60)
    assert found == pytest.approx(run_peer(name, features))
    assert run.seconds > 0
    assert run.megabytes > 10
    assert fate == ""


@pytest.mark.parametrize(
    ("code", "expected"),
    [("import time; time.sleep(60)", "ended after 0.005 minutes"), ("1 / 0", "failed")],
)
def test_a_process_that_takes_too_long_or_fails_is_told(tmp_path, code, expected):
    seconds = 0.3 if "sleep" in code else 60
    run, found, fate = benchmark.measure_json([sys.executable, "-c", code], tmp_path, seconds)
    assert found is None
    assert fate == expected
    assert run.seconds < 30


def test_what_a_measured_command_prints_is_shown_beside_the_table(tmp_path, capfd):
    code = "print('progress'); raise SystemExit(1)"
    with pytest.raises(SystemExit, match="failed"):
        measure([sys.executable, "-c", code], tmp_path)
    printed = capfd.readouterr()
    assert "progress" in printed.err
    assert printed.out == ""


def test_the_test_rows_are_scored_with_the_model_of_the_folder(features, set_params):
    set_params(**{"train.model": "lda"})
    train.main()
    found = benchmark.score()
    assert found.pop("seconds") > 0
    assert found == {"rows": 36, "training_rows": 108, "mediums": 6}


def test_every_model_and_every_other_way_is_measured():
    assert benchmark.descriptions() == DESCRIPTIONS
    assert list(DESCRIPTIONS) == [ENSEMBLE, *MODELS]
    assert [peer.name for peer in benchmark.PEERS] == list(PEERS)
    assert {peer.like for peer in benchmark.PEERS} <= set(benchmark.descriptions())


def test_the_stages_that_run_are_those_of_the_pipeline():
    stages = YAML(typ="safe").load(PROJECT / "dvc.yaml")["stages"]
    ran = [*benchmark.BEFORE_TRAIN, "train", "evaluate"]
    # The report only tells what evaluate has measured.
    commands = [stage["cmd"] for name, stage in stages.items() if name != "report"]
    assert commands == [f"python -m stages.{stage}" for stage in ran]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.label)
def test_variants_are_values_that_featurize_takes(set_params, variant):
    before = load_params("featurize", featurize.Params)
    set_params(**variant.settings)
    after = load_params("featurize", featurize.Params)
    assert (before == after) == (not variant.settings)


def test_params_of_one_run_do_not_stay_for_the_next(clone_project):
    project = clone_project()
    project.commit()
    expected = YAML(typ="safe").load(project.folder / "params.yaml")
    benchmark.change_params(project.folder, {"train.model": "mlp"})
    benchmark.change_params(project.folder, {"featurize.museum": True})
    expected["featurize"]["museum"] = True
    assert YAML(typ="safe").load(project.folder / "params.yaml") == expected


SYNTHETIC = benchmark.synthetic("full")
SVC = Peer("svc", "`SVC()`", "kernel_ridge", "an estimator")
KERAS = Peer("keras", "Keras", "mlp", "a network")


def metrics(accuracy: float, source: str, **more: object) -> dict:
    scores = {"accuracy": accuracy, "macro_f1": 0.5, "log_loss": 1.25, "calibration_error": 0.03}
    by_chance = {"calibration_error": {"mean": 0.01, "high": 0.02}}
    interval = {"accuracy": {"low": accuracy - 0.01, "high": accuracy + 0.01}}
    return {
        "data": {"source": source},
        "val": scores,
        "test": scores,
        "test_interval": interval,
        "test_if_calibrated": by_chance,
    } | more


def some_results(source: Source, kind: str = "synthetic", **more: object) -> Results:
    """Every model, each slower than the one before, two other ways and the variants."""
    models = [
        ModelRun(
            name,
            metrics(0.9 - number / 10, kind, **more),
            Run(9 + 10 * number, 200),
            Run(1, 300),
            {"seconds": 0.5, "rows": 10_000, "training_rows": 20_300, "mediums": 29},
            2.5,
        )
        for number, name in enumerate(benchmark.descriptions())
    ]
    peers = [
        PeerRun(KERAS, Run(30, 600), {"accuracy": 0.6, "log_loss": 1.5}),
        PeerRun(SVC, Run(900, 150), None, "ended after 15 minutes"),
    ]
    variants = [VariantRun(variant, metrics(0.8, kind)) for variant in VARIANTS]
    return Results(source, "ensemble", models, peers, variants)


def rows_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_the_document_has_a_row_and_a_command_for_each_model_and_says_synthetic():
    results = some_results(SYNTHETIC)
    text = benchmark.document([results], {"keras": "1.2.3"}, "full", "a command")
    head, *rows = rows_of(benchmark.table_of_models(results))
    assert "synthetic" in head
    assert len(rows) == len(benchmark.descriptions())
    for name, row in zip(benchmark.descriptions(), rows, strict=True):
        assert row.startswith(f"| `{name}` ")
        assert row in text
        command = f"dvc exp run -S download.synthetic.preset=full -S train.model={name}"
        assert f"\n{command} -S train.without_sizes=false\n" in text
    assert rows[1] == (
        "| `kernel_ridge` | 0.8000 | 0.7900 to 0.8100 | 0.5000 | 1.2500 | 0.0300 | 0.0200 |  "
        "| 19.0 | 200 | 50.0 | 2.5 |"
    )
    for title in re.findall("^##+ (.*[Ss]ynthetic.*|The models.*|Beside.*|Other f.*)", text, re.M):
        assert "ynthetic" in title
    assert "20,300 training rows, 10,000 test rows, 29 mediums" in text
    assert "```sh\na command\n```" in text
    assert "keras 1.2.3" in text
    assert "trial" not in text
    assert "**A trial, of the preset toy.**" in benchmark.document([results], {}, "toy", "")


def test_other_ways_are_divided_by_the_default_and_by_the_model_of_their_kind():
    head, *rows = rows_of(benchmark.table_of_peers(some_results(SYNTHETIC)))
    assert "synthetic" in head
    assert rows[0].startswith(
        "| this project, `ensemble` (default) | 10.0 | 1.00 |  | 300 | 1.00 |"
    )
    # Ours of the same kinds take 70 s and 20 s, with the scoring.
    assert rows[-2:] == [
        "| Keras, like `mlp` | 30.0 | 3.00 | 0.50 | 600 | 2.00 | 2.00 | 0.6000 | 1.5000 |",
        "| `SVC()`, like `kernel_ridge` | over 900.0 | over 90.00 | over 45.00 "
        "| over 150 | over 0.50 | over 0.50 | ended after 15 minutes |  |",
    ]


def test_a_table_from_a_file_is_not_called_synthetic_unless_it_is(tmp_path):
    path = tmp_path / "real.parquet"
    path.touch()
    source = benchmark.table_of_user(path)
    assert source.settings["download.file.path"] == str(path)
    distinct = {"test_without_near_duplicates": {"accuracy": 0.1234}}
    real = some_results(source, "file", **distinct)
    section = benchmark.section(real)
    assert "synthetic" not in section.lower()
    assert "| 0.1234 |" in section
    assert str(tmp_path) not in section
    assert (
        "dvc exp run -S download.source=file -S download.file.path=/somewhere/real.parquet "
        "-S featurize.sizes=false\n"
    ) in section
    assert section in benchmark.document([some_results(SYNTHETIC), real], {}, "full", "")
    assert "synthetic" in benchmark.section(some_results(source, "synthetic"))


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("", ""),
        ("--table /data/real.parquet --output x.md", " --table /somewhere/real.parquet"),
        ("--peer-minutes 4 --no-variants", " --peer-minutes 4 --no-variants"),
        ("--preset toy --models lda mlp --no-peers", " --preset toy --models lda mlp --no-peers"),
    ],
)
def test_the_document_names_the_command_that_was_typed(monkeypatch, tmp_path, typed, written):
    output = tmp_path / "models.md"
    monkeypatch.setattr(sys, "argv", ["models", *typed.split(), "--output", str(output)])
    monkeypatch.setattr(benchmark, "library_versions", lambda names, target: {})
    monkeypatch.setattr(benchmark, "clone", lambda folder: None)
    monkeypatch.setattr(benchmark, "table_of_user", lambda path: SYNTHETIC)
    monkeypatch.setattr(benchmark, "benchmark", lambda folder, source, *_: some_results(source))
    benchmark.main()
    command = f"```sh\npython -m benchmarks.models{written}\n```"
    assert command in output.read_text(encoding="utf-8")


def test_parts_that_are_left_out_are_not_in_the_document():
    results = some_results(SYNTHETIC)
    left = Results(results.source, "ensemble", results.models[3:4], [], [])
    text = benchmark.document([left], {}, "full", "")
    assert len(rows_of(text)) == 2
    assert "other way" not in text.lower()
    assert "featurize" not in text


def test_the_default_model_is_not_trained_twice_on_the_same_features(stage_folder, monkeypatch):
    turns = []

    def run_model(folder, source, model):
        turns.append(model)
        return ModelRun(model, metrics(0.5, "synthetic"), Run(1, 1), Run(1, 1), {}, 1)

    def run_variant(folder, source, variant):
        turns.append(variant.label)
        return VariantRun(variant, metrics(0.6, "synthetic"))

    monkeypatch.setattr(benchmark, "change_params", lambda folder, settings: None)
    monkeypatch.setattr(benchmark, "run_stages", lambda folder, stages: turns.extend(stages))
    monkeypatch.setattr(benchmark, "run_model", run_model)
    monkeypatch.setattr(benchmark, "run_variant", run_variant)
    default = YAML(typ="safe").load(stage_folder / "params.yaml")["train"]["model"]
    others = [variant.label for variant in VARIANTS[1:]]
    results = benchmark.benchmark(stage_folder, SYNTHETIC, [default, "lda"], (), 1, VARIANTS)
    assert turns == [*benchmark.BEFORE_TRAIN, default, "lda", *others]
    assert json.dumps(results.variants[0].metrics) == json.dumps(results.models[0].metrics)
    turns.clear()
    benchmark.benchmark(stage_folder, SYNTHETIC, ["lda"], (), 1, VARIANTS)
    assert turns == [*benchmark.BEFORE_TRAIN, "lda", VARIANTS[0].label, *others]


def test_the_libraries_of_the_benchmark_are_pinned():
    pins = Path(benchmark.__file__).with_name("requirements.txt").read_text(encoding="utf-8")
    assert set(benchmark.PEER_LIBRARIES) <= set(re.findall(r"^([\w-]+)==", pins, re.MULTILINE))
