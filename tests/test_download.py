"""The download stage against servers on 127.0.0.1 that do what servers do."""

import gzip
import hashlib
import http.server
import json
import subprocess
import sys
import threading
from contextlib import contextmanager

import pyarrow as pa
import pytest
from conftest import (
    PARAMS,
    PROJECT,
    TESTS_PARAMS,
    as_published,
    read_yaml,
    tiny_rows,
    write_csv_table,
)
from ruamel.yaml import YAML

from stages import download as stage
from stages.common.params import ParameterError
from stages.common.stage import PipelineError
from stages.sources import fetching

CONTENT = b"PAR1" + bytes(range(256)) * 400
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy_and_no_pause(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)


@contextmanager
def server(answer):
    """A server whose `answer(handler)` replies to each GET; yields its URL and the paths asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer(self)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/table.parquet", asked
        finally:
            running.shutdown()
            thread.join()


def give(content, status=200, promised=None):
    """An answer: `content`, announced as `promised` bytes."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(promised or len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def place(url, checksum=f"sha256:{SHA256}", size=SIZE):
    return stage.Place(url=url, checksum=checksum, size=size)


def test_a_pinned_file_is_fetched_and_verified(tmp_path):
    with server(give(CONTENT)) as (url, asked):
        target = tmp_path / "table"
        assert stage.fetch_first([place(url)], target) == url
        assert target.read_bytes() == CONTENT
        assert asked == ["/table.parquet"]


def test_the_git_blob_id_is_the_one_that_git_computes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    assert fetching.git_blob_id(path) == git.stdout.strip()


def test_a_file_pinned_by_git_blob_id_is_verified(tmp_path):
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    with server(give(CONTENT)) as (url, _):
        stage.fetch_first([place(url, f"git-blob:{blob}", None)], tmp_path / "table")
        with pytest.raises(PipelineError, match=f"its git-blob is {blob}"):
            stage.fetch_first([place(url, "git-blob:" + "0" * 40, None)], tmp_path / "other")


def test_after_a_404_the_second_place_is_tried_at_once(tmp_path, capsys):
    with server(give(b"", 404)) as (first, asked), server(give(CONTENT)) as (second, _):
        assert stage.fetch_first([place(first), place(second)], tmp_path / "table") == second
        assert len(asked) == 1
        assert f"{first}: the server answered 404" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (give(b"PAR1" + bytes(len(CONTENT) - 4)), "the content is not what was pinned"),
        (give(b"version https://git-lfs"), "has 23 bytes instead of the pinned 102,404"),
        (give(CONTENT[:1000], promised=len(CONTENT)), "the connection broke off"),
        (give(b"", 404), "the server answered 404"),
        (give(b"", 503), "the download failed: 503"),
    ],
    ids=["wrong content", "wrong size", "cut off", "404", "503"],
)
def test_content_that_is_not_what_was_pinned_leaves_nothing_behind(tmp_path, answer, problem):
    with (
        server(answer) as (url, _),
        pytest.raises(PipelineError, match="none of the 1 places") as error,
    ):
        stage.fetch_first([place(url)], tmp_path / "table")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_connection_is_tried_again(tmp_path):
    answers = iter([give(CONTENT[:1000], promised=len(CONTENT)), give(CONTENT)])
    with server(lambda handler: next(answers)(handler)) as (url, asked):
        stage.fetch_first([place(url)], tmp_path / "table")
    assert len(asked) == 2


def test_a_server_that_says_nothing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(fetching, "RETRIES", 0)
    silence = threading.Event()
    with server(lambda handler: silence.wait(5)) as (url, _):
        with pytest.raises(PipelineError, match=r"no answer for 0\.2 seconds"):
            stage.fetch(url, tmp_path / "table")
        silence.set()


def unused_url():
    with server(give(b"")) as (url, _):
        return url


def test_without_a_network_one_sentence_says_what_to_do(tmp_path):
    with pytest.raises(PipelineError) as error:
        stage.fetch_first([place(unused_url()), place(unused_url())], tmp_path / "table")
    assert str(error.value) == (
        "none of the 2 places gave the file (no connection to the server; no connection to the "
        "server): connect to the internet and run `dvc repro` again, or use a copy of your own "
        "with -S download.source=file -S download.file.path=/path/to/the/file"
    )


def run_stage(folder, **values):
    """Run the stage as DVC does, with these values in `download` of params.yaml."""
    yaml = YAML()
    content = yaml.load(TESTS_PARAMS)
    for key, value in values.items():
        content["download"][key] = value
    yaml.dump(content, folder / "params.yaml")
    return subprocess.run(
        [sys.executable, "-m", "stages.download"],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT), "PATH": "", "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    )


def test_the_mame_source_runs_as_a_stage(tmp_path):
    with server(give(b"", 404)) as (first, _), server(give(CONTENT)) as (second, _):
        places = [
            {"url": first, "checksum": "git-blob:" + "0" * 40, "size": None},
            {"url": second, "checksum": f"sha256:{SHA256}", "size": len(CONTENT)},
        ]
        result = run_stage(tmp_path, source="mame", mame={"places": places})
    assert result.returncode == 0, result.stderr
    raw = tmp_path / "data/raw"
    assert (raw / "MAMe_dataset_extended.parquet").read_bytes() == CONTENT
    assert json.loads((raw / "provenance.json").read_text()) == {
        "source": "mame",
        "location": second,
        "file": "MAMe_dataset_extended.parquet",
        "bytes": len(CONTENT),
        "sha256": SHA256,
    }


