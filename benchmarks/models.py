"""How good and how fast the models are, beside each other and beside other ways.

    make bench-models TABLE=/somewhere/real_art_extended.parquet

which is `python -m benchmarks.models --table ...` with the packages of benchmarks/requirements.txt.
Without a table of your own it measures on the synthetic one alone. It runs a clone of the last
commit in a temporary folder and writes docs/models.md, texts included.
`--preset toy --output toy.md` is a trial of some minutes. Linux and macOS.

The system counts the memory of the process that starts another one as that one's, too. So this
process imports nothing large. It does not import the package `stages` either: that sets the
threads of the processes that follow.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.harness import (
    XGBOOST,
    Run,
    clone,
    library_versions,
    measure,
    measure_json,
    say,
    system,
    table,
)
from scripts.params import set_params

LIBRARIES = ("numpy", "scikit-learn", *XGBOOST, "onnxruntime")
PEER_LIBRARIES = ("keras", "jax")
BEFORE_TRAIN = ("download", "parse_embeddings_to_parquet", "split", "featurize")
SCORE_ROUNDS = 2
PRESET = "full"
ROOT = Path(__file__).resolve().parents[1]
PEER_MINUTES = 15

Settings = Mapping[str, object]  # keys of params.yaml and their values

# A process of its own, as this one does not import the package `stages`.
DESCRIBE = (
    "import json; from stages.models import registry; print(json.dumps(registry.DESCRIPTIONS))"
)


@cache
def descriptions() -> dict[str, str]:
    """What each value of `train.model` is, the ensemble first, from the registry."""
    command = [sys.executable, "-c", DESCRIBE]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


@dataclass(frozen=True)
class Peer:
    """Another way to fit on the same features."""

    name: str  # in benchmarks/model_peers.py
    label: str
    like: str  # our model of the same kind
    text: str  # what it does, for the document


PEERS = (
    Peer(
        "keras",
        "Keras dense head",
        "mlp",
        "as the course's notebook does it, on the processor. A dense layer of 512 units (ReLU), "
        "dropout of one half, and a softmax. Adam in batches of 64, at most 50 epochs, and an "
        "end when the loss on val has not improved for 5. Keras computes with JAX",
    ),
    Peer(
        "linear-discriminant-analysis",
        "`LinearDiscriminantAnalysis()`",
        "lda",
        "scikit-learn, with its defaults, so without shrinkage",
    ),
    Peer(
        "logistic-regression",
        "`LogisticRegression()`",
        "logistic_regression",
        "scikit-learn, with its defaults, so at most 100 iterations",
    ),
    Peer(
        "svc",
        "`SVC()`, calibrated",
        "kernel_ridge",
        "scikit-learn, `CalibratedClassifierCV(SVC(), ensemble=False)`: what its version 1.9 "
        "advises for probabilities. It fits six times",
    ),
    Peer(
        "mlp-classifier",
        "`MLPClassifier()`",
        "mlp",
        "scikit-learn, with its defaults: 100 hidden units, at most 200 epochs",
    ),
    Peer("xgb-classifier", "`XGBClassifier()`", "xgboost", "XGBoost, with its defaults"),
)


@dataclass(frozen=True)
class Variant:
    """Other features than those of params.yaml."""

    label: str
    settings: Settings


VARIANTS = (
    Variant("as in `params.yaml`", {}),
    *(
        Variant(
            f"embedding: {count} principal components",
            {
                "featurize.pca.components": count,
            },
        )
        for count in (128, 512)
    ),
    Variant("without sizes", {"featurize.sizes": False}),
    Variant("with the museum", {"featurize.museum": True}),
    Variant("without the embedding", {"featurize.embedding": "none"}),
)


@dataclass(frozen=True)
class Source:
    """A table to measure on."""

    title: str
    about: str
    settings: Settings  # how `download` brings it
    shown: Settings  # the same in the document, where folders are left out


@dataclass(frozen=True)
class ModelRun:
    """What a model reached on one table, and what it took."""

    model: str
    metrics: dict[str, Any]  # reports/metrics.json and details.json
    train: Run  # the stage
    score: Run  # a process that reads and scores the test rows
    scored: dict[str, Any]  # what `score` gives
    megabytes: float  # of models/model.onnx

    def microseconds(self) -> float:
        """To score one test row."""
        return 1e6 * self.scored["seconds"] / self.scored["rows"]

    def both(self) -> Run:
        """From the features to the scored test rows."""
        return Run(
            self.train.seconds + self.score.seconds,
            max(self.train.megabytes, self.score.megabytes),
        )


@dataclass(frozen=True)
class PeerRun:
    """What another way reached, and what it took until it ended or was ended."""

    peer: Peer
    run: Run
    figures: dict[str, float] | None  # accuracy and log loss on test; None when it did not end
    fate: str = ""  # why it did not


@dataclass(frozen=True)
class VariantRun:
    """What the default model reached on other features."""

    variant: Variant
    metrics: dict[str, Any]  # reports/metrics.json and details.json


@dataclass(frozen=True)
class Results:
    """All that was measured on one table."""

    source: Source
    default: str  # `train.model` in params.yaml
    models: list[ModelRun]
    peers: list[PeerRun]
    variants: list[VariantRun]

    def is_synthetic(self) -> bool:
        """Whether the rows are simulated; a table from a file may be, too."""
        return self.models[0].metrics["data"]["source"] == "synthetic"

    def run_of(self, model: str) -> Run | None:
        """What one of our models took, from the features to the scored test rows."""
        return next((run.both() for run in self.models if run.model == model), None)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models")
    parser.add_argument("--preset", default=PRESET, choices=("full", "toy"))
    parser.add_argument("--table", type=Path, help="a table of your own, to measure on it too")
    parser.add_argument("--models", nargs="+", default=list(descriptions()), choices=descriptions())
    parser.add_argument("--no-peers", action="store_true", help="leave the other ways out")
    parser.add_argument("--no-variants", action="store_true", help="leave other features out")
    parser.add_argument(
        "--peer-minutes",
        type=float,
        default=PEER_MINUTES,
        help="another way is ended after these",
    )
    parser.add_argument("--output", type=Path, default=Path("docs/models.md"))
    parser.add_argument(
        "--score", action="store_true", help="score the test rows of this folder, print JSON, end"
    )
    arguments = parser.parse_args()
    if arguments.score:
        print(json.dumps(score()))
        return
    peers = () if arguments.no_peers else PEERS
    variants = () if arguments.no_variants else VARIANTS
    versions = library_versions((*LIBRARIES, *(PEER_LIBRARIES if peers else ())), "bench-models")
    sources = [synthetic(arguments.preset)]
    if arguments.table:
        sources.append(table_of_user(arguments.table))
    seconds = 60 * arguments.peer_minutes
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clone"
        clone(folder)
        results = [
            benchmark(folder, source, arguments.models, peers, seconds, variants)
            for source in sources
        ]
    text = document(results, versions, arguments.preset, command_of(arguments))
    arguments.output.write_text(text, encoding="utf-8", newline="\n")
    say(f"wrote {arguments.output}")


def command_of(arguments: argparse.Namespace) -> str:
    """The command for the same run, without the table's folder; the output is left out."""
    words = ["python -m benchmarks.models"]
    if arguments.preset != PRESET:
        words.append(f"--preset {arguments.preset}")
    if arguments.table:
        words.append(f"--table {somewhere(arguments.table)}")
    if arguments.models != list(descriptions()):
        words.append(f"--models {' '.join(arguments.models)}")
    if arguments.no_peers:
        words.append("--no-peers")
    elif arguments.peer_minutes != PEER_MINUTES:
        words.append(f"--peer-minutes {arguments.peer_minutes:g}")
    if arguments.no_variants:
        words.append("--no-variants")
    return " ".join(words)


