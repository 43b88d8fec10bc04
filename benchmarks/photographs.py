"""Photographs a second of `commands.embed`, beside what one would write with Keras.

With TensorFlow too, which the project does not need, by another Python that has it:

    python3 -m venv /tmp/tensorflow
    /tmp/tensorflow/bin/pip install tensorflow-cpu pillow
    make bench TENSORFLOW=/tmp/tensorflow/bin/python
"""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.harness import (
    OURS,
    PYTHON,
    Aim,
    Bench,
    Figure,
    Round,
    Run,
    Turn,
    each,
    measure,
    middle,
    spread,
    table,
    table_of_aims,
    take_turns,
)

LIBRARIES = ("onnxruntime", "pillow", "numpy", "keras", "jax")
MOST, TRIAL_MOST, ROUNDS = 800, 128, 3
# The aims: photographs for each second of the processor, and times those of Keras.
LEAST_RATE, LEAST_TIMES = 80.0, 5.0
BATCH = 32  # of Keras, as benchmarks/photograph_peers.py has it
KERAS, TENSORFLOW = "Keras, JAX", "Keras, TensorFlow"
AGAIN, DECODE, ONNX = "again", "Pillow alone: decode and resize", "ONNX Runtime alone"


def run(bench: Bench) -> dict[str, str]:
    """Measure; return what stands in each place of the page, in their order there."""
    most = TRIAL_MOST if bench.trial else MOST
    drawn, weights = bench.folder / "drawn", bench.folder / "weights.npz"
    network, embeddings = bench.folder / "network.onnx", bench.folder / "embeddings.npy"
    tables = bench.folder / "tables"

    def peer(*arguments: object, reads: bool = True) -> Run:
        return bench.python("-m", "benchmarks.photograph_peers", *arguments, reads=reads)

    peer("draw", drawn, most, reads=False)
    peer("weights", weights, reads=False)
    bench.python("-m", "commands.network", weights, "--name", "random", "-o", network)
    parts = {count: first(drawn, bench.folder / f"{count}", count) for count in sizes(most)}

    def embed(count: int) -> Run:
        options = ("--network", network, "-o", tables / f"{count}.parquet")
        return bench.python("-m", "commands.embed", parts[count], *options)

    def ours(count: int) -> Run:
        (tables / f"{count}.embeddings").unlink(missing_ok=True)
        return embed(count)

    def keras(count: int, backend: str, python: str) -> Run:
        command = ["env", f"KERAS_BACKEND={backend}", python, "-m", "benchmarks.photograph_peers"]
        command += ["keras", str(parts[count]), str(weights), str(embeddings)]
        return measure(command, bench.project, reads=True)

    def pair(name: str, way: Callable[[int], Run]) -> Turn:
        few, many = counts(name, most)
        return Turn(lambda: {of_few(name): way(few), name: way(many)}, bench.rounds(ROUNDS))

    def alone(name: str, command: str, *arguments: object) -> Turn:
        part = parts[counts(OURS, most)[0]]
        return Turn(lambda: {name: peer(command, part, *arguments)}, bench.rounds(ROUNDS))

    turns = {
        OURS: pair(OURS, ours),
        KERAS: pair(KERAS, lambda count: keras(count, "jax", PYTHON[0])),
        AGAIN: Turn(lambda: {AGAIN: embed(most)}, bench.rounds(ROUNDS)),
        DECODE: alone(DECODE, "decode"),
        ONNX: alone(ONNX, "onnx", network),
    }
    if bench.tensorflow:
        turns[TENSORFLOW] = pair(
            TENSORFLOW, lambda count: keras(count, "tensorflow", bench.tensorflow)
        )
    rounds = take_turns(turns)
    compared = peer("compare", tables / f"{most}.parquet", embeddings).found
    ways = [name for name in (OURS, KERAS, TENSORFLOW) if name in turns]
    text = [
        table_of_aims(aims(rounds, most)),
        table_of_ways(rounds, ways, most),
        table_of_parts(rounds, most),
        in_words(rounds, most, compared["difference"], compared["between"]),
    ]
    if bench.tensorflow:
        text.append(f"TensorFlow is tensorflow-cpu {version_of(bench.tensorflow)}.")
    return {"photographs": "\n\n".join(text)}


def version_of(python: str) -> str:
    """The version of tensorflow-cpu that another Python has."""
    code = "from importlib.metadata import version; print(version('tensorflow-cpu'))"
    return subprocess.check_output([python, "-c", code], text=True).strip()


