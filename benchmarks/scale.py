"""What each stage costs up to a million rows, what workers add, and fifty million photographs.

    python -m benchmarks.scale stages --rows 10000 100000 300000 1000000
    python -m benchmarks.scale workers
    python -m benchmarks.scale collection

Each writes its places of docs/scale.md, and what it measured into benchmarks/scale.json, where the
last finds it. They run in a clone of the last commit, in a temporary folder: a million rows take
10 GB of it. The tables are **synthetic**, and so are the photographs.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import collection, sizes, workers
from benchmarks.harness import Bench, Run, clone, filled, say
from benchmarks.machine import library_versions, measured_rates, where

PAGE = Path("docs/scale.md")
FIGURES = Path("benchmarks/scale.json")
ROWS = (10_000, 100_000, 300_000, 1_000_000)
LIBRARIES = (*sizes.LIBRARIES, "faiss-cpu", "distributed")

Figures = dict[str, Any]
Keep = Callable[[str, Any], None]


def main() -> None:
    arguments = parsed()
    figures: Figures = json.loads(FIGURES.read_text(encoding="utf-8"))

    def keep(name: str, found: Any) -> None:
        """Keep figures, so that what was measured is not lost when the next size fails."""
        figures[name] = found
        text = json.dumps(figures, indent=1) + "\n"
        FIGURES.write_text(text, encoding="utf-8", newline="\n")
        page = filled(PAGE.read_text(encoding="utf-8"), texts_of(figures))
        PAGE.write_text(page, encoding="utf-8", newline="\n")

    if arguments.part == "collection":
        keep("collection", collection.measured(figures["workers"]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bench = Bench(folder, clone(folder / "clone"))
        machine = where(measured_rates(bench.project), library_versions(LIBRARIES))
        if arguments.part == "stages":
            measure_stages(bench, arguments.rows, figures, keep)
        else:
            keep("workers", workers.measured(bench))
        keep(f"machine of {arguments.part}", machine)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("part", choices=("stages", "workers", "collection"))
    parser.add_argument(
        "--rows", type=int, nargs="+", default=ROWS, help="about how many, of each table"
    )
    return parser.parse_args()


def measure_stages(bench: Bench, rows: list[int], figures: Figures, keep: Keep) -> None:
    """Measure tables of these sizes; those that the page has of others stay there."""
    starts = sizes.starts_of(bench)
    keep("starts", {name: asdict(run) for name, run in starts.items()})
    for about in rows:
        number, found = sizes.stages_of(bench, about, ".parquet")
        known = {int(size): runs for size, runs in figures.get("stages", {}).items()}
        known[number] = {name: asdict(run) for name, run in found.items()}
        keep("stages", {str(size): known[size] for size in sorted(known)})
        say(f"{number:,} rows are on the page")


def texts_of(figures: Figures) -> dict[str, str]:
    """What stands in each place of the page, from the figures that are there."""
    texts = {}
    if "stages" in figures:
        found = {int(size): runs_of(runs) for size, runs in figures["stages"].items()}
        seconds = sizes.table_of_seconds(found, runs_of(figures["starts"]))
        texts["seconds"] = with_machine(seconds, figures, "stages")
        texts["memory"] = sizes.table_of_memory(found)
    if "workers" in figures:
        texts["workers"] = with_machine(workers.text(figures["workers"]), figures, "workers")
    if "collection" in figures:
        texts["collection"] = collection.text(figures["collection"])
    return texts


def runs_of(content: Mapping[str, Mapping[str, Any]]) -> dict[str, Run]:
    return {name: Run(**run) for name, run in content.items()}


def with_machine(text: str, figures: Figures, part: str) -> str:
    return "\n\n".join([text, *filter(None, [figures.get(f"machine of {part}")])])


if __name__ == "__main__":
    main()
