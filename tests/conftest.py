"""What the tests share: a tiny table, and copies of the project in which DVC runs for real."""

import csv
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import vl_convert
from filelock import FileLock
from ruamel.yaml import YAML

from scripts.params import set_params as change_params
from stages import parse_embeddings_to_parquet
from stages.common.memory import allowed_bytes
from stages.sources.store import STORES
from stages.tables.artefacts import ARTEFACTS

PROJECT = Path(__file__).resolve().parents[1]
# What is committed, and what the tests run with: a fork may set any value in the first.
PARAMS, TESTS_PARAMS = PROJECT / "params.yaml", PROJECT / "tests/params.yaml"
BUCKET = "team-bucket"
MUSEUMS = ["Metropolitan Museum of Art", "The Cleveland Museum of Art"]


def tiny_rows(mediums: int = 6, rows_each: int = 24, length: int = 8, seed: int = 0) -> list[dict]:
    """Rows of a made-up table: each medium has a place of its own in the embedding."""
    random = np.random.default_rng(seed)
    rows = []
    for medium in range(mediums):
        centre = random.uniform(1, 5, length)
        for row in range(rows_each):
            width, height = (int(size) for size in random.integers(500, 4000, 2))
            embedding = np.clip(random.normal(centre, 1.0), 0, 6).astype(np.float32)
            rows.append(
                {
                    "Image file": f"tiny-{medium}-{row}.jpg",
                    "Medium": f"Medium {medium}",
                    "Museum": MUSEUMS[row % 2],
                    "Museum-based instance ID": f"{medium}.{row}",
                    "Subset": ("train", "train", "val", "test")[row % 4],
                    "Width": float(width),
                    "Height": float(height),
                    "Product size": float(width * height),
                    "Aspect ratio": round(width / height, 4),
                    "MobileNetV1 features": embedding.tolist(),
                }
            )
    return rows


def read_yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path)


@cache
def params_of_tests() -> tuple[str, list[str]]:
    """The text of the params.yaml that tests run with, and the names of what was added to it.

    It is tests/params.yaml. What only the committed params.yaml has, such as the section of a
    model that a fork has added, is added with its value there; the blend stays as it is.
    """
    yaml = YAML()
    params = yaml.load(TESTS_PARAMS)
    added = complete(params, moved(read_yaml(PARAMS), params["train"]["ensemble"]))
    stream = io.StringIO()
    yaml.dump(params, stream)
    return stream.getvalue(), added


def moved(params: dict, members: Iterable[str]) -> dict:
    """The parameters with these members of the blend, and with all other models outside."""
    models = dict(params["train"])
    models |= models.pop("ensemble", {})
    blend = {name: models.pop(name) for name in members if name in models}
    return params | {"train": {**models, "ensemble": blend}}


def complete(params: dict, others: dict, prefix: str = "") -> list[str]:
    """Add what only the others have; return the names. A mapping that is empty stays empty: its
    keys are names of the user's own."""
    added = []
    for key, value in others.items():
        if key not in params:
            params[key] = value
            added.append(f"{prefix}{key}")
        elif isinstance(value, dict) and isinstance(params[key], dict) and params[key]:
            added += complete(params[key], value, f"{prefix}{key}.")
    return added


def write_params(folder: Path) -> None:
    """Write the params.yaml that tests run with."""
    (folder / "params.yaml").write_text(params_of_tests()[0], encoding="utf-8", newline="\n")


# For what holds of the parameters and the results that the project itself has committed: a fork
# with others need not rewrite the documents, nor params.yaml in the form of DVC.
as_published = pytest.mark.skipif(
    read_yaml(PARAMS) != YAML(typ="safe").load(params_of_tests()[0]),
    reason="params.yaml has other values than tests/params.yaml, of which this is true",
)


