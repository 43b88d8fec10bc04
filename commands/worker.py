"""Start workers of a cluster on this machine, one for each core.

    python -m commands.worker tcp://192.0.2.1:8786

docs/cluster.md says how to start the scheduler, and what to mind. Ctrl-C ends them.
"""

import argparse
import os

from stages.common.errors import PipelineError
from stages.common.stage import run

STAGE = "worker"


def main() -> str:
    parser = argparse.ArgumentParser(
        prog=f"python -m commands.{STAGE}", description="Start workers of a cluster."
    )
    parser.add_argument("address", help="of the scheduler, such as tcp://192.0.2.1:8786")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="(default: one for each core)"
    )
    parser.add_argument(
        "--memory",
        default="auto",
        help="the most that each may take, such as 4GB (default: its share of the machine's)",
    )
    arguments = parser.parse_args()
    try:
        from distributed.cli import dask_worker
    except ImportError:
        raise PipelineError(
            "Dask is not installed: `pip install --require-hashes -r requirements-cluster.txt`"
        ) from None
    options = {
        "--nworkers": arguments.workers,
        # Two pieces at a time in one process would wait for each other where Python works.
        "--nthreads": 1,
        "--memory-limit": arguments.memory,
        # Where the scheduler does not answer, or is gone.
        "--death-timeout": 60,
    }
    typed = [str(part) for option in options.items() for part in option]
    dask_worker.main([arguments.address, *typed, "--no-dashboard"], standalone_mode=False)
    return "ended"


if __name__ == "__main__":
    run(STAGE, main)
