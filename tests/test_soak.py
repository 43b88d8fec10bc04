"""Runs that are disturbed at random come right again."""

import sys

import pytest

from scripts.soak import Outcome, table

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
