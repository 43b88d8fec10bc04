"""Imports lead one way: from commands to stages, to what these are made of, and to common."""

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import pytest
from conftest import PROJECT

from scripts.declare import imports

# From the ground up. A file imports from its own folder and from the layers below, and not from
# another folder of its layer.
LAYERS = [
    ["stages/common"],
    ["stages/tables"],
    ["stages/model_file", "stages/sources"],
    ["stages/features", "stages/parser"],
    ["stages/evaluation", "stages/models", "stages/reporting"],
    ["stages"],
    ["photographs/networks"],
    ["photographs/pictures"],
    ["photographs"],
    ["answers"],
    ["commands"],
    ["scripts"],
    ["benchmarks"],
]
HEIGHTS = {folder: height for height, layer in enumerate(LAYERS) for folder in layer}
FOLDERS = ("stages", "photographs", "answers", "commands", "scripts", "benchmarks")
Graph = dict[str, frozenset[str]]


def graph() -> Graph:
    """The files of the project, each with those that it imports."""
    paths = [path for folder in FOLDERS for path in sorted((PROJECT / folder).rglob("*.py"))]
    names = [path.relative_to(PROJECT).as_posix() for path in paths]
    return {name: imports(name) for name in names}


def folder_of(file: str) -> str:
    """The folder, among those of the layers, that a file lies in, also deeper."""
    return max((folder for folder in HEIGHTS if file.startswith(f"{folder}/")), key=len)


def may_import(file: str, other: str) -> bool:
    """Whether the layers allow it. The scripts of stages import none of each other."""
    here, there = folder_of(file), folder_of(other)
    return HEIGHTS[there] < HEIGHTS[here] or (here == there != "stages")


def cycle(found: Graph) -> list[str]:
    """Files of which each is imported by the one before it, back to the first; [] where none."""
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def test_no_file_imports_itself_by_way_of_others():
    assert cycle(graph()) == []


def test_every_import_leads_to_a_lower_layer():
    found = graph()
    assert {folder_of(file) for file in found} == HEIGHTS.keys()
    upward = [f"{a} imports {b}" for a in found for b in found[a] if not may_import(a, b)]
    assert upward == []


def test_a_cycle_would_be_found():
    found = graph()
    file = "stages/common/stage.py"
    assert "stages/common/params.py" in found["stages/train.py"]
    found[file] |= {"stages/train.py"}
    way = cycle(found)
    assert way[0] == way[-1]
    assert {file, "stages/train.py"} <= set(way)
    assert all(b in found[a] for a, b in pairwise(way))


@pytest.mark.parametrize(
    ("file", "other", "allowed"),
    [
        ("stages/common/params.py", "stages/common/stage.py", True),
        ("stages/common/params.py", "stages/tables/split.py", False),
        ("stages/tables/split.py", "stages/common/files.py", True),
        ("stages/tables/split.py", "stages/model_file/graph.py", False),
        ("stages/model_file/graph.py", "stages/tables/split.py", True),
        ("stages/model_file/graph.py", "stages/models/lda.py", False),
        ("stages/parser/batch.py", "stages/features/transformer.py", False),
        ("stages/train.py", "stages/models/lda.py", True),
        ("stages/models/lda.py", "stages/train.py", False),
        ("stages/report.py", "stages/evaluate.py", False),
        ("commands/compare.py", "stages/evaluate.py", True),
        ("photographs/pictures/table.py", "photographs/networks/description.py", True),
        ("photographs/networks/description.py", "photographs/pictures/table.py", False),
        ("stages/evaluate.py", "photographs/embed.py", False),
        ("stages/evaluate.py", "commands/compare.py", False),
    ],
)
def test_layers_allow_imports_downward_and_in_one_folder(file, other, allowed):
    assert may_import(file, other) == allowed
