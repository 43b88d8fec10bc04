"""Results travel: to a remote, to a fresh clone, between branches. Credentials stay behind."""

import re
from pathlib import Path

import pytest
from conftest import BUCKET, PROJECT, Project
from ruamel.yaml import YAML

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
