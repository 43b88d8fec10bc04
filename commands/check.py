"""Find what is damaged in the results and in DVC's cache, and mend it.

    python -m commands.check
    python -m commands.check --mend

DVC does not look again at a file of its cache that may not be written to, nor at one whose time
and size are as they were: a byte that a disk or a copy has changed stays unseen. This reads all of
them again: each result that dvc.lock names, each file of the cache, what DVC notes of runs, and
what runs that were killed have left. Exit code 0: all is as it should be; 1: something is not.

With `--mend`, what is damaged is taken away and comes back: from a remote that has it, from the
cache, else `dvc repro` makes it again. A file that you have changed is never taken away. It is told
from a damaged one by what DVC notes of it: where DVC still takes it for the recorded one, nobody
has written it in the ordinary way since, so that its content is damaged. A file that is empty, or
a copy of a damaged file of the cache, counts as damaged too. A folder does where no file in it is
yours.
"""

import argparse
import errno
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro
from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA
from dvc.stage.cache import _get_cache_hash
from dvc.utils.serialize import load_yaml
from tqdm import tqdm

from stages.common.errors import PipelineError
from stages.common.files import file_digest, is_leftover
from stages.common.inputs import md5_of
from stages.common.stage import log, run

STAGE = "check"
MOST_SHOWN = 20
RESULTS = ("data", "models", "reports")
# Seconds after which nobody writes a temporary file of the cache any more: projects may share one.
ABANDONED = 3600


class Problem(NamedTuple):
    """Something that is not as it should be."""

    path: Path
    what: str
    # Whether nobody can want the file, so that --mend takes it away.
    damaged: bool = False
    # The stage that makes it, of a result.
    stage: str | None = None


def main() -> str:
    arguments = parse_arguments()
    folder = arguments.pipeline.resolve()
    with in_one_sentence():
        checked, problems = check(folder)
        tell(problems)
        if problems and arguments.mend:
            mend(folder, problems)
            log(STAGE, "looking again")
            checked, problems = check(folder)
            tell(problems)
    if problems:
        way = "" if arguments.mend else f": `{command(arguments.pipeline)}` mends what is damaged"
        raise PipelineError(f"{len(problems):,} things are not as they should be{way}")
    return f"{checked:,} results, files of the cache and notes of runs are as they should be"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m commands.{STAGE}",
        description="Find what is damaged in the results and in DVC's cache.",
    )
    parser.add_argument(
        "pipeline",
        nargs="?",
        type=Path,
        default=Path(),
        help="the folder of its dvc.yaml (default: this one); photographs for that of photographs",
    )
    parser.add_argument(
        "--mend",
        action="store_true",
        help="take away what is damaged, and bring it back or make it again",
    )
    return parser.parse_args()


def command(pipeline: Path) -> str:
    """What to type to mend."""
    return f"python -m commands.{STAGE} {'' if pipeline == Path() else f'{pipeline} '}--mend"


def tell(problems: list[Problem]) -> None:
    for problem in problems[:MOST_SHOWN]:
        log(STAGE, f"{shown(problem.path)}: {problem.what}")
    if len(problems) > MOST_SHOWN:
        log(STAGE, f"and {len(problems) - MOST_SHOWN} more")


def shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Raises PipelineError where DVC cannot say what there should be."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise PipelineError(
            f"what DVC notes of files cannot be read ({error}): remove the folder that "
            "`dvc doctor` calls repo.site_cache_dir, which DVC makes anew"
        ) from None
    except LockError:
        raise PipelineError(
            "another DVC works in this folder: run this again when it has ended"
        ) from None
    except DvcException as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise PipelineError(
            f"DVC cannot say what there should be: {error}{cause}; where that is dvc.lock, "
            "`git checkout dvc.lock` and `dvc repro` make it again"
        ) from None


