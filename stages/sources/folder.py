"""Replace a folder as a whole, or bring back the one that DVC removed."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.common.errors import PipelineError
from stages.common.files import leftovers, partial_path
from stages.common.inputs import md5_of


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, which takes its place when the block succeeds.

    When the block fails, it is removed and `folder` stays as it was. What a run that was killed
    left there is removed first.

    Raises PipelineError where `folder` is a link.
    """
    if folder.is_symlink():
        raise PipelineError(
            f"{folder} is a link, and what it leads to would be emptied: remove the link; where "
            f"another disk is to hold the files, let {folder.parent} be a link to it"
        )
    partial = partial_path(folder)
    for left in leftovers(folder):
        shutil.rmtree(left, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def put_back(folder: Path) -> bool:
    """Bring back a folder that a stage writes, as dvc.lock names it, from DVC's cache.

    DVC removes what a stage writes before it runs it. True where the folder is back, each of its
    files with the MD5 that it had. False where it is there still, and where no run of DVC is known
    or its cache lacks one of the files or has another: then nothing is there.
    """
    if folder.exists() or not Path("dvc.lock").exists():
        return False
    try:
        with replaced(folder) as partial:
            _copy_from_cache(folder, partial)
    # Whatever is wrong with the cache, the sentence of the stage that failed counts.
    except Exception:
        return False
    return True


def _copy_from_cache(folder: Path, target: Path) -> None:
    """Raises an error of DVC, OSError or ValueError where the cache has not the whole folder."""
    from dvc.repo import Repo

    with Repo() as repo:
        path_of = repo.cache.local.oid_to_path
        recorded = repo.find_outs_by_path(str(folder))[0].hash_info.value
    for entry in json.loads(Path(path_of(recorded)).read_bytes()):
        copied = target / entry["relpath"]
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path_of(entry["md5"]), copied)
    if md5_of(target) != recorded:
        raise ValueError(f"what DVC's cache has of {folder} is damaged")
