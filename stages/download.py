"""Bring the raw table to data/raw/, as it came, with its provenance beside it.

Reads nothing. Writes data/raw/MAMe_dataset_extended.csv, .csv.gz, .csv.zst or
.parquet, and data/raw/provenance.json.
"""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from stages.common.errors import ParameterError, PipelineError
from stages.common.files import sha256, write_json
from stages.common.params import Section, chosen, load_params
from stages.common.stage import log, run
from stages.sources.content import check_beginning, check_content, table_suffix
from stages.sources.fetching import fetch
from stages.sources.folder import put_back, replaced
from stages.sources.local import TooLargeError, copy, expand_user, path_problem
from stages.sources.raw import PROVENANCE, RAW_FOLDER
from stages.sources.store import STORES, copy_from_store
from stages.sources.url import Url, is_url, url_problem
from stages.tables.values import Source

STAGE = "download"
TABLE_NAME = "MAMe_dataset_extended"


class Synthetic(Section):
    """`download.synthetic`"""

    preset: Literal["toy", "full", "million"]
    seed: int = Field(ge=0)


class Place(Section):
    """One entry of `download.mame.places`."""

    url: Url
    checksum: str = Field(
        pattern="^(git-blob:[0-9a-f]{40}|sha256:[0-9a-f]{64})$",
        description="git-blob: and 40 or sha256: and 64 hexadecimal digits",
    )
    size: Annotated[int, Field(gt=0)] | None


class Mame(Section):
    """`download.mame`"""

    places: list[Place] = Field(min_length=1, description="a list of one place or more")


class File(Section):
    """`download.file`"""

    path: str
    sha256: str = Field(
        pattern="^([0-9a-fA-F]{64})?$", description="64 hexadecimal digits, or empty"
    )
    most_gigabytes: float = Field(gt=0)


class Params(Section):
    """`download`"""

    source: Source
    synthetic: Synthetic | None = None
    mame: Mame | None = None
    file: File | None = None


def main() -> str:
    try:
        return bring(load_params(STAGE, Params, choice="source"))
    except BaseException:
        if put_back(RAW_FOLDER):
            log(STAGE, f"{RAW_FOLDER} is back from DVC's cache, as dvc.lock has it")
        raise


def bring(params: Params) -> str:
    """Put the table and its provenance in data/raw, in the place of what is there; say what came.

    Raises PipelineError when it cannot be had, and what is there stays.
    """
    if params.source == "file":
        check_path(chosen(params.file).path)
    with replaced(RAW_FOLDER) as folder:
        arrived = folder / TABLE_NAME
        if params.source == "synthetic":
            location = simulate(chosen(params.synthetic), arrived)
        elif params.source == "mame":
            location = fetch_first(chosen(params.mame).places, arrived)
        else:
            location = bring_file(chosen(params.file), arrived)
        table = arrived.rename(folder / (TABLE_NAME + table_suffix(arrived)))
        provenance = provenance_of(table, params.source, location)
        write_json(folder / PROVENANCE.name, provenance)
    if params.source == "file" and not chosen(params.file).sha256:
        log(STAGE, f"not pinned: set `download.file.sha256` to {provenance['sha256']} to pin it")
    return f"{params.source}: {table.name}, {provenance['bytes']:,} bytes from {location}"


def simulate(params: Synthetic, target: Path) -> str:
    """Write the simulated table to `target`; return a description of it."""
    from stages.sources.simulator import write

    write(target, params.preset, params.seed)
    return f"the simulator, preset {params.preset}, seed {params.seed}"


def fetch_first(places: list[Place], target: Path) -> str:
    """Fetch the file from the first place that gives the pinned content; return its URL.

    Raises PipelineError, which says what went wrong at each place.
    """
    problems = []
    for place in places:
        try:
            fetch(place.url, target, place.checksum, place.size)
        except PipelineError as error:
            log(STAGE, f"{place.url}: {error}")
            problems.append(str(error))
        else:
            return place.url
    raise PipelineError(
        f"none of the {len(places)} places gave the file ({'; '.join(problems)}): "
        "connect to the internet and run `dvc repro` again, or use a copy of your own with "
        "-S download.source=file -S download.file.path=/path/to/the/file"
    )


def check_path(path: str) -> None:
    """Check that `download.file.path` is a URL, or a file that this stage does not overwrite.

    Raises ParameterError.
    """
    if not path:
        problem: str | None = "is empty, give the path or URL of a table"
    elif is_url(path):
        problem = url_problem(path, STORES)
    else:
        problem = path_problem(path)
        if problem is None and expand_user(path).resolve().is_relative_to(RAW_FOLDER.resolve()):
            problem = f"lies in {RAW_FOLDER}, which this stage empties: keep the table elsewhere"
    if problem is not None:
        raise ParameterError(f"params.yaml: `download.file.path` {problem}")


def bring_file(params: File, target: Path) -> str:
    """Copy a local file or fetch a URL to `target`; return the path or URL as it was given.

    Raises PipelineError when the URL does not give the file, the file is no table at first sight,
    or its SHA-256 is not the expected one.
    """
    checksum = f"sha256:{params.sha256.lower()}" if params.sha256 else None
    most = int(params.most_gigabytes * 1e9)
    try:
        if is_url(params.path) and urlsplit(params.path).scheme not in STORES:
            fetch(params.path, target, checksum, most=most)
        else:
            if is_url(params.path):
                copy_from_store(params.path, target, most)
            else:
                copy(expand_user(params.path), target, most)
            check_beginning(target)
            if checksum is not None:
                check_content(target, checksum, None)
    except TooLargeError as error:
        raise PipelineError(
            f"{params.path}: {error}: raise `download.file.most_gigabytes`"
        ) from None
    except PipelineError as error:
        raise PipelineError(f"{params.path}: {error}") from None
    return params.path


def provenance_of(table: Path, source: Source, location: str) -> dict[str, Any]:
    """Where the table comes from, and its content; nothing depends on the time or the machine."""
    return {
        "source": source,
        "location": location,
        "file": table.name,
        "bytes": table.stat().st_size,
        "sha256": sha256(table),
    }


if __name__ == "__main__":
    run(STAGE, main)
