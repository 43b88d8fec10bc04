"""A table of artefacts that a model answers for, in any form that the parser reads."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa

from answers.answerer import ROWS, SIZES, Answerer
from answers.photographs import fill_museum
from photographs.pictures.catalogue import COLUMNS
from stages.common.engine import in_order
from stages.common.errors import PipelineError
from stages.common.params import PARAMS_FILE, load_params
from stages.common.stage import log
from stages.features.kinds.category import MUSEUM
from stages.model_file.scoring import check_same_embedding
from stages.parse_embeddings_to_parquet import STAGE as PARSE
from stages.parse_embeddings_to_parquet import (
    Params,
    measure_first,
    no_rows,
    with_progress,
)
from stages.parser.bad_rows import BadRows
from stages.parser.batch import ParsedBatch, parse_batch
from stages.parser.columns import backticked, choose_columns
from stages.parser.contract import RULES, Conditions
from stages.parser.csv_file import CsvForm
from stages.parser.decimals import plain_batches
from stages.parser.embeddings import kept_type
from stages.parser.identity import find_identity
from stages.parser.raw_file import open_raw
from stages.sources.identity import COURSE_COLUMN
from stages.tables.artefacts import (
    EMBEDDING,
    FLOAT,
    METADATA,
    Artefacts,
    ExtraKind,
    artefacts_schema,
)
from stages.tables.parquet import regroup

# How the names of tables end.
ENDINGS = (".csv", ".csv.gz", ".csv.zst", ".parquet")
IMAGE_FILE, MEDIUM, SUBSET = "image_file", "medium", "subset"
# How a CSV file is written where params.yaml says nothing.
AS_USUAL = CsvForm(separator=",", decimal=".")
# What a number of a table may be for a model, by the type that it takes.
KINDS: dict[str, ExtraKind] = {"float64": "number", "string": "category"}


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its name."""
    return path.name.endswith(ENDINGS)


