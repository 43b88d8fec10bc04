"""Say whether the difference between the models of two revisions is real.

    python -m commands.compare REV_A [REV_B] [--subset val|test]

Reads data/predictions.parquet of both through DVC. A revision is a Git commit, branch or tag,
or the name of a DVC experiment; `workspace` is the working copy. This is a command for people,
and no stage of dvc.yaml.
"""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from stages.common.errors import PipelineError, shorten
from stages.common.files import REMAKE, reading
from stages.common.inputs import CHECK
from stages.common.stage import run
from stages.evaluation.intervals import (
    RESAMPLES,
    interval,
    metrics_of_sums,
    resample,
    row_terms,
)
from stages.evaluation.model_card import SOURCES
from stages.tables.parquet import matrix, names_of, source_of_schema
from stages.tables.predictions import PREDICTIONS
from stages.tables.predictions import read_predictions as read_predictions_table

STAGE = "compare"
WORKSPACE = "workspace"
COLUMNS = ("image_file", "subset", "medium", "probabilities")
SIGNIFICANT = 0.05  # p values below this are not put down to chance
MOST_SHOWN = 5  # labels in the table of recalls, and in a list of names
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1", "log_loss": "log loss"}
ALIKE = "cannot be told apart"


@dataclass(frozen=True)
class Predictions:
    """What a model says of the n rows of a subset, in the order of their image files."""

    image_files: np.ndarray  # (n,) object, texts
    mediums: np.ndarray  # (n,) object, texts: the labels that are right
    probabilities: np.ndarray  # (n, k) float32
    labels: list[str]  # k
    source: str  # synthetic, mame or file


@dataclass(frozen=True)
class Difference:
    """A metric of both models, and the 95 % interval of B - A."""

    name: str
    a: float
    b: float
    low: float
    high: float

    @property
    def result(self) -> str:
        """What this metric says of B."""
        if self.low <= 0 <= self.high:
            return ALIKE
        lower_is_better = self.name == "log_loss"
        return "worse" if (self.low > 0) == lower_is_better else "better"


@dataclass(frozen=True)
class Recall:
    """The recall of both models on the rows of one label."""

    label: str
    rows: int
    a: float
    b: float
    p: float  # of McNemar's test on these rows, after Holm's correction for all labels


@dataclass(frozen=True)
class Comparison:
    """What can be said of model B beside model A on the same rows."""

    rows: int
    source: str
    identical: bool  # both give each row the same probabilities
    differences: list[Difference]  # accuracy, macro F1 and log loss
    only_a: int  # rows that only A has right
    only_b: int
    p: float  # of McNemar's test on these two
    recalls: list[Recall]  # of each label with rows, those that changed most first
    unknown: dict[str, list[str]]  # of A and B: labels of the rows that the model does not know


def main() -> str:
    arguments = parse_arguments()
    if not Path("dvc.yaml").is_file():
        raise PipelineError("there is no dvc.yaml here: run this in the folder of the project")
    names = (arguments.a, arguments.b)
    a, b = (read_predictions(name, arguments.subset) for name in names)
    check_same_rows(a, b, arguments.subset, names)
    comparison = compare(a, b)
    print(as_text(comparison, arguments.subset, names), flush=True)
    return f"{comparison.rows:,} rows"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m commands.{STAGE}",
        description="Say whether the difference between the models of two revisions is real.",
    )
    parser.add_argument(
        "a", metavar="REV_A", help=f"commit, branch, tag, DVC experiment or `{WORKSPACE}`"
    )
    parser.add_argument(
        "b", metavar="REV_B", nargs="?", default=WORKSPACE, help="another (default: %(default)s)"
    )
    parser.add_argument(
        "--subset",
        choices=("val", "test"),
        default="val",
        help="rows; choose between models on val, and look at test once (default: %(default)s)",
    )
    return parser.parse_args()


