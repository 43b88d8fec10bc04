"""How good and how fast the models are, beside each other and beside other ways.

    python -m benchmarks.models

scores the test rows of the project in the current folder, and prints as JSON what that took.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.harness import Bench, Run, measure, say, table, total

LIBRARIES = ("numpy", "scikit-learn", "xgboost-cpu", "xgboost", "onnxruntime", "keras", "jax")
SCORE_ROUNDS = 2
# Another way is ended after these.
PEER_SECONDS = 90.0
TRIAL_MODELS = ("lda", "logistic_regression")
ROOT = Path(__file__).resolve().parents[1]
BEFORE_TRAIN = ("download", "parse-embeddings-to-parquet", "split", "featurize")
# What measures a model by itself: one fit, as the other ways have.
ONE_FIT = {"without_sizes": False}
# A process of its own, as this one does not import the package `stages`.
DESCRIBE = (
    "import json; from stages.models import registry; print(json.dumps(registry.DESCRIPTIONS))"
)


@cache
def descriptions() -> dict[str, str]:
    """What each value of `train.model` is, the ensemble first, from the registry."""
    return dict(measure([sys.executable, "-c", DESCRIBE], ROOT, reads=True).found)


@dataclass(frozen=True)
class Peer:
    """Another way to fit on the same features."""

    name: str  # in benchmarks/model_peers.py
    label: str
    like: str  # our model of the same kind


PEERS = (
    Peer("keras", "Keras dense head", "mlp"),
    Peer("linear-discriminant-analysis", "`LinearDiscriminantAnalysis()`", "lda"),
    Peer("logistic-regression", "`LogisticRegression()`", "logistic_regression"),
    Peer("svc", "`SVC()`, calibrated", "kernel_ridge"),
    Peer("mlp-classifier", "`MLPClassifier()`", "mlp"),
    Peer("xgb-classifier", "`XGBClassifier()`", "xgboost"),
)


@dataclass(frozen=True)
class Source:
    """A table to measure on."""

    title: str
    settings: Mapping[str, object]  # the keys of `download` that bring it
    shown: Mapping[str, object]  # the same on the page, where each reader has another folder


@dataclass(frozen=True)
class ModelRun:
    """What a model reached on one table, and what it took."""

    metrics: Mapping[str, Any]  # reports/metrics.json and details.json
    train: Run  # the stage
    score: Run  # a process that reads and scores the test rows; it found what `score` gives
    megabytes: float  # of models/model.onnx

    def microseconds(self) -> float:
        """To score one test row."""
        return 1e6 * self.score.found["seconds"] / self.score.found["rows"]

    def both(self) -> Run:
        """From the features to the scored test rows."""
        return total((self.train, self.score))


@dataclass(frozen=True)
class Results:
    """All that was measured on one table."""

    source: Source
    default: str  # `train.model` in params.yaml
    models: Mapping[str, ModelRun]
    peers: Mapping[Peer, Run]  # which found accuracy and log loss on test, or met a fate


def run(bench: Bench) -> dict[str, str]:
    """Measure; return what stands in each place of the page, in their order there."""
    settings = bench.synthetic()
    sources = [Source("Synthetic data", settings, settings)]
    if bench.table:
        place = {"source": "file", "file.path": str(bench.table.resolve())}
        shown = place | {"file.path": f"/somewhere/{bench.table.name}"}
        sources.append(Source(f"`{bench.table.name}`", place, shown))
    return {"models": "\n\n".join(section(measured(bench, source)) for source in sources)}


def measured(bench: Bench, source: Source) -> Results:
    """Measure on one table."""
    bench.set_params(download=source.settings)
    params = YAML(typ="safe").load(bench.project / "params.yaml")
    bench.stages(*BEFORE_TRAIN)
    names = TRIAL_MODELS if bench.trial else descriptions()
    models = {name: run_model(bench, source, name) for name in names}
    peers = {}
    for peer in PEERS:
        command = ("-m", "benchmarks.model_peers", peer.name, "data/features")
        took = bench.python(*command, reads=True, most_seconds=PEER_SECONDS)
        say(f"{source.title}, {peer.name}: {took.seconds:.1f} s {took.fate}")
        peers[peer] = took
    return Results(source, params["train"]["model"], models, peers)


def run_model(bench: Bench, source: Source, model: str) -> ModelRun:
    """Train and evaluate a model with its default parameters, and time its file."""
    bench.set_params(download=source.settings, train={"model": model, **ONE_FIT})
    runs = bench.stages("train", "evaluate")
    scores = [bench.python("-m", "benchmarks.models", reads=True) for _ in range(SCORE_ROUNDS)]
    result = ModelRun(
        bench.json("reports/metrics.json") | bench.json("reports/details.json"),
        runs["train"],
        min(scores, key=lambda one: one.found["seconds"]),
        (bench.project / "models/model.onnx").stat().st_size / 1e6,
    )
    say(
        f"{source.title}, {model}: train {result.train.seconds:.1f} s, "
        f"{result.train.megabytes:,.0f} MB, {result.microseconds():,.1f} microseconds a row"
    )
    return result


def score() -> dict[str, float]:
    """Score the test rows with models/model.onnx, all of the current folder, as its users do.

    Returns the seconds that scoring took by ONNX Runtime, without reading, and how many rows it
    scored, how many the model was trained on and how many mediums it tells apart.
    """
    import onnxruntime

    from stages.model_file.interface import MODEL, PROBABILITIES
    from stages.model_file.scoring import BATCH_ROWS, ModelFile
    from stages.tables.artefacts import Artefacts, read_artefacts
    from stages.tables.split import subsets_of_artefacts

    model = ModelFile(MODEL)
    session = onnxruntime.InferenceSession(MODEL)
    test = Artefacts.join(
        list(read_artefacts("test", subsets_of_artefacts(), model.inputs, "score"))
    )
    rows = len(test)
    start = time.perf_counter()
    for first in range(0, rows, BATCH_ROWS):
        some = slice(first, first + BATCH_ROWS)
        session.run([PROBABILITIES], {name: test[name][some] for name in model.inputs})
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "rows": rows,
        "training_rows": model.metadata["training_rows"],
        "mediums": len(model.labels),
    }


def commands(all_settings: Sequence[Mapping[str, object]]) -> str:
    """A block with the command for each of some settings."""

    def command(settings: Mapping[str, object]) -> str:
        values = {
            key: str(value).lower() if isinstance(value, bool) else value
            for key, value in settings.items()
        }
        return " ".join(["dvc exp run", *(f"-S {key}={value}" for key, value in values.items())])

    lines = "\n".join(command(settings) for settings in all_settings)
    return f"```sh\n{lines}\n```"


def first_column(name: str, results: Results) -> str:
    """The head of a table's first column, which says when the rest is synthetic."""
    one = next(iter(results.models.values()))
    is_synthetic = one.metrics["data"]["source"] == "synthetic"
    return f"{name} (synthetic data)" if is_synthetic else name


