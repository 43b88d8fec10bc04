"""What each stage costs on tables of several sizes, and how the costs grow."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness import Bench, Run, exponent, say, table

LIBRARIES = ("numpy", "pyarrow", "scikit-learn", "xgboost-cpu", "xgboost", "onnxruntime")
ROWS, TRIAL_ROWS = (5_000, 20_000, 80_000), (600, 1_200)
SEED = 29
MEDIUMS = 29
# MAMe's rows in each subset, of 37,407.
SHARES = {"train": 20_300 / 37_407, "val": 1_450 / 37_407, "test": 15_657 / 37_407}
SIMULATOR = "the simulator"
# Below so many seconds, what a stage takes beside its start is chance.
LEAST_SECONDS = 0.1


def run(bench: Bench) -> dict[str, str]:
    """Measure; return what stands in each place of the page, in their order there."""
    found = dict(stages_of(bench, about) for about in (TRIAL_ROWS if bench.trial else ROWS))
    starts = starts_of(bench)
    return {"sizes": table_of_seconds(found, starts), "memory by size": table_of_memory(found)}


def stages_of(bench: Bench, about: int, suffix: str = ".csv") -> tuple[int, dict[str, Run]]:
    """The rows of a table of about so many, and what the simulator and each stage took for it."""
    number = MEDIUMS * sum(per_medium(about).values())
    source = bench.folder / f"{number}{suffix}"
    made = bench.python("-m", "benchmarks.sizes", source, about)
    bench.set_params(download={"source": "file", "file.path": str(source)})
    found = {SIMULATOR: made, **bench.stages()}
    source.unlink()
    say(f"{number:,} rows: {sum(run.seconds for run in found.values()):.1f} s")
    return number, found


def starts_of(bench: Bench) -> dict[str, Run]:
    """What the simulator and each stage take until their work would begin."""
    starts = bench.starts()
    return {SIMULATOR: bench.python("-c", "import stages.sources.simulator"), **starts}


def per_medium(rows: int) -> dict[str, int]:
    """The rows of each medium in each subset, of about so many rows in all."""
    return {subset: max(1, round(rows * share / MEDIUMS)) for subset, share in SHARES.items()}


def write_table(path: Path, rows: int) -> None:
    """Simulate a raw table of about so many rows, all drawn anew; Parquet where it is called so."""
    from stages.sources import simulator

    simulator.PRESETS["of a size"] = per_medium(rows)
    write = simulator.write_parquet if path.suffix == ".parquet" else simulator.write_csv
    write(path, "of a size", SEED)


def table_of_seconds(found: Mapping[int, Mapping[str, Run]], starts: Mapping[str, Run]) -> str:
    """A Markdown table of the seconds of each stage, and of how they grow without the start."""
    sizes = list(found)
    pairs = [sizes[place : place + 2] for place in range(len(sizes) - 1)]
    head = ["stage", "start, seconds", *(f"{rows:,} rows" for rows in sizes)]
    head += [f"exponent, {a:,} to {b:,}" for a, b in pairs] + ["exponent, over all"]
    rows = [
        [f"`{name}`" if name != SIMULATOR else name, f"{starts[name].seconds:.2f}"]
        + [f"{found[size][name].seconds:.1f}" for size in sizes]
        + [
            grown(some, [found[size][name].seconds - starts[name].seconds for size in some])
            for some in (*pairs, sizes)
        ]
        for name in contestants(found)
    ]
    return table(head, rows)


def contestants(found: Mapping[int, Mapping[str, Run]]) -> list[str]:
    """What was run, in its order."""
    return list(next(iter(found.values())))


def grown(sizes: Sequence[int], costs: Sequence[float]) -> str:
    """The exponent as the table shows it; empty for one size, or a cost too small to tell."""
    tells = len(sizes) > 1 and min(costs) >= LEAST_SECONDS
    return f"{exponent(sizes, costs):.2f}" if tells else ""


def table_of_memory(found: Mapping[int, Mapping[str, Run]]) -> str:
    """A Markdown table of the peak memory of each stage."""
    sizes = list(found)
    rows = [
        [f"`{name}`" if name != SIMULATOR else name]
        + [f"{found[size][name].megabytes:,.0f}" for size in sizes]
        for name in contestants(found)
    ]
    return table(["peak memory, MB", *(f"{size:,} rows" for size in sizes)], rows)


if __name__ == "__main__":
    write_table(Path(sys.argv[1]), int(sys.argv[2]))
