"""Photographs a second of `commands.embed`, beside what one would write with Keras.

    make bench-photographs

which is `python -m benchmarks.photographs` with the packages of benchmarks/requirements.txt. It
draws photographs in a temporary folder, makes random weights, runs a clone of the last commit, and
writes its part of docs/benchmarks.md, texts included. `--most 200 --rounds 1 --output trial.md` is
a short trial. `--tensorflow PYTHON` (`make bench-photographs TENSORFLOW=PYTHON`) adds TensorFlow,
which the project doesn't need, by another Python that has it:

    python3 -m venv /tmp/tensorflow
    /tmp/tensorflow/bin/pip install tensorflow-cpu pillow

Linux and macOS. This process imports nothing large: its memory would be counted as the others'.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tqdm import tqdm

from benchmarks.harness import (
    Run,
    clone,
    library_versions,
    measure,
    measure_json,
    say,
    system,
    table,
    write_part,
)

MOST, ROUNDS = 800, 3
LIBRARIES = ("onnxruntime", "pillow", "numpy", "keras", "jax")
# The aims: photographs for each second of the processor, and times those of Keras.
LEAST_RATE, LEAST_TIMES = 80.0, 5.0
BATCH = 32  # of Keras, as benchmarks/photograph_peers.py has it
PYTHON = (sys.executable, "-m")
OURS, KERAS, TENSORFLOW = "this project", "Keras, JAX", "Keras, TensorFlow"


@dataclass(frozen=True)
class Pair:
    """Two runs of one way, on few photographs and on many: what lies between is not the start."""

    few: int
    many: int
    of_few: Run
    of_many: Run

    def per_cpu_second(self) -> float:
        """Photographs for each second of the processor, without the start."""
        return (self.many - self.few) / (self.of_many.cpu_seconds - self.of_few.cpu_seconds)

    def per_second(self) -> float:
        """Photographs a second, with all cores, without the start."""
        return (self.many - self.few) / (self.of_many.seconds - self.of_few.seconds)

    def start(self) -> float:
        """The seconds of the processor that the start takes."""
        return self.of_few.cpu_seconds - self.few / self.per_cpu_second()


@dataclass
class Results:
    """All that one run of this benchmark measured; lists have an item for each round."""

    most: int
    pairs: dict[str, list[Pair]]
    again: list[Run] = field(default_factory=list)
    # Photographs for each second of the processor.
    decode: list[float] = field(default_factory=list)
    onnx: list[float] = field(default_factory=list)
    difference: float = 0.0  # the most between an embedding of ours and Keras's
    between: float = 0.0  # the share of Keras's numbers that are above 0 and below 6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photographs")
    parser.add_argument("--most", type=int, default=MOST, help="photographs, 100 or more")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--tensorflow", metavar="PYTHON", help="a Python that has tensorflow-cpu")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    versions = library_versions(LIBRARIES, "bench-photographs")
    if arguments.tensorflow:
        versions["tensorflow-cpu"] = version_of(arguments.tensorflow)
    with tempfile.TemporaryDirectory() as temporary:
        results = benchmark(Path(temporary), arguments.most, arguments.rounds, arguments.tensorflow)
    write_part(arguments.output, "make bench-photographs", document(results, versions))
    say(f"wrote {arguments.output}")


def version_of(python: str) -> str:
    """The version of tensorflow-cpu that another Python has."""
    code = "from importlib.metadata import version; print(version('tensorflow-cpu'))"
    return subprocess.check_output([python, "-c", code], text=True).strip()


def benchmark(folder: Path, most: int, rounds: int, tensorflow: str | None) -> Results:
    """Draw photographs and measure all that the document shows, in a clone of the project."""
    project = folder / "clone"
    clone(project)
    drawn, weights, network = folder / "drawn", folder / "weights.npz", folder / "network.onnx"
    say(f"drawing {most} photographs")
    peer(project, "draw", drawn, most)
    peer(project, "weights", weights)
    command = (*PYTHON, "commands.network", str(weights), "--name", "random", "-o", str(network))
    measure(command, project)
    parts = {count: first(drawn, folder / f"first-{count}", count) for count in sizes(most)}
    embeddings, tables = folder / "embeddings.npy", folder / "tables"

    def ours(count: int, again: bool = False) -> Run:
        output = tables / f"{count}.parquet"
        if not again:
            output.with_suffix(".embeddings").unlink(missing_ok=True)
        command = (*PYTHON, "commands.embed", str(parts[count]), "--network", str(network))
        return measure((*command, "-o", str(output)), project)

    def keras(count: int, backend: str, python: str) -> Run:
        command = ["env", f"KERAS_BACKEND={backend}", python, "-m", "benchmarks.photograph_peers"]
        command += ["keras", str(parts[count]), str(weights), str(embeddings)]
        run, _, fate = measure_json(command, project)
        if fate:
            sys.exit(f"Keras with {backend} {fate}")
        return run

    few, many = quarter(most), most
    keras_few, keras_many = of_keras(most)
    ways: dict[str, tuple[int, int, Callable[[int], Run]]] = {
        OURS: (few, many, ours),
        KERAS: (keras_few, keras_many, lambda count: keras(count, "jax", sys.executable)),
    }
    if tensorflow:
        python = tensorflow
        run = lambda count: keras(count, "tensorflow", python)  # noqa: E731
        ways[TENSORFLOW] = (keras_few, keras_many, run)
    results = Results(most, {name: [] for name in ways})
    with tqdm(desc="benchmark", total=rounds * (len(ways) + 3), disable=None) as bar:
        for number in range(rounds):
            names = list(ways) if number % 2 == 0 else list(reversed(ways))
            for name in names:
                less, more, run = ways[name]
                pair = Pair(less, more, run(less), run(more))
                results.pairs[name].append(pair)
                say(f"round {number + 1} of {rounds}, {name}: {in_words(pair)}")
                bar.update()
            results.again.append(ours(many, again=True))
            bar.update()
            results.decode.append(few / peer(project, "decode", parts[few])["cpu_seconds"])
            bar.update()
            onnx = peer(project, "onnx", parts[few], network)
            results.onnx.append(few / onnx["cpu_seconds"])
            bar.update()
    compared = peer(project, "compare", tables / f"{many}.parquet", embeddings)
    results.difference, results.between = compared["difference"], compared["between"]
    return results


def quarter(most: int) -> int:
    """How many are few."""
    return most // 4


def of_keras(most: int) -> tuple[int, int]:
    """How many Keras has, which takes longer: whole batches, as it compiles for each size."""
    few = max(1, most // (8 * BATCH)) * BATCH
    return few, 3 * few


def sizes(most: int) -> set[int]:
    """How many photographs the folders hold that are measured."""
    return {quarter(most), most, *of_keras(most)}


def first(drawn: Path, folder: Path, count: int) -> Path:
    """A folder with the first photographs of another."""
    folder.mkdir()
    for path in sorted(drawn.iterdir())[:count]:
        os.link(path, folder / path.name)
    return folder


def peer(project: Path, name: str, *arguments: object) -> dict[str, float]:
    """What one of benchmarks/photograph_peers.py prints."""
    command = [*PYTHON, "benchmarks.photograph_peers", name, *map(str, arguments)]
    _, found, fate = measure_json(command, project)
    if fate:
        sys.exit(f"{shlex.join(command)} {fate}")
    return found or {}


def in_words(pair: Pair) -> str:
    """A pair in one line."""
    return (
        f"{pair.per_cpu_second():.1f} photographs a CPU second, {pair.per_second():.1f} a second, "
        f"{pair.of_many.megabytes:,.0f} MB"
    )


def middle(pairs: Sequence[Pair], figure: Callable[[Pair], float]) -> float:
    return median(figure(pair) for pair in pairs)


def times(ours: Sequence[Pair], theirs: Sequence[Pair], figure: Callable[[Pair], float]) -> float:
    """How many times theirs ours is: the median over the rounds."""
    return median(figure(our) / figure(their) for our, their in zip(ours, theirs, strict=True))


def table_of_ways(pairs: Mapping[str, Sequence[Pair]]) -> str:
    """A Markdown table of the ways; ours comes first, and is divided by each of the others."""
    head = (
        "way",
        "runs",
        "photographs a CPU second",
        "least to most",
        "ours, times",
        "photographs a second",
        "ours, times",
        "start, CPU seconds",
        "peak memory, MB",
    )
    ours = pairs[OURS]
    rows = []
    for name, theirs in pairs.items():
        rates = [pair.per_cpu_second() for pair in theirs]
        rows.append(
            (
                name,
                f"{len(theirs)}",
                f"{median(rates):.1f}",
                f"{min(rates):.1f} to {max(rates):.1f}",
                f"{times(ours, theirs, Pair.per_cpu_second):.1f}",
                f"{middle(theirs, Pair.per_second):.1f}",
                f"{times(ours, theirs, Pair.per_second):.1f}",
                f"{middle(theirs, Pair.start):.1f}",
                f"{middle(theirs, lambda pair: pair.of_many.megabytes):,.0f}",
            )
        )
    return table(head, rows)


def table_of_parts(results: Results) -> str:
    """A Markdown table of what a photograph takes, in milliseconds of the processor."""
    whole = 1000 / middle(results.pairs[OURS], Pair.per_cpu_second)
    decode, onnx = (1000 / median(rates) for rates in (results.decode, results.onnx))
    rows = [
        ("Pillow alone: decode and resize", decode),
        ("ONNX Runtime alone", onnx),
        ("`commands.embed`, all that it does", whole),
    ]
    cells = [(name, f"{value:.1f}", f"{1000 / value:,.0f}") for name, value in rows]
    return table(("what", "CPU milliseconds a photograph", "photographs a CPU second"), cells)


def table_of_aims(pairs: Mapping[str, Sequence[Pair]]) -> str:
    """A Markdown table of the aims and whether the medians reach them."""
    lines = (
        ("photographs a CPU second", LEAST_RATE, middle(pairs[OURS], Pair.per_cpu_second)),
        (f"times {KERAS}", LEAST_TIMES, times(pairs[OURS], pairs[KERAS], Pair.per_cpu_second)),
    )
    rows = [
        (name, f"at least {least:g}", f"{value:.1f}", verdict(round(value, 1), least))
        for name, least, value in lines
    ]
    return table(("what", "aim", "median", "reached"), rows, text_columns=(0, 1, 3))


def verdict(value: float, least: float) -> str:
    return "yes" if value >= least else "no"


def document(results: Results, versions: Mapping[str, str]) -> str:
    """The part of docs/benchmarks.md on photographs."""
    ours = results.pairs[OURS]
    rounds = len(ours)
    trial = "" if (results.most, rounds) == (MOST, ROUNDS) else "\n**A trial.**\n"
    few, many = ours[0].few, ours[0].many
    theirs = results.pairs[KERAS][0]
    of_few = middle(ours, lambda pair: pair.of_few.megabytes)
    of_many = middle(ours, lambda pair: pair.of_many.megabytes)
    again = median(run.seconds for run in results.again)
    again_cpu = median(run.cpu_seconds for run in results.again)
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    tensorflow = (
        "\nTensorFlow is no dependency of the project: it was installed beside it for this run,\n"
        "as [benchmarks/photographs.py](../benchmarks/photographs.py) says.\n"
        if TENSORFLOW in results.pairs
        else ""
    )
    switch = " TENSORFLOW=/tmp/tensorflow/bin/python" if tensorflow else ""
    return f"""## How fast photographs are embedded

