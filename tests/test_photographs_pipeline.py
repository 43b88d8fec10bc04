"""photographs/dvc.yaml: from a server's zip files, or a folder, to the table, by the real dvc."""

import csv
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import BUCKET, PROJECT, Project, read_yaml, stages_run
from pictures import draw, random_weights
from test_download import server

from photographs import embed, fetch
from scripts.declare import all_imports, declared
from scripts.params import set_params
from stages.common.errors import ParameterError, PipelineError
from stages.sources import fetching

FOLDER = PROJECT / "photographs"
STAGES = read_yaml(FOLDER / "dvc.yaml")["stages"]
MEDIUMS = ["Etching", "Bronze", "Ivory"]


def pictures_in(folder: Path, each: int = 2) -> list[tuple[str, str]]:
    """Draw some; return the name and the medium of each."""
    found = []
    for kind, medium in enumerate(MEDIUMS):
        for number in range(each):
            name = f"{kind}-{number}.jpg"
            draw(folder / name, kind, number)
            found.append((name, medium))
    return found


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, part in files.items():
            file.writestr(name, part)
    return content.getvalue()


def catalogue_of(rows: list[tuple[str, str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([("Image file", "Medium"), *rows])
    return text.getvalue().encode()


def give_each(files: dict[str, bytes]):
    """An answer to each path; 404 to all others."""

    def answer(handler):
        content = files.get(handler.path)
        handler.send_response(404 if content is None else 200)
        handler.send_header("Content-Length", str(len(content or b"")))
        handler.end_headers()
        handler.wfile.write(content or b"")

    return answer


def photographs_of(project: Project) -> Project:
    """The second DVC project, which lies in the first."""
    return Project(project.folder / "photographs")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The zip files as a server has them, by path, and the names of the pictures in them."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = pictures_in(folder)
    photographs = zipped({f"data_256/{name}": (folder / name).read_bytes() for name, _ in rows})
    metadata = zipped(
        {"MAMe_metadata/MAMe_dataset.csv": catalogue_of(rows), "MAMe_metadata/README": b""}
    )
    return {"/p.zip": photographs, "/m.zip": metadata}, [name for name, _ in rows]


@pytest.mark.slow
def test_the_pipeline_makes_the_table_of_what_a_server_has_and_asks_the_main_one_nothing(
    reproduced, source, tmp_path
):
    files, names = source
    project = reproduced.copy(tmp_path / "project")
    photographs = photographs_of(project)
    np.savez(tmp_path / "weights.npz", **random_weights())
    with server(give_each(files)) as (url, asked):
        base = url.rpartition("/")[0]
        photographs.set_params(
            **{
                "fetch.photographs.url": f"{base}/p.zip",
                "fetch.metadata.url": f"{base}/m.zip",
                "fetch.metadata.checksum": f"md5:{hashlib.md5(files['/m.zip']).hexdigest()}",
                "network.weights": str(tmp_path / "weights.npz"),
                "network.name": "drawn at random",
            }
        )
        made = photographs.dvc("repro").stdout
    assert stages_run(made) == ["fetch", "network", "embed"]
    assert asked == ["/m.zip", "/p.zip"]
    digest = hashlib.sha256(files["/p.zip"]).hexdigest()
    assert f"set `fetch.photographs.checksum` to sha256:{digest} to pin it" in made
    table = pq.read_table(photographs.folder / "data/extended.parquet")
    assert table.column("Image file").to_pylist() == names
    assert set(table.column("Medium").to_pylist()) == set(MEDIUMS)
    # The server is gone: nothing is asked for again.
    assert stages_run(photographs.dvc("repro").stdout) == []
    photographs.set_params(**{"embed.resize": "bilinear"})
    assert stages_run(photographs.dvc("repro").stdout) == ["embed"]
    other = pq.read_table(photographs.folder / "data/extended.parquet")
    assert other.schema.metadata != table.schema.metadata
    # The main pipeline sees none of it.
    assert "up to date" in project.dvc("status").stdout
    assert project.repro() == []
    # DVC's own notes, which are not those of a user here, aside.
    changed = project.git("status", "--porcelain", "--", ":!dvc-*").stdout.splitlines()
    assert sorted(changed) == [" M photographs/params.yaml", "?? photographs/dvc.lock"]


@pytest.mark.slow
def test_a_folder_of_ones_own_is_watched_and_only_what_is_new_is_computed(clone_project, tmp_path):
    photographs = photographs_of(clone_project())
    rows = pictures_in(tmp_path / "mine")
    (tmp_path / "mine/catalogue.csv").write_bytes(catalogue_of(rows))
    np.savez(tmp_path / "weights.npz", **random_weights())
    photographs.set_params(
        **{
            "network.weights": str(tmp_path / "weights.npz"),
            "network.name": "drawn at random",
            "embed.folder": str(tmp_path / "mine"),
            "embed.photographs": ".",
            "embed.metadata": "catalogue.csv",
        }
    )
    first = photographs.dvc("repro", "embed").stdout
    assert stages_run(first) == ["network", "embed"]
    assert "6 photographs, 6 of them computed now" in first
    draw(tmp_path / "mine/2-9.jpg", 2, 9)
    (tmp_path / "mine/0-0.jpg").unlink()
    (tmp_path / "mine/catalogue.csv").write_bytes(catalogue_of([*rows[1:], ("2-9.jpg", "Ivory")]))
    second = photographs.dvc("repro", "embed").stdout
    assert stages_run(second) == ["embed"]
    assert "6 photographs, 1 of them computed now" in second


@pytest.mark.slow
def test_a_folder_in_a_store_is_watched_and_read_where_it_is(clone_project, s3, tmp_path):
    photographs = photographs_of(clone_project())
    rows = pictures_in(tmp_path / "mine")
    (tmp_path / "mine/catalogue.csv").write_bytes(catalogue_of(rows))
    s3.put(str(tmp_path / "mine"), f"{BUCKET}/mine", recursive=True)
    np.savez(tmp_path / "weights.npz", **random_weights())
    photographs.set_params(
        **{
            "network.weights": str(tmp_path / "weights.npz"),
            "network.name": "drawn at random",
            "embed.folder": f"s3://{BUCKET}/mine",
            "embed.photographs": ".",
            "embed.metadata": "catalogue.csv",
        }
    )
    first = photographs.dvc("repro", "embed").stdout
    assert stages_run(first) == ["network", "embed"]
    assert "6 photographs, 6 of them computed now" in first
    table = photographs.folder / "data/extended.parquet"
    assert set(pq.read_table(table).column("Medium").to_pylist()) == set(MEDIUMS)
    assert stages_run(photographs.dvc("repro", "embed").stdout) == []
    s3.rm(f"{BUCKET}/mine/0-0.jpg")
    second = photographs.dvc("repro", "embed").stdout
    assert stages_run(second) == ["embed"]
    assert "5 photographs, 0 of them computed now" in second


@pytest.fixture
def stage(tmp_path, monkeypatch, source):
    """A function that runs `fetch` in a folder of its own, with what a server has."""
    monkeypatch.setattr(fetching, "PAUSES_SECONDS", ())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "params.yaml").write_bytes((FOLDER / "params.yaml").read_bytes())
    monkeypatch.setattr(fetch, "__file__", str(tmp_path / "fetch.py"))
    # `main` goes to another folder; this comes back.
    monkeypatch.chdir(tmp_path)

    def run(files: dict[str, bytes] | None = None, **values: object) -> str:
        with server(give_each(source[0] | (files or {}))) as (url, _):
            base = url.rpartition("/")[0]
            defaults = {
                "fetch.photographs.url": f"{base}/p.zip",
                "fetch.metadata.url": f"{base}/m.zip",
                "fetch.metadata.checksum": None,
            }
            set_params(tmp_path / "params.yaml", defaults | values)
            return fetch.main()

    return run


@pytest.mark.parametrize(
    ("files", "values", "problem"),
    [
        ({}, {"fetch.metadata.checksum": f"md5:{'0' * 32}"}, "not what was pinned: its md5 is"),
        ({}, {"fetch.photographs.checksum": f"sha256:{'0' * 64}"}, "its sha256 is"),
        ({"/p.zip": b"<html>"}, {}, "p.zip: the content is no zip file"),
        ({"/m.zip": zipped({"a.csv": b""})}, {}, "0 files of the metadata are called MAMe_dataset"),
        ({}, {"fetch.catalogue": "none.csv"}, "it holds MAMe_metadata/MAMe_dataset.csv, MAMe_met"),
        ({}, {"fetch.metadata.checksum": "md5:1"}, "should be null, sha256: and 64 or md5: and 32"),
        ({}, {"fetch.photographs.url": "ftp://x/y.zip"}, "should be an http or https URL"),
        ({"/m.zip": None}, {}, "m.zip: the server answered 404"),
        (
            {},
            {"fetch.most_gigabytes": 1e-7},
            "than the 100 bytes that are allowed: raise `fetch.mos",
        ),
        ({}, {"fetch.photographs.url": "http://me:pw@x/y.zip"}, "has a user or a password in it"),
    ],
    ids=range(10),
)
def test_what_cannot_be_fetched_ends_with_a_sentence(stage, files, values, problem):
    with pytest.raises(PipelineError) as error:
        stage(files, **values)
    assert problem in str(error.value)
    assert not Path("data/fetched/photographs.zip").exists()


def test_a_file_without_a_name_does_not_stop_the_list_of_a_zip_file(tmp_path):
    path = tmp_path / "some.zip"
    path.write_bytes(zipped({"x": b"", "folder/": b"", "folder/a.jpg": b""}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist[0].filename = ""
        archive._didModify = True
    assert fetch.zip_names(path) == ["", "folder/a.jpg"]


def test_what_is_fetched_replaces_what_was_there_unless_that_is_the_pinned_file(stage, source):
    photographs = Path("data/fetched/photographs.zip")
    photographs.parent.mkdir(parents=True)
    photographs.write_bytes(b"old")
    stage()
    assert photographs.read_bytes() == source[0]["/p.zip"]
    pin = f"sha256:{hashlib.sha256(source[0]['/p.zip']).hexdigest()}"
    # The server has it no more.
    stage({"/p.zip": None}, **{"fetch.photographs.checksum": pin})
    assert photographs.read_bytes() == source[0]["/p.zip"]
    photographs.write_bytes(b"damaged")
    stage(**{"fetch.photographs.checksum": pin})
    assert photographs.read_bytes() == source[0]["/p.zip"]
    assert sorted(path.name for path in photographs.parent.iterdir()) == [
        "catalogue.csv",
        "photographs.zip",
    ]


@pytest.mark.parametrize("content", [None, b"PK no zip"])
def test_photographs_that_were_there_survive_a_download_that_fails(stage, content):
    photographs = Path("data/fetched/photographs.zip")
    photographs.parent.mkdir(parents=True)
    photographs.write_bytes(b"old")
    with pytest.raises(PipelineError):
        stage({"/p.zip": content})
    assert photographs.read_bytes() == b"old"
    assert sorted(path.name for path in photographs.parent.iterdir()) == [
        "catalogue.csv",
        "photographs.zip",
    ]


@pytest.mark.parametrize("key", ["photographs", "metadata"])
def test_what_dvc_would_not_compare_is_refused(tmp_path, monkeypatch, key):
    monkeypatch.setattr(embed, "__file__", str(tmp_path / "embed.py"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((FOLDER / "params.yaml").read_bytes())
    set_params(tmp_path / "params.yaml", {f"embed.{key}": str(tmp_path / "elsewhere")})
    with pytest.raises(ParameterError, match=rf"`embed\.{key}` has to lie in `embed\.folder`"):
        embed.main()


@pytest.mark.parametrize("stage_name", STAGES)
def test_stages_of_photographs_declare_what_they_import(stage_name):
    declared_scripts = {
        (FOLDER / dep).resolve().relative_to(PROJECT).as_posix()
        for dep in STAGES[stage_name]["deps"]
        if dep.endswith(".py")
    }
    assert declared_scripts == all_imports(f"photographs/{stage_name}.py")
    assert STAGES[stage_name]["cmd"] == f"cd .. && python -m photographs.{stage_name}"
    assert STAGES[stage_name]["params"] == [stage_name]


def test_the_script_that_declares_imports_has_nothing_to_add_to_photographs():
    text = (FOLDER / "dvc.yaml").read_text(encoding="utf-8")
    assert declared(text, "photographs", FOLDER) == text
    without = text.replace("      - networks/weights.py\n", "")
    assert without != text
    assert declared(without, "photographs", FOLDER) == text


def test_settings_of_both_dvc_projects_agree():
    for name in (".dvc/config", ".dvcignore"):
        assert (PROJECT / name).read_bytes() == (FOLDER / name).read_bytes()
