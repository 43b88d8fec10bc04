"""Bring photographs and their catalogue to data/fetched.

A stage of photographs/dvc.yaml. Reads nothing. Writes data/fetched/photographs.zip, as it came,
and data/fetched/catalogue.csv, a file of the other zip file.
"""

import lzma
import os
import zipfile
import zlib
from pathlib import Path

from pydantic import Field

from photographs.pictures.places import files_in, open_zip
from stages.common.errors import PipelineError
from stages.common.files import atomic_write, sha256
from stages.common.params import Section, load_params
from stages.common.stage import log, run
from stages.sources.content import check_content
from stages.sources.fetching import MOST_BYTES, fetch
from stages.sources.local import TooLargeError, pieces_of, within
from stages.sources.url import Url

STAGE = "fetch"
FETCHED = Path("data/fetched")
PHOTOGRAPHS, CATALOGUE = "photographs.zip", "catalogue.csv"


class File(Section):
    """`fetch.photographs` and `fetch.metadata`"""

    url: Url
    checksum: str | None = Field(
        pattern="^(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})$",
        description="null, sha256: and 64 or md5: and 32 hexadecimal digits",
    )


class Params(Section):
    """`fetch`"""

    photographs: File
    metadata: File
    catalogue: str = Field(min_length=1)
    most_gigabytes: float = Field(gt=0)


def main() -> str:
    os.chdir(Path(__file__).parent)
    params = load_params(STAGE, Params)
    FETCHED.mkdir(parents=True, exist_ok=True)
    photographs = FETCHED / PHOTOGRAPHS
    metadata = FETCHED / "metadata.zip"
    # The small one first: what is wrong with it shows before the long download.
    most = int(params.most_gigabytes * 1e9)
    bring(params.metadata, "metadata", metadata, most)
    extract(metadata, params.catalogue, FETCHED / CATALOGUE)
    metadata.unlink()
    bring(params.photographs, "photographs", photographs, most)
    count = len(zip_names(photographs))
    return f"{photographs}: {photographs.stat().st_size:,} bytes, {count:,} files"


def bring(file: File, key: str, target: Path, most: int) -> None:
    """Download a zip file of `most` bytes at most and check it; one that is there, and is the
    pinned one, is kept.

    Raises PipelineError when it cannot be had, or is another one; what is there stays.
    """
    if is_pinned(target, file.checksum):
        return
    try:
        fetch(file.url, target, file.checksum, most=most, check=zip_names)
    except TooLargeError as error:
        raise PipelineError(f"{file.url}: {error}: raise `{STAGE}.most_gigabytes`") from None
    except PipelineError as error:
        raise PipelineError(
            f"{file.url}: {error}; docs/photographs.md says what to set for photographs of your own"
        ) from None
    if file.checksum is None:
        digest = sha256(target)
        log(STAGE, f"not pinned: set `{STAGE}.{key}.checksum` to sha256:{digest} to pin it")


def is_pinned(path: Path, checksum: str | None) -> bool:
    """Whether a file is there and is the one that was pinned."""
    if checksum is None or not path.is_file():
        return False
    try:
        check_content(path, checksum, None)
    except PipelineError:
        return False
    return True


def zip_names(path: Path) -> list[str]:
    """The names of the files in a zip file.

    Raises PipelineError when it is none.
    """
    try:
        with open_zip(path) as file:
            return [item.filename for item in files_in(file)]
    except PipelineError:
        raise PipelineError("the content is no zip file") from None


def extract(path: Path, name: str, target: Path) -> None:
    """Write one file of a zip file, wherever it lies in it.

    Raises PipelineError when there is no such file, or more than one.
    """
    names = zip_names(path)
    found = [other for other in names if other == name or other.endswith(f"/{name}")]
    if len(found) != 1:
        raise PipelineError(
            f"`{STAGE}.catalogue`: {len(found)} files of the metadata are called {name}; it holds "
            f"{', '.join(names[:10])}"
        )
    try:
        with (
            zipfile.ZipFile(path) as file,
            file.open(found[0]) as source,
            atomic_write(target) as temporary,
            temporary.open("wb") as copy,
        ):
            for piece in within(pieces_of(source), target.parent, MOST_BYTES):
                copy.write(piece)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise PipelineError(f"{found[0]} in the metadata is damaged: {error}") from None


if __name__ == "__main__":
    run(STAGE, main)
