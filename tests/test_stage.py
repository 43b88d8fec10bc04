"""A stage ends with one line: what it did, or what the user has to mend."""

import importlib
import sys

import pandas as pd
import pytest

from stages import NO_MEMORY
from stages.common.errors import ParameterError, PipelineError
from stages.common.files import atomic_write, write_csv, write_json
from stages.common.stage import hidden, run


def raises(error):
    def main():
        raise error

    return main


def test_a_stage_closes_with_its_name_what_it_did_and_the_seconds(capsys):
    run("split", lambda: "10 rows")
    assert capsys.readouterr().out == "[split] 10 rows, 0.0 s\n"


@pytest.mark.parametrize(
    ("error", "exit_code", "sentence"),
    [
        (PipelineError("the table is empty"), 1, "the table is empty"),
        (ParameterError("`train.seed` is wrong"), 2, "`train.seed` is wrong"),
        (
            FileNotFoundError(2, "No such file or directory", "data/split.parquet"),
            1,
            "data/split.parquet: No such file or directory: run `dvc repro`, which makes it",
        ),
        (
            PermissionError(13, "Permission denied", "data/x"),
            1,
            "data/x: Permission denied: give yourself the right to it, then run it again",
        ),
        (
            OSError(28, "No space left on device"),
            1,
            "a file: No space left on device: make room on that disk, then run it again",
        ),
        (
            MemoryError("Unable to allocate 9 GiB"),
            1,
            f"there is too little memory: Unable to allocate 9 GiB: {NO_MEMORY}",
        ),
        (
            RuntimeError("can't start new thread"),
            1,
            f"there is too little memory: can't start new thread: {NO_MEMORY}",
        ),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_stops_a_stage_is_one_sentence(capsys, error, exit_code, sentence):
    with pytest.raises(SystemExit) as stopped:
        run("train", raises(error))
    assert stopped.value.code == exit_code
    assert capsys.readouterr().err == f"[train] error: {sentence}\n"


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run("train", lambda: 1 / 0)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail_halfway():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="nan"):
        write_json(tmp_path / "file.json", {"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_tables_for_git_have_six_decimals_and_lf(tmp_path):
    table = pd.DataFrame({"medium": ["clay"], "recall": [1 / 3]})
    write_csv(tmp_path / "file.csv", table)
    assert (tmp_path / "file.csv").read_bytes() == b"medium,recall\nclay,0.333333\n"


def test_a_library_that_is_hidden_cannot_be_loaded_meanwhile(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with (
        hidden("colorsys"),
        pytest.raises(ModuleNotFoundError, match="No module named 'colorsys'"),
    ):
        importlib.import_module("colorsys")
    importlib.import_module("colorsys")
