"""Ask the model about photographs, or about the rows of a table.

    python -m commands.predict photographs -o predictions.csv
    python -m commands.predict table.parquet -o predictions.csv

An answer is the most probable mediums with their probabilities, and whether the model is sure. What
has no answer is listed beside the output, with the reason. The README says more.
"""

import argparse
import os
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pyarrow as pa

from answers.answerer import SYNTHETIC, Answerer
from answers.output import answers_batch, answers_schema, check_output, write_answers
from answers.photographs import (
    Photographs,
    about_museum,
    check_columns,
    embedder_for,
)
from answers.table import ENDINGS, IMAGE_FILE, Table, is_table
from answers.tally import Tally
from commands.embed import columns_of
from photographs.networks.description import NETWORK
from photographs.pictures.cache import Cache, cache_files, recipe_key
from photographs.pictures.places import located, open_place
from photographs.pictures.table import left_out_path, write_left_out
from stages.common.errors import PipelineError, shorten
from stages.common.files import leftovers, partial_path
from stages.common.stage import log, run
from stages.model_file.interface import MODEL

STAGE = "predict"
MOST_SHOWN = 5
SPREADSHEETS = (".xlsx", ".xls", ".ods")
NO_NUMBERS = "the model has no answer to its numbers"


def main() -> str:
    arguments = parse_arguments()
    check_output(arguments.output)
    check_different(arguments)
    answerer = Answerer(arguments.model)
    if arguments.ignore_sizes:
        answerer.check_ignore_sizes()
    log(STAGE, about(answerer))
    if answerer.synthetic:
        log(STAGE, SYNTHETIC)
    with ExitStack() as opened:
        source = source_of(arguments, answerer, opened)
        if note := about_museum(answerer, arguments.museum):
            log(STAGE, note)
        tally = Tally(answerer, arguments.museum, STAGE)
        schema = answers_schema(answerer, source.labelled)
        # Closed at once where something fails, before the cache is.
        batches = opened.enter_context(closing(answered(source, tally, schema, arguments)))
        write_answers(arguments.output, schema, batches)
    tally.log(source)
    return f"{arguments.output}: {tally.rows:,} answers, {tally.unsure:,} of them unsure"


def about(answerer: Answerer) -> str:
    """Which model answers: that of the last run that came so far."""
    labels, rows = answerer.model.labels, answerer.model.metadata["training_rows"]
    more = ", ..." if len(labels) > MOST_SHOWN else ""
    return (
        f"{answerer.path} was trained on {rows:,} rows and knows {len(labels)} labels: "
        f"{', '.join(map(shorten, labels[:MOST_SHOWN]))}{more}"
    )


def check_different(arguments: argparse.Namespace) -> None:
    """Raises PipelineError when what is written would overwrite what is read, or itself."""
    output = arguments.output
    given = [arguments.input, arguments.model, arguments.network, output, left_out_path(output)]
    given += [arguments.cache] if arguments.cache else []
    path, count = Counter(os.path.realpath(path) for path in given).most_common(1)[0]
    if count > 1:
        raise PipelineError(
            f"{path} is named twice: input, model, network, cache and output are different files, "
            f"and what has no answer is listed in {left_out_path(output)}"
        )


