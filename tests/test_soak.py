"""Runs that are disturbed at random come right again."""

import sys
from pathlib import Path

import pytest

from scripts.soak import Outcome, has_traceback, table

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of Unix")


@pytest.mark.slow
def test_ten_disturbed_runs_come_right(project):
    result = project.run(sys.executable, "-m", "scripts.soak", "--rounds", "10", "--seed", "0")
    assert result.stdout.splitlines()[-1].startswith("[soak] 10 rounds came right")


def test_the_table_counts_what_came_right_and_what_failed():
    outcomes = [
        Outcome("SIGKILL to DVC, train", "right after `dvc repro`"),
        Outcome("SIGKILL to DVC, split", "", "models/model.onnx differs"),
        Outcome("removed file, split", "right after `check --mend` and `dvc repro`"),
    ]
    assert table(outcomes).splitlines()[2:] == [
        "| SIGKILL to DVC | 2 | 1 | 0 | 1 |",
        "| removed file | 1 | 0 | 1 | 0 |",
        "| all | 3 | 1 | 1 | 1 |",
    ]


@pytest.mark.parametrize(
    ("file", "end", "interrupted", "found"),
    [
        ("/usr/lib/runpy.py", "KeyboardInterrupt", True, False),
        ("/usr/lib/runpy.py", "KeyboardInterrupt", False, False),
        ("/clone/stages/split.py", "KeyboardInterrupt", True, True),
        ("/usr/lib/runpy.py", "ValueError: a bug", True, True),
        ("/venv/site-packages/dvc_http/__init__.py", "NameError: not loaded", True, False),
        ("/venv/site-packages/dvc_http/__init__.py", "NameError: not loaded", False, True),
    ],
)
def test_a_traceback_counts_unless_python_was_still_starting(file, end, interrupted, found):
    said = f'Traceback (most recent call last):\n  File "{file}", line 1\n{end}\n'
    assert has_traceback(f"some words\n{said}", Path("/clone"), interrupted) == found
    assert not has_traceback("some words", Path("/clone"), interrupted)