def synthetic(preset: str) -> Source:
    """The simulated table of a preset."""
    about = (
        "The rows are **synthetic**: simulated, with the shape and the statistics of the real\n"
        "ones. The figures say how the models behave, and nothing about museum photographs."
    )
    settings = {"download.synthetic.preset": preset}
    return Source(f"Synthetic data, preset {preset}", about, settings, settings)


def table_of_user(path: Path) -> Source:
    """A table in a file."""
    if not path.is_file():
        sys.exit(f"{path} is no file")
    described = path.name in Path("docs/results.md").read_text(encoding="utf-8")
    about = "The table comes from a file." + (
        " [results.md](results.md) says what is in it." if described else ""
    )
    settings = {"download.source": "file", "download.file.path": str(path.resolve())}
    shown = settings | {"download.file.path": somewhere(path)}
    return Source(f"`{path.name}`", about, settings, shown)


def somewhere(path: Path) -> str:
    """A path as the documents write it, where each reader has a folder of his own."""
    return f"/somewhere/{path.name}"


def benchmark(
    folder: Path,
    source: Source,
    models: Sequence[str],
    peers: Sequence[Peer],
    peer_seconds: float,
    variants: Sequence[Variant],
) -> Results:
    """Measure on one table all that the document shows, in a clone of the project."""
    change_params(folder, source.settings)
    default = YAML(typ="safe").load(folder / "params.yaml")["train"]["model"]
    say(f"{source.title}: making the features")
    run_stages(folder, BEFORE_TRAIN)
    of_models = [run_model(folder, source, model) for model in models]
    of_peers = [run_peer(folder, source, peer, peer_seconds) for peer in peers]
    of_default = {run.model: run.metrics for run in of_models}.get(default)
    of_variants = [
        VariantRun(variant, of_default)
        if of_default and not variant.settings
        else run_variant(folder, source, variant)
        for variant in variants
    ]
    return Results(source, default, of_models, of_peers, of_variants)


