"""What one, two and four workers of a cluster on this machine take, beside no cluster.

    python -m benchmarks.workers pieces FOLDER NETWORK
    python -m benchmarks.workers overhead FOLDER

print, as JSON, the seconds of each piece of photographs that one worker would be given, and those
that a piece takes on a cluster beside the work of its worker.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from benchmarks.harness import PYTHON, Bench, Run, say, table

ROWS, PHOTOGRAPHS, WORKERS = 40_000, 1_280, (1, 2, 4)
WORKS = ("parse-embeddings-to-parquet", "featurize", "embed")
PIECES = 400  # of photographs that are embedded at once: what they cost all the same
NUMBERS = 1024  # of an embedding, as MobileNetV1 has them
SCHEDULER = "DASK_SCHEDULER_ADDRESS"
NO_CLUSTER = "no cluster, threads"


def measured(bench: Bench) -> dict[str, Any]:
    """Seconds of each work, by the number of workers, and what a collection's cost is made of."""
    source, drawn = bench.folder / "table.parquet", bench.folder / "drawn"
    weights, network = bench.folder / "weights.npz", bench.folder / "network.onnx"
    bench.python("-m", "benchmarks.sizes", source, ROWS)
    bench.python("-m", "benchmarks.photograph_peers", "draw", drawn, PHOTOGRAPHS)
    bench.python("-m", "benchmarks.photograph_peers", "weights", weights)
    bench.python("-m", "commands.network", weights, "--name", "random", "-o", network)
    bench.set_params(download={"source": "file", "file.path": str(source)})
    bench.stages("download", "parse-embeddings-to-parquet", "split")

    def work(name: str, number: int) -> tuple[Run, bytes]:
        if name != "embed":
            run = bench.stages(name)[name]
            path = (
                "data/artefacts.parquet" if name != "featurize" else "data/features/train.parquet"
            )
            return run, (bench.project / path).read_bytes()
        output = bench.folder / f"{number}.parquet"
        run = bench.python("-m", "commands.embed", drawn, "--network", network, "-o", output)
        return run, output.read_bytes()

    seconds: dict[str, dict[str, float]] = {}
    expected: dict[str, bytes] = {}
    overhead = 0.0
    for number in (0, *WORKERS):
        with cluster(bench, number):
            for name in WORKS:
                run, content = work(name, number)
                if expected.setdefault(name, content) != content:
                    sys.exit(f"{name} gives other bytes with {number} workers")
                seconds.setdefault(name, {})[str(number)] = run.seconds
                say(f"{name}, {number or 'no'} workers: {run.seconds:.1f} s")
            if number == 2:
                command = ("-m", "benchmarks.workers", "overhead", bench.folder / "empty")
                overhead = bench.python(*command, reads=True).found["seconds"]
    pieces = bench.python("-m", "benchmarks.workers", "pieces", drawn, network, reads=True).found
    sizes = [path.stat().st_size for path in drawn.iterdir()]
    return {
        "seconds": seconds,
        "task seconds": pieces["seconds"],
        "photographs of a task": pieces["photographs"],
        "window of a worker": pieces["window"],
        "overhead": overhead,
        "bytes of a photograph": sum(sizes) / len(sizes),
        "bytes of an embedding": 4 * NUMBERS,
    }


@contextmanager
def cluster(bench: Bench, workers: int) -> Iterator[None]:
    """So many workers on this machine, to which the runs that follow send their pieces."""
    if not workers:
        yield
        return
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    commands = [
        ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"],
        ["commands.worker", address, "--workers", str(workers)],
    ]
    started = [
        subprocess.Popen(
            [*PYTHON, *command],
            cwd=bench.project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    os.environ[SCHEDULER] = address
    try:
        time.sleep(10)  # until all workers have joined
        yield
    finally:
        del os.environ[SCHEDULER]
        for process in reversed(started):
            process.terminate()
            process.wait()


def print_pieces(folder: Path, network: Path) -> None:
    """Embed the photographs of a folder in this process, piece by piece, and print the seconds."""
    from photographs.pictures import table as photographs
    from photographs.pictures.embedder import Embedder
    from photographs.pictures.places import open_place
    from stages.common import cluster

    place = open_place(folder)
    source = photographs.Source(place, Embedder(network))
    names, at_a_time = place.names(), photographs.PHOTOGRAPHS_OF_A_PIECE
    seconds = []
    for first in range(0, len(names) - at_a_time + 1, at_a_time):
        start = time.perf_counter()
        photographs.embed_some(source, names[first : first + at_a_time])
        seconds.append(time.perf_counter() - start)
    found = {"seconds": seconds, "photographs": at_a_time, "window": cluster.AHEAD}
    print(json.dumps(found))


def print_overhead(folder: Path) -> None:
    """Print the seconds of a piece of photographs on the cluster that are not its worker's.

    They are the scheduler's, and those of the process that asks, which takes what comes back, keeps
    it, and writes the table.
    """
    from benchmarks.instant import Instant
    from photographs.pictures import table as photographs
    from photographs.pictures.cache import Cache
    from photographs.pictures.places import open_place
    from stages.common.engine import in_order

    folder.mkdir()
    for number in range(PIECES * photographs.PHOTOGRAPHS_OF_A_PIECE):
        (folder / f"{number:06}.jpg").write_text(str(number))
    list(in_order(abs, range(10)))  # the connection is no part of it
    with closing(Cache(folder.with_suffix(".cache"), "00" * 32)) as cache:
        output, instant = folder.with_suffix(".parquet"), cast(Any, Instant(NUMBERS))
        start = time.perf_counter()
        photographs.write_table(open_place(folder), instant, cache, None, output)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds / PIECES}))


def text(figures: Mapping[str, Any]) -> str:
    """The table of the page."""
    names = {"0": NO_CLUSTER} | {str(n): f"{n} worker{'s' if n > 1 else ''}" for n in WORKERS}
    rows = []
    for number, name in names.items():
        cells = [f"{figures['seconds'][work][number]:.1f}" for work in WORKS]
        rows.append([name, *cells])
    size = figures["bytes of a photograph"]
    head = ["seconds", *(f"`{work}`" for work in WORKS)]
    return (
        f"{table(head, rows)}\n\nA piece of {figures['photographs of a task']} photographs of "
        f"{size / 1e3:.0f} kB takes {fmean(figures['task seconds']):.2f} seconds of a core, and "
        f"{1000 * figures['overhead']:.1f} ms of the scheduler and of the process that asks."
    )


if __name__ == "__main__":
    import stages  # noqa: F401  (before NumPy, as each stage does it)

    kind, *given = sys.argv[1:]
    if kind == "pieces":
        print_pieces(*map(Path, given))
    else:
        print_overhead(Path(given[0]))
