"""Results travel: to a remote, to a fresh clone, between branches. Credentials stay behind."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from conftest import PROJECT, Project
from ruamel.yaml import YAML

BUCKET = "team-bucket"
# The options of a remote that hold a secret, for any kind of storage, or a URL with a password.
SECRET = re.compile(
    r"^\s*\w*(?:access_key|secret|password|passphrase|token|connection_string|account_key)\w*\s*="
    r"|://[^/\s]*:[^/\s]*@",
    re.MULTILINE,
)


def cache_files(project: Project) -> dict[str, Path]:
    """Where the cache has, or would have, each output that dvc.lock names with its checksum."""
    lock = YAML(typ="safe").load(project.folder / "dvc.lock")
    checksums = {
        out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]
    }
    cache = project.folder / ".dvc/cache/files/md5"
    return {path: cache / md5[:2] / md5[2:] for path, md5 in checksums.items()}


def uncommitted(project: Project) -> str:
    return project.git("status", "--porcelain").stdout


@pytest.fixture
def pushed(project, tmp_path):
    """The project, with its results in a folder that is the team's remote."""
    project.dvc("remote", "add", "--default", "team", str(tmp_path / "remote"))
    project.commit()
    project.dvc("push")
    return project


def test_a_clone_that_pulls_from_a_folder_has_all_files_and_runs_nothing(pushed, tmp_path):
    colleague = pushed.clone(tmp_path / "colleague")
    assert "data/artefacts.parquet" not in colleague.results()
    colleague.dvc("pull")
    assert colleague.results() == pushed.results()
    assert colleague.repro() == []
    assert uncommitted(colleague) == ""


@pytest.mark.slow
def test_another_training_fetches_only_what_the_stages_from_there_read(pushed, tmp_path):
    colleague = pushed.clone(tmp_path / "colleague")
    colleague.set_params(**{"train.logistic_regression.C": 1.0})
    before = cache_files(colleague)
    assert colleague.repro("--pull", "--allow-missing") == ["train", "evaluate", "report"]
    assert {path for path, file in before.items() if file.exists()} == {
        "data/raw",  # the list of its files, and the one that the report reads
        "data/artefacts.parquet",
        "data/quarantine.csv",
        "data/split.parquet",
        "data/features/train.parquet",
        "data/features/val.parquet",
        "data/features/test.parquet",
        "data/features/transformer.npz",
    }
    raw = [path.name for path in (colleague.folder / "data/raw").iterdir()]
    assert raw == ["provenance.json"]


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


def log_in(project: Project, key: str, secret: str) -> None:
    """Give DVC the credentials as the README says: in a file that Git does not see."""
    project.dvc("remote", "modify", "--local", "team", "access_key_id", key)
    project.dvc("remote", "modify", "--local", "team", "secret_access_key", secret)


@pytest.mark.slow
def test_a_clone_that_pulls_from_s3_has_all_files_and_git_no_credential(project, bucket, tmp_path):
    url, key, secret = bucket
    project.dvc("remote", "add", "--default", "team", f"s3://{BUCKET}/results")
    project.dvc("remote", "modify", "team", "endpointurl", url)
    log_in(project, key, secret)
    project.commit()
    project.dvc("push")

    colleague = project.clone(tmp_path / "colleague")
    # The clone knows the place, and nothing that opens it.
    refused = colleague.dvc("pull", check=False)
    assert refused.returncode != 0
    assert "Unable to locate credentials" in refused.stderr
    log_in(colleague, key, "not the secret")
    refused = colleague.dvc("pull", check=False)
    assert refused.returncode != 0
    assert "Forbidden" in refused.stderr

    log_in(colleague, key, secret)
    colleague.dvc("pull")
    assert colleague.results() == project.results()
    assert colleague.repro() == []
    assert uncommitted(colleague) == ""

    for place in (project, colleague):
        assert secret in (place.folder / ".dvc/config.local").read_text()
        # Add what Git does not ignore, so that nothing is left out of the search.
        place.commit()
        commits = place.git("rev-list", "--all").stdout.split()
        for word in (key, secret):
            found = place.run("git", "grep", "-F", word, *commits, check=False)
            assert (found.returncode, found.stdout) == (1, ""), "a credential is in Git"


def test_the_configuration_in_git_has_no_credential():
    assert not SECRET.search((PROJECT / ".dvc/config").read_text(encoding="utf-8"))
    ignored = (PROJECT / ".dvc/.gitignore").read_text(encoding="utf-8").split()
    assert "/config.local" in ignored


@pytest.mark.parametrize(
    "line",
    [
        "    secret_access_key = abc",
        "password = abc",
        "    session_token=abc",
        "    connection_string = DefaultEndpointsProtocol=https",
        "    url = https://user:abc@example.org/dvc",
    ],
)
def test_a_credential_in_the_configuration_would_be_found(line):
    assert SECRET.search(f"['remote \"team\"']\n{line}\n")
    assert not SECRET.search("['remote \"team\"']\n    url = s3://bucket/path\n    port = 1\n")


def branch(project: Project, name: str, **values: object) -> None:
    """Change parameters on a branch of its own, off main, and commit the results."""
    project.git("checkout", "--quiet", "-b", name, "main")
    project.dvc("checkout")
    project.set_params(**values)
    project.repro()
    project.commit()


@pytest.fixture
def redrawn(reproduced, shared, tmp_path):
    """A copy of the project with a branch `plots`, off main, whose plots show other rows."""

    def make(folder: Path) -> None:
        project = reproduced.copy(folder / "project")
        # Plots of val are refused where the model has learned from it.
        project.set_params(**{"train.refit_on_val": False})
        project.repro()
        project.commit()
        branch(project, "plots", **{"evaluate.plots_subset": "val"})

    return Project(shared("redrawn", make) / "project").copy(tmp_path / "project")


@pytest.mark.slow
def test_branches_that_change_stages_apart_in_the_lock_merge_without_a_hand(redrawn):
    branch(redrawn, "draw", **{"featurize.pca.components": 300})
    redrawn.git("merge", "--quiet", "--no-edit", "plots")
    redrawn.dvc("checkout")
    assert redrawn.repro() == []
    assert uncommitted(redrawn) == ""


@pytest.mark.slow
def test_a_conflict_of_the_lock_is_solved_as_the_guide_says(redrawn):
    branch(redrawn, "features", **{"featurize.embedding": "raw"})
    merge = redrawn.run("git", "merge", "plots", check=False)
    assert merge.returncode == 1
    assert "CONFLICT (content): Merge conflict in dvc.lock" in merge.stdout
    # The guide tells to merge these; Git has done it, as the changes lie apart.
    assert "<<<<<<<" not in (redrawn.folder / "params.yaml").read_text(encoding="utf-8")

    (redrawn.folder / "dvc.lock").unlink()
    # The model of the branch comes from the cache; only what is new to both is computed.
    assert redrawn.repro() == ["evaluate", "report"]
    redrawn.commit()

    assert redrawn.repro() == []
    assert uncommitted(redrawn) == ""
    assert len(redrawn.git("log", "-1", "--format=%P").stdout.split()) == 2
    # The figures are those of the one branch; the other chose the rows that the plots show.
    metrics = (redrawn.folder / "reports/metrics.json").read_text(encoding="utf-8")
    assert metrics == redrawn.git("show", "features^1:reports/metrics.json").stdout
    assert metrics != redrawn.git("show", "plots:reports/metrics.json").stdout
    reliability = (redrawn.folder / "reports/plots/reliability.csv").read_text(encoding="utf-8")
    assert reliability != redrawn.git("show", "features^1:reports/plots/reliability.csv").stdout
