"""The benchmarks measure in turns, compare within rounds, and fill the places of their page."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT, tiny_rows
from ruamel.yaml import YAML

from benchmarks import (
    collection,
    csv_to_metrics,
    harness,
    machine,
    models,
    photographs,
    pipeline,
    scale,
    sizes,
    workers,
)
from benchmarks import parse as parsing
from benchmarks.__main__ import PAGE, PARTS, parsed, why_not
from benchmarks.harness import OURS, Aim, Bench, Run, Turn, each, filled, measure, take_turns
from benchmarks.models import ModelRun, Peer, Results, Source
from benchmarks.peers import FEATURES
from stages.common.params import load_params
from stages.models.registry import DESCRIPTIONS
from stages.parse_embeddings_to_parquet import Params
from stages.sources import simulator
from stages.tables.artefacts import ARTEFACTS
from stages.tables.parquet import matrix, write_batches

STAGES = harness.stage_modules(PROJECT)
PLACES = re.findall("<!-- measured: (.*) -->", (PROJECT / PAGE).read_text(encoding="utf-8"))


def rows_of(text: str) -> list[str]:
    """The lines of a table, without its head."""
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


# What is measured


def test_a_process_is_measured_and_what_it_prints_is_read(tmp_path, capfd):
    run = measure([sys.executable, "-c", "print('x'); print('{\"a\": 1}')"], tmp_path, reads=True)
    assert run.found == {"a": 1}
    assert run.seconds > 0
    assert run.cpu_seconds > 0
    assert run.megabytes > 5
    # What is not read does not come between the lines of a page.
    with pytest.raises(SystemExit, match="failed"):
        measure([sys.executable, "-c", "print('progress'); raise SystemExit(1)"], tmp_path)
    printed = capfd.readouterr()
    assert "progress" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("code", "most", "fate"),
    [("import time; time.sleep(60)", 0.3, "ended after 0.005 minutes"), ("1 / 0", 60, "failed")],
)
def test_a_process_that_takes_too_long_or_fails_meets_a_fate(tmp_path, code, most, fate):
    run = measure([sys.executable, "-c", code], tmp_path, reads=True, most_seconds=most)
    assert run.fate == fate
    assert not run.found


def test_contestants_take_turns_and_slow_ones_stop_early():
    ran = []

    def turn(name: str, rounds: int) -> Turn:
        return Turn(lambda: ran.append(name) or {name: Run(len(ran), 1)}, rounds)

    rounds = take_turns({"a": turn("a", 3), "slow": turn("slow", 1), "b": turn("b", 2)})
    assert ran == ["a", "slow", "b", "b", "a", "a"]
    assert each(rounds, harness.seconds("a")) == [1, 5, 6]
    # Pairs of one round.
    assert each(rounds, harness.times("a", "b")) == [1 / 3, 5 / 4]
    assert each(rounds, harness.times("slow", "a")) == [2]


def test_runs_are_added_up():
    run = harness.total([Run(1, 300, 2, {"a": 1}), Run(2, 200, 3, {"b": 2}, "failed")])
    assert run == Run(3, 300, 5, {"a": 1, "b": 2}, "failed")


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_the_exponent_is_the_slope_of_the_logarithms(power):
    rows = [5_000, 20_000, 80_000]
    assert harness.exponent(rows, [3 * n**power for n in rows]) == pytest.approx(power)


def test_a_start_ends_where_main_would_begin(stage_folder, capsys):
    """Nothing that `main` reads is in the folder."""
    for name, module in STAGES.items():
        exec(harness.start_of(module), {})
        assert capsys.readouterr().out.startswith(f"[{name.replace('-', '_')}] started, ")


def test_params_of_one_run_do_not_stay_for_the_next(clone_project):
    project = clone_project()
    project.commit()
    expected = YAML(typ="safe").load(project.folder / "params.yaml")
    bench = Bench(project.folder, project.folder)
    bench.set_params(train={"model": "mlp"})
    bench.set_params(featurize={"museum": True})
    expected["featurize"]["museum"] = True
    assert YAML(typ="safe").load(project.folder / "params.yaml") == expected


# What is written


def test_a_table_of_ways_has_medians_and_medians_of_ratios_within_rounds():
    ours = [Run(2, 100), Run(4, 100), Run(10, 200), Run(1, 100), Run(1, 100)]
    other = [Run(6, 50, 7, {"b": "x"}), Run(16, 300, 9), Run(25, 400, 8)]
    rounds = [{"ours": run} for run in ours]
    for one, run in zip(rounds, other, strict=False):
        one["other"] = run
    text = harness.table_of_ways(
        rounds, "ours", ("ours", "other"), a_b=lambda run: run.found.get("b", "")
    )
    assert text.splitlines()[0].endswith("| a b |")
    assert rows_of(text) == [
        "| ours | 5 | 2.00 | 1.00 | 10.00 | 1.00 | 0.0 | 100 | 1.00 |  |",
        # Ratios of the seconds: 3, 4 and 2.5; of the memory: 0.5, 3 and 2.
        "| other | 3 | 16.00 | 6.00 | 25.00 | 3.00 | 8.0 | 300 | 2.00 | x |",
    ]


def test_stages_are_summed_up():
    rounds = [{"split": Run(2.04, 100, 1), "train": Run(number, 1400.2, 4)} for number in (3, 5, 9)]
    assert rows_of(harness.table_of_stages(rounds, ("split", "train"))) == [
        "| `split` | 2.04 | 2.04 | 2.04 | 1.00 | 100 |",
        "| `train` | 5.00 | 3.00 | 9.00 | 4.00 | 1,400 |",
        "| all: the sum of the seconds, the largest peak | 7.04 | 5.04 | 11.04 | 5.00 | 1,400 |",
    ]
    (once,) = rows_of(harness.table_of_stages(rounds[:1], ("split",)))[:1]
    assert once == "| `split` | 2.04 | 1.00 | 100 |"


@pytest.mark.parametrize(
    ("sign", "found", "reached"),
    [
        ("at most", 0.704, True),
        ("at most", 0.71, False),
        ("at least", 0.696, True),
        ("at least", 0.69, False),
    ],
)
def test_the_verdict_is_that_of_the_figure_shown(sign, found, reached):
    *_, verdict = Aim("what", sign, 0.7, found).cells()
    assert (verdict == "yes") == reached


def test_a_place_of_the_page_is_filled_and_all_else_stays():
    page = "a\n<!-- measured: x -->\n<!-- end: x -->\nb\n"
    page += "<!-- measured: y -->\nold\n<!-- end: y -->\n"
    page = filled(page, {"x": "\\1"})
    page = filled(page, {"y": "new"})
    assert page == (
        "a\n<!-- measured: x -->\n\n\\1\n\n<!-- end: x -->\nb\n"
        "<!-- measured: y -->\n\nnew\n\n<!-- end: y -->\n"
    )
    assert filled(page, {"x": "\\1"}) == page
    with pytest.raises(ValueError, match="0 places that are called z"):
        filled(page, {"z": ""})


def test_the_machine_is_described_with_its_rates():
    text = " ".join(machine.where({"one": 4e10, "all": 8e10, "loop": 2e7}, {"dvc": "1.2"}).split())
    assert "40 billion multiply-adds a second in one thread, 80 in all, 20 million turns" in text
    assert text.endswith("dvc 1.2.")


def test_the_rates_are_measured(monkeypatch):
    monkeypatch.setattr(machine, "SIDE", 64)
    monkeypatch.setattr(machine, "TURNS", 1000)
    assert all(rate > 1e4 for rate in machine.rates().values())


# Which parts there are


def test_parts_that_do_not_exist_and_wrong_folders_are_refused(tmp_path, capsys):
    assert parsed([]).parts == []
    assert parsed(["parse", "sizes", "--trial"]).parts == ["parse", "sizes"]
    for typed in (["pars"], ["models", "--table", str(tmp_path)]):
        with pytest.raises(SystemExit):
            parsed(typed)
    assert "there is no part pars: take parse, pipeline" in capsys.readouterr().err
    assert why_not(PROJECT) is None
    assert "project's root" in why_not(tmp_path)


def test_the_benchmarks_do_not_load_what_is_large_or_sets_threads():
    code = "import sys; import benchmarks.__main__; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert {"numpy", "pyarrow", "stages"}.isdisjoint(loaded.split())


def test_the_libraries_that_are_compared_are_pinned():
    pins = (PROJECT / "benchmarks/requirements.txt").read_text(encoding="utf-8")
    pins += (PROJECT / "requirements.txt").read_text(encoding="utf-8")
    needed = {name for part in PARTS.values() for name in part.libraries} - {"xgboost"}
    assert needed <= set(re.findall(r"^([\w-]+)==", pins, re.MULTILINE))
    assert "index-url" not in pins


# Those whose libraries requirements.txt has; the others are tried where they are installed.
@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_trial_fills_all_places_of_a_part(part):
    extra = {"parse": ("polars", "duckdb"), "models": ("keras",), "photographs": ("keras",)}
    if not all(find_spec(name) for name in extra.get(part, ())):
        pytest.skip("`make bench` installs what it compares with")
    command = [sys.executable, "-m", "benchmarks", part, "--trial"]
    page = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    before = (PROJECT / PAGE).read_text(encoding="utf-8")
    filled_places = [
        place
        for place in PLACES
        if place_of(page, place) and place_of(page, place) != place_of(before, place)
    ]
    assert part in filled_places
    assert "Measured on" in place_of(page, filled_places[-1])
    assert "nan" not in page.split()


def place_of(page: str, name: str) -> str:
    """What stands in a place of the page."""
    (text,) = re.findall(f"<!-- measured: {name} -->\n(.*?)<!-- end: {name} -->", page, re.DOTALL)
    return text


# Parsing


def change_last_bit(values):
    values[2, 3] = np.nextafter(values[2, 3], np.float32(9))
    return values


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda values: values, "equal"),
        (change_last_bit, "nearly equal"),
        (lambda values: values[::-1], "different"),
        (lambda values: values[:-1], "different"),
        (lambda values: values.reshape(len(values) * 2, -1), "different"),
        (lambda values: values.astype(np.float64), "different"),
    ],
)
def test_embeddings_that_differ_are_told(parse, change, expected):
    values = change(matrix(parse(tiny_rows())["embedding"]).copy())
    column = pa.array(list(values), pa.list_(pa.from_numpy_dtype(values.dtype)))
    pq.write_table(pa.table({FEATURES: column}), "peer.parquet")
    assert parsing.compare(ARTEFACTS, Path("peer.parquet")) == expected


def test_the_parquet_table_is_the_same_in_the_form_of_the_course(parse, stage_folder):
    from_csv = parse(tiny_rows())
    columns = dict(load_params("parse_embeddings_to_parquet", Params).columns)
    target = stage_folder / "table.parquet"
    parsing.make_parquet(ARTEFACTS, target, columns)
    with pq.ParquetFile(target) as file:
        assert file.schema_arrow.field(FEATURES).type.value_type == pa.float64()
        assert file.metadata.num_row_groups == 1
        group = file.metadata.row_group(0)
        packed = {group.column(i).compression for i in range(group.num_columns)}
        assert packed == {"GZIP"}
    assert parse(target.read_bytes(), "table.parquet").equals(from_csv)


def test_the_packing_of_the_project_is_the_one_that_the_stage_writes(parse):
    table = parse(tiny_rows())
    for split in (True, False):
        packing = parsing.Packing("zstd", split)
        parsing.write_packed(Path("packed.parquet"), table, packing, row_group_rows=50)
        write_batches(Path("stage.parquet"), table.schema, table.to_batches(), "zstd", 50)
        same = Path("packed.parquet").read_bytes() == Path("stage.parquet").read_bytes()
        assert same == split
        assert pq.read_table("packed.parquet").equals(table)


def some_parsers(ours: float) -> list[dict[str, Run]]:
    labels = [label for label, _ in parsing.CSV_WAYS.values()]
    return [{parsing.LIMIT: Run(0.1, 9), OURS: Run(ours, 9), **{k: Run(10, 9) for k in labels}}]


@pytest.mark.parametrize(
    ("ours", "reached"), [(7, ["yes", "**no**"]), (0.2, ["yes", "yes"]), (8, ["**no**"] * 2)]
)
def test_parsing_is_held_against_its_aims(ours, reached):
    found = [aim.cells()[-1] for aim in parsing.aims(some_parsers(ours))]
    assert found == reached


def test_every_way_to_parse_is_a_line():
    lines = rows_of(parsing.table_of_parsers(some_parsers(2)))
    assert len(lines) == 2 + len(parsing.CSV_WAYS)
    assert lines[0].startswith("| reading the bytes once | 1 | 0.10 |")


def test_the_packing_of_the_project_is_marked():
    packings = [
        parsing.Packing("zstd", True, 8.7, [1, 3, 2], [0.1, 0.3, 0.5]),
        parsing.Packing("zstd", False, 9.3, [1, 1, 1], [1, 1, 1]),
    ]
    assert rows_of(parsing.table_of_packings(packings, "zstd")) == [
        "| zstd (this project) | sorted by place | 8.7 | 2.00 | 0.30 |",
        "| zstd | plain | 9.3 | 1.00 | 1.00 |",
    ]


# The whole pipeline


def some_round(seconds: float = 1.0, start: float = 0.5) -> dict[str, Run]:
    """Every stage takes so long, `dvc repro` twice as long as all stages."""
    stages = {name: Run(seconds, 100) for name in STAGES}
    starts = {pipeline.start(name): Run(0.1, 100) for name in STAGES}
    figures = {"accuracy": 0.75, "log_loss": 0.8}
    return {
        pipeline.REPRO: Run(2 * len(STAGES) * seconds, 100, found=figures),
        pipeline.NOTHING: Run(1.0, 100),
        pipeline.NOTEBOOK: Run(2.0, 100, found={"accuracy": 0.7, "log_loss": 0.9}),
        pipeline.BARE: Run(0.02, 10),
        **stages,
        **starts,
        pipeline.start("train"): Run(start, 100),
    }


def test_dvc_and_the_notebook_are_compared_within_a_round():
    rounds = [some_round(1.0), some_round(2.0), some_round(6.0)]
    lines = rows_of(pipeline.table_of_runs(rounds, list(STAGES)))
    assert lines[0] == "| `dvc repro` of everything | 28.00 | 14.00 | 84.00 |"
    assert lines[2] == "| what DVC adds | 14.00 | 7.00 | 42.00 |"
    assert lines[-1].endswith(" times | 13.00 | 6.50 | 39.00 |")
    assert rows_of(pipeline.table_of_figures(rounds[0])) == [
        "| the pipeline | 0.7500 | 0.8000 |",
        "| the notebook script | 0.7000 | 0.9000 |",
    ]


def test_the_slowest_start_is_held_against_its_aim():
    aim = pipeline.aims([some_round(start=1.3), some_round(start=1.2), some_round()], list(STAGES))
    assert "`train`" in aim[-1].what
    assert aim[-1].found == 1.2


def test_dvc_finds_this_python_and_nothing_kept_elsewhere(tmp_path):
    found = pipeline.environment(tmp_path, "elsewhere")
    assert found["PATH"].startswith(str(Path(sys.executable).parent))
    assert all(str(tmp_path) in value for name, value in found.items() if name != "PATH")


# From CSV to metrics, and sizes


def test_the_courses_way_is_compared_with_both_of_ours():
    one = {
        csv_to_metrics.COURSE: Run(200, 5000),
        csv_to_metrics.LOGISTIC: Run(20, 500),
        csv_to_metrics.DEFAULT: Run(100, 2600),
        harness.DOWNLOAD: Run(11, 100),
    }
    aims = csv_to_metrics.aims([one])
    assert [aim.found for aim in aims] == [10, 0.5, 2600, 11]
    assert [aim.cells()[-1] for aim in aims] == ["yes", "yes", "yes", "**no**"]


def test_the_formulas_of_the_limits_are_those_that_are_computed():
    counts = {"train": 20_300, "val": 1_450, "test": 15_657}
    names = {**counts, "n": 21_750, "k": 256}
    names |= {"d": csv_to_metrics.LENGTH, "c": csv_to_metrics.MEDIUMS}
    found = csv_to_metrics.limits(counts, 256)
    for limit in found:
        formula = limit.formula.replace(" x ", " * ").replace("²", "**2").replace("³", "**3")
        assert eval(formula, names) == pytest.approx(limit.multiply_adds)
    rates = {"one": 1e9, "all": 2e9}
    first, *_ = rows_of(csv_to_metrics.table_of_limits(found, rates, dict.fromkeys(STAGES, 7.0)))
    assert first.endswith("| 356 | 355.6 | 177.8 | 7.0 |")


@pytest.mark.parametrize("rows", sizes.ROWS)
def test_a_table_of_a_size_has_the_shares_of_mame(rows, monkeypatch):
    wanted = sizes.per_medium(rows)
    assert sizes.MEDIUMS * sum(wanted.values()) == pytest.approx(rows, rel=0.01)
    monkeypatch.setitem(simulator.PRESETS, "of a size", wanted)
    if rows == min(sizes.ROWS):
        drawn = simulator.simulate_metadata("of a size", sizes.SEED)
        assert drawn["Image file"].is_unique
        counts = drawn["Subset"].value_counts() / sizes.MEDIUMS
        assert counts.to_dict() == wanted


def test_costs_grow_without_the_start():
    found = {
        1000: {sizes.SIMULATOR: Run(3, 50), "split": Run(2, 100), "train": Run(1.01, 100)},
        2000: {sizes.SIMULATOR: Run(5, 60), "split": Run(5, 200), "train": Run(3, 100)},
        4000: {sizes.SIMULATOR: Run(9, 60), "split": Run(17, 400), "train": Run(3, 100)},
    }
    starts = dict.fromkeys(found[1000], Run(1, 50))
    assert rows_of(sizes.table_of_seconds(found, starts)) == [
        "| the simulator | 1.00 | 3.0 | 5.0 | 9.0 | 1.00 | 1.00 | 1.00 |",
        "| `split` | 1.00 | 2.0 | 5.0 | 17.0 | 2.00 | 2.00 | 2.00 |",
        # Of the first, nothing is left to tell.
        "| `train` | 1.00 | 1.0 | 3.0 | 3.0 |  | 0.00 |  |",
    ]
    assert rows_of(sizes.table_of_memory(found))[1] == "| `split` | 100 | 200 | 400 |"


# The models

SVC = Peer("svc", "`SVC()`", "kernel_ridge")
KERAS = Peer("keras", "Keras", "mlp")


def model_run(accuracy: float, seconds: float, kind: str) -> ModelRun:
    scores = {"accuracy": accuracy, "macro_f1": 0.5, "log_loss": 1.25, "calibration_error": 0.03}
    metrics = {
        "data": {"source": kind},
        "test": scores,
        "test_interval": {"accuracy": {"low": accuracy - 0.01, "high": accuracy + 0.01}},
        "test_if_calibrated": {"calibration_error": {"mean": 0.01, "high": 0.02}},
    }
    scored = {"seconds": 0.5, "rows": 10_000, "training_rows": 20_300, "mediums": 29}
    return ModelRun(metrics, Run(seconds, 200), Run(1, 300, found=scored), 2.5)


def some_results(kind: str = "synthetic") -> Results:
    """Every model, each slower than the one before, and two other ways."""
    place = {"synthetic.preset": "full"}
    found = {
        name: model_run(0.9 - number / 10, 9 + 10 * number, kind)
        for number, name in enumerate(DESCRIPTIONS)
    }
    peers = {
        KERAS: Run(30, 600, found={"accuracy": 0.6, "log_loss": 1.5}),
        SVC: Run(900, 150, fate="ended after 15 minutes"),
    }
    return Results(Source("A table", place, place), "ensemble", found, peers)


def test_every_model_is_measured():
    assert models.descriptions() == DESCRIPTIONS
    assert {peer.like for peer in models.PEERS} <= set(DESCRIPTIONS)
    assert set(models.TRIAL_MODELS) <= set(DESCRIPTIONS)
    # Up to the stages that each model runs for itself; the report only tells what they measured.
    assert list(STAGES) == [*models.BEFORE_TRAIN, "train", "evaluate", "report"]


def test_a_section_has_a_row_and_a_command_for_each_model_and_says_synthetic():
    results = some_results()
    lines = rows_of(models.table_of_models(results))
    assert lines[1] == (
        "| `kernel_ridge` | 0.8000 | 0.7900 to 0.8100 | 0.5000 | 1.2500 | 0.0300 | 0.0200 |  "
        "| 19.0 | 200 | 50.0 | 2.5 |"
    )
    text = models.section(results)
    for name, line in zip(DESCRIPTIONS, lines, strict=True):
        assert line.startswith(f"| `{name}` ")
        command = f"dvc exp run -S download.synthetic.preset=full -S train.model={name}"
        assert f"\n{command} -S train.without_sizes=false\n" in text
    assert "20,300 training rows, 10,000 test rows, 29 mediums" in text
    assert text.count("(synthetic data)") == 2
    assert "synthetic data" not in models.section(some_results("file"))


def test_other_ways_are_divided_by_the_default_and_by_the_model_of_their_kind():
    lines = rows_of(models.table_of_peers(some_results()))
    assert lines[0].startswith(
        "| this project, `ensemble` (default) | 10.0 | 1.00 |  | 300 | 1.00 |  |"
    )
    # Ours of the same kinds take 70 s and 20 s, with the scoring.
    assert lines[-2:] == [
        "| Keras, like `mlp` | 30.0 | 3.00 | 0.50 | 600 | 2.00 | 2.00 | 0.6000 | 1.5000 |",
        "| `SVC()`, like `kernel_ridge` | over 900.0 | over 90.00 | over 45.00 "
        "| over 150 | over 0.50 | over 0.50 | ended after 15 minutes |  |",
    ]


# Photographs

FEW, MANY = photographs.counts(OURS, 800)


def some_photographs(rate: float, slower: float = 6, start: float = 1) -> dict[str, Run]:
    """So many photographs a CPU second of ours, and half of that a second."""
    found = {photographs.AGAIN: Run(2, 100, 1)}
    for name, own in ((OURS, rate), (photographs.KERAS, rate / slower)):
        few, many = photographs.counts(name, 800)
        for label, count in ((photographs.of_few(name), few), (name, many)):
            found[label] = Run(start + 2 * count / own, 300 + count, start + count / own)
    for name, seconds in ((photographs.DECODE, 0.2), (photographs.ONNX, 2.0)):
        found[name] = Run(9, 100, 9, {"cpu_seconds": seconds})
    return found


def test_keras_has_whole_batches():
    for most in (photographs.TRIAL_MOST, photographs.MOST):
        few, many = photographs.counts(photographs.KERAS, most)
        assert few % photographs.BATCH == many % photographs.BATCH == 0
        assert 0 < few < many <= most
        assert {few, many, most} <= photographs.sizes(most)


def test_the_start_is_no_part_of_the_speed_of_photographs():
    one = some_photographs(50.0, start=3.0)
    assert photographs.rate(OURS, 800)(one) == pytest.approx(50)
    assert photographs.rate(OURS, 800, "seconds")(one) == pytest.approx(25)
    assert photographs.start(OURS, 800)(one) == pytest.approx(3)


def test_photographs_are_compared_within_rounds():
    rounds = [some_photographs(90), some_photographs(180, 10), some_photographs(45, 7)]
    ours, theirs = rows_of(photographs.table_of_ways(rounds, [OURS, photographs.KERAS], 800))
    assert ours == f"| {OURS} | 3 | 90.0 | 45.0 | 180.0 | 1.0 | 45.0 | 1.0 | 1.0 | 1,100 |"
    assert theirs.startswith("| Keras, JAX | 3 | 15.0 | 6.4 | 18.0 | 7.0 |")
    assert [aim.found for aim in photographs.aims(rounds, 800)] == pytest.approx([90, 7])
    lines = rows_of(photographs.table_of_parts(rounds, 800))
    assert lines[0] == "| Pillow alone: decode and resize | 1.0 | 1,000 |"
    assert lines[2] == "| `commands.embed`, all that it does | 11.1 | 90 |"
    words = " ".join(photographs.in_words(rounds, 800, 2e-5, 0.9).split())
    assert "500 MB for 200 and 1,100 MB for 800" in words
    assert "takes 2.0 seconds (1.0 CPU seconds)" in words
    assert "is 2e-05, where 90 % of" in words


# A collection, and its queue


@pytest.mark.parametrize(
    ("tasks", "workers", "window", "overhead", "expected"),
    [
        ([2, 2, 2, 2], 2, 100, 0, 4),  # two and two
        ([2, 2, 2], 2, 100, 0, 4),  # at the end, one waits for the other
        ([2, 2, 2, 2], 2, 1, 0, 8),  # one at a time
        ([9, 1, 1, 1, 1], 2, 3, 0, 10),  # the slow one holds up the third behind it
        ([1] * 50, 50, 100, 0.5, 26),  # the scheduler is what takes the time
    ],
)
def test_a_queue_that_is_played_waits_where_a_cluster_does(
    tasks, workers, window, overhead, expected
):
    assert collection.queue_seconds(tasks, workers, window, overhead) == pytest.approx(expected)
    assert collection.formula_seconds(np.array(tasks), workers, overhead) <= expected


def test_the_page_of_scale_is_what_its_figures_say():
    page = (PROJECT / scale.PAGE).read_text(encoding="utf-8")
    figures = json.loads((PROJECT / scale.FIGURES).read_text(encoding="utf-8"))
    assert filled(page, scale.texts_of(figures)) == page
    assert {"stages", "workers", "collection"} <= figures.keys()
    rows = {29 * sum(sizes.per_medium(1_000_000).values())}
    assert {str(number) for number in rows} <= figures["stages"].keys()
    assert simulator.PRESETS["million"] == sizes.per_medium(1_000_000)


def test_what_workers_took_is_a_line_for_each_number_of_them():
    figures = {
        "seconds": {work: {"0": 4.0, "1": 5.0, "2": 3.0, "4": 3.5} for work in workers.WORKS},
        "task seconds": [1.0, 2.0],
        "photographs of a task": 64,
        "overhead": 0.002,
        "bytes of a photograph": 300_000.0,
    }
    text = workers.text(figures)
    assert rows_of(text)[:2] == [
        "| no cluster, threads | 4.0 | 4.0 | 4.0 |",
        "| 1 worker | 5.0 | 5.0 | 5.0 |",
    ]
    assert "64 photographs of 300 kB takes 1.50 seconds of a core, and 2.0 ms of the sch" in text


def test_a_collection_is_as_many_tasks_as_hold_it(monkeypatch):
    monkeypatch.setattr(collection, "PHOTOGRAPHS", 1001)
    monkeypatch.setattr(collection, "MACHINES", (1, 2))
    monkeypatch.setattr(collection, "MACHINES_OF_A_RUN", 1)
    figures = {
        "photographs of a task": 10,
        "task seconds": [36.0],
        "window of a worker": 2,
        "overhead": 0.0,
        "bytes of a photograph": 1e9,
        "bytes of an embedding": 1e6,
    }
    found = collection.measured(figures)
    assert found["tasks"] == 101
    # 101 tasks on 16 and on 32 workers: seven and four one after the other.
    one = {"formula": 101 / 16 / 100, "queue": 0.07, "runs": 0.07}
    assert found["hours"]["1"] == pytest.approx(one)
    # Of two runs with a machine each, one has 51 tasks.
    two = {"formula": 101 / 32 / 100, "queue": 0.04, "runs": 0.04}
    assert found["hours"]["2"] == pytest.approx(two)
    # Where the process that asks takes ten seconds for each task, a second one takes half of them.
    slow = collection.measured(figures | {"overhead": 10.0})["hours"]
    assert slow["1"]["formula"] == pytest.approx(1010 / 3600)
    assert slow["2"]["runs"] == pytest.approx((510 + 36) / 3600)
    assert found["terabytes"]["bytes of a photograph"] == pytest.approx(1.001)
    assert rows_of(collection.text(found))[0].startswith("| 1 | 0.06 | 0.07 | 10.9 % | 0.07 | 0 |")
