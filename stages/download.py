"""Bring the raw table to data/raw/, as it came, with its provenance beside it.

Reads nothing. Writes data/raw/MAMe_dataset_extended.csv, .csv.gz, .csv.zst or
.parquet, and data/raw/provenance.json.
"""

import os
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.common.files import atomic_write, sha256, write_json
from stages.common.params import Section, chosen, load_params
from stages.common.stage import ParameterError, PipelineError, log, run
from stages.sources.fetching import check_content, fetch, table_suffix
from stages.sources.raw import PROVENANCE, RAW_FOLDER
from stages.tables.values import Source

STAGE = "download"
TABLE_NAME = "MAMe_dataset_extended"


class Synthetic(Section):
    """`download.synthetic`"""

    preset: Literal["toy", "full"]
    seed: int = Field(ge=0)


class Place(Section):
    """One entry of `download.mame.places`."""

    url: str = Field(pattern="^https?://", description="an http or https URL")
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


class Params(Section):
    """`download`"""

    source: Source
    synthetic: Synthetic | None = None
    mame: Mame | None = None
    file: File | None = None


def main() -> str:
    params = load_params(STAGE, Params, choice="source")
    if params.source == "file":
        check_path(chosen(params.file).path)
    shutil.rmtree(RAW_FOLDER, ignore_errors=True)
    RAW_FOLDER.mkdir(parents=True)
    arrived = RAW_FOLDER / TABLE_NAME
    if params.source == "synthetic":
        location = simulate(chosen(params.synthetic), arrived)
    elif params.source == "mame":
        location = fetch_first(chosen(params.mame).places, arrived)
    else:
        location = bring_file(chosen(params.file), arrived)
    table = arrived.with_name(TABLE_NAME + table_suffix(arrived))
    arrived.rename(table)
    provenance = provenance_of(table, params.source, location)
    write_json(PROVENANCE, provenance)
    if params.source == "file" and not chosen(params.file).sha256:
        log(STAGE, f"not pinned: set `download.file.sha256` to {provenance['sha256']} to pin it")
    return f"{params.source}: {table.name}, {provenance['bytes']:,} bytes from {location}"


def simulate(params: Synthetic, target: Path) -> str:
    """Write the simulated table to `target`; return a description of it."""
    from stages.sources.simulator import write_csv

    write_csv(target, params.preset, params.seed)
    return f"the simulator, preset {params.preset}, seed {params.seed}"


def fetch_first(places: list[Place], target: Path) -> str:
    """Fetch the file from the first place that gives the pinned content; return its URL.

    Raises PipelineError, which says what went wrong at each place.
    """
    problems = []
    for place in places:
        try:
            fetch(place.url, target)
            check_content(target, place.checksum, place.size)
        except PipelineError as error:
            target.unlink(missing_ok=True)
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
        raise ParameterError(
            "params.yaml: `download.file.path` is empty, give the path or URL of a table"
        )
    if "://" in path:
        return
    file = local_path(path)
    if file.resolve().is_relative_to(RAW_FOLDER.resolve()):
        raise ParameterError(
            f"params.yaml: `download.file.path` lies in {RAW_FOLDER}, which this stage empties: "
            "keep the table elsewhere"
        )
    if not file.is_file():
        raise ParameterError(
            f"params.yaml: `download.file.path`: there is no file {path} "
            f"(a relative path starts at {Path.cwd()})"
        )


def local_path(path: str) -> Path:
    """The path with `~` expanded; unchanged where there is no such home directory."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's raises for an unknown user


def bring_file(params: File, target: Path) -> str:
    """Copy a local file or fetch a URL to `target`; return the path or URL as it was given.

    Raises PipelineError when the URL does not give the file or its SHA-256 is not the expected one.
    """
    if "://" in params.path:
        fetch(params.path, target)
    else:
        with atomic_write(target) as temporary:
            shutil.copyfile(local_path(params.path), temporary)
    if params.sha256:
        check_content(target, f"sha256:{params.sha256.lower()}", None)
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
