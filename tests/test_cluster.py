"""The same bytes with and without a cluster, and one sentence for whatever goes wrong on it.

The schedulers and workers are real ones, on 127.0.0.1.
"""

import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager

import cluster_pieces
import numpy as np
import pytest
from conftest import BUCKET, PROJECT, change_params, tiny_rows, write_csv_table, write_params
from ruamel.yaml import YAML
from test_network import folder_of_photographs, small, small_network  # noqa: F401
from test_predict import train_rows, write_model

from photographs.embed import embed
from photographs.pictures import places, table
from photographs.pictures.embedder import Embedder, embedder_at
from stages.common import cluster, engine
from stages.common.cluster import Cluster, cluster_at, fingerprint, run_piece
from stages.common.engine import SCHEDULER, in_order
from stages.common.errors import PipelineError

serialize_bytes = pytest.importorskip("distributed.protocol.serialize").serialize_bytes
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "tests")])}
ENVIRONMENT.pop(SCHEDULER, None)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def started(*command, environment=None):
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=PROJECT,
        env=ENVIRONMENT | (environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def scheduler():
    """The address of a scheduler, and its process."""
    port = free_port()
    options = ("--host", "127.0.0.1", "--port", port, "--no-dashboard")
    with started("dask", "scheduler", *options) as process:
        yield f"tcp://127.0.0.1:{port}", process


def workers(address, number=1, *options, environment=None):
    command = ("commands.worker", address, "--workers", number, *options)
    return started(*command, environment=environment)


@pytest.fixture(scope="module", autouse=True)
def patient():
    """On a busy machine it takes long until a worker has started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "PATIENCE", 90.0)
        yield


@contextmanager
def started_workers(number):
    """The address of a scheduler with so many workers, which have all joined."""
    with scheduler() as (address, _), workers(address, number):
        cluster_at(address)._client.wait_for_workers(number, timeout=90)
        yield address
        cluster_at(address).close()


@pytest.fixture(scope="module")
def two_workers():
    """The address of a scheduler with two workers."""
    with started_workers(2) as address:
        yield address


@pytest.fixture
def unchecked(monkeypatch):
    """What is expected of workers is nothing: this process has loaded NumPy its own way."""
    monkeypatch.setattr(cluster, "fingerprint", dict)


@pytest.fixture
def elsewhere(two_workers, unchecked, monkeypatch):
    """Work goes to two workers."""
    monkeypatch.setenv(SCHEDULER, two_workers)
    return two_workers


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 2.0)


@contextmanager
def connected(address):
    """A function that gives the results of pieces on a cluster."""
    found = Cluster(address)
    try:
        yield lambda function, items: list(
            engine._in_order(found.submitter(function), found.result, found.ahead, items)
        )
    finally:
        found.close()


def test_pieces_run_on_the_workers_and_their_results_come_in_order(elsewhere):
    assert list(in_order(cluster_pieces.square, range(50))) == [n * n for n in range(50)]
    found = set(in_order(cluster_pieces.process, range(20)))
    assert os.getpid() not in found
    assert len(found) == 2


def test_no_more_pieces_are_taken_in_advance_than_keep_the_workers_busy(elsewhere):
    taken = []
    results = in_order(cluster_pieces.square, (taken.append(n) or n for n in range(100)))
    assert next(results) == 0
    assert len(taken) <= 1 + cluster.AHEAD * 2
    results.close()
    assert len(taken) <= 1 + cluster.AHEAD * 2


def test_what_a_piece_refuses_is_refused_here(elsewhere):
    with pytest.raises(PipelineError, match=r"^3 is refused$"):
        list(in_order(cluster_pieces.refuse, [3]))


def run_stages(folder, *names, address=None):
    """Run stages in a folder, here or on a cluster, as `dvc repro` does."""
    more = {SCHEDULER: address} if address else {}
    for name in names:
        command = [sys.executable, "-m", f"stages.{name}"]
        result = subprocess.run(
            command, cwd=folder, env=ENVIRONMENT | more, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("data/**/*")
        if path.is_file()
    }


def stages_write(folder, address=None):
    """The bytes that the stages write whose work goes in pieces, of a small table in a folder."""
    raw = folder / "data/raw"
    raw.mkdir(parents=True)
    write_params(folder)
    few = {"parse_embeddings_to_parquet.row_group_rows": 20, "featurize.embedding": "pca"}
    change_params(folder / "params.yaml", few)
    write_csv_table(raw / "t.csv", tiny_rows())
    (raw / "provenance.json").write_text(json.dumps({"source": "file", "file": "t.csv"}))
    stages = ("parse_embeddings_to_parquet", "split", "featurize")
    return run_stages(folder, *stages, address=address)


def test_stages_write_the_same_bytes_with_and_without_a_cluster(two_workers, tmp_path):
    here = stages_write(tmp_path / "here")
    assert len(here) > 7
    assert stages_write(tmp_path / "elsewhere", two_workers) == here


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 4])
def test_stages_write_the_same_bytes_with_any_number_of_workers(number, tmp_path):
    with started_workers(number) as address:
        assert stages_write(tmp_path / "elsewhere", address) == stages_write(tmp_path / "here")


def test_models_have_the_same_bytes_with_and_without_a_cluster(two_workers):
    def models(**environment):
        command = [sys.executable, "-c", "import cluster_pieces; cluster_pieces.models()"]
        return subprocess.check_output(command, cwd=PROJECT, env=ENVIRONMENT | environment)

    here = models()
    assert len(here) > 2000
    assert models(**{SCHEDULER: two_workers}) == here


def test_photographs_have_the_same_embeddings_with_and_without_a_cluster(
    elsewhere,
    folder_of_photographs,  # noqa: F811
    small_network,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(table, "PHOTOGRAPHS_OF_A_PIECE", 2)
    folder = tmp_path / "photographs"
    shutil.copytree(folder_of_photographs, folder)
    (folder / "none.jpg").write_bytes(b"no photograph")
    (folder / "out.jpg").symlink_to(PROJECT / "README.md")
    packed = tmp_path / "photographs.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.glob("?.jpg")):
            archive.write(path, path.name)
    written = {}
    for place in ("elsewhere", "here"):
        for source in (folder, packed):
            output = tmp_path / place / f"{source.stem}-{source.suffix}.parquet"
            output.parent.mkdir(exist_ok=True)
            said = embed(source, output, Embedder(small_network))
            assert "7 of them computed now" in said
            left_out = output.with_name(f"{output.stem}.left_out.csv")
            written[place, source] = output.read_bytes(), left_out.read_bytes()
        if place == "elsewhere":
            # What was computed there is in the cache here.
            monkeypatch.delenv(SCHEDULER)
            assert "0 of them computed now" in embed(
                folder, tmp_path / "elsewhere/photographs-.parquet", Embedder(small_network)
            )
    for source in (folder, packed):
        assert written["elsewhere", source] == written["here", source]
    assert b"none.jpg" in written["here", folder][1]


def test_a_worker_whose_processor_gives_other_embeddings_is_refused(
    small_network,  # noqa: F811
    monkeypatch,
):
    pickled = pickle.dumps(Embedder(small_network))
    embedder_at.cache_clear()
    assert pickle.loads(pickled).path == small_network.resolve()
    embedder_at.cache_clear()
    answer = Embedder(small_network).answer
    last_bits = np.nextafter(answer, np.float32(np.inf))
    monkeypatch.setattr(Embedder, "answer", last_bits)
    with pytest.raises(PipelineError, match="has another kind of processor, on which network"):
        pickle.loads(pickled)


@pytest.mark.parametrize("asked", ["photographs", "table.csv"])
def test_answers_have_the_same_bytes_with_and_without_a_cluster(
    two_workers,
    folder_of_photographs,  # noqa: F811
    small_network,  # noqa: F811
    tmp_path,
    monkeypatch,
    asked,
):
    monkeypatch.chdir(tmp_path)
    embedder = Embedder(small_network)
    write_params(tmp_path)
    write_model(length=embedder.answer.size, identity=embedder.identity)
    shutil.copytree(folder_of_photographs, tmp_path / "photographs")
    write_csv_table(tmp_path / "table.csv", train_rows(embedder.answer.size))
    command = [sys.executable, "-m", "commands.predict", asked, "--network", small_network]

    def answers(name, **environment):
        more = {"PYTHONPATH": ENVIRONMENT["PYTHONPATH"]} | environment
        subprocess.run([*command, "-o", name], env=ENVIRONMENT | more, check=True)
        return (tmp_path / name).read_bytes()

    here = answers("here.csv")
    assert len(here.splitlines()) > 5
    assert answers("elsewhere.csv", **{SCHEDULER: two_workers}) == here


@pytest.mark.slow
def test_workers_read_photographs_from_a_store_by_themselves(
    unchecked,
    folder_of_photographs,  # noqa: F811
    small_network,  # noqa: F811
    s3,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(table, "PHOTOGRAPHS_OF_A_PIECE", 2)
    for path in folder_of_photographs.iterdir():
        s3.pipe(f"{BUCKET}/photographs/{path.name}", path.read_bytes())
    s3.pipe(f"{BUCKET}/photographs/none.jpg", b"no photograph")
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

    def made(name):
        output = tmp_path / f"{name}.parquet"
        said = embed(f"s3://{BUCKET}/photographs", output, Embedder(small_network))
        assert "7 of them computed now" in said
        return output.read_bytes(), output.with_name(f"{name}.left_out.csv").read_bytes()

    here = made("here")
    assert b"none.jpg" in here[1]
    with scheduler() as (address, _):
        monkeypatch.setenv(SCHEDULER, address)
        with workers(address, 2, environment=keys):
            assert made("elsewhere") == here
        wrong = keys | {"AWS_SECRET_ACCESS_KEY": "wrong"}
        with (
            workers(address, environment=wrong),
            pytest.raises(PipelineError, match=r"^the worker on .*: it may not be read with"),
        ):
            made("refused")
        cluster_at(address).close()


def test_photographs_that_a_worker_does_not_reach_are_no_missing_photographs(
    elsewhere,
    small_network,  # noqa: F811
    tmp_path,
):
    piece = pickle.dumps(places.open_place(tmp_path))
    tmp_path.joinpath("gone").mkdir()
    gone = pickle.dumps(places.open_place(tmp_path / "gone"))
    tmp_path.joinpath("gone").rmdir()
    assert pickle.loads(piece).names() == []
    with pytest.raises(PipelineError, match=r"the worker on .* does not reach .*/gone: put the ph"):
        pickle.loads(gone)
    shutil.copytree(small_network.parent, tmp_path / "networks")
    network = tmp_path / "networks" / small_network.name
    embedder = pickle.dumps(Embedder(network))
    network.write_bytes(b"another")
    with pytest.raises(
        PipelineError, match=r"has no .*/network\.onnx, or another one: put it where"
    ):
        pickle.loads(embedder)


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(elsewhere, tmp_path):
    died = tmp_path / "died"
    items = [(number, died) for number in range(12)]
    assert list(in_order(cluster_pieces.die_once, items)) == [n * n for n in range(12)]
    assert died.exists()


@pytest.mark.slow
def test_a_machine_that_is_gone_leaves_its_pieces_to_the_others(unchecked):
    with (
        scheduler() as (address, _),
        workers(address) as first,
        workers(address),
        connected(address) as results,
    ):
        items = (first.kill() or n if n == 6 else n for n in range(16))
        assert results(cluster_pieces.slow_square, items) == [n * n for n in range(16)]


@pytest.mark.slow
def test_workers_that_end_over_one_piece_are_told(elsewhere):
    with pytest.raises(PipelineError, match=r"ended while they worked on one piece, several times"):
        list(in_order(cluster_pieces.die, [1]))
    # The others go on.
    assert list(in_order(cluster_pieces.square, [5])) == [25]


@pytest.mark.slow
def test_a_worker_that_is_too_small_is_told(unchecked):
    with (
        scheduler() as (address, _),
        workers(address, 1, "--memory", "400MB"),
        connected(address) as results,
    ):
        assert results(cluster_pieces.square, [2]) == [4]
        with pytest.raises(PipelineError, match="give each more memory"):
            results(cluster_pieces.take_memory, [800])


@pytest.mark.slow
def test_a_run_that_all_workers_leave_ends(unchecked, monkeypatch):
    with (
        scheduler() as (address, _),
        workers(address) as process,
        connected(address) as results,
    ):
        monkeypatch.setattr(cluster, "PATIENCE", 2.0)
        items = (process.kill() or n if n == 5 else n for n in range(50))
        start = time.monotonic()
        with pytest.raises(PipelineError, match=f"scheduler at {address} has no worker: start"):
            results(cluster_pieces.slow_square, items)
        assert time.monotonic() - start < 40


@pytest.mark.slow
def test_a_scheduler_that_is_lost_is_told(unchecked, monkeypatch):
    with scheduler() as (address, process), workers(address), connected(address) as results:
        monkeypatch.setattr(cluster, "PATIENCE", 2.0)
        items = (process.kill() or n if n == 5 else n for n in range(50))
        start = time.monotonic()
        with pytest.raises(PipelineError, match=f"scheduler at {address} is gone: start it"):
            results(cluster_pieces.slow_square, items)
        assert time.monotonic() - start < 40


@pytest.mark.slow
def test_no_scheduler_and_no_worker_are_told(impatient):
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(PipelineError, match=f"no Dask scheduler answers at {address}, which DASK"):
        Cluster(address)
    with pytest.raises(PipelineError, match="no Dask scheduler answers at nonsense"):
        Cluster("nonsense://")
    with (
        scheduler() as (address, _),
        pytest.raises(PipelineError, match=f"at {address} has no worker: start some by `pyth"),
    ):
        Cluster(address)


def test_without_dask_the_way_out_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(PipelineError, match=r"Dask is not installed: `pip install .* or unset DAS"):
        Cluster("tcp://127.0.0.1:1")


@pytest.mark.slow
def test_a_worker_with_other_packages_is_refused(tmp_path):
    # As if an older NumPy had been installed there.
    other = tmp_path / "numpy-1.2.3.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.2.3\n")
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), ENVIRONMENT["PYTHONPATH"]])}
    with (
        scheduler() as (address, _),
        workers(address, environment=path),
        connected(address) as results,
        pytest.raises(PipelineError, match=r"has numpy 1\.2\.3, and here it is \d"),
    ):
        results(cluster_pieces.square, [1])


@pytest.mark.parametrize("name", ["Python", "the code", "linear algebra for", "pyarrow"])
def test_whatever_may_change_bytes_is_compared(name):
    here = fingerprint()
    assert run_piece(here, *map(serialize_bytes, (cluster_pieces.square, 4))) == 16
    with pytest.raises(PipelineError, match=f"has {name} .*, and here it is other: other bytes"):
        run_piece(here | {name: "other"}, *map(serialize_bytes, (cluster_pieces.square, 4)))


def test_the_commands_of_the_document_and_of_the_containers_are_those_that_exist():
    guide = (PROJECT / "docs/cluster.md").read_text(encoding="utf-8")
    scheduler_command, worker_command, ask = (
        "dask scheduler --no-dashboard",
        "python -m commands.worker tcp://192.0.2.1:8786",
        "DASK_SCHEDULER_ADDRESS=tcp://192.0.2.1:8786 dvc repro",
    )
    assert f"```sh\n{scheduler_command}\n{worker_command}\n{ask}\n```" in guide
    services = YAML(typ="safe").load(PROJECT / "compose.yaml")["services"]
    assert services["scheduler"]["command"] == scheduler_command
    in_container = services["worker"]["command"]
    assert in_container == f"{worker_command} --workers 1".replace("192.0.2.1", "scheduler")
    for service in services.values():
        # The same paths as outside, where the project is.
        assert service["volumes"] == [".:${PWD}"]
        assert service["working_dir"] == "${PWD}"
        assert (PROJECT / service["build"] / "Dockerfile").is_file()
    copied = re.findall(r"requirements[-\w]*\.txt", (PROJECT / "Dockerfile").read_text())
    assert all((PROJECT / name).is_file() for name in copied)
    assert set(copied) == {"requirements.txt", "requirements-cluster.txt"}
    for command in (["dask", "scheduler"], ["commands.worker"]):
        typed = [sys.executable, "-m", *command, "--help"]
        said = subprocess.check_output(typed, cwd=PROJECT, env=ENVIRONMENT, text=True)
        assert ("--no-dashboard" if command[0] == "dask" else "--workers") in said


@pytest.mark.slow
def test_ctrl_c_ends_a_stage_that_waits_for_a_cluster(unchecked, tmp_path):
    code = (
        "import stages; from stages.common import cluster; cluster.fingerprint = dict\n"
        "from stages.common.engine import in_order; import cluster_pieces\n"
        "from stages.common.stage import run\n"
        "def main():\n"
        "    for found in in_order(cluster_pieces.slow_square, range(10**6)):\n"
        "        print(found, flush=True)\n"
        "run('test', main)"
    )
    with scheduler() as (address, _), workers(address):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=PROJECT,
            env=ENVIRONMENT | {SCHEDULER: address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.communicate(timeout=60)[1]
        assert process.returncode != 0
