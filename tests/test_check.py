"""`python -m commands.check` finds what is damaged, mends it, and takes away nothing else."""

import errno
import json
import os
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from conftest import Project
from dvc.fs import LocalFileSystem
from dvc.lock import LockError
from dvc.rwlock import _edit_rwlock as edit_rwlock
from test_remotes import cache_files

from commands import check
from stages.common.errors import PipelineError

CHECK = (sys.executable, "-m", "commands.check")


def spoil(path: Path, how: str) -> None:
    """Damage a file as a disk does: its time and its permissions stay as they were."""
    before = path.stat()
    content = path.read_bytes()
    middle = len(content) // 2
    spoilt = {
        "two bytes flipped": content[:middle] + bytes(b ^ 1 for b in content[middle : middle + 2]),
        "cut off": content[:middle],
        "empty": b"",
        "no JSON": b"[" * len(content),
    }[how]
    if how == "two bytes flipped":
        spoilt += content[middle + 2 :]
    path.chmod(0o644)
    path.write_bytes(spoilt)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def damage_the_model(project: Project) -> Path:
    """Flip bytes of the model in the cache, and let DVC bring it from there; return the file."""
    in_cache = cache_files(project)["models/model.onnx"]
    spoil(in_cache, "two bytes flipped")
    (project.folder / "models/model.onnx").unlink()
    project.dvc("checkout")
    return in_cache


@pytest.mark.slow
def test_a_stage_refuses_a_damaged_file_that_dvc_believes_and_check_mends_it(project):
    before = project.results()
    damage_the_model(project)
    assert project.dvc("status").stdout == "Data and pipelines are up to date.\n"
    for how in (
        ["repro", "--force", "--single-item", "evaluate"],
        ["exp", "run", "-f", "-s", "report"],
    ):
        result = project.dvc(*how, check=False)
        assert result.returncode != 0
        assert "error: models/model.onnx is not what dvc.lock says" in result.stderr
        assert "python -m commands.check --mend" in result.stderr
        assert "Traceback" not in result.stderr

    found = project.run(*CHECK, check=False)
    assert found.returncode == 1
    assert "models/model.onnx: is damaged: it is not what dvc.lock says" in found.stdout
    assert "this file of the cache is damaged" in found.stdout
    mended = project.run(*CHECK, "--mend")
    assert "Running stage 'train'" in mended.stdout
    assert project.results() == before
    assert project.repro() == []
    assert project.git("status", "--porcelain").stdout == ""
    # DVC has not kept what it took the file for.
    (project.folder / "models/model.onnx").unlink()
    project.dvc("checkout")
    assert project.results() == before


@pytest.mark.slow
def test_whatever_is_damaged_in_the_cache_is_named_and_mended_and_results_stay(project):
    before = project.results()
    files = cache_files(project)
    cache = project.folder / ".dvc/cache"
    folder = next(path for path in files.values() if path.suffix == ".dir")
    (note,) = list((cache / "runs").rglob("*"))[-1:]
    spoilt = {
        files["data/split.parquet"]: "empty",
        files["data/features/val.parquet"]: "cut off",
        folder: "no JSON",
        note: "two bytes flipped",
    }
    for path, how in spoilt.items():
        spoil(path, how)
    leftover = folder.with_name(".half-written.tmp")
    leftover.write_text("half")
    os.utime(leftover, (1, 1))
    fresh = folder.with_name(".being-written.tmp")  # by a run of another project
    fresh.write_text("half")
    partial = project.folder / "models/.model.onnx.999999.partial"
    partial.write_text("half")
    lock = project.folder / ".dvc/tmp/rwlock"
    lock.write_text("{")
    # Nobody may write to it: no fault. DVC made it so, and this one only is not.
    files["data/croissant.json"].chmod(0o600)

    found = project.run(*CHECK, check=False)
    named = {line.split(": ")[0].removeprefix("[check] ") for line in found.stdout.splitlines()}
    assert named == {
        path.relative_to(project.folder).as_posix() for path in [*spoilt, leftover, partial, lock]
    }
    mended = project.run(*CHECK, "--mend")
    assert "Running stage" not in mended.stdout  # the results themselves are right
    assert project.results() == before
    assert fresh.exists()
    assert project.run(*CHECK).returncode == 0
    assert project.repro() == []


@pytest.mark.slow
def test_a_file_that_the_user_changed_is_told_and_stays(project):
    path = project.folder / "data/croissant.json"
    path.write_text(json.dumps({"mine": True}))
    cache_files(project)["data/quarantine.csv"].unlink()
    (project.folder / "data/quarantine.csv").unlink()
    # A folder with an empty file, and files that are linked to the cache.
    raw = project.folder / "data/raw"
    (raw / "provenance.json").write_text("")
    (raw / "mine.csv").write_text("mine")
    linked = {"models/model_card.md": os.link, "data/split.parquet": os.symlink}
    for name, link in linked.items():
        in_cache = cache_files(project)[name]
        (project.folder / name).unlink()
        link(in_cache, project.folder / name)
        in_cache.chmod(0o644)
        in_cache.write_text("mine")
    mended = project.run(*CHECK, "--mend", check=False)
    assert mended.returncode == 1
    assert "data/croissant.json: has changed since the run: if you did that" in mended.stdout
    assert "is not run: it would write over what you have changed" in mended.stdout
    assert json.loads(path.read_text()) == {"mine": True}
    for name in ("data/raw/mine.csv", *linked):
        assert (project.folder / name).read_text() == "mine"


def test_a_file_of_the_cache_that_may_not_be_read_is_somebody_elses(monkeypatch, tmp_path):
    path = tmp_path / "00" / ("1" * 30)

    def refuse(error):
        monkeypatch.setattr(check, "file_digest", Mock(side_effect=OSError(error, "")))
        return [problem.damaged for problem in check.check_objects([path], tmp_path)]

    assert refuse(errno.EACCES) == [False]
    assert refuse(errno.EIO) == [True]


@pytest.mark.slow
def test_what_a_remote_has_comes_from_there(project, tmp_path):
    before = project.results()
    project.dvc("remote", "add", "--default", "team", str(tmp_path / "remote"))
    project.dvc("push")
    damage_the_model(project)
    mended = project.run(*CHECK, "--mend")
    assert "Running stage" not in mended.stdout
    assert project.results() == before


def test_a_lock_that_cannot_be_read_ends_in_one_sentence(project):
    path = project.folder / "dvc.lock"
    path.write_bytes(path.read_bytes()[:5000] + b"\n<<<<<<< HEAD\n")
    message = r"dvc\.lock` and `dvc repro` make it again"
    with pytest.raises(PipelineError, match=message), check.in_one_sentence():
        check.check(project.folder)


def test_another_dvc_in_the_same_folder_is_named(tmp_path):
    with pytest.raises(PipelineError, match="another DVC works"), check.in_one_sentence():
        raise LockError("held")
    rwlock = tmp_path / "rwlock"
    assert not check.is_held(rwlock)
    for pid, held in ((999_999_999, False), (os.getpid(), True)):
        with edit_rwlock(str(tmp_path), LocalFileSystem(), False) as content:
            content["write"]["data/raw"] = {"pid": pid, "cmd": "dvc repro"}
        assert check.is_held(rwlock) == held
    os.utime(rwlock, (1, 1))  # of before that process
    assert not check.is_held(rwlock)
