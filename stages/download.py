"""Bring the raw table to data/raw/, as it came, with its provenance beside it.

Reads nothing. Writes data/raw/MAMe_dataset_extended.csv, .csv.gz, .csv.zst or
.parquet, and data/raw/provenance.json.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.common.files import atomic_write, write_json
from stages.common.params import ParameterError, Section, load_params
from stages.common.raw import PROVENANCE, RAW_FOLDER
from stages.common.stage import PipelineError, log, run

STAGE = "download"
TABLE_NAME = "MAMe_dataset_extended"
# How files begin that are not plain text, and how their names end.
MAGIC = {b"PAR1": ".parquet", b"\x1f\x8b": ".csv.gz", b"\x28\xb5\x2f\xfd": ".csv.zst"}

# A server that says nothing for this long is given up.
TIMEOUT_SECONDS = 30
# Further tries after a broken connection, with a growing pause between them.
RETRIES = 2


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

    source: Literal["synthetic", "mame", "file"]
    synthetic: Synthetic | None = None
    mame: Mame | None = None
    file: File | None = None


def main() -> str:
    params = load_params(STAGE, Params, choice="source")
    if params.source == "file":
        check_path(params.file.path)
    shutil.rmtree(RAW_FOLDER, ignore_errors=True)
    RAW_FOLDER.mkdir(parents=True)
    arrived = RAW_FOLDER / TABLE_NAME
    if params.source == "synthetic":
        location = simulate(params.synthetic, arrived)
    elif params.source == "mame":
        location = fetch_first(params.mame.places, arrived)
    else:
        location = bring_file(params.file, arrived)
    table = arrived.with_name(TABLE_NAME + table_suffix(arrived))
    arrived.rename(table)
    provenance = describe(table, params.source, location)
    write_json(PROVENANCE, provenance)
    if params.source == "file" and not params.file.sha256:
        log(STAGE, f"not pinned: set `download.file.sha256` to {provenance['sha256']} to pin it")
    return f"{params.source}: {table.name}, {provenance['bytes']:,} bytes from {location}"


def simulate(params: Synthetic, target: Path) -> str:
    """Write the simulated table to `target`; return a description of it."""
    from stages.simulator import write_csv

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
    """The path with `~` in its place, as it is where there is no such home."""
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


def fetch(url: str, target: Path) -> None:
    """Download `url` to `target`, atomically, with retries, a time-out and a progress bar.

    Raises PipelineError with the reason when the file cannot be had.
    """
    import pooch
    import requests
    from tqdm import tqdm

    class RefusedError(PipelineError):
        """The server answered that it will not give the file: no use in trying again."""

    def download(url: str, output_file: str, pup: pooch.Pooch) -> None:
        # pooch sets the total; it takes a bar whose total is 0 for none.
        with tqdm(desc=target.name, total=1, unit="B", unit_scale=True, disable=None) as bar:
            try:
                pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT_SECONDS)(
                    url, output_file, pup
                )
            except requests.HTTPError as error:
                if error.response.status_code < 500:
                    raise RefusedError(
                        f"the server answered {error.response.status_code}"
                    ) from None
                raise

    if not url.startswith(("http://", "https://")):
        raise PipelineError(f"{url} is neither a path nor an http or https URL")
    pooch.get_logger().setLevel("ERROR")  # it would print the name of its temporary file
    pup = pooch.create(
        path=target.parent,
        base_url="",
        registry={target.name: None},
        urls={target.name: url},
        retry_if_failed=RETRIES,
    )
    try:
        pup.fetch(target.name, downloader=download)
    except requests.exceptions.ChunkedEncodingError:
        raise PipelineError("the connection broke off before the end of the file") from None
    except requests.Timeout:
        raise PipelineError(f"no answer for {TIMEOUT_SECONDS} seconds") from None
    except requests.ConnectionError:
        raise PipelineError("no connection to the server") from None
    except (requests.RequestException, ValueError) as error:
        raise PipelineError(f"the download failed: {error}") from None


def check_content(path: Path, checksum: str, size: int | None) -> None:
    """Compare a file with what was pinned: `git-blob:<hex>` or `sha256:<hex>`, and its bytes.

    Raises PipelineError when they differ.
    """
    found_size = path.stat().st_size
    if size is not None and found_size != size:
        raise PipelineError(f"the content has {found_size:,} bytes instead of the pinned {size:,}")
    kind, expected = checksum.split(":")
    found = git_blob_id(path) if kind == "git-blob" else sha256(path)
    if found != expected:
        raise PipelineError(f"the content is not what was pinned: its {kind} is {found}")


def git_blob_id(path: Path) -> str:
    """The id that Git gives the content: SHA-1 of `blob <bytes>`, a NUL byte and the content."""
    header = f"blob {path.stat().st_size}\0".encode()
    return _digest(path, lambda: hashlib.sha1(header, usedforsecurity=False))


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return _digest(path, hashlib.sha256)


def _digest(path: Path, start: Callable[[], Any]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, start).hexdigest()


def table_suffix(path: Path) -> str:
    """`.parquet` for a file that begins as Parquet does, else `.csv`, `.csv.gz` or `.csv.zst`.

    The content decides, because a URL need not end in a file name.
    """
    with path.open("rb") as file:
        start = file.read(4)
    for magic, suffix in MAGIC.items():
        if start.startswith(magic):
            return suffix
    return ".csv"


def describe(table: Path, source: str, location: str) -> dict[str, Any]:
    """The provenance of the table: nothing in it depends on the time or the machine."""
    return {
        "source": source,
        "location": location,
        "file": table.name,
        "bytes": table.stat().st_size,
        "sha256": sha256(table),
    }


if __name__ == "__main__":
    run(STAGE, main)