def counts(name: str, most: int) -> tuple[int, int]:
    """How many photographs are few and many for a way.

    Keras has fewer, as it takes longer: whole batches, since it compiles for each size.
    """
    if name == OURS:
        return most // 4, most
    few = max(1, most // (8 * BATCH)) * BATCH
    return few, 3 * few


def sizes(most: int) -> set[int]:
    """How many photographs the folders hold that are measured."""
    return {*counts(OURS, most), *counts(KERAS, most)}


def first(drawn: Path, folder: Path, count: int) -> Path:
    """A folder with the first photographs of another."""
    folder.mkdir()
    for path in sorted(drawn.iterdir())[:count]:
        os.link(path, folder / path.name)
    return folder


def of_few(name: str) -> str:
    """What a way's run on few photographs is called in a round."""
    return f"{name}, few"


def rate(name: str, most: int, what: str = "cpu_seconds") -> Figure:
    """Photographs of a way for each second, without the start: what few and many differ in."""
    few, many = counts(name, most)
    return lambda one: (many - few) / (getattr(one[name], what) - getattr(one[of_few(name)], what))


def start(name: str, most: int) -> Figure:
    """The CPU seconds of a way's start."""
    few, _ = counts(name, most)
    return lambda one: one[of_few(name)].cpu_seconds - few / rate(name, most)(one)


def times(name: str, most: int, what: str = "cpu_seconds") -> Figure:
    """How many times another way's photographs ours are."""
    return lambda one: rate(OURS, most, what)(one) / rate(name, most, what)(one)


def milliseconds(name: str, most: int) -> Figure:
    """What a photograph takes of the processor."""
    if name == OURS:
        return lambda one: 1000 / rate(OURS, most)(one)
    return lambda one: 1000 * one[name].found["cpu_seconds"] / counts(OURS, most)[0]


def aims(rounds: Sequence[Round], most: int) -> list[Aim]:
    """What was aimed at."""
    per_second, beside = middle(rounds, rate(OURS, most)), middle(rounds, times(KERAS, most))
    return [
        Aim("photographs a CPU second", "at least", LEAST_RATE, per_second, 1),
        Aim(f"times {KERAS}", "at least", LEAST_TIMES, beside, 1),
    ]


def table_of_ways(rounds: Sequence[Round], names: Sequence[str], most: int) -> str:
    """A Markdown table of the ways; ours comes first, and is divided by each of the others."""
    head = ["way", "runs", "photographs a CPU second", "least", "most", "ours, times"]
    head += ["photographs a second", "ours, times", "start, CPU seconds", "peak memory, MB"]
    rows = [
        (
            name,
            f"{len(each(rounds, rate(name, most)))}",
            *spread(rounds, rate(name, most), 1),
            f"{middle(rounds, times(name, most)):.1f}",
            f"{middle(rounds, rate(name, most, 'seconds')):.1f}",
            f"{middle(rounds, times(name, most, 'seconds')):.1f}",
            f"{middle(rounds, start(name, most)):.1f}",
            f"{median(one[name].megabytes for one in rounds):,.0f}",
        )
        for name in names
    ]
    return table(head, rows)


def table_of_parts(rounds: Sequence[Round], most: int) -> str:
    """A Markdown table of what a photograph takes, in milliseconds of the processor."""
    names = {DECODE: DECODE, ONNX: ONNX, OURS: "`commands.embed`, all that it does"}
    rows = []
    for name, label in names.items():
        took = middle(rounds, milliseconds(name, most))
        rows.append((label, f"{took:.1f}", f"{1000 / took:,.0f}"))
    return table(("what", "CPU milliseconds a photograph", "photographs a CPU second"), rows)


def in_words(rounds: Sequence[Round], most: int, difference: float, between: float) -> str:
    """What the tables do not hold."""
    few, many = counts(OURS, most)
    keras_few, keras_many = counts(KERAS, most)
    memory = [median(one[name].megabytes for one in rounds) for name in (of_few(OURS), OURS)]
    again = [
        median(getattr(one[AGAIN], what) for one in rounds) for what in ("seconds", "cpu_seconds")
    ]
    return (
        f"Ours ran on {few} and {many} photographs, Keras on {keras_few} and {keras_many}. Peak\n"
        f"memory of `commands.embed` is {memory[0]:,.0f} MB for {few} and {memory[1]:,.0f} MB for "
        f"{many}.\nThe second run on the same {many}, of which none has changed, takes "
        f"{again[0]:.1f} seconds\n({again[1]:.1f} CPU seconds). The greatest difference between a "
        f"number of ours and Keras's is\n{difference:.1g}, where {100 * between:.0f} % of the "
        "numbers lie between 0 and 6."
    )