def check(folder: Path) -> tuple[int, list[Problem]]:
    """How many things were looked at, and those that are not as they should be."""
    with closing(Repo(str(folder))) as repo, repo.lock:
        rwlock = Path(repo.tmp_dir) / "rwlock"
        if is_held(rwlock):
            raise LockError("a stage is running")
        cache = Path(repo.cache.local.path)
        objects = files_of_cache(cache)
        notes = files_of_cache(Path(repo.stage_cache.cache_dir))
        outs = [(stage, out) for stage, out in outs_of(repo) if out.hash_info]
        problems = [*check_objects(objects, cache), *check_notes(notes)]
        damaged = {problem.path for problem in problems}
        contents = {md5_of(path) for path in damaged if path.is_file()}
        checked = len(objects) + len(notes) + len(outs)
        bar = tqdm(outs, desc=f"{STAGE} results", unit=" results", disable=None)
        for stage, out in bar:
            problems += check_out(stage, out, damaged, contents)
    problems += [
        Problem(path, "a run that was killed has left it", damaged=True)
        for name in RESULTS
        for path in sorted((folder / name).rglob("*.partial"))
        if is_leftover(path)
    ]
    if rwlock.is_file() and not is_json(rwlock):
        problems.append(Problem(rwlock, "DVC was killed while it wrote it", damaged=True))
    return checked, problems


def files_of_cache(folder: Path) -> list[Path]:
    """The files below a folder of the cache, without those that a run writes at the moment."""
    return sorted(
        path
        for path in folder.rglob("*")
        if not path.is_dir()
        and not (path.suffix == ".tmp" and time.time() - path.lstat().st_mtime < ABANDONED)
    )


def check_objects(objects: list[Path], cache: Path) -> Iterator[Problem]:
    """What is wrong with the files of the cache, whose names are what their content should be."""
    with tqdm(objects, desc=f"{STAGE} cache", unit=" files", disable=None) as bar:
        for path in bar:
            name = "".join(path.relative_to(cache).parts)
            if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name):
                yield Problem(path, "a run that was killed has left it in the cache", damaged=True)
                continue
            try:
                good = file_digest(path, "md5") == name.removesuffix(".dir")
            except OSError as error:
                # One that may not be read is somebody else's, and may be good.
                spoilt = error.errno == errno.EIO
                yield Problem(path, f"cannot be read: {error.strerror}", damaged=spoilt)
                continue
            if not good:
                size = path.stat().st_size
                what = "is damaged" if size else "is empty"
                yield Problem(path, f"this file of the cache {what}", damaged=True)


def check_notes(notes: list[Path]) -> Iterator[Problem]:
    """What is wrong with the notes that DVC takes of each run, to know its results again."""
    for path in notes:
        try:
            note = COMPILED_LOCK_FILE_STAGE_SCHEMA(load_yaml(str(path)))
            good = _get_cache_hash(note) == path.name
        except Exception:  # whatever a damaged text makes of its readers
            good = False
        if not good:
            yield Problem(path, "this note of a run is damaged", damaged=True)


def check_out(stage: str, out: Any, damaged: set[Path], contents: set[str]) -> Iterator[Problem]:
    """What is wrong with a result, an output of DVC's.

    `damaged` are the damaged files of the cache, `contents` their MD5.
    """
    path = Path(out.fs_path)
    if out.use_cache:
        for missing in missing_objects(out, damaged):
            yield Problem(missing, f"is missing in the cache, a part of {shown(path)}", stage=stage)
    if not path.exists():
        yield Problem(path, "is missing", stage=stage)
        return
    try:
        found = md5_of(path)
    except OSError as error:
        yield Problem(path, f"cannot be read: {error.strerror}", stage=stage)
        return
    if found == out.hash_info.value:
        return
    if out.get_hash() == out.hash_info or is_spoilt(out, damaged, contents):
        yield Problem(path, "is damaged: it is not what dvc.lock says", damaged=True, stage=stage)
    else:
        yield Problem(
            path,
            f"has changed since the run: if you did that, `dvc commit {stage}` keeps it; "
            f"`dvc repro` makes it again",
            stage=stage,
        )


def is_spoilt(out: Any, damaged: Collection[Path], contents: set[str]) -> bool:
    """Whether all that differs in a result from what is recorded is what nobody writes.

    That is an empty file, or a copy of a damaged file of the cache. A link to one is none: who
    changes a file that is linked changes the cache too.
    """
    path = Path(out.fs_path)
    recorded = recorded_files(out, damaged)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    other = [file for file in files if md5_of(file) != recorded.get(file)]
    return bool(other) and all(
        file in recorded
        and (
            not file.stat().st_size
            or (md5_of(file) in contents and file.stat().st_nlink == 1 and not file.is_symlink())
        )
        for file in other
    )