def table_of_models(results: Results) -> str:
    """A Markdown table of the models on one table."""
    head = (
        first_column("model", results),
        "accuracy",
        "95 % interval",
        "macro F1",
        "log loss",
        "calibration error",
        "by chance up to",
        "accuracy without near-duplicates",
        "train, seconds",
        "peak memory, MB",
        "score, microseconds a row",
        "file, MB",
    )
    rows = []
    for name, run in results.models.items():
        test, interval = run.metrics["test"], run.metrics["test_interval"]["accuracy"]
        by_chance = run.metrics["test_if_calibrated"]["calibration_error"]["high"]
        distinct = run.metrics.get("test_without_near_duplicates")
        rows.append(
            (
                f"`{name}`" + (" (default)" if name == results.default else ""),
                f"{test['accuracy']:.4f}",
                f"{interval['low']:.4f} to {interval['high']:.4f}",
                f"{test['macro_f1']:.4f}",
                f"{test['log_loss']:.4f}",
                f"{test['calibration_error']:.4f}",
                f"{by_chance:.4f}",
                f"{distinct['accuracy']:.4f}" if distinct else "",
                f"{run.train.seconds:.1f}",
                f"{run.train.megabytes:,.0f}",
                f"{run.microseconds():,.1f}",
                f"{run.megabytes:.1f}",
            )
        )
    return table(head, rows)


def table_of_peers(results: Results) -> str:
    """A Markdown table of our models and the other ways on one table."""
    head = [first_column("way", results), "seconds", "times default", "times its like"]
    head += ["peak memory, MB", "times default", "times its like", "accuracy", "log loss"]
    ours = {name: run.both() for name, run in results.models.items()}

    def took(run: Run, like: str) -> list[str]:
        over = "over " if run.fate else ""
        cells = []
        for what, digits in (("seconds", 1), ("megabytes", 0)):
            cost = getattr(run, what)
            cells.append(f"{over}{cost:,.{digits}f}")
            cells += [
                f"{over}{cost / getattr(ours[name], what):.2f}" if name in ours else ""
                for name in (results.default, like)
            ]
        return cells

    rows = []
    for name, run in ours.items():
        figures = results.models[name].metrics["test"]
        label = f"this project, `{name}`" + (" (default)" if name == results.default else "")
        reached = [f"{figures[key]:.4f}" for key in ("accuracy", "log_loss")]
        rows.append([label, *took(run, ""), *reached])
    for peer, run in results.peers.items():
        reached = [f"{run.found[key]:.4f}" for key in ("accuracy", "log_loss") if not run.fate]
        label = f"{peer.label}, like `{peer.like}`"
        rows.append([label, *took(run, peer.like), *(reached or (run.fate, ""))])
    return table(head, rows)


def section(results: Results) -> str:
    """What was measured on one table, as a section of the page."""
    scored = next(iter(results.models.values())).score.found
    download = {f"download.{key}": value for key, value in results.source.shown.items()}
    settings = [
        {
            **download,
            "train.model": name,
            **{f"train.{key}": value for key, value in ONE_FIT.items()},
        }
        for name in results.models
    ]
    parts = (
        f"**{results.source.title}**: {scored['training_rows']:,} training rows, "
        f"{scored['rows']:,} test rows, {scored['mediums']} mediums.",
        table_of_models(results),
        commands(settings),
        table_of_peers(results),
    )
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(json.dumps(score()))
