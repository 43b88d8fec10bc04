"""Turn photographs into the table that the pipeline begins with.

    python -m commands.embed PHOTOGRAPHS --metadata catalogue.csv -o extended.parquet

PHOTOGRAPHS is a folder, a zip file, or a folder in a store, such as s3://BUCKET/FOLDER. What was
computed before is not computed again. docs/photographs.md says more.
"""

import argparse
from pathlib import Path
from typing import get_args

from photographs.embed import STAGE, embed
from photographs.networks.description import ALL, LAST, NETWORK, Resize
from photographs.pictures.embedder import Embedder
from photographs.pictures.places import located
from stages.common.errors import PipelineError
from stages.common.stage import run


def main() -> str:
    arguments = parse_arguments()
    embedder = Embedder(
        arguments.network, arguments.layers, arguments.resize, arguments.exif_rotation
    )
    return embed(
        arguments.photographs,
        arguments.output,
        embedder,
        arguments.metadata,
        columns_of(arguments.column),
        arguments.label_from_folder,
        arguments.cache,
        arguments.workers,
    )


def columns_of(texts: list[str]) -> dict[str, str]:
    """What the catalogue calls columns of the course's table, from texts such as Medium=Material.

    Raises PipelineError for a text that has no such form.
    """
    found = {}
    for text in texts:
        name, _, called = text.partition("=")
        if not called:
            raise PipelineError(f'--column {text}: write it as "Image file=filename"')
        if name in found:
            raise PipelineError(f"--column {name} is given twice")
        found[name] = called
    return found


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m commands.{STAGE}",
        description="Turn photographs into the table that the pipeline begins with.",
    )
    parser.add_argument(
        "photographs",
        type=located,
        help="a folder or a zip file of photographs, or a folder in a store (s3://BUCKET/FOLDER)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="the table, such as extended.parquet"
    )
    parser.add_argument(
        "--metadata",
        type=located,
        metavar="CATALOGUE",
        help="CSV or Parquet, a row for each photograph (default: nothing is known of them)",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=THEIRS",
        help='what the catalogue calls a column, such as "Image file=filename"; may be repeated',
    )
    parser.add_argument(
        "--label-from-folder",
        action="store_true",
        help="a photograph's medium is the name of the folder that it lies in",
    )
    parser.add_argument(
        "--network", type=Path, default=NETWORK, help="the ONNX file (default: %(default)s)"
    )
    parser.add_argument(
        "--layers",
        default=LAST,
        help=f"{LAST}, {ALL}, or names of layers with commas between (default: %(default)s, as the "
        "course has it)",
    )
    parser.add_argument(
        "--resize", choices=get_args(Resize), help="(default: as the network's description says)"
    )
    parser.add_argument(
        "--exif-rotation",
        action="store_true",
        help="turn photographs as their EXIF orientation says, which the course did not",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        help="where computed embeddings are kept (default: beside the table, .embeddings)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="threads that compute (default: one for each core)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    run(STAGE, main)
