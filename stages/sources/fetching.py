"""Fetch a file from a server, and check that it is the one that was pinned."""

import hashlib
from pathlib import Path

from stages.common.files import file_digest
from stages.common.stage import PipelineError

# The first bytes of files that are not plain text, and how the names of such files end.
MAGIC = {b"PAR1": ".parquet", b"\x1f\x8b": ".csv.gz", b"\x28\xb5\x2f\xfd": ".csv.zst"}

# A request times out when the server sends nothing for so long.
TIMEOUT_SECONDS = 30
# Further tries after a broken connection, with a growing pause between them.
RETRIES = 2


def fetch(url: str, target: Path) -> None:
    """Download `url` to `target`, atomically, with retries, a timeout and a progress bar.

    Raises PipelineError with the reason when the file cannot be had.
    """
    import pooch
    import requests
    from tqdm import tqdm

    class RefusedError(PipelineError):
        """The server answered that it will not give the file: no use in trying again."""

    def download(url: str, output_file: str, pup: pooch.Pooch) -> None:
        # pooch sets the total itself; a bar with a total of 0 is false, and pooch would use none.
        with tqdm(desc=target.name, total=1, unit="B", unit_scale=True, disable=None) as bar:
            try:
                pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT_SECONDS)(
                    url, output_file, pup
                )
            except requests.HTTPError as error:
                answer = error.response
                if answer is not None and answer.status_code < 500:
                    raise RefusedError(f"the server answered {answer.status_code}") from None
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
    """Compare a file with what was pinned: `git-blob:`, `sha256:` or `md5:` and hexadecimal digits,
    and its bytes.

    Raises PipelineError when they differ.
    """
    found_size = path.stat().st_size
    if size is not None and found_size != size:
        raise PipelineError(f"the content has {found_size:,} bytes instead of the pinned {size:,}")
    kind, expected = checksum.split(":")
    found = git_blob_id(path) if kind == "git-blob" else file_digest(path, kind)
    if found != expected:
        raise PipelineError(f"the content is not what was pinned: its {kind} is {found}")


def git_blob_id(path: Path) -> str:
    """The id that Git gives the content: SHA-1 of `blob <bytes>`, a NUL byte and the content."""
    header = f"blob {path.stat().st_size}\0".encode()
    with path.open("rb") as file:
        start = hashlib.sha1(header, usedforsecurity=False)
        return hashlib.file_digest(file, lambda: start).hexdigest()


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
