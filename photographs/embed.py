"""Turn photographs into the table that the main pipeline begins with.

As a stage of photographs/dvc.yaml it reads what `fetch` and `network` made, or a folder of one's
own, and writes data/extended.parquet, and data/extended.left_out.csv.
"""

import math
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
from photographs.pictures.catalogue import HEIGHT, MEDIUM, WIDTH, read_catalogue
from photographs.pictures.embedder import Embedder
from photographs.pictures.places import located, open_place
from photographs.pictures.table import Result, left_out_path, write_table
from stages.common.errors import ParameterError, PipelineError, shorten
from stages.common.files import leftovers, partial_path
from stages.common.params import Section, load_params
from stages.common.stage import log, run
from stages.sources.identity import COURSE_COLUMN

STAGE = "embed"
TABLE = Path("data/extended.parquet")
Text = Annotated[str, Field(min_length=1)]
MOST_SHOWN = 5
MOST_WORKERS = 256


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
    for key, name in (("photographs", params.photographs), ("metadata", params.metadata)):
        # DVC compares the folder, and would not see a change elsewhere.
        if name and not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ParameterError(
                f"params.yaml: `{STAGE}.{key}` has to lie in `{STAGE}.folder`, {params.folder}"
            )
    network = Path(f"{params.network}.onnx")
    return embed(
        inside(params.folder, params.photographs),
        TABLE,
        Embedder(network, params.layers, params.resize, params.exif_rotation),
        inside(params.folder, params.metadata) if params.metadata else None,
        params.columns,
        params.label_from_folder,
    )


def inside(folder: str, name: str) -> Path | str:
    """Where something lies that a folder has, of this machine or of a store; . is itself."""
    place = located(folder)
    if isinstance(place, Path):
        return place / name
    return place if name == "." else f"{place.rstrip('/')}/{name}"


def embed(
    photographs: Path | str,
    output: Path,
    embedder: Embedder,
    metadata: Path | str | None = None,
    columns: Mapping[str, str] | None = None,
    label_from_folder: bool = False,
    cache: Path | None = None,
    workers: int | None = None,
) -> str:
    """Write the table, and a list of what is left out beside it; return what was done.

    The photographs are a place that `open_place` takes. `columns` says what the catalogue
    `metadata` calls columns of the course's table. The cache lies beside the table where nothing
    else is said.

    Raises PipelineError when nothing can be embedded, or something given cannot be used.
    """
    if metadata is not None and label_from_folder:
        raise PipelineError("labels come from the catalogue or from the folders, not from both")
    if metadata is None and columns:
        raise PipelineError("names of columns are those of a catalogue, and none is given")
    workers = usable_cores() if workers is None else workers
    if not 1 <= workers <= MOST_WORKERS:
        raise PipelineError(f"there can be 1 to {MOST_WORKERS} workers, not {workers}")
    if output.is_dir():
        raise PipelineError(f"{output} is a folder: name a file, {output / TABLE.name}")
    if output.suffix != TABLE.suffix:
        raise PipelineError(f"the table {output} is to have a name that ends in {TABLE.suffix}")
    cache_path = cache or output.with_suffix(".embeddings")
    left_out = left_out_path(output)
    given: list[Path | str] = [photographs, embedder.path, output, left_out, cache_path]
    given += [metadata] if metadata else []
    path, count = Counter(os.path.realpath(path) for path in given).most_common(1)[0]
    if count > 1:
        raise PipelineError(
            f"{path} is named twice: photographs, catalogue, network, table and cache are "
            "different files"
        )
    # They may lie among the photographs, and are none.
    ours = [output, left_out]
    ours += [partial for path in ours for partial in (partial_path(path), *leftovers(path))]
    ours += cache_files(cache_path)
    place = open_place(photographs, [*ours, metadata] if metadata else ours)
    catalogue = read_catalogue(metadata, columns or {}) if metadata else None
    if catalogue is not None:
        for name, column in catalogue.alike():
            log(
                STAGE,
                f"`{column}` is not taken for `{name}`: if it is that, say --column "
                f'"{name}={column}", or `{STAGE}.columns` in photographs/params.yaml',
            )
    recipe = recipe_key(embedder.path, embedder.outputs, embedder.identity, embedder.answer)
    with closing(Cache(cache_path, recipe)) as kept:
        result = write_table(place, embedder, kept, catalogue, output, label_from_folder, workers)
    if result.left_out:
        log(STAGE, f"{len(result.left_out):,} left out, as {left_out} lists:")
    for name, reason in result.left_out[:MOST_SHOWN]:
        log(STAGE, f"  {shorten(name)}: {reason}")
    if result.smaller:
        log(
            STAGE,
            f"{result.smaller:,} of {result.rows:,} photographs have more pixels than the "
            f"catalogue's `{WIDTH}` and `{HEIGHT}` say: are those the artefact's?",
        )
    if result.unlabelled:
        log(
            STAGE,
            f"{result.unlabelled:,} of {result.rows:,} photographs have no `{MEDIUM}`, so that no "
            "model can be trained on them",
        )
    if result.unlabelled < result.rows:
        log(
            STAGE,
            "to train on it, in the project's folder: "
            f"{training_command(output, embedder, result)}",
        )
    return (
        f"{output}: {result.rows:,} photographs, {result.computed:,} of them computed now, "
        f"{len(embedder.answer):,} numbers each"
    )


def usable_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def training_command(table: Path, embedder: Embedder, result: Result) -> str:
    """What to type to train on a table, in the project's folder."""
    parse = "parse_embeddings_to_parquet"
    switches = ["download.source=file", f"download.file.path={_quoted(str(table.resolve()))}"]
    if embedder.description.column != COURSE_COLUMN:
        switches.append(f"{parse}.columns.embedding={_quoted(embedder.description.column)}")
    if result.unlabelled:
        share = math.ceil(100 * result.unlabelled / result.rows) / 100
        switches += [f"{parse}.on_bad_row=quarantine", f"{parse}.max_bad_fraction={share}"]
    # Also the default: an experiment before may have left another in params.yaml.
    strategy = "stratified" if result.without_subset else "official"
    switches.append(f"split.strategy={strategy}")
    return f"dvc exp run {' '.join(f'-S {shlex.quote(switch)}' for switch in switches)}"


def _quoted(value: str) -> str:
    """A value as `dvc exp run -S` takes it: it reads commas, brackets and the like as YAML does."""
    if re.fullmatch(r"[\w./:@+-]+", value, re.ASCII):
        return value
    return '"' + value.replace('"', '\\"') + '"'


if __name__ == "__main__":
    run(STAGE, main)
