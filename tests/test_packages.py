"""docs/packages.md agrees with the pins, and says what brings what."""

import re

import pytest
from conftest import PROJECT

from scripts.packages import OURS, Package, brought_alone, installed, licence, read_pins

PINS = read_pins((PROJECT / "requirements.txt").read_text(encoding="utf-8"))


def test_the_page_lists_the_pinned_versions_and_no_other():
    page = (PROJECT / "docs/packages.md").read_text(encoding="utf-8")
    table = page.split("|---|---|---|---|\n")[1]
    listed = dict(re.findall(r"^\| (\S+) \| ([^|]+) \| ", table, re.MULTILINE))
    assert listed == {name: package.version for name, package in PINS.items()}


def test_each_package_that_is_installed_has_a_licence():
    nameless = [name for name in PINS if installed(name) and licence(name) == "see its page"]
    assert nameless == []


def test_the_pins_are_read_with_what_asks_for_them():
    text = """\
a==1 \\
    --hash=sha256:00
    # via -r requirements.in
b==2 ; python_full_version < '3.12' \\
    --hash=sha256:00
    # via
    #   -r requirements.in
    #   a
b==3 ; python_full_version >= '3.12' \\
    --hash=sha256:00
    # via
    #   -r requirements.in
    #   a
"""
    assert read_pins(text) == {"a": Package("1", [OURS]), "b": Package("2 or 3", [OURS, "a"])}


@pytest.mark.parametrize(("left_out", "gone"), [("ours", ["its", "of its"]), ("other", [])])
def test_what_nothing_else_needs_comes_with_one_package_alone(left_out, gone):
    packages = {
        "ours": Package("1", [OURS]),
        "other": Package("1", [OURS]),
        "its": Package("1", ["ours"]),
        "of its": Package("1", ["its"]),
        "both": Package("1", ["ours", "other"]),
    }
    assert sorted(brought_alone(packages, left_out)) == gone
