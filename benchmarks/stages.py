"""Seconds and peak memory of each stage, run one after the other in a clone of the last commit.

    python -m benchmarks.stages download.synthetic.preset=full

Each argument sets a parameter for this run. The table goes to standard output, in
Markdown. The seconds include each stage's start; DVC's own checksums and copies
are not in them. Peak memory is that of the stage's process (resident set), as the
system accounts for it. Linux and macOS.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ruamel.yaml import YAML
from tqdm import tqdm

from benchmarks.harness import Run, clone, measure, stage_modules, table
from scripts.params import set_params


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        print(table_of(measure_stages(Path(temporary) / "clone", settings_of(sys.argv[1:]))))


def settings_of(arguments: Sequence[str]) -> dict[str, object]:
    """The parameters that arguments such as `train.model=lda` set."""
    settings = (argument.split("=", 1) for argument in arguments)
    return {key: YAML(typ="safe").load(value) for key, value in settings}


def measure_stages(folder: Path, settings: Mapping[str, object]) -> dict[str, Run]:
    """What each stage takes, in a clone that is made in `folder`, with these parameters."""
    clone(folder)
    set_params(folder / "params.yaml", settings)
    return {
        name: measure([sys.executable, "-m", module], folder)
        for name, module in tqdm(stage_modules(folder).items(), disable=None)
    }


def table_of(runs: Mapping[str, Run]) -> str:
    """A Markdown table of what the stages took."""
    rows = [(name, run.seconds, run.megabytes) for name, run in runs.items()]
    seconds, megabytes = sum(row[1] for row in rows), max(row[2] for row in rows)
    rows.append(("all (sum of seconds, largest peak)", seconds, megabytes))
    head = ("stage", "seconds", "peak memory, MB")
    return table(head, [(name, f"{one:.1f}", f"{other:,.0f}") for name, one, other in rows])


if __name__ == "__main__":
    main()