def write_csv_table(path: Path, rows: list[dict]) -> Path:
    """Write rows as the course's text names them, the embedding as the text of a list."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


class Project:
    """A copy of the project in a folder of its own, with its own Git repository and DVC cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.umask = -1  # as it is

    def environment(self) -> dict[str, str]:
        """The settings that commands run with."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            # Nothing of the user's own settings, and nothing left behind outside the copy.
            "DVC_SITE_CACHE_DIR": str(self.folder.parent / "dvc-site-cache"),
            "DVC_GLOBAL_CONFIG_DIR": str(self.folder.parent / "dvc-global-config"),
            "DVC_SYSTEM_CONFIG_DIR": str(self.folder.parent / "dvc-system-config"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command in the copy; with `check`, a failure shows what it printed."""
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            umask=self.umask,
            capture_output=True,
            text=True,
        )
        if check and result.returncode:
            pytest.fail(f"{' '.join(command)}\n{result.stdout}\n{result.stderr}")
        return result

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check)

    def git(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.run("git", *arguments)

    def commit(self) -> None:
        """Commit all that Git does not ignore."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "test")

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`; return the stages that ran, in order."""
        return stages_run(self.dvc("repro", *arguments).stdout)

    def set_params(self, **values: object) -> None:
        """Change params.yaml: set_params(**{"train.model": "xgboost"})."""
        change_params(self.folder / "params.yaml", values)

    def copy(self, folder: Path) -> "Project":
        """A copy of the copy, cache included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def clone(self, folder: Path) -> "Project":
        """What a colleague gets: only what Git has, with a cache and settings of their own."""
        folder.mkdir(parents=True)
        self.git("clone", "--quiet", str(self.folder), str(folder / "project"))
        return Project(folder / "project")

    def results(self) -> dict[str, bytes]:
        """The bytes of dvc.lock and of every file below data/, models/ and reports/."""
        paths = [self.folder / "dvc.lock"]
        for folder in ("data", "models", "reports"):
            paths += (self.folder / folder).rglob("*")
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in paths
            if path.is_file()
        }


def stages_run(output: str) -> list[str]:
    """The stages that DVC says it ran, not those it skipped or took from the cache."""
    prefix = "Running stage '"
    return [
        line.removeprefix(prefix).split("'")[0]
        for line in output.splitlines()
        if line.startswith(prefix)
    ]


def texts(plot):
    """All texts of a plot, drawn as a browser would."""
    svg = vl_convert.vegalite_to_svg(plot["content"], vl_version="5.20")
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]+)</text>", svg)]


@pytest.fixture(autouse=True)
def memory_is_asked_anew():
    """A process reads `memory` once, and here it is that of many tests."""
    allowed_bytes.cache_clear()


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A function that gives a folder which is made once, for the tests of all workers."""
    root = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        root = root.parent

    def share(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return share


# What scikit-learn asks for the number of cores that are no hyper-threads.
LSCPU = '#!/bin/sh\nseq 0 "$((PLAYED_CORES - 1))"\n'


@pytest.fixture(scope="session")
def play_cores(shared):
    """A function that gives the settings with which programs see so many processor cores."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler, which makes the library that plays cores")

    def make(folder: Path) -> None:
        folder.mkdir()
        command = [compiler, "-shared", "-fPIC", "-o", folder / "cores.so"]
        subprocess.run([*command, PROJECT / "tests/cores.c", "-ldl"], check=True)
        (folder / "lscpu").write_text(LSCPU)
        (folder / "lscpu").chmod(0o755)

    def settings(cores: int) -> dict[str, str]:
        folder = shared("cores", make)
        return {
            "LD_PRELOAD": str(folder / "cores.so"),
            "PLAYED_CORES": str(cores),
            "PATH": os.pathsep.join(
                [str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
        }

    return settings


@pytest.fixture(scope="session")
def clone_project(tmp_path_factory):
    """A function that copies the project, without data, to a new folder.

    It is as it stands, but for params.yaml, which is that of the tests.
    """

    def clone(folder: Path | None = None) -> Project:
        folder = folder or tmp_path_factory.mktemp("clone") / "project"
        files = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        for name in filter(None, files.split("\0")):
            if (PROJECT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, folder / name)
        write_params(folder)
        project = Project(folder)
        project.git("init", "--quiet", "--initial-branch", "main")
        return project

    return clone


@pytest.fixture(scope="session")
def reproduced(clone_project, shared):
    """The project on a tiny table, run once and committed. Tests work on copies of it."""

    def make(folder: Path) -> None:
        project = clone_project(folder / "project")
        table = write_csv_table(folder / "tiny.csv", tiny_rows())
        project.set_params(
            **{
                "download.source": "file",
                "download.file.path": str(table),
                "train.model": "logistic_regression",
                "train.xgboost.rounds": 5,
                "train.xgboost.max_depth": 2,
            }
        )
        project.commit()
        project.repro()
        project.commit()

    return Project(shared("reproduced", make) / "project")


@pytest.fixture
def project(reproduced, tmp_path):
    """A fresh copy of the reproduced project, free to be changed."""
    return reproduced.copy(tmp_path / "project")


@pytest.fixture
def stage_folder(tmp_path, monkeypatch):
    """A folder with the tests' params.yaml and nothing else, as the current one."""
    write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def set_params(stage_folder):
    """A function that changes params.yaml of the current folder."""

    def change(**values: object) -> None:
        change_params(stage_folder / "params.yaml", values)

    return change


@pytest.fixture
def parse(stage_folder):
    """A function that writes rows as a raw table, runs the parser and reads its table.

    The rows are mappings, an Arrow table or the bytes of a file; the name says which kind
    of file it is.
    """

    def run(
        rows: list[dict] | pa.Table | bytes, name: str = "table.csv", source: str = "file"
    ) -> pa.Table:
        raw = stage_folder / "data/raw"
        raw.mkdir(parents=True, exist_ok=True)
        (raw / "provenance.json").write_text(json.dumps({"source": source, "file": name}))
        if isinstance(rows, bytes):
            (raw / name).write_bytes(rows)
        elif name.endswith(".csv"):
            write_csv_table(raw / name, rows)
        else:
            table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
            pq.write_table(table, raw / name, compression="gzip")
        parse_embeddings_to_parquet.main()
        return pq.read_table(ARTEFACTS)

    return run


@pytest.fixture
def memory_store(monkeypatch):
    """The filesystem of a store in the memory of this process, `memory://bucket/...`; empty."""
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setitem(STORES, "memory", "none")
    files = fsspec.filesystem("memory")
    yield files
    if files.exists("/bucket"):
        files.rm("/bucket", recursive=True)


@pytest.fixture
def no_keys(monkeypatch, tmp_path):
    """None of the user's own keys for S3, and no question to the network where to find some."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "no-such-file"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@contextmanager
def s3_server(log: Path):
    """Moto's server in a process of its own, on a free port of 127.0.0.1; gives its URL."""
    with log.open("w") as file:
        # Port 0: the system picks a free one, and the log says which.
        command = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the S3 server did not start\n{log.read_text()}")
            time.sleep(0.1)
        yield found[1]
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def bucket(no_keys, tmp_path):
    """An S3 server with a bucket, which refuses other keys: its URL, a key and its secret."""
    pytest.importorskip("dvc_s3", reason="DVC needs it for S3; it is in requirements-dev.txt")
    pytest.importorskip("moto", reason="the S3 server; it is in requirements-dev.txt")
    boto3 = pytest.importorskip("boto3", reason="comes with moto")
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
    }
    with s3_server(tmp_path / "server.log") as url:
        owner = {
            "endpoint_url": url,
            "region_name": "us-east-1",
            "aws_access_key_id": "owner",
            "aws_secret_access_key": "owner",
        }
        boto3.client("s3", **owner).create_bucket(Bucket=BUCKET)
        users = boto3.client("iam", **owner)
        users.create_user(UserName="team")
        users.put_user_policy(UserName="team", PolicyName="s3", PolicyDocument=json.dumps(policy))
        key = users.create_access_key(UserName="team")["AccessKey"]
        # From here on, 0 requests are let in without a signature made with the secret.
        text = {"Content-Type": "text/plain"}
        urlopen(Request(f"{url}/moto-api/reset-auth", data=b"0", headers=text)).close()
        yield url, key["AccessKeyId"], key["SecretAccessKey"]


@pytest.fixture
def s3(bucket, monkeypatch):
    """The filesystem of the bucket, whose keys are those of the environment from here on."""
    s3fs = pytest.importorskip("s3fs")
    url, key, secret = bucket
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    s3fs.S3FileSystem.clear_instance_cache()
    yield s3fs.S3FileSystem()
    s3fs.S3FileSystem.clear_instance_cache()