class Table:
    """Rows for a model. They need an image file, and what the model takes; no label, no sizes."""

    def __init__(
        self,
        path: Path,
        answerer: Answerer,
        called: Mapping[str, str],
        museum: str | None = None,
        ignore_sizes: bool = False,
        title: str = "predict",
    ) -> None:
        """`called` says what the table calls columns, where params.yaml does not.

        A `museum` is that of all rows, for a table that does not say it. `title` stands before the
        lines that are logged.

        Raises PipelineError when the table cannot be read, lacks a column that the model takes, or
        says that something else made its embeddings.
        """
        if not path.is_file():
            raise PipelineError(f"there is no file {path}")
        self._answerer = answerer
        self._museum = museum
        self._title = title
        own = load_params(PARSE, Params) if PARAMS_FILE.is_file() else None
        self._raw = open_raw(path, own.csv if own else AS_USUAL)
        self._bad = BadRows(keep_all=True)
        names = _names_of(path, self._raw.names, called, answerer, own)
        self.labelled = names[MEDIUM] in self._raw.names
        lacking = [names[name] for name in SIZES if names[name] not in self._raw.names]
        # Whether width and height are looked at.
        self.with_sizes = bool(answerer.ranges) and not ignore_sizes and not lacking
        self._columns = choose_columns(self._raw.names, *self._wanted(names))
        if answerer.ranges and not ignore_sizes and lacking:
            answerer.check_ignore_sizes()
            log(title, f"{path} has no column {backticked(lacking)}: no answer looks at the sizes")
        if answerer.model.embedding_length is not None:
            self._check_embeddings(names[EMBEDDING])

    def _wanted(
        self, names: Mapping[str, str]
    ) -> tuple[dict[str, str | None], dict[str, ExtraKind]]:
        """What `choose_columns` takes: the names of the columns that are read.

        Raises PipelineError when one that the model takes is missing.
        """
        further = self._answerer.further
        path, found = self._raw.path, self._raw.names
        needed = [IMAGE_FILE, *further]
        if self._museum is not None and MUSEUM in further:
            if names[MUSEUM] in found:
                raise PipelineError(
                    f"{path} has the column {backticked([names[MUSEUM]])}: leave out --museum"
                )
            needed.remove(MUSEUM)
        missing = [name for name in needed if names[name] not in found]
        if missing == [MUSEUM]:
            raise PipelineError(
                f"{self._answerer.path} takes the museum, and {path} has no column "
                f'{backticked([names[MUSEUM]])}: say --column "museum=..." what it is called, or '
                "--museum what it is for all rows"
            )
        if missing:
            raise PipelineError(
                f"{path} has no column {backticked([names[name] for name in missing])}, which "
                f"{'every table needs' if IMAGE_FILE in missing else 'the model takes'}; it has "
                f'{backticked(found)}: say --column "{missing[0]}=..." what it is called'
            )
        read = [*needed, MEDIUM, SUBSET]
        if self.with_sizes:
            read += [*SIZES, "product_size", "aspect_ratio"]
        mapping: dict[str, str | None] = {
            name: names[name] if name in read and names[name] in found else None
            for name in METADATA
        }
        takes_embedding = self._answerer.model.embedding_length is not None
        mapping[EMBEDDING] = names[EMBEDDING] if takes_embedding else None
        self._extra = {name: KINDS[further[name]] for name in further if name not in METADATA}
        return mapping, {names[name]: kind for name, kind in self._extra.items()}

    def _check_embeddings(self, name: str) -> None:
        path = self._raw.path
        if not self._columns.embedding:
            raise PipelineError(
                f"{path} has no embeddings, which {self._answerer.path} takes: no column is called "
                f"{backticked([name])}; it has {backticked(self._raw.names)}; say --column "
                '"embedding=..." what it is called, or give the photographs themselves'
            )
        of_model = self._answerer.model.metadata["embedding"]
        of_table = find_identity(self._raw, None, "file")
        check_same_embedding(of_model, of_table)
        for silent, known in ((path, of_table), (self._answerer.path, of_model)):
            if known is None:
                log(
                    self._title,
                    f"{silent} does not say what made its embeddings: the answers mean something "
                    "only if it is what made those of the other",
                )
                break

    def rows(self) -> Iterator[Artefacts]:
        """The rows that break no rule, in their order, `ROWS` at a time.

        Beside what the model takes they have the image file, the medium and the subset, "" where
        the table does not say it. A width or height that is missing is nan, where the model can
        answer without.

        Raises PipelineError for a table that cannot be read to its end, has no rows, or has
        embeddings of another length than those of train.
        """
        raw, columns = self._raw, self._columns
        with closing(plain_batches(raw, columns)) as batches:
            first = next(batches, None)
            if first is None:
                raise no_rows(raw)
            read = [first]
            length, longest = self._answerer.model.embedding_length, math.inf
            if length is not None:
                found, longest = measure_first(read, batches, columns.embedding)
                if found not in (0, length):
                    raise PipelineError(
                        f"{self._answerer.path} takes embeddings of {length:,} numbers, and those "
                        f"of {raw.path} have {found:,}"
                    )
            number = kept_type(first, columns.embedding) if columns.embedding else FLOAT
            schema = artefacts_schema("file", length, self._extra, number=number)
            may_lack = [MEDIUM]
            if not self.with_sizes or self._answerer.can_ignore_sizes:
                may_lack += SIZES
            conditions = Conditions(False, False, longest, may_lack)
            parse = partial(parse_batch, columns=columns, schema=schema, conditions=conditions)
            parsed = with_progress(in_order(parse, chain(read, batches)), raw, self._title)
            for table in regroup(self._good(parsed), ROWS):
                artefacts = Artefacts.of(table.combine_chunks().to_batches()[0])
                yield fill_museum(artefacts, self._museum)
        self._bad.locate(raw, columns.metadata[IMAGE_FILE])

    def _good(self, batches: Iterable[ParsedBatch]) -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in batches:
            for row in sorted(batch.problems):
                self._bad.add([replace(p, row=rows + row + 1) for p in batch.problems[row]])
            rows += len(batch.image_files)
            yield batch.good

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """After the last row: what breaks a rule, by image file or place, and why."""
        reasons: dict[tuple[int, str], list[str]] = {}
        for problem in self._bad.problems:
            place = f"row {problem.row}" if problem.line is None else f"line {problem.line}"
            name = problem.image_file.strip() or place
            reason = f"it {RULES[problem.rule].broken}: {problem.value}"
            reasons.setdefault((problem.row, name), []).append(reason)
        return [(name, "; ".join(texts)) for (_, name), texts in reasons.items()]


def _names_of(
    path: Path,
    found: list[str],
    called: Mapping[str, str],
    answerer: Answerer,
    own: Params | None,
) -> dict[str, str]:
    """What the table calls each column of the artefacts table, and each that the model takes.

    As `called` says, else `own`, what params.yaml has, else as the course's table.

    Raises PipelineError when `called` names columns that do not exist, or one twice.
    """
    names = {_key(name): name for name in COLUMNS} | {EMBEDDING: COURSE_COLUMN}
    names |= {name: name for name in answerer.further if name not in names}
    if own is not None:
        names |= {name: column or name for name, column in own.columns}
    for name, column in called.items():
        key = name if name in names else _key(name)
        if key not in names:
            raise PipelineError(f"--column {name}: it is none of {backticked(list(names))}")
        if column not in found and key != EMBEDDING:  # those may be numbered
            raise PipelineError(
                f"--column {name}={column}: {path} has no such column; it has {backticked(found)}"
            )
        names[key] = column
    column, count = Counter(names.values()).most_common(1)[0]
    if count > 1:
        uses = [name for name in names if names[name] == column]
        raise PipelineError(
            f"the column {backticked([column])} would be {' and '.join(uses)}: say what the others "
            "are called with --column"
        )
    return names


def _key(name: str) -> str:
    """What params.yaml calls a column of the course's table: Image file is image_file."""
    return re.sub(r"\W+", "_", name).lower()