def change_params(folder: Path, settings: Settings) -> None:
    """Set keys of params.yaml; all others are as in the last commit."""
    subprocess.run(["git", "checkout", "--quiet", "params.yaml"], cwd=folder, check=True)
    set_params(folder / "params.yaml", settings)


def run_stages(folder: Path, stages: Sequence[str]) -> list[Run]:
    """Run stages of the project in a folder, each as a process."""
    return [measure([sys.executable, "-m", f"stages.{stage}"], folder) for stage in stages]


def of_model(name: str) -> Settings:
    """What measures a model by itself: one fit, as the other ways have."""
    return {"train.model": name, "train.without_sizes": False}


def run_model(folder: Path, source: Source, model: str) -> ModelRun:
    """Train and evaluate a model with its default parameters, and time its file."""
    change_params(folder, {**source.settings, **of_model(model)})
    train, _ = run_stages(folder, ("train", "evaluate"))
    command = [sys.executable, "-m", "benchmarks.models", "--score"]
    rounds = [measure_json(command, folder) for _ in range(SCORE_ROUNDS)]
    scores = [scored for _, scored, _ in rounds if scored is not None]
    if len(scores) < SCORE_ROUNDS:
        sys.exit(f"{' '.join(command)} failed")
    result = ModelRun(
        model,
        read_metrics(folder),
        train,
        min((run for run, _, _ in rounds), key=lambda run: run.seconds),
        min(scores, key=lambda scored: scored["seconds"]),
        (folder / "models/model.onnx").stat().st_size / 1e6,
    )
    say(
        f"{source.title}, {model}: train {train.seconds:.1f} s, {train.megabytes:,.0f} MB, "
        f"{result.microseconds():,.1f} microseconds a row, test accuracy "
        f"{result.metrics['test']['accuracy']:.4f}"
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


def run_peer(folder: Path, source: Source, peer: Peer, most_seconds: float) -> PeerRun:
    """Run one of benchmarks/model_peers.py on the features of the project in `folder`."""
    command = [sys.executable, "-m", "benchmarks.model_peers", peer.name, "data/features"]
    run, figures, fate = measure_json(command, folder, most_seconds)
    reached = f"test accuracy {figures['accuracy']:.4f}" if figures else fate
    say(f"{source.title}, {peer.name}: {run.seconds:.1f} s, {run.megabytes:,.0f} MB, {reached}")
    return PeerRun(peer, run, figures, fate)


def run_variant(folder: Path, source: Source, variant: Variant) -> VariantRun:
    """Train and evaluate the default model on other features."""
    change_params(folder, {**source.settings, **variant.settings})
    run_stages(folder, ("featurize", "train", "evaluate"))
    metrics = read_metrics(folder)
    say(
        f"{source.title}, features {variant.label}: "
        f"log loss on val {metrics['val']['log_loss']:.4f}"
    )
    return VariantRun(variant, metrics)


def read_metrics(folder: Path) -> dict[str, Any]:
    """What `evaluate` has written: the metrics and their details."""
    return {
        key: value
        for path in ("reports/metrics.json", "reports/details.json")
        for key, value in json.loads((folder / path).read_text(encoding="utf-8")).items()
    }


def bullet(text: str) -> str:
    """A line of a Markdown list, broken where the documents break theirs."""
    return textwrap.fill(
        f"- {text}.", 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def commands(all_settings: Sequence[Settings]) -> str:
    """A block with the command for each of some settings."""

    def command(settings: Settings) -> str:
        values = {
            key: str(value).lower() if isinstance(value, bool) else value
            for key, value in settings.items()
        }
        return " ".join(["dvc exp run", *(f"-S {key}={value}" for key, value in values.items())])

    lines = "\n".join(command(settings) for settings in all_settings)
    return f"```sh\n{lines}\n```"


def first_column(name: str, results: Results) -> str:
    """The head of a table's first column, which says when the rest is synthetic."""
    return f"{name} (synthetic data)" if results.is_synthetic() else name


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
    for run in results.models:
        test, interval = run.metrics["test"], run.metrics["test_interval"]["accuracy"]
        by_chance = run.metrics["test_if_calibrated"]["calibration_error"]["high"]
        distinct = run.metrics.get("test_without_near_duplicates")
        rows.append(
            (
                f"`{run.model}`" + (" (default)" if run.model == results.default else ""),
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
    head = (
        first_column("way", results),
        "seconds",
        "times default",
        "times its like",
        "peak memory, MB",
        "times default",
        "times its like",
        "accuracy",
        "log loss",
    )

    def took(run: Run, like: Run | None, ended: bool) -> list[str]:
        at_least = "" if ended else "over "
        references = (results.run_of(results.default), like)
        cells = [f"{at_least}{run.seconds:.1f}"]
        cells += [
            f"{at_least}{run.seconds / ours.seconds:.2f}" if ours else "" for ours in references
        ]
        cells += [f"{at_least}{run.megabytes:,.0f}"]
        cells += [
            f"{at_least}{run.megabytes / ours.megabytes:.2f}" if ours else "" for ours in references
        ]
        return cells

    rows = []
    for ours in results.models:
        figures = ours.metrics["test"]
        rows.append(
            (
                f"this project, `{ours.model}`"
                + (" (default)" if ours.model == results.default else ""),
                *took(ours.both(), None, True),
                f"{figures['accuracy']:.4f}",
                f"{figures['log_loss']:.4f}",
            )
        )
    for other in results.peers:
        reached = (
            (f"{other.figures['accuracy']:.4f}", f"{other.figures['log_loss']:.4f}")
            if other.figures
            else (other.fate, "")
        )
        rows.append(
            (
                f"{other.peer.label}, like `{other.peer.like}`",
                *took(other.run, results.run_of(other.peer.like), other.figures is not None),
                *reached,
            )
        )
    return table(head, rows)


def table_of_variants(results: Results) -> str:
    """A Markdown table of the default model on other features."""
    head = (
        first_column("features", results),
        "log loss on val",
        "accuracy on val",
        "accuracy on test",
        "log loss on test",
    )
    rows = [
        (
            run.variant.label,
            f"{run.metrics['val']['log_loss']:.4f}",
            f"{run.metrics['val']['accuracy']:.4f}",
            f"{run.metrics['test']['accuracy']:.4f}",
            f"{run.metrics['test']['log_loss']:.4f}",
        )
        for run in results.variants
    ]
    return table(head, rows)


def section(results: Results) -> str:
    """What was measured on one table, as a part of the document."""
    source, scored = results.source, results.models[0].scored
    kind = " (synthetic)" if results.is_synthetic() else ""
    parts = [
        f"## {source.title}",
        source.about,
        f"{scored['training_rows']:,} training rows, {scored['rows']:,} test rows, "
        f"{scored['mediums']} mediums.",
        f"### The models{kind}",
        table_of_models(results),
        commands([{**source.shown, **of_model(run.model)} for run in results.models]),
    ]
    if results.peers:
        parts += [f"### Beside other ways{kind}", table_of_peers(results)]
    if results.variants:
        parts += [
            f"### Other features for `{results.default}`{kind}",
            table_of_variants(results),
            commands([{**source.shown, **run.variant.settings} for run in results.variants]),
        ]
    return "\n\n".join(parts)


def document(
    all_results: Sequence[Results], versions: Mapping[str, str], preset: str, command: str
) -> str:
    """The whole of docs/models.md; `command` is the one that measured."""
    trial = "" if preset == PRESET else f"\n**A trial, of the preset {preset}.**\n"
    models = "\n".join(
        bullet(f"`{run.model}`: {descriptions()[run.model]}") for run in all_results[0].models
    )
    sections = "\n\n".join(section(results) for results in all_results)
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"""# How good and how fast the models are

This page is written by one command. All its figures come from one run of it:

```sh
{command}
```

`make bench-models` installs the packages that it needs.
{trial}
It asks two questions. What does each choice of `train.model` reach, and what does it take? And what
would one get without this project, from the same features? Choices rest on val, not on the test
numbers of this page: [choices.md](choices.md).

The models, each with its parameters of `params.yaml`:

{models}

{others_text(all_results[0])}## How to read the tables

All numbers are of the test rows.

- **accuracy**: the share of rows whose medium is named right. Its **95 % interval** is Wilson's: of
  intervals that are made like this, about 95 of 100 hold the accuracy over all rows of the kind.
- **macro F1**: the mean over mediums of F1, so that rare mediums count as much as others.
- **log loss**: how far the probabilities are off, in nats. 0 is perfect, lower is better.
- **calibration error**: how far the probabilities are from the shares of right answers; lower is
  better. Exactly right probabilities would be beyond **by chance up to** in 5 of 100 cases.
- **accuracy without near-duplicates**: on the rows without a training row whose embedding is nearly
  the same (cosine above 0.8). Empty where no row has one.
- **train, seconds**: those of the whole stage `train`. The start of Python is in them.
- **peak memory**: the most that the process held at any time.
- **score**: the time in which ONNX Runtime scores the test rows with `models/model.onnx`, divided
  by their number. Reading them is not in it. The lower of {SCORE_ROUNDS}.
- **file**: the size of `models/model.onnx`.

Every run is a process of its own, and one runs at a time. All run once, except the scoring. So a
difference of some percent in seconds or memory says little.

The commands below a table belong to its lines, in their order. They give the same figures, but for
seconds and memory. Each starts from the committed `params.yaml`. `/somewhere` is the folder that
holds the table.

{sections}

## Where this was measured

{system()}, {os.cpu_count()} cores.
{libraries}.
"""


def others_text(results: Results) -> str:
    """What the document says of the other ways; empty when they were left out."""
    if not results.peers:
        return ""
    ways = "\n".join(bullet(f"{run.peer.label}: {run.peer.text}") for run in results.peers)
    return f"""## The other ways

{ways}

They are in [benchmarks/model_peers.py](../benchmarks/model_peers.py). Each reads the features that
`featurize` has made, fits, and scores the test rows. It keeps no file. Only Keras looks at val.

Ours is the stage `train`, and then a process that reads the test rows and scores them with the
file, by ONNX Runtime. Seconds are the sum of the two, memory is the larger. `train` also calibrates
the probabilities, and writes the file. It learns from train and val: the others learn from train. A
single model is fitted twice for that, on train, to see on val how it does, and on both; the members
of `ensemble` are fitted on both, and all but `kernel_ridge` five times more, without a fifth of the
rows. There is no model for photographs whose sizes say nothing: `train.without_sizes=false`.

Ours computes linear algebra in one thread, `kernel_ridge` in two, so that the next machine gives
the same bytes. Trees and scoring use all cores. The others use as many threads as their
libraries choose.

- **times default** divides by our default model, **times its like** by our model of the same kind.
  2.00 is twice as much as ours, 0.50 is half. Below 1.00, the other way takes less.
- `over` stands before what a run had taken when it was ended because it took too long.

"""


if __name__ == "__main__":
    main()
