"""Turn the raw table into one Parquet table with the embedding as numbers.

Reads data/raw/. Writes data/artefacts.parquet, data/quarantine.csv with the rows
that were set aside, and data/croissant.json, which describes the table to programs.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator
from tqdm import tqdm

from stages.common.engine import in_order
from stages.common.errors import ParameterError, PipelineError
from stages.common.files import sha256, write_json, write_text
from stages.common.params import Section, load_params, load_value
from stages.common.stage import hidden, log, run
from stages.parser.bad_rows import BadRows, Problem
from stages.parser.batch import ParsedBatch, parse_batch
from stages.parser.columns import Columns, backticked, choose_columns
from stages.parser.contract import LEAST_FIRST_ROWS, NO_MEDIUMS, OUTLIER, RULES, Conditions
from stages.parser.croissant import CROISSANT, croissant
from stages.parser.csv_file import CsvForm
from stages.parser.decimals import plain_batches
from stages.parser.embeddings import kept_type, norms, read_numbers, usable_rows
from stages.parser.identity import Identity, find_identity
from stages.parser.raw_file import RawFile, open_raw
from stages.sources.raw import RAW_FOLDER, SIMULATED, read_provenance
from stages.tables.artefacts import (
    ARTEFACTS,
    EMBEDDING,
    FLOAT,
    METADATA,
    ExtraKind,
    artefacts_schema,
)
from stages.tables.parquet import write_batches
from stages.tables.quarantine import QUARANTINE

STAGE = "parse_embeddings_to_parquet"

# Batches in which good first rows are looked for.
MOST_FIRST_BATCHES = 16


class ColumnNames(Section):
    """`parse_embeddings_to_parquet.columns`"""

    image_file: str = Field(min_length=1)
    medium: str = Field(min_length=1)
    museum: str | None = Field(min_length=1)
    museum_based_instance_id: str | None = Field(min_length=1)
    subset: str | None = Field(min_length=1)
    width: str = Field(min_length=1)
    height: str = Field(min_length=1)
    product_size: str | None = Field(min_length=1)
    aspect_ratio: str | None = Field(min_length=1)
    embedding: str | None = Field(min_length=1)

    @model_validator(mode="after")
    def _each_column_has_one_use(self) -> "ColumnNames":
        uses = Counter(name for _, name in self if name is not None)
        name, count = uses.most_common(1)[0]
        if count > 1:
            raise ValueError(f"names the column `{name}` {count} times")
        return self


class Params(Section):
    """`parse_embeddings_to_parquet`"""

    columns: ColumnNames
    csv: CsvForm
    extra_columns: dict[str, ExtraKind] = Field(
        description="a mapping of columns to number or category"
    )
    embedding: Identity | None
    on_bad_row: Literal["fail", "quarantine"]
    max_bad_fraction: float = Field(ge=0, le=1)
    compression: Literal["zstd", "snappy", "gzip", "none"]
    row_group_rows: int = Field(gt=0, le=1_000_000)

    @model_validator(mode="after")
    def _extra_columns_have_names_of_their_own(self) -> "Params":
        uses = {name: key for key, name in self.columns}
        for name in self.extra_columns:
            if not name.strip():
                raise ValueError("has a column without a name in `extra_columns`")
            shown = backticked([name])
            if name in uses:
                raise ValueError(
                    f"names the column {shown} in `extra_columns` and as `columns.{uses[name]}`: "
                    "take it out of one of them"
                )
            if name in (*METADATA, EMBEDDING):
                raise ValueError(
                    f"has {shown} in `extra_columns`, which the artefacts table calls a column of "
                    "its own: give it another name in your table"
                )
        return self


def main() -> str:
    params = load_params(STAGE, Params)
    official_split = load_value("split.strategy") == "official"
    if official_split and params.columns.subset is None:
        raise ParameterError(
            f"params.yaml: `{STAGE}.columns.subset` is null, but `split.strategy` is official, "
            "which takes the subsets from that column: `-S split.strategy=stratified` draws them"
        )
    provenance = read_provenance()
    raw = open_raw(RAW_FOLDER / provenance["file"], params.csv)
    columns = choose_columns(raw.names, dict(params.columns), params.extra_columns)
    log_columns(raw.names, columns)
    bad = BadRows(keep_all=params.on_bad_row == "quarantine")
    changes: Counter[str] = Counter()
    with closing(plain_batches(raw, columns)) as batches:
        first = next(batches, None)
        if first is None:
            raise no_rows(raw)
        read = [first]
        length, longest = None, math.inf
        if columns.embedding:
            length, longest = measure_first(read, batches, columns.embedding)
        source = true_source(provenance["source"], first, columns)
        identity = find_identity(raw, params.embedding, source) if length else None
        schema = artefacts_schema(
            source,
            length,
            params.extra_columns,
            identity,
            kept_type(first, columns.embedding) if columns.embedding else FLOAT,
        )
        conditions = Conditions(provenance["source"] == "mame", official_split, longest)
        parse = partial(parse_batch, columns=columns, schema=schema, conditions=conditions)
        parsed = with_progress(in_order(parse, chain(read, batches)), raw)
        rows = write_batches(
            ARTEFACTS,
            schema,
            accepted(parsed, raw, columns, params, bad, changes),
            params.compression,
            params.row_group_rows,
        )
    write_text(QUARANTINE, bad.csv())
    write_json(CROISSANT, croissant(schema, rows, bad.count, sha256(ARTEFACTS)))
    for done, count in (+changes).items():  # those above 0
        log(STAGE, f"{done}, rows changed: {count:,}")
    if bad.count:
        log(STAGE, f"{bad.report(rows + bad.count)} They are set aside in {QUARANTINE}.")
    if length and identity is None:
        log(STAGE, f"what made the embeddings is not known: `{STAGE}.embedding` can say it")
    if length is None:
        name = params.columns.embedding
        why = f"`{STAGE}.columns.embedding` is null"
        if name is not None:
            why = f"no column is called {backticked([name])}"
        return f"{rows:,} rows, metadata only: {why}"
    return f"{rows:,} rows with embeddings of length {length:,}"


def measure_first(
    read: list[pa.RecordBatch], batches: Iterator[pa.RecordBatch], columns: list[str]
) -> tuple[int, float]:
    """The length of the embeddings and the greatest norm that one may have, from the first rows.

    `read` holds the batches that have been read. More are appended while they have fewer than
    `LEAST_FIRST_ROWS` good rows, `MOST_FIRST_BATCHES` at most; with fewer rows than that, any norm
    is accepted.
    """
    length, found = 0, np.empty(0)
    for number, batch in enumerate(chain(read[:], batches)):
        if number == len(read):
            read.append(batch)
        numbers = read_numbers(batch, columns)
        length = length or numbers.common_length()
        if length:
            rows, _, _ = usable_rows(numbers, length, math.inf)
            found = np.concatenate([found, norms(rows)])
        if len(found) >= LEAST_FIRST_ROWS or len(read) == MOST_FIRST_BATCHES:
            break
    enough = len(found) >= LEAST_FIRST_ROWS
    return length, OUTLIER * float(np.median(found)) if enough else math.inf


def log_columns(names: list[str], columns: Columns) -> None:
    """Log the columns of the embedding where there are many, and those that are left out."""
    if len(columns.embedding) > 1:
        ends = backticked([columns.embedding[0], columns.embedding[-1]])
        log(STAGE, f"the embedding is in {len(columns.embedding):,} columns, first and last {ends}")
    dropped = [name for name in names if name not in set(columns.all)]
    if dropped:
        log(STAGE, f"left out: {backticked(dropped)}; `{STAGE}.extra_columns` keeps those it names")


def no_rows(raw: RawFile) -> PipelineError:
    if raw.skipped_rows == 0:
        return PipelineError(f"{raw.path} has a header but no rows")
    return PipelineError(
        f"{raw.path}: no row has as many fields as the header, which has {len(raw.names):,}. "
        f"{RULES['fields'].advice}"
    )


def true_source(source: str, first: pa.RecordBatch, columns: Columns) -> str:
    """The source of a table; `synthetic` for the simulator's, whichever way it came.

    Its results must not pass for results on photographs.
    """
    image_file = first.column(columns.metadata["image_file"])[0].as_py()
    if source == "synthetic" or not str(image_file).startswith(SIMULATED):
        return source
    log(STAGE, f"the image files are called {SIMULATED}...: this table is synthetic")
    return "synthetic"


def with_progress(
    batches: Iterable[ParsedBatch], raw: RawFile, title: str = STAGE
) -> Iterator[ParsedBatch]:
    """The same batches, with a bar of the megabytes that were read and the rows."""
    rows = 0
    with tqdm(desc=title, total=raw.size, unit="B", unit_scale=True, disable=None) as bar:
        for batch in batches:
            rows += len(batch.image_files)
            bar.set_postfix_str(f"{rows:,} rows", refresh=False)
            bar.update(raw.position - bar.n)
            yield batch


def accepted(
    batches: Iterable[ParsedBatch],
    raw: RawFile,
    columns: Columns,
    params: Params,
    bad: BadRows,
    changes: Counter[str],
) -> Iterator[pa.RecordBatch]:
    """The good rows of each batch; fills `bad` and `changes`.

    Raises PipelineError after the last row, when the table has bad rows and
    `params.on_bad_row` is `fail`, or more of them than `params.max_bad_fraction`.
    """
    rows = good_rows = 0
    row_of: dict[str, int] = {}
    for batch in batches:
        changes.update(batch.changes)
        repeated = set()
        for row, image_file in enumerate(batch.image_files):
            earlier = row_of.get(image_file)
            if earlier is None:
                # A bad row does not take its image file: a later good row may have it.
                if row not in batch.problems:
                    row_of[image_file] = rows + row + 1
            else:
                repeated.add(row)
                value = f"as in row {earlier:,}"
                problem = Problem(
                    row, "image_file_repeated", image_file, value, earlier_row=earlier
                )
                batch.problems.setdefault(row, []).append(problem)
        for row in sorted(batch.problems):
            bad.add([replace(problem, row=rows + row + 1) for problem in batch.problems[row]])
        rows += len(batch.image_files)
        good = batch.good
        if repeated:
            good = good.filter(pa.array(~np.isin(batch.good_rows, list(repeated))))
        good_rows += good.num_rows
        if bad.keep_all or bad.count == 0:
            yield good
    rows += raw.skipped_rows
    bad.locate(raw, columns.metadata["image_file"])
    if bad.count == 0:
        return
    if bad.count_of_rule["medium"] == rows:
        raise PipelineError(f"no row of {raw.path} has a medium, and {NO_MEDIUMS}")
    if not bad.keep_all:
        raise PipelineError(
            f"{bad.report(rows)}{raw.hint} Nothing was written: mend the table, or set "
            f"`{STAGE}.on_bad_row` to quarantine to set such rows aside. {bad.first()}"
        )
    if bad.count > params.max_bad_fraction * rows or good_rows == 0:
        raise PipelineError(
            f"{bad.report(rows)}{raw.hint} Nothing was written: `{STAGE}.max_bad_fraction` allows "
            f"{params.max_bad_fraction:g} of the rows, and one good row is needed. {bad.first()}"
        )


if __name__ == "__main__":
    with hidden("pandas"):
        run(STAGE, main)
