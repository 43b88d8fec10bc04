"""A stage that is stopped in the middle of its work does no harm to the next run."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project
from test_declared import STAGES, outs_of, script_of
from test_remotes import cache_files

# Python runs this file first where PYTHONPATH names its folder. It stops the stage where one more
# of its files would take its place: what it has written so far, and half a file, are there.
SITECUSTOMIZE = """
import os, pathlib, signal, sys

def stop(how):
    if how == "SIGKILL":
        os.killpg(0, signal.SIGKILL)  # DVC with it, as when the machine goes down
    if how == "Ctrl-C":
        os.killpg(0, signal.SIGINT)  # a terminal sends it to all
        signal.pause()
    raise OSError(28, "No space left on device", "a file of the stage")

def replace(path, target):
    global files
    files += 1
    if files == int(os.environ["STOP_AT_FILE"]):
        pathlib.Path(os.environ["STOPPED"]).touch()
        stop(os.environ["STOP_BY"])
    return move(path, target)

if sys.orig_argv[1:] == ["-m", os.environ["STOP_STAGE"]]:
    files, move = 0, pathlib.Path.replace
    pathlib.Path.replace = replace
"""
# `split` writes one file, all others more than one.
STOP_AT_FILE = {"split": 1}
# Each stage is killed, and stopped in one of the ways in which it may still tidy up.
STOPS = {
    stage: ("SIGKILL", ("Ctrl-C", "an error")[number % 2]) for number, stage in enumerate(STAGES)
}


def stopped_repro(project: Project, stage: str, way: str, folder: Path) -> subprocess.Popen:
    """Run the stage and stop it; return the finished process of DVC."""
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    module = script_of(stage).removesuffix(".py").replace("/", ".")
    settings = {
        "PYTHONPATH": str(folder),
        "STOP_AT_FILE": str(STOP_AT_FILE.get(stage, 2)),
        "STOP_BY": way,
        "STOP_STAGE": module,
        "STOPPED": str(folder / "stopped"),
    }
    with (folder / "messages").open("w") as messages:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", "--single-item", "--force", stage],
            cwd=project.folder,
            env=project.environment() | settings,
            stdout=messages,
            stderr=messages,
            start_new_session=True,  # so that the signal meets none but DVC and the stage
            # A job in the background ignores Ctrl-C, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        process.wait(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (folder / "stopped").exists(), (folder / "messages").read_text()
    return process


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups on Windows")
@pytest.mark.parametrize("stage", STAGES)
def test_after_a_stop_git_sees_no_data_and_the_next_run_gives_the_same(project, tmp_path, stage):
    for way in STOPS[stage]:
        folder = tmp_path / way
        folder.mkdir()
        stop_and_go_on(project, stage, way, folder)
    assert project.repro() == []


def stop_and_go_on(project: Project, stage: str, way: str, folder: Path) -> None:
    """Stop the stage in one way; the next run has to give what was there before."""
    before = project.results()
    forget_results(project, stage)
    process = stopped_repro(project, stage, way, folder)

    assert process.returncode != 0
    messages = (folder / "messages").read_text()
    assert "Traceback" not in messages
    if way != "SIGKILL":
        sentence = {
            "Ctrl-C": "stopped by Ctrl-C",
            "an error": "a file of the stage: No space left on device: make room on that disk, "
            "then run it again",
        }[way]
        assert f"[{stage.replace('-', '_')}] error: {sentence}\n" in messages
        assert partial_files(project) == []
    changes = project.git("status", "--porcelain").stdout.splitlines()
    # Results that Git has may be missing now; nothing may be there that it would add.
    assert [line for line in changes if not line.startswith(" D reports/")] == []

    assert stage in project.repro()
    assert project.results() == before
    assert partial_files(project) == []
    assert project.git("status", "--porcelain").stdout == ""


def forget_results(project: Project, stage: str) -> None:
    """Take the stage's results out of the cache, from which DVC would bring them back."""
    shutil.rmtree(project.folder / ".dvc/cache/runs")
    files = cache_files(project)
    for name in outs_of(stage):
        files[name].unlink(missing_ok=True)


def partial_files(project: Project) -> list[Path]:
    return list(project.folder.rglob("*.partial"))
