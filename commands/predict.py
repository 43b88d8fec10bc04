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
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from answers.answerer import SIZES, Answerer, Answers
from answers.output import answers_batch, answers_schema, check_output, write_answers
from answers.photographs import (
    Photographs,
    about_museum,
    check_columns,
    embedder_for,
    known_museums,
)
from answers.table import ENDINGS, IMAGE_FILE, MEDIUM, SUBSET, Table, is_table
from commands.embed import columns_of
from photographs.networks.description import NETWORK
from photographs.pictures.cache import Cache, cache_files, recipe_key
from photographs.pictures.places import open_place
from photographs.pictures.table import left_out_path, write_left_out
from stages.common.files import partial_path
from stages.common.stage import PipelineError, log, run, shorten
from stages.evaluation.intervals import wilson
from stages.features.kinds.category import MUSEUM
from stages.model_file.interface import MODEL
from stages.tables.artefacts import Artefacts
from stages.tables.split import SPLIT, subsets_of_artefacts

STAGE = "predict"
MOST_SHOWN = 5
# Subsets that a model was made with: val has decided when to stop, and how sure to be.
OWN = {"train", "val"}
NO_NUMBERS = "the model has no answer to its numbers"


def main() -> str:
    arguments = parse_arguments()
    check_output(arguments.output)
    check_different(arguments)
    answerer = Answerer(arguments.model)
    if arguments.ignore_sizes:
        answerer.check_ignore_sizes()
    if answerer.synthetic:
        log(
            STAGE, "the model was trained on simulated data: its answers say nothing of photographs"
        )
    with ExitStack() as opened:
        source = source_of(arguments, answerer, opened)
        if note := about_museum(answerer, arguments.museum):
            log(STAGE, note)
        tally = Tally(answerer, arguments.museum)
        schema = answers_schema(answerer, source.labelled)
        # Closed at once where something fails, before the cache is.
        batches = opened.enter_context(closing(answered(source, tally, schema, arguments)))
        write_answers(arguments.output, schema, batches)
    tally.log(source)
    return f"{arguments.output}: {tally.rows:,} answers, {tally.unsure:,} of them unsure"


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
    if not path.exists():
        raise PipelineError(f"there is no file or folder {path}")
    if not path.is_dir() and is_table(path):
        return Table(path, answerer, called, museum, arguments.ignore_sizes, STAGE)
    if called:
        raise PipelineError(f"--column says what a table calls columns, and {path} is none")
    # They may lie among the photographs, and are none.
    ours = [arguments.output, left_out_path(arguments.output)]
    ours += [partial_path(path) for path in ours]
    ours += cache_files(arguments.cache) if arguments.cache else []
    place = open_place(path, ours, single=True)
    embedder = embedder_for(answerer, arguments.network)
    check_columns(answerer, museum)
    cache = None
    if arguments.cache:
        recipe = recipe_key(embedder.path, embedder.outputs, embedder.identity, embedder.answer)
        cache = opened.enter_context(closing(Cache(arguments.cache, recipe)))
    return Photographs(place, embedder, cache, museum, STAGE)


