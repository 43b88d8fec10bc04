"""The answers as a file: CSV, Parquet or JSON, a line for each."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from answers.answerer import SHOWN, Answerer, Answers
from stages.common.errors import PipelineError
from stages.common.files import atomic_write, csv_line
from stages.tables.artefacts import Artefacts
from stages.tables.parquet import write_batches

# How the names of the files end.
ENDINGS = (".csv", ".parquet", ".jsonl")


def check_output(path: Path) -> None:
    """Raises PipelineError for a name that says no form, or that a folder has."""
    if path.suffix not in ENDINGS:
        raise PipelineError(f"{path}: answers are written to a file that ends in {_or(ENDINGS)}")
    if path.is_dir():
        raise PipelineError(f"{path} is a folder: name a file in it")


def answers_schema(answerer: Answerer, labelled: bool) -> pa.Schema:
    """The columns of the answers of a model, for artefacts that are labelled or not."""
    fields = [pa.field("image_file", pa.string())]
    for place in range(1, min(SHOWN, len(answerer.model.labels)) + 1):
        end = "" if place == 1 else f"_{place}"
        fields.append(pa.field(f"medium{end}", pa.string()))
        fields.append(pa.field(f"probability{end}", pa.float32()))
    fields += [pa.field(name, pa.bool_()) for name in ("unsure", "with_sizes")]
    if labelled:
        fields.append(pa.field("actual", pa.string()))
    source = answerer.model.metadata["source"]
    return pa.schema(fields, metadata={"source": source})


def answers_batch(
    artefacts: Artefacts, answers: Answers, some: np.ndarray, schema: pa.Schema
) -> pa.RecordBatch:
    """Rows of the file for some of n artefacts, (n,) bool, each of which has an answer."""
    rows: list[int] = np.flatnonzero(some).tolist()
    if not rows:
        return pa.RecordBatch.from_pylist([], schema)
    best = [[part for pair in answers.best(row) for part in pair] for row in rows]
    columns = [
        artefacts["image_file"][rows],
        *zip(*best, strict=True),
        ~answers.sure[rows],
        answers.with_sizes[rows],
    ]
    if "actual" in schema.names:
        columns.append([medium or None for medium in artefacts["medium"][rows]])
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def write_answers(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write rows as the file's name says, atomically, none of them kept in memory."""
    if path.suffix == ".parquet":
        write_batches(path, schema, batches)
        return
    write = {".csv": _write_csv, ".jsonl": _write_json_lines}[path.suffix]
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        write(file, schema, batches)


def _write_csv(file: IO[str], schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    file.write(csv_line(schema.names))
    for batch in batches:
        file.writelines(csv_line(map(_text, row.values())) for row in batch.to_pylist())


def _text(value: str | float | bool | None) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6f}" if isinstance(value, float) else value


def _write_json_lines(file: IO[str], schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    for batch in batches:
        for row in batch.to_pylist():
            rounded = {n: round(v, 6) if isinstance(v, float) else v for n, v in row.items()}
            file.write(json.dumps(rounded, ensure_ascii=False) + "\n")


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
