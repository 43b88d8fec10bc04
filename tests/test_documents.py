"""What the documents say is true: their commands run, their figures are those of the reports."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT, Project, as_published, read_yaml, tiny_rows
from pictures import draw, write_network
from test_download import give, server

from photographs.networks.description import Description
from stages.models.registry import NAMES
from stages.parser.contract import MAME_MEDIUMS

README = (PROJECT / "README.md").read_text(encoding="utf-8")
GUIDE = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# The guide's 100,000 files take hours, and a run with each model, and a search, some minutes.
FEWER_EXAMPLES = GUIDE.replace("FUZZ_EXAMPLES=100000", "FUZZ_EXAMPLES=5")
EVERY_MODEL = f'"train.model={",".join(NAMES)}"'
FEWER_MODELS = README.replace(EVERY_MODEL, '"train.model=ensemble,lda"').replace(
    "components=128,256,512", "components=128"
)
PROMISES = (PROJECT / "docs/reproducibility.md").read_text(encoding="utf-8")
PHOTOGRAPHS = (PROJECT / "docs/photographs.md").read_text(encoding="utf-8")
RELIABILITY = (PROJECT / "docs/reliability.md").read_text(encoding="utf-8")
CURATORS = (PROJECT / "docs/curators.md").read_text(encoding="utf-8")
RESULTS = (PROJECT / "docs/results.md").read_text(encoding="utf-8")
SHARED = PROJECT.parent / "shared"

# Commands that these tests do not run, and why or where else they are run.
ELSEWHERE = {
    "make test": "it runs these tests",
    "make test-slow": "the same",
    'PATH="$PWD/.venv/bin:$PATH" python -m pytest -n 2 -m "not slow"': "the same",
    ".ci/run": "the same",
    "python -m pytest tests/test_machines.py -m slow -k avx_512": "`make test-slow` runs it",
    "make verify": "tests/test_verify.py runs it here, and .ci/run in a new environment",
    "python commands/verify.py --keep": "as above",
    "python -m scripts.verify_arm64": "it takes ten minutes; tests/test_verify.py runs its parts",
    "python3 -m venv .venv": "`make verify` of .ci/run does it",
    ".venv/bin/python -m pip install --require-hashes -r requirements.txt": "as above",
    ".venv/bin/python -m pip install --require-hashes -r requirements.txt "
    "-r requirements-dev.txt": "as above",
    "python -m pip uninstall xgboost-cpu": "it needs an NVIDIA graphics card, as the README says",
    "python -m pip install xgboost==3.2.0": "as above",
    "dvc exp run -S train.model=xgboost -S train.device=cuda": "as above",
    "python -m pip install dvc-s3==3.3.0": "requirements-dev.txt pins that version",
    "dvc remote modify team endpointurl URL": "tests/test_remotes.py, with the URL of a server",
    "dvc remote modify --local team access_key_id ...": "tests/test_remotes.py, with a key",
    "dvc remote modify --local team secret_access_key ...": "as above",
    "dvc exp run -S train.model=NAME": "tests/test_recipes.py, with the name of a model",
    "make bench": "it takes long; tests/test_benchmarks.py has trials of its parts",
    "python -m benchmarks parse": "as above",
    "python -m benchmarks pipeline": "as above",
    "python -m benchmarks models --table /somewhere/table.parquet": "as above",
    "python -m commands.network": "it asks Keras's place; tests/test_network.py has one of ours",
    'python -m commands.network WEIGHTS --name "our own"': "tests/test_network.py",
    "python -m commands.network FILE": "the same, with a file",
    "python -m commands.serve": "it serves until Ctrl-C; tests/test_serve.py presses that",
    "python -m commands.embed s3://BUCKET/photographs --metadata s3://BUCKET/catalogue.csv "
    "-o /somewhere/extended.parquet": "tests/test_photographs_of_stores.py, with an S3 server",
    "cd photographs && dvc repro": "tests/test_photographs_pipeline.py, with a server of ours",
    "dvc repro embed": "tests/test_photographs_pipeline.py, in the folder photographs",
    "python -m commands.explain synthetic-000002.jpg": "tests/test_explain.py, about other rows",
    "make requirements": "it asks the index of packages for the newest",
    "make audit": "it asks a database on the internet",
    "python -m scripts.fuzz --inputs 2000": "tests/test_spoiled.py, with fewer inputs",
    "python -m scripts.soak --rounds 200 --seed 0 --minutes 27": "tests/test_soak.py, ten rounds",
    "python -m benchmarks.long_embeddings": "tests/test_benchmark_peers.py, its table",
    "python -m scripts.packages": "tests/test_packages.py compares what it writes with the pins",
    "mkdir -p -m 700 ~/.dvc-notes && dvc config --global core.site_cache_dir ~/.dvc-notes": "it "
    "changes settings outside the project",
}

# What the README tells to type after an experiment.
GO_BACK = "git checkout params.yaml dvc.lock reports && dvc checkout"


def commands(document: str) -> list[str]:
    """The commands of a document in their order: lines of its blocks, without comments, and words
    in the text that begin as a command does."""
    found = []
    for block, words in re.findall(r"```(?:sh|text)\n(.*?)```|`([^`\n]+)`", document, re.DOTALL):
        lines = [line.split("  #")[0].strip() for line in block.splitlines()]
        found += [line for line in lines if line]
        if re.match(r"(make|dvc|git|python) [-\w]+|\.ci/run", words) and words != "git add":
            found.append(words)
    return found


def run_commands(project: Project, typed: Iterable[str], folder: Path) -> None:
    """Run the commands that are not run elsewhere; `/somewhere` is `folder`."""
    for command in typed:
        if command in ELSEWHERE:
            continue
        project.run("bash", "-c", command.replace("/somewhere", str(folder)))
        if command == "make repro":
            project.commit()
        elif command.startswith("dvc exp run") and "--queue" not in command:
            project.run("bash", "-c", GO_BACK)


def add_environment(project: Project) -> None:
    """An environment that is there already, in the place where the documents have it."""
    environment = project.folder / ".venv"
    environment.mkdir()
    for part in Path(sys.prefix).iterdir():
        if not part.name.startswith("."):
            (environment / part.name).symlink_to(part)
    for done in (".requirements", ".requirements-dev"):
        (environment / done).touch()
    # What mypy knows of the libraries from the last `make lint` here; it checks what has changed.
    if (PROJECT / ".mypy_cache").is_dir():
        shutil.copytree(PROJECT / ".mypy_cache", project.folder / ".mypy_cache")


def test_commands_that_are_run_elsewhere_are_in_the_documents_and_can_be_run():
    documents = (README, GUIDE, PROMISES, RELIABILITY, PHOTOGRAPHS, CURATORS)
    assert set(ELSEWHERE) <= {command for document in documents for command in commands(document)}
    for command in ELSEWHERE:
        if command.startswith("make"):
            # It says what it would do; a target that is not there is an error.
            run = ["make", "--dry-run", *command.split()[1:]]
            subprocess.run(run, cwd=PROJECT, check=True, capture_output=True)
    pins = (PROJECT / "requirements-dev.txt").read_text(encoding="utf-8")
    assert "\ndvc-s3==3.3.0 " in pins


def test_the_project_has_one_version_and_one_oldest_python():
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    citation = read_yaml(PROJECT / "CITATION.cff")
    assert citation["version"] == settings["project"]["version"]
    assert citation["license"] == settings["project"]["license"]
    oldest = settings["project"]["requires-python"].removeprefix(">=")
    assert settings["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert settings["tool"]["mypy"]["python_version"] == oldest
    assert f"Python {oldest} or newer" in README
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert f"--python-version {oldest} " in makefile
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in makefile


def test_the_way_back_that_is_run_is_the_one_in_the_documents():
    assert f"`{GO_BACK}`" in README
    assert f"`{GO_BACK}`" in RESULTS


def test_the_first_two_commands_set_everything_up():
    assert commands(README)[:2] == ["make repro", "make test"]


def add_photographs(project: Project, folder: Path) -> None:
    """A network in its place in the project, and photographs with two catalogues in `folder`."""
    write_network(project.folder / "models/network.onnx")
    rows = []
    for kind, medium in enumerate(MAME_MEDIUMS[:3]):
        for number in range(40):
            name = f"{kind}-{number}.jpg"
            draw(folder / "photographs" / medium / name, kind, number)
            rows.append((name, medium))
    for catalogue, header in (("catalogue", ("Image file", "Medium")), ("inventory", OTHER_NAMES)):
        with (folder / f"{catalogue}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])


# What docs/photographs.md has a catalogue call the columns.
OTHER_NAMES = ("file", "material")


@pytest.mark.slow
def test_the_commands_for_photographs_run(project, tmp_path):
    add_photographs(project, tmp_path)
    run_commands(project, commands(PHOTOGRAPHS), tmp_path)
    for table, length in (("extended", 256), ("all_layers", 2736)):
        rows = pq.read_table(tmp_path / f"{table}.parquet").to_pylist()
        assert {len(row["MobileNetV1 features"]) for row in rows} == {length}
        assert len(rows) == 120


def test_the_description_that_the_guide_shows_is_one():
    (shown,) = re.findall(r"```json\n(.*?)\n```", PHOTOGRAPHS, re.DOTALL)
    network = Description.model_validate_json(shown)
    assert network.outputs("last") == ["features"]
    listed = re.findall(r"^\| (`.*?`) \|", PHOTOGRAPHS, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", "".join(listed))) == set(Description.model_fields)


@pytest.mark.slow
def test_the_commands_of_the_readme_run(clone_project, tmp_path):
    # 144 training rows and 256 numbers an embedding: enough for its 128 components, and as many as
    # the network of the photographs gives.
    rows = [
        row | {"Medium": MAME_MEDIUMS[int(row["Medium"].split()[1])], "Year": 1850}
        for row in tiny_rows(rows_each=48, length=256)
    ]
    table = tmp_path / "my_artefacts.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    metadata = tmp_path / "MAMe_dataset.csv"
    pa.csv.write_csv(pq.read_table(table).drop_columns(["MobileNetV1 features"]), metadata)
    content = table.read_bytes()
    project = clone_project()
    add_environment(project)
    add_photographs(project, tmp_path)
    with server(give(content)) as (url, _):
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        places = [{"url": url, "checksum": checksum, "size": len(content)}]
        project.set_params(
            **{
                "download.source": "file",
                "download.file.path": str(table),
                "download.mame.places": places,
                "train.xgboost.rounds": 3,
            }
        )
        project.commit()
        run_commands(project, commands(FEWER_MODELS), tmp_path)


def test_the_readme_queues_every_model():
    assert README.count(f"dvc exp run --queue -S {EVERY_MODEL}\n") == 1


@pytest.mark.slow
def test_the_commands_of_the_guide_and_of_the_promises_run(project, tmp_path):
    add_environment(project)
    # Each once: between two that are the same, nothing changes.
    typed = dict.fromkeys(commands(FEWER_EXAMPLES) + commands(PROMISES) + commands(RELIABILITY))
    run_commands(project, typed, tmp_path)
    # The style was right before, so that `make format` has nothing to mend.
    assert project.git("status", "--porcelain").stdout == ""


def test_the_graph_in_the_readme_is_the_one_that_dvc_draws(project):
    drawn = project.dvc("dag", "--md").stdout.strip()
    assert drawn in README


@as_published
def test_the_results_in_the_readme_are_those_of_the_reports():
    files = {"metrics": ["val", "test", "baseline"], "details": ["test_interval"]}
    files["details"] += ["test_if_calibrated"]
    for name, parts in files.items():
        path = f"reports/{name}.json"
        content = json.loads((PROJECT / path).read_text(encoding="utf-8"))
        table = re.search(rf"<!-- result: {path} -->(.*?)<!-- end -->", README, re.DOTALL)
        rows = re.findall(r"^\| `([\w.]+)` \| ([\d.]+) \|", table[1], flags=re.MULTILINE)
        assert {key.split(".")[0] for key, _ in rows} == set(parts)
        for key, written in rows:
            value = content
            for part in key.split("."):
                value = value[part]
            assert written == f"{value:.4f}", key
    source = json.loads((PROJECT / "reports/metrics.json").read_text(encoding="utf-8"))["data"]
    assert source["source"] == "synthetic"


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        "data/README.md",
        *sorted(str(path.relative_to(PROJECT)) for path in (PROJECT / "docs").glob("*.md")),
    ],
)
def test_links_between_documents_lead_somewhere(document):
    text = (PROJECT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(((?!http)[^)#]+)", text):
        assert ((PROJECT / document).parent / target).exists(), target


def test_the_measurements_of_models_stand_in_one_document():
    measured = (PROJECT / "docs/benchmarks.md").read_text(encoding="utf-8")
    lines = [line for line in measured.splitlines() if line.startswith("| ") and "0." in line]
    assert lines
    others = "\n".join(
        path.read_text(encoding="utf-8")
        for path in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
        if path.name != "benchmarks.md"
    )
    for line in lines:
        assert line not in others


def test_links_to_headings_lead_to_one():
    documents = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md"]
    documents += (PROJECT / "docs").glob("*.md")
    for document in documents:
        text = document.read_text(encoding="utf-8")
        for name, heading in re.findall(r"\]\(((?!http)[^)#]*)#([^)]+)\)", text):
            target = (document.parent / name).resolve() if name else document
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in anchors, f"{document.name}: {name}#{heading}"


# What the project set out to reach on real input, and what docs/results.md says was reached.
REAL = [
    ("real/real_art_extended.parquet", "The default, real embeddings", 0.910),
    ("mame/MAMe_dataset.csv", "XGBoost, real sizes and museum", 0.365),
]


@pytest.mark.slow
@pytest.mark.parametrize(("table", "name", "least"), REAL, ids=[name for _, name, _ in REAL])
def test_the_main_results_on_real_input_are_as_written(clone_project, table, name, least):
    if not (SHARED / table).is_file():
        pytest.skip(f"the table ../shared/{table} is not here")
    section = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", RESULTS, re.DOTALL | re.MULTILINE)[1]
    (command,) = commands(section)
    project = clone_project()
    project.commit()
    project.run("bash", "-c", command.replace("/somewhere", str((SHARED / table).parent)))
    metrics = {
        part: content
        for name in ("metrics", "details")
        for part, content in json.loads(
            (project.folder / f"reports/{name}.json").read_text()
        ).items()
    }
    assert metrics["test"]["accuracy"] >= least
    written = re.findall(r"^\| `(\w+)\.(\w+)` \| ([\d.]+) \|", section, re.MULTILINE)
    assert written == [(part, key, f"{metrics[part][key]:.4f}") for part, key, _ in written]
    assert {"accuracy", "macro_f1", "log_loss"} <= {key for part, key, _ in written}