def answered(
    source: Table | Photographs,
    tally: "Tally",
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
        ignored = far if look and answerer.can_ignore_sizes else not look
        answers = answerer.answer(artefacts, ignored)
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


def nothing_answered(path: Path, left_out: list[tuple[str, str]], listed: Path) -> str:
    """Why nothing has an answer, in one sentence."""
    if not left_out:
        return f"there are no photographs in {path}"
    name, reason = left_out[0]
    hint = ""
    if path.is_file() and not is_table(path):
        hint = f"; a table has a name that ends in {', '.join(ENDINGS)}"
    return (
        f"nothing in {path} has an answer: of {len(left_out):,}, which {listed} lists, the first "
        f"is {shorten(name)} ({shorten(reason, 200)}){hint}"
    )


@dataclass
class Tally:
    """What is counted on the way, and said at the end."""

    answerer: Answerer
    museum: str | None  # that was said for all rows
    rows: int = 0
    unsure: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)
    far: int = 0  # rows with sizes that are missing or far outside those of train
    example: str = ""
    strange: Counter[str] = field(default_factory=Counter)  # museums that train lacks
    # Of the rows that have a medium: those that the model was made with, and the others, which
    # are counted by whether the model is sure and whether it is right.
    own: int = 0
    results: Counter[tuple[bool, bool]] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)  # their mediums that the model lacks

    def __post_init__(self) -> None:
        self._subset_of = subsets_of_artefacts() if SPLIT.is_file() else {}
        asks = MUSEUM in self.answerer.further and self.museum is None
        self._museums = known_museums(self.answerer) if asks else None

    def add(
        self, artefacts: Artefacts, answers: Answers, far: np.ndarray, some: np.ndarray
    ) -> None:
        """Count some of n artefacts; `far` and `some` are (n,) bool."""
        self.rows += int(some.sum())
        self.unsure += int((some & ~answers.sure).sum())
        self.far += int((some & far).sum())
        if not self.example and (some & far).any():
            self.example = _sizes_in_words(artefacts, int(np.flatnonzero(some & far)[0]))
        if self._museums is not None:
            museums = set(artefacts[MUSEUM]).difference(self._museums)
            self.strange.update(museum for museum in artefacts[MUSEUM] if museum in museums)
        if MEDIUM not in artefacts:
            return
        first = answers.probabilities.argmax(axis=1)
        for row in np.flatnonzero(some & (artefacts[MEDIUM] != "")):
            subsets = (self._subset_of.get(artefacts[IMAGE_FILE][row]), artefacts[SUBSET][row])
            if not OWN.isdisjoint(subsets):
                self.own += 1
                continue
            medium = artefacts[MEDIUM][row]
            right = bool(medium == answers.labels[first[row]])
            self.results[bool(answers.sure[row]), right] += 1
            if medium not in answers.labels:
                self.unknown[medium] += 1

    def log(self, source: Table | Photographs) -> None:
        """Say it."""
        if self.far:
            log(STAGE, self._about_sizes())
        if self.strange:
            log(
                STAGE,
                f"{self.strange.total():,} rows are from museums that train lacks, such as "
                f"`{shorten(next(iter(self.strange)))}`: there the museum tells the model nothing",
            )
        if source.labelled:
            self._log_accuracy()

    def _about_sizes(self) -> str:
        (low, high), (least, most) = (self.answerer.ranges[name] for name in SIZES)
        done = "were answered without looking at them"
        if not self.answerer.can_ignore_sizes:
            done = "were answered all the same, and the answers may be off"
        return (
            f"{self.far:,} of {self.rows:,} have no width and height, or sizes far outside those "
            f"of train, and {done}: {self.example}; train has {low:,.0f} to {high:,.0f} x "
            f"{least:,.0f} to {most:,.0f} pixels"
        )

    def _log_accuracy(self) -> None:
        known = self.results.total()
        if self.own:
            log(
                STAGE,
                f"{self.own:,} rows are not counted below: they are of train or val, where a model "
                "looks better than it is",
            )
        if not known:
            left = "but those" if self.own else "at all"
            log(STAGE, f"how often the answers are right is not known: no row has a medium {left}")
            return
        if self.unknown:
            log(
                STAGE,
                f"{self.unknown.total():,} rows have a medium that the model does not know, such "
                f"as `{shorten(next(iter(self.unknown)))}`, and count as wrong",
            )
        right = self.results[True, True] + self.results[False, True]
        log(STAGE, f"accuracy: {_share(right, known)}")
        sure = self.results[True, True] + self.results[True, False]
        if sure:
            log(STAGE, f"accuracy where it is sure: {_share(self.results[True, True], sure)}")
        else:
            log(STAGE, "it is sure of none of these rows")


def _share(right: int, rows: int) -> str:
    """A share with its interval, in words."""
    low, high = wilson(np.array(right), np.array(rows))
    return f"{right / rows:.4f} ({right:,} of {rows:,} rows; 95 % interval {low:.4f} to {high:.4f})"


def _sizes_in_words(artefacts: Artefacts, row: int) -> str:
    width, height = (artefacts[name][row] for name in SIZES)
    name = shorten(artefacts[IMAGE_FILE][row])
    if np.isnan([width, height]).any():
        return f"{name} lacks one"
    return f"{name} has {width:,.0f} x {height:,.0f}"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m commands.{STAGE}",
        description="Ask the model about photographs, or about the rows of a table.",
    )
    parser.add_argument(
        "input",
        type=Path,
        metavar="INPUT",
        help="a folder or a zip file of photographs, a single one, or a table, CSV or Parquet",
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