def recorded_files(out: Any, damaged: Collection[Path]) -> dict[Path, str]:
    """The files of a result and their MD5, as far as the cache knows them."""
    path, md5 = Path(out.fs_path), out.hash_info.value
    if not out.hash_info.isdir:
        return {path: md5}
    listing = Path(out.cache.oid_to_path(md5))
    if not listing.is_file() or listing in damaged:
        return {}
    entries = json.loads(listing.read_text(encoding="utf-8"))
    return {path / entry["relpath"]: entry["md5"] for entry in entries}


def missing_objects(out: Any, damaged: Collection[Path]) -> list[Path]:
    """The files that the cache should have for a result, and has not."""
    wanted = {out.hash_info.value: None} | dict.fromkeys(recorded_files(out, damaged).values())
    return [path for md5 in wanted if not (path := Path(out.cache.oid_to_path(md5))).exists()]


def is_held(rwlock: Path) -> bool:
    """Whether a process that is running works on files, as DVC notes it while stages run."""
    if not rwlock.is_file():
        return False
    noted, text = rwlock.stat().st_mtime, rwlock.read_text(encoding="utf-8", errors="replace")
    for pid in re.findall(r'"pid": (\d{1,9})\b', text):
        with suppress(psutil.NoSuchProcess):
            # After a crash of the machine, another process may have got the number.
            if psutil.Process(int(pid)).create_time() <= noted:
                return True
    return False


def is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def mend(folder: Path, problems: list[Problem]) -> None:
    """Take away what is damaged, and bring back what is missing then."""
    with closing(Repo(str(folder))) as repo, repo.lock:
        for problem in problems:
            if problem.stage and not problem.damaged and problem.path.exists():
                with suppress(OSError):  # it cannot be read
                    repo.unprotect(str(problem.path))  # it may be a link to what is taken away
        for problem in problems:
            if problem.damaged:
                take_away(problem.path)
                # DVC forgets what it took it for.
                for path in (problem.path, *problem.path.parents):
                    repo.state.hashes.pop(str(path), None)
        kept = {p.stage for p in problems if p.stage and not p.damaged and p.path.exists()}
        remote = repo.config["core"].get("remote")
        incomplete = [out.fs_path for _, out in outs_of(repo) if lacks(out)]
    if remote and incomplete:
        dvc(folder, "fetch", *incomplete)
    with closing(Repo(str(folder))) as repo, repo.lock:
        for _, out in outs_of(repo):
            path = Path(out.fs_path)
            if lacks(out) and path.exists() and md5_of(path) == out.hash_info.value:
                out.commit(relink=False)
        gone = [(stage, out) for stage, out in outs_of(repo) if not Path(out.fs_path).exists()]
        there = [out.fs_path for _, out in gone if out.use_cache and not lacks(out)]
    if there:
        dvc(folder, "checkout", *there)
    for stage in dict.fromkeys(stage for stage, out in gone if not Path(out.fs_path).exists()):
        if stage in kept:
            log(STAGE, f"{stage} is not run: it would write over what you have changed")
        else:
            dvc(folder, "repro", "--single-item", stage)


def outs_of(repo: Repo) -> list[tuple[str, Any]]:
    """The outputs of DVC's stages, each after its stage's name, in the order in which they run."""
    return [(stage.name, out) for stage in plan_repro(repo.index.graph) for out in stage.outs]


def lacks(out: Any) -> bool:
    """Whether the cache has not all of a result."""
    return bool(out.use_cache and out.hash_info and missing_objects(out, ()))


def take_away(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            take_away(inner)
        path.rmdir()
    else:
        if os.name == "nt" and path.exists():  # it removes no file that may not be written to
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
        path.unlink(missing_ok=True)


def dvc(folder: Path, *arguments: str) -> None:
    """Run DVC, whatever comes out: what is still wrong afterwards is told."""
    log(STAGE, f"dvc {' '.join(shown(Path(argument)) for argument in arguments)}")
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder)


if __name__ == "__main__":
    run(STAGE, main)