def read_predictions(revision: str, subset: str) -> Predictions:
    """Read what a revision's model says of the rows of a subset.

    Raises PipelineError when it cannot be had, or when the subset has no rows.
    """
    table = read_predictions_table(
        COLUMNS,
        read_content(revision),
        f"{PREDICTIONS} of {shorten(revision)}",
        REMAKE
        if revision == WORKSPACE
        else "check that revision out and run `dvc repro --force evaluate`",
    )
    # Another revision may have the same rows in another order.
    rows = table.filter(pc.field("subset") == subset).sort_by("image_file")
    if not len(rows):
        raise PipelineError(f"{PREDICTIONS} of {shorten(revision)} has no rows of {subset}")
    return Predictions(
        image_files=rows["image_file"].to_numpy(),
        mediums=rows["medium"].to_numpy(),
        probabilities=matrix(rows["probabilities"]),
        labels=names_of(table.schema, "labels"),
        source=source_of_schema(table.schema),
    )


def read_content(revision: str) -> bytes:
    """The bytes of data/predictions.parquet of a revision.

    Raises PipelineError when DVC cannot give them, or the working copy has none.
    """
    if revision == WORKSPACE:
        with reading(PREDICTIONS):
            return PREDICTIONS.read_bytes()
    name = shorten(revision)
    try:
        # Slow to import, and not needed to say what is wrong with the command line.
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException
        from dvc.scm import RevError, SCMError
    except ImportError as error:
        raise PipelineError(
            f"DVC, which knows what {name} is, cannot be loaded ({error}): "
            "`python -m pip install --require-hashes -r requirements.txt` mends it"
        ) from error
    path = f"/{PREDICTIONS.as_posix()}"
    try:
        if not revision:  # which DVC takes for the working copy
            raise RevError("empty")
        files = DVCFileSystem(rev=revision)
        if not files.isdvc(path):
            raise PipelineError(
                f"{name} has no {PREDICTIONS}, as it is from before `evaluate` wrote that file: "
                "run `dvc repro` with its params.yaml and the scripts of today, and compare with "
                f"`{WORKSPACE}`"
            )
        content, recorded = files.read_bytes(path), files.info(path).get("md5")
        if recorded is not None and hashlib.md5(content).hexdigest() != recorded:
            raise PipelineError(
                f"{PREDICTIONS} of {name} is damaged in the cache: `{CHECK}` takes it away there; "
                "then run `dvc pull`, or check that revision out and run `dvc repro`"
            )
        return content
    # The last two are what the libraries below DVC raise for a file, a folder, or a name that can
    # be none.
    except (RevError, AttributeError, ValueError) as error:
        older = ", and `git fetch --unshallow` brings those that this shallow clone lacks"
        raise PipelineError(
            f"there is no revision '{name}', which has to be a commit: `git branch --all`, "
            "`git tag` and `dvc exp list --all-commits` list those that there are"
            f"{older if Path('.git/shallow').is_file() else ''}"
        ) from error
    except SCMError as error:
        raise PipelineError(
            f"this folder is no Git repository, so that it has no revision '{name}': run this in a "
            "clone of the project"
        ) from error
    except FileNotFoundError as error:
        raise PipelineError(
            f"the content of {PREDICTIONS} of {name} is neither in the cache nor on a remote: "
            "check that revision out and run `dvc repro`, or `dvc pull` if it was pushed"
        ) from error
    except DvcException as error:
        raise PipelineError(
            f"DVC cannot read {name}: {shorten(str(error), 200)}: mend that file in a commit, and "
            "compare with that one"
        ) from error
    except PipelineError:
        raise
    except Exception as error:  # of Git, the cache or a remote: each has errors of its own
        raise PipelineError(
            f"{PREDICTIONS} of {name} cannot be read: {shorten(str(error), 200)}: `git log` and "
            "`dvc status` tell more"
        ) from error


def check_same_rows(a: Predictions, b: Predictions, subset: str, names: tuple[str, str]) -> None:
    """Raises PipelineError when two revisions differ in their rows or the labels of these."""
    name_a, name_b = map(shorten, names)
    only_a = np.setdiff1d(a.image_files, b.image_files)
    only_b = np.setdiff1d(b.image_files, a.image_files)
    _, in_a, in_b = np.intersect1d(a.image_files, b.image_files, return_indices=True)
    changed = int((a.mediums[in_a] != b.mediums[in_b]).sum())
    if not (len(only_a) or len(only_b) or changed):
        return
    cause = "the table, `split` or the rows in quarantine differ"
    if a.source != b.source:
        cause = f"`download.source` differs: {a.source} at {name_a}, {b.source} at {name_b}"
    raise PipelineError(
        f"the {subset} rows are not the same, and a difference between models cannot be told from "
        f"different rows: {len(only_a):,} image files are only in {name_a}, {len(only_b):,} only "
        f"in {name_b}, and {changed:,} have another label, probably because {cause}"
    )


