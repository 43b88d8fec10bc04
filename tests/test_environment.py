"""A stage that runs with other packages than the pinned ones says so."""

from importlib.metadata import distributions, version

import pytest
from conftest import PROJECT

from stages.common.environment import check_environment, differences, installed_version
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


def test_versions_are_those_that_packages_say_of_themselves(tmp_path, monkeypatch):
    found = {package.name for package in distributions()}
    assert {name: installed_version(name) for name in found} == {n: version(n) for n in found}
    # One that was installed in the way of old.
    (tmp_path / "old.egg-info").mkdir()
    (tmp_path / "old.egg-info" / "PKG-INFO").write_text("Metadata-Version: 1.0\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_version("old") == "1.2"


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
