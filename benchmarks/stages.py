"""Seconds and peak memory of each stage, run one after the other in a clone of the last commit.

    python -m benchmarks.stages download.synthetic.preset=full

Each argument sets a parameter for this run. The table goes to standard output, in
Markdown. The seconds include each stage's start; DVC's own checksums and copies
are not in them. Peak memory is that of the stage's process (resident set), as the
system accounts for it. Linux and macOS.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML
from tqdm import tqdm

from scripts.params import set_params

# The system counts in kilobytes on Linux and in bytes on macOS.
UNITS_PER_MB = 1e6 if sys.platform == "darwin" else 1e3


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clone"
        clone(folder)
        settings = (argument.split("=", 1) for argument in sys.argv[1:])
        values = {key: YAML(typ="safe").load(value) for key, value in settings}
        set_params(folder / "params.yaml", values)
        stages = YAML(typ="safe").load(folder / "dvc.yaml")["stages"]
        rows = []
        for name in tqdm(stages, disable=None):
            module = stages[name]["cmd"].removeprefix("python -m ")
            rows.append((name, *measure([sys.executable, "-m", module], folder)))
    print("| stage | seconds | peak memory, MB |\n|---|---:|---:|")
    for name, seconds, megabytes in rows:
        print(f"| {name} | {seconds:.1f} | {megabytes:,.0f} |")
    seconds, megabytes = sum(row[1] for row in rows), max(row[2] for row in rows)
    print(f"| all (sum of seconds, largest peak) | {seconds:.1f} | {megabytes:,.0f} |")


def clone(folder: Path) -> None:
    """Clone the last commit of the project, which is the current folder."""
    subprocess.run(["git", "clone", "--quiet", ".", folder], check=True)


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command in a folder; return its wall seconds and its peak memory in MB."""
    # Else Python would compile each module again in each run, which nobody's Python does.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=sys.stderr, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return seconds, usage.ru_maxrss / UNITS_PER_MB


if __name__ == "__main__":
    main()