One command writes this part of the page. All its figures come from one run of it:

```sh
make bench-photographs{switch}
```
{trial}
`commands.embed` turns photographs into a table of embeddings. The other way is what one would
write with Keras: `load_img`, `preprocess_input` and `predict`, in batches of {BATCH}, and
`numpy.save`. Both have the same MobileNet (alpha 1.0, max pooling, random weights, which change no
speed) and the same photographs, which are **drawn**: JPEGs of 256 by some 340 pixels. The greatest
difference between a number of ours and Keras's is {results.difference:.1g}, where
{100 * results.between:.0f} % of the numbers lie between 0 and 6.

{table_of_aims(results.pairs)}

{table_of_ways(results.pairs)}

- **a CPU second** is a second of one core, so that two busy cores count two. What else the machine
  does changes it less than it changes **a second**.
- Each way runs on few photographs and on many, ours on {few} and {many}, Keras on {theirs.few} and
  {theirs.many}. What lies between tells the speed. What is left is the **start**: of Python,
  libraries and the network. Keras compiles in it.
- Every run is a process of its own, and the ways take turns in {rounds} rounds. Figures are
  medians, **times** those of the ratios within rounds. **peak memory** is that of the larger run.
{tensorflow}
Where the time goes, the first two alone in one thread, the third on all cores, which share caches:

{table_of_parts(results)}

Peak memory of `commands.embed` is {of_few:,.0f} MB for {few} photographs and {of_many:,.0f} MB for
{many}. The second run on the same {many}, of which none has changed, takes {again:.1f} seconds
({again_cpu:.1f} CPU seconds).

Measured with {system()}, {os.cpu_count()} cores.
{libraries}.
"""


if __name__ == "__main__":
    main()