def test_the_mame_source_offline_ends_with_one_sentence_and_no_table(tmp_path):
    places = [{"url": unused_url(), "checksum": f"sha256:{SHA256}", "size": None}]
    result = run_stage(tmp_path, source="mame", mame={"places": places})
    assert result.returncode == 1
    assert result.stderr.startswith("[download] error: none of the 1 places gave the file")
    assert result.stderr.count("\n") == 1
    assert list((tmp_path / "data/raw").iterdir()) == []


@as_published
def test_the_pinned_places_are_the_two_of_the_course():
    places = read_yaml(PARAMS)["download"]["mame"]["places"]
    pins = [place["checksum"] for place in places]
    assert pins == [
        "git-blob:15bf438280eb2c7516f9fb3f7ae9266a7e56333b",
        "sha256:a5b30a6b5f876a416002f46e2477e41e403fc4ba33257f43fd9c87b5931e5f2c",
    ]
    assert places[1]["size"] == 89_245_286


def file_params(path, sha256=""):
    return stage.File(path=str(path), sha256=sha256)


def test_a_local_file_is_copied_as_it_is(tmp_path):
    source = write_csv_table(tmp_path / "mine.csv", tiny_rows())
    assert stage.bring_file(file_params(source), tmp_path / "table") == str(source)
    assert (tmp_path / "table").read_bytes() == source.read_bytes()


def test_the_log_says_how_to_pin_a_file(tmp_path):
    source = write_csv_table(tmp_path / "mine.csv", tiny_rows())
    result = run_stage(tmp_path, source="file", file={"path": str(source), "sha256": ""})
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert f"set `download.file.sha256` to {digest} to pin it" in result.stdout
    assert (tmp_path / "data/raw/MAMe_dataset_extended.csv").is_file()
    pinned = run_stage(tmp_path, source="file", file={"path": str(source), "sha256": digest})
    assert pinned.returncode == 0
    assert "to pin it" not in pinned.stdout


def test_a_file_that_changed_since_it_was_pinned_is_refused(tmp_path):
    source = write_csv_table(tmp_path / "mine.csv", tiny_rows())
    with pytest.raises(PipelineError, match="the content is not what was pinned"):
        stage.bring_file(file_params(source, "0" * 64), tmp_path / "table")


def test_a_file_from_a_url_is_fetched(tmp_path):
    with server(give(CONTENT)) as (url, _):
        assert stage.bring_file(file_params(url, SHA256), tmp_path / "table") == url
    assert (tmp_path / "table").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/no/such/table.csv", "there is no file /no/such/table.csv"),
        ("~no-such-user/table.csv", "there is no file ~no-such-user/table.csv"),
        ("", "is empty, give the path or URL"),
    ],
)
def test_a_path_that_leads_nowhere_is_a_mistake_in_params(path, problem):
    with pytest.raises(ParameterError, match=f"`download.file.path`.*{problem}"):
        stage.check_path(path)


def test_a_url_that_is_not_http_ends_with_a_sentence(tmp_path):
    with pytest.raises(PipelineError, match="neither a path nor an http or https URL"):
        stage.bring_file(file_params("ftp://127.0.0.1/table.csv"), tmp_path / "table")


def test_a_table_in_the_folder_that_the_stage_empties_is_refused_and_kept(tmp_path):
    raw = tmp_path / "data/raw"
    raw.mkdir(parents=True)
    mine = write_csv_table(raw / "mine.csv", tiny_rows())
    result = run_stage(tmp_path, source="file", file={"path": "data/raw/mine.csv", "sha256": ""})
    assert result.returncode == 2
    assert "lies in data/raw, which this stage empties: keep the table elsewhere" in result.stderr
    assert mine.is_file()


def test_what_an_earlier_run_left_is_removed(tmp_path):
    run_stage(tmp_path, source="file", file={"path": str(parquet_like(tmp_path)), "sha256": ""})
    table = write_csv_table(tmp_path / "mine.csv", tiny_rows())
    run_stage(tmp_path, source="file", file={"path": str(table), "sha256": ""})
    names = {path.name for path in (tmp_path / "data/raw").iterdir()}
    assert names == {"MAMe_dataset_extended.csv", "provenance.json"}


def parquet_like(folder):
    path = folder / "like.parquet"
    path.write_bytes(CONTENT)
    return path


def test_a_checksum_may_be_in_capital_letters(tmp_path):
    path = parquet_like(tmp_path)
    stage.bring_file(file_params(path, SHA256.upper()), tmp_path / "table")
    assert (tmp_path / "table").read_bytes() == CONTENT


@pytest.mark.parametrize("section", [None, {"path": "x.csv", "sha256": "abc"}])
def test_a_section_that_is_wrong_leaves_the_raw_table_alone(tmp_path, section):
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/kept").touch()
    result = run_stage(tmp_path, source="file", file=section)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "data/raw/kept").exists()


def test_an_empty_path_is_a_mistake_in_params(stage_folder):
    text = (stage_folder / "params.yaml").read_text()
    text = text.replace("source: synthetic", "source: file", 1)
    (stage_folder / "params.yaml").write_text(text)
    with pytest.raises(ParameterError, match=r"`download\.file\.path` is empty"):
        stage.main()


def test_the_content_decides_whether_a_table_is_parquet(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    (tmp_path / "b").write_bytes(b"Image file,Medium\n")
    assert stage.table_suffix(tmp_path / "a") == ".parquet"
    assert stage.table_suffix(tmp_path / "b") == ".csv"
    (tmp_path / "c").write_bytes(gzip.compress(b"a,b"))
    (tmp_path / "d").write_bytes(pa.compress(b"a,b", "zstd", asbytes=True))
    assert stage.table_suffix(tmp_path / "c") == ".csv.gz"
    assert stage.table_suffix(tmp_path / "d") == ".csv.zst"
