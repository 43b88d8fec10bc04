"""Measure how fast and how good the project is, and write it into docs/benchmarks.md.

    make bench
    python -m benchmarks parse pipeline

The first measures all parts of the page, the second some. Each runs in a clone of the last commit,
in a temporary folder of up to 5 GB, and its figures stand on the page once it is done. Nothing
else should run on the machine. Linux and macOS.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import csv_to_metrics, models, parse, photographs, pipeline, sizes
from benchmarks.harness import Bench, clone, filled, say
from benchmarks.machine import library_versions, measured_rates, where

PAGE = Path("docs/benchmarks.md")


@dataclass(frozen=True)
class Part:
    """A part of the page."""

    run: Callable[[Bench], dict[str, str]]
    libraries: Sequence[str]


PARTS = {
    "parse": Part(parse.run, parse.LIBRARIES),
    "pipeline": Part(pipeline.run, pipeline.LIBRARIES),
    "course": Part(csv_to_metrics.run, csv_to_metrics.LIBRARIES),
    "sizes": Part(sizes.run, sizes.LIBRARIES),
    "models": Part(models.run, models.LIBRARIES),
    "photographs": Part(photographs.run, photographs.LIBRARIES),
}


def main() -> None:
    arguments = parsed(sys.argv[1:])
    if problem := why_not(Path()):
        sys.exit(problem)
    parts = {name: PARTS[name] for name in arguments.parts or PARTS}
    versions = {name: library_versions(part.libraries) for name, part in parts.items()}
    trial = PAGE.read_text(encoding="utf-8")
    for name, part in parts.items():
        say(f"measuring {name}")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            bench = Bench(
                folder,
                clone(folder / "clone"),
                arguments.trial,
                arguments.table,
                arguments.tensorflow,
            )
            texts = part.run(bench)
            *_, last = texts
            texts[last] += "\n\n" + where(measured_rates(bench.project), versions[name])
        if arguments.trial:
            trial = filled(trial, texts)
        else:
            page = filled(PAGE.read_text(encoding="utf-8"), texts)
            PAGE.write_text(page, encoding="utf-8", newline="\n")
    if arguments.trial:
        print(trial)


def parsed(typed: Sequence[str]) -> argparse.Namespace:
    """What the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    # Choices would be listed in the message where no part is given.
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"all where none is given: {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--trial", action="store_true", help="small and quick; the page goes to standard output"
    )
    parser.add_argument("--table", type=Path, help="a table of yours, to measure models on it too")
    parser.add_argument(
        "--tensorflow",
        default="",
        metavar="PYTHON",
        help="a Python that has tensorflow-cpu and pillow, to compare photographs with it too",
    )
    arguments = parser.parse_args(typed)
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: take {', '.join(PARTS)}")
    if arguments.table and not arguments.table.is_file():
        parser.error(f"{arguments.table} is no file")
    return arguments


def why_not(folder: Path) -> str | None:
    """Why the benchmarks cannot run there, in one sentence; None where they can."""
    if not all((folder / name).exists() for name in ("dvc.yaml", "params.yaml", ".git", PAGE)):
        return "run `python -m benchmarks` in the project's root, a clone with Git"
    return None


if __name__ == "__main__":
    main()
