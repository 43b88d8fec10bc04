"""Turn photographs into the table that the main pipeline begins with.

As a stage of photographs/dvc.yaml it reads what `fetch` and `network` made, or a folder of one's
own, and writes data/extended.parquet, and data/extended.left_out.csv.
"""

import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated

from pydantic import Field

from photographs.networks.description import Resize
from photographs.pictures.cache import Cache, cache_files, recipe_key
from photographs.pictures.catalogue import MEDIUM, read_catalogue
from photographs.pictures.embedder import Embedder
from photographs.pictures.places import open_place
from photographs.pictures.table import (
    Result,
    left_out_path,
    usable_cores,
    write_table,
)
from stages.common.files import partial_path
from stages.common.params import Section, load_params
from stages.common.stage import PipelineError, log, run, shorten

STAGE = "embed"
TABLE = Path("data/extended.parquet")
Text = Annotated[str, Field(min_length=1)]
MOST_SHOWN = 5
MOST_WORKERS = 256
# What `parse_embeddings_to_parquet.columns.embedding` is set to.
COURSE_COLUMN = "MobileNetV1 features"


class Params(Section):
    """`embed`"""

    folder: Text
    photographs: Text
    metadata: Text | None
    columns: dict[str, str]
    label_from_folder: bool
    network: Text
    layers: Text
    resize: Resize | None
    exif_rotation: bool


def main() -> str:
    os.chdir(Path(__file__).parent)
    params = load_params(STAGE, Params)
    folder = Path(params.folder)
    network = Path(f"{params.network}.onnx")
    return embed(
        folder / params.photographs,
        TABLE,
        Embedder(network, params.layers, params.resize, params.exif_rotation),
        folder / params.metadata if params.metadata else None,
        params.columns,
        params.label_from_folder,
    )


def embed(
    photographs: Path,
    output: Path,
    embedder: Embedder,
    metadata: Path | None = None,
    columns: Mapping[str, str] | None = None,
    label_from_folder: bool = False,
    cache: Path | None = None,
    workers: int | None = None,
) -> str:
    """Write the table, and a list of what is left out beside it; return what was done.

    `columns` says what the catalogue `metadata` calls columns of the course's table. The cache lies
    beside the table where nothing else is said.

    Raises PipelineError when nothing can be embedded, or something given can't be used.
    """
    if metadata is not None and label_from_folder:
        raise PipelineError("labels come from the catalogue or from the folders, not from both")
    if metadata is None and columns:
        raise PipelineError("columns are those of a catalogue, and none is given")
    workers = usable_cores() if workers is None else workers
    if not 1 <= workers <= MOST_WORKERS:
        raise PipelineError(f"there can be 1 to {MOST_WORKERS} workers, not {workers}")
    if output.is_dir():
        raise PipelineError(f"{output} is a folder: name a file, {output / TABLE.name}")
    if output.suffix != TABLE.suffix:
        raise PipelineError(f"the table {output} is to have a name that ends in {TABLE.suffix}")
    cache_path = cache or output.with_suffix(".embeddings")
    left_out = left_out_path(output)
    given = [photographs, embedder.path, output, left_out, cache_path]
    given += [metadata] if metadata else []
    path, count = Counter(os.path.realpath(path) for path in given).most_common(1)[0]
    if count > 1:
        raise PipelineError(f"{path} can't be two things: name another file")
    # They may lie among the photographs, and are none.
    ours = [output, left_out, partial_path(output), partial_path(left_out)]
    ours += [*cache_files(cache_path), *([metadata] if metadata else [])]
    place = open_place(photographs, ours)
    catalogue = read_catalogue(metadata, columns or {}) if metadata else None
    recipe = recipe_key(embedder.path, embedder.outputs, embedder.identity, embedder.answer)
    with closing(Cache(cache_path, recipe)) as kept:
        result = write_table(place, embedder, kept, catalogue, output, label_from_folder, workers)
    if result.left_out:
        log(STAGE, f"{len(result.left_out):,} left out, as {left_out} lists:")
    for name, reason in result.left_out[:MOST_SHOWN]:
        log(STAGE, f"  {shorten(name)}: {reason}")
    if result.unlabelled:
        log(
            STAGE,
            f"{result.unlabelled:,} photographs have no `{MEDIUM}`: a model can be asked about "
            "them, but none can be trained on them",
        )
    else:
        log(STAGE, f"to train on it: {training_command(output, embedder, result)}")
    return (
        f"{output}: {result.rows:,} photographs, {result.computed:,} of them computed now by "
        f"{workers} threads, {len(embedder.answer):,} numbers each"
    )


def training_command(table: Path, embedder: Embedder, result: Result) -> str:
    """What to type to train on a table, in the project's folder."""
    switches = ["download.source=file", f"download.file.path={_quoted(str(table.resolve()))}"]
    if embedder.description.column != COURSE_COLUMN:
        key = "parse_embeddings_to_parquet.columns.embedding"
        switches.append(f"{key}={_quoted(embedder.description.column)}")
    if result.without_subset:
        switches.append("split.strategy=stratified")
    return f"dvc exp run {' '.join(f'-S {shlex.quote(switch)}' for switch in switches)}"


def _quoted(value: str) -> str:
    """A value as `dvc exp run -S` takes it: it reads commas, brackets and the like as YAML does."""
    if re.fullmatch(r"[\w./:@+-]+", value, re.ASCII):
        return value
    return "'" + value.replace("'", "\\'") + "'"


if __name__ == "__main__":
    run(STAGE, main)
