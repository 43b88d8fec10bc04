"""Read a store such as S3, by the filesystem that fsspec knows for it.

Credentials are the store's own matter: they stand where its package looks for them, such as
`~/.aws` or environment variables, and never in params.yaml.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stages.common.errors import PipelineError
from stages.common.files import atomic_write
from stages.sources.local import check_room, check_size, pieces_of, within
from stages.sources.url import url_problem

# The stores that are known by their schemes, and the package that each needs.
STORES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs"}


class NotGivenError(PipelineError):
    """The store answers, and does not give this file or folder."""


def copy_from_store(url: str, target: Path, most: int) -> None:
    """Copy a file of `most` bytes at most, atomically.

    Raises PipelineError when the store does not give it whole, it is larger, or the disk has no
    room for it.
    """
    with in_own_words():
        files, path = files_at(url)
        size = files.info(path)["size"]
        check_size(size, most)
        check_room(target.parent, size)
        with (
            files.open(path, "rb") as file,
            atomic_write(target) as temporary,
            temporary.open("wb") as copied,
        ):
            for piece in within(pieces_of(file), target.parent, most):
                copied.write(piece)
            if copied.tell() != size:
                raise PipelineError(f"{copied.tell():,} of {size:,} bytes came: run it again")


def check_store(url: str) -> None:
    """Raises PipelineError, without the URL, when that is none of a store, or has a secret."""
    scheme = url.partition(":")[0]
    if scheme not in STORES:
        raise PipelineError(
            f"{scheme}:// is none of the stores that are read ({', '.join(STORES)}): download what "
            "is there, and give its path"
        )
    if (problem := url_problem(url, STORES)) is not None:
        raise PipelineError(f"a URL {problem}")


def files_at(url: str) -> tuple[Any, str]:
    """The filesystem of fsspec that a URL is in, and its path there; what it lists is not kept.

    Raises PipelineError when the store's package is not installed.
    """
    # It is large, and hardly ever needed.
    import fsspec

    try:
        return fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError:
        scheme = urlsplit(url).scheme
        raise PipelineError(
            f"{scheme}:// needs a package that is not installed: `pip install {STORES[scheme]}`"
        ) from None


@contextmanager
def in_own_words() -> Iterator[None]:
    """Tell what a store's package raises in the block in one sentence, which goes on after a URL.

    Raises PipelineError, NotGivenError among them.
    """
    try:
        yield
    except (PipelineError, MemoryError):
        raise
    except FileNotFoundError:
        raise NotGivenError("there is no such file or folder, or it may not be listed") from None
    except PermissionError:
        raise NotGivenError(
            "it may not be read with these credentials: ask for the right to read it"
        ) from None
    except Exception as error:  # each store has errors of its own, whose texts may hold secrets
        raise PipelineError(
            f"the store does not give it ({type(error).__name__}): are its address and credentials "
            "set, as its package asks?"
        ) from None
