"""A stage that runs with other packages than the pinned ones says so."""

from importlib.metadata import version

import pytest
from conftest import PROJECT

from stages.common.environment import check_environment, differences
from stages.common.stage import run

NUMPY = version("numpy")


def test_what_is_pinned_is_installed_here(monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert check_environment() is None


@pytest.mark.parametrize(
    ("pins", "expected"),
    [
        (f"numpy=={NUMPY} \\\n    --hash=sha256:00\n    # via pandas", []),
        ("numpy==1.0.0 \\\n    --hash=sha256:00", [f"numpy is {NUMPY} instead of ==1.0.0"]),
        ("no-such-package==1.0.0", ["no-such-package is missing"]),
        ('no-such-package==1.0.0 ; python_version < "3"', []),
        ("# numpy==1.0.0\n", []),
    ],
    ids=["as pinned", "another version", "missing", "for another Python", "a comment"],
)
def test_packages_are_compared_by_name_version_and_marker(pins, expected):
    assert differences(pins) == expected


def test_a_stage_says_it_in_one_line_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements.txt").write_text("numpy==1.0.0\n" + "a==1\nb==1\nc==1\nd==1\ne==1\n")
    run("split", lambda: "done")
    printed = capsys.readouterr()
    assert printed.err.startswith(
        f"[split] note: numpy is {NUMPY} instead of ==1.0.0, a is missing"
    )
    assert "and 1 more: not what requirements.txt pins, so that results may differ" in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out.startswith("[split] done, ")