def source_of(
    arguments: argparse.Namespace, answerer: Answerer, opened: ExitStack
) -> Table | Photographs:
    """What the model is asked about; what has to be closed is added to `opened`.

    Raises PipelineError when there is no such thing, or when the model cannot look at it.
    """
    path, museum, called = arguments.input, arguments.museum, columns_of(arguments.column)
    if isinstance(path, Path):
        if not path.exists():
            raise PipelineError(f"there is no file or folder {path}")
        if not path.is_dir() and is_table(path):
            return Table(path, answerer, called, museum, arguments.ignore_sizes, STAGE)
        if path.suffix.lower() in SPREADSHEETS:
            raise PipelineError(f"{path} is a spreadsheet: save it as CSV, and give that")
    if called:
        raise PipelineError(f"--column says what a table calls columns, and {path} is none")
    # They may lie among the photographs, and are none.
    ours = [arguments.output, left_out_path(arguments.output)]
    ours += [partial for path in ours for partial in (partial_path(path), *leftovers(path))]
    ours += cache_files(arguments.cache) if arguments.cache else []
    place = open_place(path, ours, single=True)
    embedder = embedder_for(answerer, arguments.network, STAGE)
    check_columns(answerer, museum)
    cache = None
    if arguments.cache:
        recipe = recipe_key(embedder.path, embedder.outputs, embedder.identity, embedder.answer)
        cache = opened.enter_context(closing(Cache(arguments.cache, recipe)))
    return Photographs(place, embedder, cache, museum, STAGE)


def answered(
    source: Table | Photographs,
    tally: Tally,
    schema: pa.Schema,
    arguments: argparse.Namespace,
) -> Generator[pa.RecordBatch, None, None]:
    """Rows of the output, in the order of the input; fills the tally.

    After the last one, what has no answer is listed.

    Raises PipelineError when nothing has an answer.
    """
    answerer = tally.answerer
    look = source.with_sizes and not arguments.ignore_sizes
    for artefacts in source.rows():
        far = answerer.far(artefacts) if look else np.zeros(len(artefacts), dtype=bool)
        answers = answerer.answer(artefacts, answerer.ignored(far, not look))
        some = ~np.isnan(answers.probabilities).any(axis=1)
        names = artefacts[IMAGE_FILE]
        tally.left_out += [(name, NO_NUMBERS) for name in names[~some]]
        tally.add(artefacts, answers, far, some)
        yield answers_batch(artefacts, answers, some, schema)
    tally.left_out = [*source.left_out, *tally.left_out]
    listed = left_out_path(arguments.output)
    write_left_out(listed, tally.left_out)
    count = len(tally.left_out)
    if tally.rows and count:
        log(STAGE, f"{count:,} without an answer, as {listed} lists:")
        for name, reason in tally.left_out[:MOST_SHOWN]:
            log(STAGE, f"  {shorten(name)}: {shorten(reason, 200)}")
    if not tally.rows:
        raise PipelineError(nothing_answered(arguments.input, tally.left_out, listed))


def nothing_answered(path: Path | str, left_out: list[tuple[str, str]], listed: Path) -> str:
    """Why nothing has an answer, in one sentence."""
    if not left_out:
        return f"there are no photographs in {path}"
    name, reason = left_out[0]
    hint = ""
    if isinstance(path, Path) and path.is_file() and not is_table(path):
        hint = f"; a table has a name that ends in {', '.join(ENDINGS)}"
    return (
        f"nothing in {path} has an answer: of {len(left_out):,}, which {listed} lists, the first "
        f"is {shorten(name)} ({shorten(reason, 200)}){hint}"
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m commands.{STAGE}",
        description="Ask the model about photographs, or about the rows of a table.",
    )
    parser.add_argument(
        "input",
        type=located,
        metavar="INPUT",
        help="a folder or a zip file of photographs, a folder in a store (s3://BUCKET/FOLDER), a "
        "single one, or a table, CSV or Parquet",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="where the answers go, such as predictions.csv; .parquet and .jsonl are other forms",
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="(default: %(default)s)")
    parser.add_argument(
        "--network",
        type=Path,
        default=NETWORK,
        help="for photographs: the ONNX file of the network (default: %(default)s)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FILE",
        help="for photographs: where computed embeddings are kept (default: nowhere)",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=THEIRS",
        help='what the table calls a column, such as "Image file=filename"; may be repeated '
        "(default: as params.yaml says)",
    )
    parser.add_argument(
        "--museum", metavar="NAME", help="whose artefacts they are, where the model takes that"
    )
    parser.add_argument(
        "--ignore-sizes", action="store_true", help="answer without looking at width and height"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run(STAGE, main)
