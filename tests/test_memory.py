"""What does not fit in the memory is refused before the work, in one sentence."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import PROJECT, tiny_rows

from stages import container_limits, evaluate, featurize, split, train
from stages.common import memory
from stages.common.errors import ParameterError, PipelineError
from stages.common.memory import of_featurize, of_train
from stages.model_file.interface import MODEL
from stages.tables.features import features_path
from stages.tables.results import METRICS
from stages.tables.split import SPLIT

GB = 1_000_000_000


@pytest.fixture
def system(monkeypatch, tmp_path):
    """A function that plays a system: what /proc/meminfo and files of a container say."""
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "own").write_text("0::/two/inner\n4:memory:/one\n")
    limits = partial(container_limits, tmp_path, tmp_path / "own")
    monkeypatch.setattr(memory, "container_limits", limits)

    def play(available=None, **files):
        if available is not None:
            text = f"MemTotal:  99999999 kB\nMemAvailable:  {available // 1000} kB\n"
            (tmp_path / "meminfo").write_text(text)
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return memory.free_bytes()

    return play


def test_a_system_that_does_not_say_refuses_nothing(system):
    assert system() is None
    memory.check_memory(10**18, "this", "take less")


def test_what_the_system_has_available_counts(system):
    assert system(available=4 * GB) == 4 * GB // 1000 * 1024
    with pytest.raises(PipelineError) as error:
        memory.check_memory(31 * GB, "training", "take fewer rows")
    assert str(error.value) == (
        "training needs about 31.0 GB of memory, and 4.1 GB are free: take fewer rows"
    )


def test_params_yaml_may_allow_less_than_is_free(system, set_params):
    system(available=4 * GB)
    set_params(memory=2.5)
    memory.check_memory(2 * GB, "training", "take fewer rows")
    with pytest.raises(PipelineError) as error:
        memory.check_memory(3 * GB, "training", "take fewer rows")
    assert str(error.value) == (
        "training needs about 3.0 GB of memory, and `memory` in params.yaml allows 2.5: take fewer "
        "rows, or raise it"
    )


def test_params_yaml_is_asked_once_and_may_be_edited_meanwhile(set_params):
    set_params(memory=2.5)
    assert memory.allowed_bytes() == 2.5 * GB
    Path("params.yaml").write_text("half of a li")
    assert memory.allowed_bytes() == 2.5 * GB


@pytest.mark.parametrize("value", ["all", 0, -1, True, None, float("inf"), float("nan")])
def test_other_amounts_of_memory_are_refused_by_name(set_params, value):
    set_params(memory=value)
    with pytest.raises(ParameterError, match=r"`memory` should be auto or gigabytes, a number"):
        memory.check_memory(1, "training", "take fewer rows")


@pytest.mark.parametrize(
    "files",
    [
        {
            "two__memory_dot_max": "3000\n",
            "two__memory_dot_current": "1200\n",
            "two__memory_dot_stat": "anon 900\ninactive_file 150\nactive_file 50\n",
        },
        {
            "memory__one__memory_dot_limit_in_bytes": "3000\n",
            "memory__one__memory_dot_usage_in_bytes": "1200\n",
            "memory__one__memory_dot_stat": "inactive_file 7\ntotal_inactive_file 200\n",
        },
    ],
)
def test_a_container_has_what_its_limit_leaves_beside_what_can_be_given_back(system, files):
    assert system(available=GB, **files) == 2000


def test_a_container_without_a_limit_has_what_the_system_has(system):
    assert system(available=GB, two__memory_dot_max="max\n") == GB // 1000 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_the_limit_of_the_process_counts():
    script = (
        "import resource; from stages.common.memory import free_bytes\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({3 * GB}, {3 * GB}))\n"
        "print(free_bytes())"
    )
    printed = subprocess.check_output([sys.executable, "-c", script], cwd=PROJECT, text=True)
    assert GB < int(printed) < 3 * GB


def refused(monkeypatch, stage, written):
    """The sentence with which a stage stops where the memory is full, before it writes."""
    with monkeypatch.context() as patch:
        patch.setattr(memory, "free_bytes", lambda: 100)
        with pytest.raises(PipelineError) as error:
            stage.main()
    assert not Path(written).exists()
    return str(error.value)


def test_embeddings_that_are_added_up_take_no_memory_of_their_own():
    assert of_featurize(10**6, 0, 1000, True) < of_featurize(10**5, 10**8, 1000, False)
    held, none = (of_featurize(10**6, numbers, 1000, False) for numbers in (10**9, 0))
    assert held - none > 11 * 10**9


def test_training_is_estimated_a_little_above_what_was_measured():
    # Peaks beside the libraries, in GB: of a blend with a kernel around 4,096 centres, of trees.
    assert 3.3 < of_train(192_857, 192_857 * 1024, 29, 0, 4096) / GB < 6
    assert 2.4 < of_train(192_857, 192_857 * 1024, 29, 0, 0) / GB < 4
    # So a million rows of raw embeddings go through in 24 GB.
    assert of_train(582_000, 582_000 * 1024, 29, 0, 4096) / GB < 16


def test_each_stage_stops_before_its_work_and_says_what_to_do(parse, set_params, monkeypatch):
    set_params(**{"train.model": "logistic_regression"})
    parse(tiny_rows())
    found = refused(monkeypatch, split, SPLIT)
    assert found.startswith("the search for near-duplicates among 144 rows needs about 0.0 GB")
    assert found.endswith("0.0 GB are free: take fewer rows, or shorter embeddings")
    split.main()
    found = refused(monkeypatch, featurize, features_path("train"))
    assert found.startswith("fitting features on 72 training rows needs about")
    assert found.endswith("take fewer rows, or `-S featurize.embedding=none`")
    featurize.main()
    found = refused(monkeypatch, train, MODEL)
    assert found.startswith("training on 108 rows of 13 features and 6 labels needs about")
    assert found.endswith("another model, such as `-S train.model=lda`")
    set_params(**{"train.model": "kernel_ridge"})
    found = refused(monkeypatch, train, MODEL)
    assert found.endswith("kernel_ridge takes the less, the smaller its `most_rows` (108)")
    set_params(**{"train.model": "logistic_regression"})
    train.main()
    found = refused(monkeypatch, evaluate, METRICS)
    assert found.startswith("measuring 36 test rows needs about")
    assert found.endswith("such as by `split.stratified.test_fraction`")
