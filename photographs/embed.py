"""Turn photographs into the table that the main pipeline begins with.

As a stage of photographs/dvc.yaml it reads what `fetch` and `network` made, or a folder of one's
own, and writes data/extended.parquet, and data/extended.left_out.csv.
"""

from collections.abc import Mapping
from pathlib import Path

from photographs.networks.embedder import Embedder
from photographs.pictures.cache import Cache, recipe_key
from photographs.pictures.catalogue import read_catalogue
from photographs.pictures.places import open_place
from photographs.pictures.table import (
    left_out_path,
    usable_cores,
    write_table,
)
from stages.common.stage import PipelineError, log, shorten

STAGE = "embed"
MOST_SHOWN = 5


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
    cache_path = cache or output.with_suffix(".embeddings")
    left_out = left_out_path(output)
    # They may lie among the photographs, and are none.
    ours = [output, left_out, cache_path, *([metadata] if metadata else [])]
    place = open_place(photographs, ours)
    catalogue = read_catalogue(metadata, columns or {}) if metadata else None
    recipe = recipe_key(embedder.path, embedder.outputs, embedder.identity)
    workers = workers or usable_cores()
    with Cache(cache_path, recipe) as kept:
        result = write_table(place, embedder, kept, catalogue, output, label_from_folder, workers)
    if result.left_out:
        log(STAGE, f"{len(result.left_out):,} left out, as {left_out} lists:")
    for name, reason in result.left_out[:MOST_SHOWN]:
        log(STAGE, f"  {shorten(name)}: {reason}")
    return (
        f"{output}: {result.rows:,} photographs, {result.computed:,} of them computed now by "
        f"{workers} threads, {embedder.length:,} numbers each"
    )
