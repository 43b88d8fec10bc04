"""Make models/network.onnx, the network that turns photographs into embeddings.

    python -m commands.network

It takes Keras's weights of MobileNet from where Keras publishes them, or from a file, and needs no
deep-learning library. docs/photographs.md says how to use another network.
"""

import argparse
from pathlib import Path
from typing import get_args

from photographs.network import STAGE, make
from photographs.networks.description import NETWORK
from photographs.networks.mobilenet import Pooling
from photographs.networks.weights import KERAS
from stages.common.stage import run
from stages.sources.identity import COURSE


def main() -> str:
    arguments = parse_arguments()
    return make(arguments.weights, arguments.output, arguments.pooling, arguments.name)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m commands.{STAGE}",
        description="Make the network that turns photographs into embeddings.",
    )
    parser.add_argument(
        "weights",
        nargs="?",
        default=KERAS,
        help="weights of Keras's MobileNet without its top: the path or URL of an .h5 or .npz file "
        "(default: %(default)s, from where Keras publishes them)",
    )
    parser.add_argument(
        "--pooling",
        choices=get_args(Pooling),
        default=COURSE["pooling"],
        help="pooling of the last layer (default: %(default)s, as the course has it)",
    )
    parser.add_argument(
        "--name", help="take weights of your own, under this name; else they must be Keras's"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=NETWORK, help="the file (default: %(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run(STAGE, main)