def compare(a: Predictions, b: Predictions) -> Comparison:
    """Compare two models on the same rows.

    A label that a model does not know has probability 0 there. The intervals are those of a
    paired bootstrap: each resample draws the same rows for both models, so that rows which are
    hard for both do not blur the difference.
    """
    labels = sorted({*a.labels, *b.labels, *a.mediums.tolist()})
    truth = np.searchsorted(np.array(labels, dtype=object), a.mediums)
    probabilities = [_spread(model, labels) for model in (a, b)]
    terms = np.hstack([row_terms(truth, values) for values in probabilities])
    exact_a, exact_b = _metrics_of_both(terms.sum(axis=0, keepdims=True), len(labels))
    drawn_a, drawn_b = _metrics_of_both(resample(terms), len(labels))
    right_a, right_b = (values.argmax(axis=1) == truth for values in probabilities)
    rows, only_a, only_b = (
        np.bincount(truth, weights=counted, minlength=len(labels)).astype(int)
        for counted in (None, right_a & ~right_b, right_b & ~right_a)
    )
    present = np.flatnonzero(rows)
    p_values = holm(np.array([mcnemar(only_a[i], only_b[i]) for i in present]))
    recall_a, recall_b = (exact["recall"][0].tolist() for exact in (exact_a, exact_b))
    recalls = [
        Recall(labels[i], int(rows[i]), recall_a[i], recall_b[i], float(p))
        for i, p in zip(present, p_values, strict=True)
    ]
    return Comparison(
        rows=len(truth),
        source=a.source if a.source == b.source else f"{a.source} and {b.source}",
        identical=np.array_equal(probabilities[0], probabilities[1]),
        differences=[
            Difference(
                name,
                float(exact_a[name][0]),
                float(exact_b[name][0]),
                *interval(drawn_b[name] - drawn_a[name]),
            )
            for name in METRICS
        ],
        only_a=int(only_a.sum()),
        only_b=int(only_b.sum()),
        p=mcnemar(only_a.sum(), only_b.sum()),
        recalls=sorted(recalls, key=lambda recall: -abs(recall.b - recall.a)),
        unknown={
            side: sorted(set(a.mediums.tolist()) - set(model.labels))
            for side, model in (("A", a), ("B", b))
        },
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """The p value of McNemar's test (1947), two-sided, from the rows that only one has right.

    Exact: of two equally good models, either is the one that is right with probability 1/2.
    """
    from scipy.stats import binomtest

    rows = only_a + only_b
    return float(binomtest(only_a, rows).pvalue) if rows else 1.0


def holm(p_values: np.ndarray) -> np.ndarray:
    """p values (m,) corrected for their number by Holm's method (1979)."""
    order = p_values.argsort()
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return corrected


def as_text(comparison: Comparison, subset: str, names: tuple[str, str]) -> str:
    """The comparison as text for people; `names` are the revisions."""
    known = SOURCES.get(comparison.source)
    source = known.name if known else f"{comparison.source} data"
    lines = [
        *(f"{side}  {shorten(name)}" for side, name in zip("AB", names, strict=True)),
        f"The same {comparison.rows:,} {subset} rows, {source}",
    ]
    if subset == "test":
        lines.append(
            "Look at test once, after the choice: a model chosen by it looks better than it is."
        )
    for side, labels in comparison.unknown.items():
        if labels:
            lines.append(
                f"{side} does not know labels of these rows, which count as wrong, with "
                f"probability 0: {_list(labels)}"
            )
    blocks = [
        lines,
        _metrics_block(comparison.differences),
        _mcnemar_block(comparison),
        _recalls_block(comparison.recalls),
        [verdict(comparison)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def verdict(comparison: Comparison) -> str:
    """One sentence: which model is better, if that can be said.

    McNemar's test and the interval of the accuracy must both say so.
    """
    if comparison.identical:
        return "A and B are the same: they give each row the same probabilities."
    accuracy, _, loss = comparison.differences
    (high, best), (low, other) = sorted([(accuracy.b, "B"), (accuracy.a, "A")], reverse=True)
    both = f"accuracy {high:.4f} of {best} against {low:.4f} of {other}"
    p, by_loss = _p(comparison.p), f"{'they' if loss.result == ALIKE else 'B is'} {loss.result}"
    unlikely = [comparison.p < SIGNIFICANT, accuracy.result != ALIKE]
    if all(unlikely):
        begin = f"{best} is better: {both}, and a difference like this is unlikely to be chance"
    else:
        doubt = "is on the border of chance" if any(unlikely) else "may be chance"
        begin = f"The difference {doubt}: {both}"
    return f"{begin} ({p}); by log loss, {by_loss}."


def _metrics_block(differences: list[Difference]) -> list[str]:
    lines = [("metric", "A", "B", "B - A", "95 % interval", "result for B")]
    for metric in differences:
        numbers = (f"{metric.a:.4f}", f"{metric.b:.4f}", f"{metric.b - metric.a:+z.4f}")
        ends = f"{metric.low:+z.4f} to {metric.high:+z.4f}"
        lines.append((METRICS[metric.name], *numbers, ends, metric.result))
    return [
        *_aligned(lines, "<>>>><"),
        f"Intervals: {RESAMPLES:,} draws of the rows, the same for both. That training with",
        "another seed moves metrics too is not in them. Log loss is in nats; lower is better.",
    ]


def _mcnemar_block(comparison: Comparison) -> list[str]:
    counts = {"A": comparison.only_a, "B": comparison.only_b}
    lines = [(f"rows that only {side} has right", f"{rows:,}") for side, rows in counts.items()]
    means = "is unlikely" if comparison.p < SIGNIFICANT else "may well happen by chance"
    return [
        *_aligned(lines, "<>"),
        f"McNemar's test: {_p(comparison.p)}, the probability of a split at least as uneven if",
        f"both models were equally good. Such a split {means}.",
    ]


def _recalls_block(recalls: list[Recall]) -> list[str]:
    changed = [recall for recall in recalls if recall.a != recall.b]
    if not changed:
        return ["No label's recall changed."]
    lines = [("recall changed most", "rows", "A", "B", "B - A", "p")]
    for recall in changed[:MOST_SHOWN]:
        numbers = (f"{recall.a:.4f}", f"{recall.b:.4f}", f"{recall.b - recall.a:+.4f}")
        p = _p(recall.p).removeprefix("p ").removeprefix("= ")
        lines.append((shorten(recall.label), f"{recall.rows:,}", *numbers, p))
    real = [recall.label for recall in recalls if recall.p < SIGNIFICANT]
    return [
        *_aligned(lines, "<>>>>>"),
        f"p: McNemar's test on these rows, after Holm's correction for {len(recalls)} labels.",
        f"Below {SIGNIFICANT}: {_list(real) or 'none, so that each change may be chance'}.",
    ]


def _aligned(lines: Sequence[tuple[str, ...]], sides: str) -> list[str]:
    """Lines of a table; `sides` has < or > for each column."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)
        ).rstrip()
        for line in lines
    ]


def _list(labels: list[str]) -> str:
    more = len(labels) - MOST_SHOWN
    return ", ".join(map(shorten, labels[:MOST_SHOWN])) + (f" and {more} more" if more > 0 else "")


def _p(value: float) -> str:
    return f"p = {value:.4f}" if value >= 0.0001 else "p < 0.0001"


def _spread(model: Predictions, labels: list[str]) -> np.ndarray:
    """The probabilities as columns of more labels, 0 for those that the model does not know."""
    spread = np.zeros((len(model.mediums), len(labels)), np.float32)
    spread[:, np.searchsorted(labels, model.labels)] = model.probabilities
    return spread


def _metrics_of_both(sums: np.ndarray, classes: int) -> list[dict[str, np.ndarray]]:
    """The metrics of A and of B from the sums of their terms, which stand side by side."""
    return [metrics_of_sums(part, classes) for part in np.hsplit(sums, 2)]


if __name__ == "__main__":
    run(STAGE, main)
