"""From the CSV file at MAMe's size to metrics: the stages beside what the course would write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.harness import (
    DOWNLOAD,
    Aim,
    Bench,
    Round,
    Turn,
    apart,
    middle,
    seconds,
    stage_modules,
    table,
    table_of_aims,
    table_of_stages,
    table_of_ways,
    take_turns,
    times,
    total,
)
from benchmarks.machine import measured_rates

LIBRARIES = ("numpy", "pandas", "scikit-learn", "xgboost-cpu", "xgboost")
COURSE = "the course's way"
DEFAULT = "this project, the default model"
LOGISTIC = "this project, logistic regression"
REPORT = "report"
ROUNDS, COURSE_ROUNDS = 2, 1
LEAST_TIMES, MOST_TIMES_DEFAULT, MOST_MEGABYTES, MOST_SIMULATOR = 10, 0.5, 2700, 10
LENGTH, MEDIUMS = 1024, 29  # of an embedding, and of MAMe


def run(bench: Bench) -> dict[str, str]:
    """Measure; return what stands in each place of the page, in their order there."""
    names = list(stage_modules(bench.project))
    from_parse = names[names.index(DOWNLOAD) + 1 : names.index(REPORT)]
    synthetic = bench.synthetic()

    def stages(label: str, **train: object) -> Round:
        bench.set_params(download=synthetic, train=train)
        runs = bench.stages(*from_parse)
        return {**runs, label: replace(total(runs.values()), found=bench.reached())}

    def ours() -> Round:
        return {**stages(DEFAULT), **bench.stages(REPORT)}

    def logistic() -> Round:
        return {LOGISTIC: stages(LOGISTIC, model="logistic_regression")[LOGISTIC]}

    def course() -> Round:
        script = bench.project / "benchmarks/course.py"
        return {COURSE: bench.python(script, bench.raw_table(), reads=True)}

    def download() -> Round:
        bench.set_params(download=synthetic)
        return bench.stages(DOWNLOAD)

    rounds = take_turns(
        {
            # The raw table is the same each time, and the next ones read it.
            DOWNLOAD: Turn(download, 1),
            DEFAULT: Turn(ours, bench.rounds(ROUNDS)),
            LOGISTIC: Turn(logistic, bench.rounds(ROUNDS)),
            COURSE: Turn(course, COURSE_ROUNDS),
        }
    )
    starts = bench.starts()
    work = {name: middle(rounds, seconds(name)) - starts[name].seconds for name in starts}
    counts = apart(count_rows, bench.project / "data/split.parquet")
    params = YAML(typ="safe").load(bench.project / "params.yaml")
    components = params["featurize"]["pca"]["components"]
    ways = table_of_ways(
        rounds,
        DEFAULT,
        (COURSE, LOGISTIC, DEFAULT),
        accuracy=lambda one: f"{one.found['accuracy']:.4f}",
        log_loss=lambda one: f"{one.found['log_loss']:.4f}",
    )
    return {
        "course": f"{table_of_aims(aims(rounds))}\n\n{ways}",
        "stages at MAMe's size": table_of_stages(rounds, names),
        "limits": table_of_limits(limits(counts, components), measured_rates(bench.project), work),
    }


def aims(rounds: Sequence[Round]) -> list[Aim]:
    """What was aimed at."""
    return [
        Aim(
            "times as fast as the course's way, with logistic regression",
            "at least",
            LEAST_TIMES,
            middle(rounds, times(COURSE, LOGISTIC)),
            1,
        ),
        Aim(
            "times the seconds of the course's way, with the default model",
            "at most",
            MOST_TIMES_DEFAULT,
            middle(rounds, times(DEFAULT, COURSE)),
        ),
        Aim(
            "peak memory with the default model, MB",
            "at most",
            MOST_MEGABYTES,
            middle(rounds, lambda one: one[DEFAULT].megabytes),
            0,
        ),
        Aim(
            "the simulator (`download`), seconds",
            "at most",
            MOST_SIMULATOR,
            middle(rounds, seconds(DOWNLOAD)),
            1,
        ),
    ]


def count_rows(split: Path) -> dict[str, int]:
    """The rows of each subset."""
    import pyarrow.parquet as pq

    counts = pq.read_table(split, columns=["subset"])["subset"].value_counts()
    return {entry["values"]: entry["counts"] for entry in counts.to_pylist()}


@dataclass(frozen=True)
class Limit:
    """The largest product of a stage, and the multiply-adds that it needs."""

    stage: str
    what: str
    formula: str
    multiply_adds: float


def limits(counts: Mapping[str, int], components: int) -> list[Limit]:
    """What the stages cannot do without, of so many rows and principal components."""
    train, val, test = (counts[subset] for subset in ("train", "val", "test"))
    d, k, c, n = LENGTH, components, MEDIUMS, train + val
    return [
        Limit(
            "split",
            "cosines of all other rows and those of train",
            "(val + test) x train x d",
            (val + test) * train * d,
        ),
        Limit(
            "featurize",
            "covariance, half of which is enough; projection of all rows",
            "train x d² / 2 + (train + val + test) x d x k",
            train * d**2 / 2 + (train + val + test) * d * k,
        ),
        Limit(
            "train",
            "half of the kernel of n = train + val rows; its Cholesky factor",
            "n² x k / 2 + n³ / 6",
            n**2 * k / 2 + n**3 / 6,
        ),
        Limit(
            "evaluate",
            "the kernel of the test rows and the n; its product with the weights",
            "test x n x (k + c)",
            test * n * (k + c),
        ),
    ]


def table_of_limits(
    found: Sequence[Limit], rates: Mapping[str, float], work: Mapping[str, float]
) -> str:
    """A Markdown table of what is needed at a machine's rates, beside the seconds of a stage."""
    head = ["stage", "what is needed", "multiply-adds", "billions", "seconds in one thread"]
    head += ["seconds in all threads", "seconds taken, less the start"]
    rows = [
        (
            f"`{limit.stage}`",
            limit.what,
            limit.formula,
            f"{limit.multiply_adds / 1e9:,.0f}",
            f"{limit.multiply_adds / rates['one']:.1f}",
            f"{limit.multiply_adds / rates['all']:.1f}",
            f"{work[limit.stage]:.1f}",
        )
        for limit in found
    ]
    return table(head, rows, text_columns=(0, 1, 2))
