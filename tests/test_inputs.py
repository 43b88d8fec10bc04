"""Below DVC, a stage looks at what it reads: that it is the recorded file, and stays as it is."""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT
from ruamel.yaml import YAML
from test_declared import STAGES

from stages.common import inputs
from stages.common.inputs import Inputs, declared, md5_of, recorded_outs
from stages.common.stage import run

LOCK = YAML(typ="safe").load(PROJECT / "dvc.lock")["stages"]
PIPELINE = """\
stages:
  split:
    cmd: python -m stages.split
    deps:
      - data/raw
      - data/table
      - split.py
    params:
      - split.${split.strategy}
    outs:
      - data/split
  train:
    cmd: python -m stages.train
"""


@pytest.fixture
def below_dvc(tmp_path, monkeypatch):
    """A folder with a stage `split`, which DVC runs in this process, and what it reads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "../here/dvc.yaml:split")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text("split: {seed: 1}\ntrain: {seed: 1}\n")
    (tmp_path / "split.py").write_text("print()")
    (tmp_path / "data/raw/inner").mkdir(parents=True)
    for name in ("b", "inner/a"):
        (tmp_path / "data/raw" / name).write_text(name)
    (tmp_path / "data/table").write_text("table")
    outs = "".join(
        f"    - path: {name}\n      hash: md5\n      md5: {md5_of(Path(name))}\n      size: 5\n"
        for name in ("data/raw", "data/table")
    )
    (tmp_path / "dvc.lock").write_text(f"stages:\n  parse:\n    cmd: x\n    outs:\n{outs}")
    return tmp_path


def test_the_lock_and_the_pipeline_are_read_as_yaml_has_them():
    text = (PROJECT / "dvc.lock").read_text(encoding="utf-8")
    expected = {out["path"]: out["md5"] for stage in LOCK.values() for out in stage["outs"]}
    assert recorded_outs(text) == expected
    pipeline = (PROJECT / "dvc.yaml").read_text(encoding="utf-8")
    for stage in STAGES:
        assert declared(pipeline, stage, "deps") == set(STAGES[stage]["deps"])
        assert declared(pipeline, stage, "params") == set(STAGES[stage]["params"])
        assert declared(text, stage, "deps") == {dep["path"] for dep in LOCK[stage]["deps"]}


def test_the_md5_of_files_and_folders_is_that_of_dvc(reproduced):
    outs = recorded_outs((reproduced.folder / "dvc.lock").read_text(encoding="utf-8"))
    assert {name: md5_of(reproduced.folder / name) for name in outs} == outs


@pytest.mark.parametrize("name", ["data/table", "data/raw/inner/a", "data/raw/new"])
def test_a_file_that_is_not_the_recorded_one_stops_the_stage_before_it_reads(
    below_dvc, capsys, name
):
    assert Inputs(0).damaged() is None
    (below_dvc / name).write_text("other")
    with pytest.raises(SystemExit):
        run("split", lambda: pytest.fail("it has read it"))
    shown = "data/raw" if "raw" in name else name
    assert capsys.readouterr().err == (
        f"[split] error: {shown} is not what dvc.lock says: a disk, a cache or a hand has changed "
        "it; `python -m commands.check --mend` brings back the right one, or says how to keep "
        "this one\n"
    )


def test_a_missing_file_and_one_of_another_stage_are_left_alone(below_dvc, monkeypatch):
    shutil.rmtree(below_dvc / "data/raw")
    assert Inputs(0).damaged() is None
    (below_dvc / "data/table").write_text("other")
    monkeypatch.setenv("DVC_STAGE", "train")
    assert Inputs(0).damaged() is None


def test_without_dvc_nothing_is_looked_at(below_dvc, monkeypatch):
    (below_dvc / "data/table").write_text("other")
    monkeypatch.delenv("DVC_STAGE")
    assert Inputs(0).damaged() is None
    assert Inputs(0).changed_meanwhile() is None


def test_the_pipeline_of_photographs_is_found_from_the_folder_above(below_dvc, monkeypatch):
    spec = type("spec", (), {"name": "photographs.embed"})
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    assert inputs.pipeline_folder() == Path()
    (below_dvc / "photographs").mkdir()
    (below_dvc / "photographs/dvc.yaml").touch()
    assert inputs.pipeline_folder() == Path("photographs")


# What is done while the stage runs, and what it says then; None: it goes on.
MEANWHILE = {
    "the script is edited": (lambda: Path("split.py").write_text("x"), "split.py"),
    "the script is gone": (lambda: Path("split.py").unlink(), "split.py"),
    "the script is touched": (lambda: Path("split.py").touch(), None),
    "a backup links the script": (lambda: os.link("split.py", "backup.py"), None),
    "an older script is moved there": (
        lambda: (os.utime("older.py", (1, 1)), Path("older.py").replace("split.py")),
        "split.py",
    ),
    "a parameter changes": (
        lambda: Path("params.yaml").write_text("split: {seed: 2}\ntrain: {seed: 1}\n"),
        "`split` in params.yaml",
    ),
    "params.yaml becomes no YAML": (
        lambda: Path("params.yaml").write_text("split: {"),
        "`split` in params.yaml",
    ),
    "a comment changes": (
        lambda: Path("params.yaml").write_text("split: {seed: 1} # x\ntrain: {seed: 1}\n"),
        None,
    ),
    "a parameter of another stage changes": (
        lambda: Path("params.yaml").write_text("split: {seed: 1}\ntrain: {seed: 2}\n"),
        None,
    ),
    "an input is read": (lambda: Path("data/table").read_text(), None),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_what_changes_while_a_stage_runs_is_not_taken_for_what_made_its_results(
    below_dvc, monkeypatch, capsys, what
):
    change, named = MEANWHILE[what]
    (below_dvc / "older.py").write_text("x")
    time.sleep(0.02)  # the clock of files is a little behind
    monkeypatch.setattr("stages.common.stage.STARTED", time.time())

    def main():
        time.sleep(0.02)
        change()
        return "done"

    if named is None:
        run("split", main)
        return
    with pytest.raises(SystemExit) as stopped:
        run("split", main)
    assert stopped.value.code == 1
    assert capsys.readouterr().err == (
        f"[split] error: {named} changed while the stage ran, so that nobody can say what made its "
        "results: run `dvc repro` again\n"
    )


def test_a_script_that_changes_at_the_very_start_did_not_make_the_results(
    below_dvc,
):
    started = time.time()
    time.sleep(0.02)
    Path("split.py").write_text("x")
    time.sleep(0.02)
    assert "split.py changed while" in Inputs(started).changed_meanwhile()


def test_a_clock_that_was_put_back_makes_no_script_look_changed(below_dvc, monkeypatch):
    an_hour_ago = time.time() - 3600
    monkeypatch.setattr(inputs.time, "time", lambda: an_hour_ago + 1)
    assert Inputs(an_hour_ago).changed_meanwhile() is None


def test_looking_loads_no_library_for_yaml(below_dvc, monkeypatch):
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)  # an import would fail
    found = Inputs(time.time())
    assert (found.damaged(), found.changed_meanwhile()) == (None, None)
