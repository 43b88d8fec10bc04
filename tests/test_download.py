"""The download stage against servers on 127.0.0.1 that do what servers do, good and bad."""

import base64
import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from conftest import (
    BUCKET,
    PARAMS,
    PROJECT,
    TESTS_PARAMS,
    as_published,
    read_yaml,
    tiny_rows,
    write_csv_table,
)
from dvc.repo import Repo
from ruamel.yaml import YAML

from stages import download as stage
from stages.common.errors import PipelineError
from stages.common.params import ParameterError, check_section
from stages.sources import content, fetching, local
from stages.sources.url import url_problem

CONTENT = b"PAR1" + bytes(range(256)) * 400
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PACKED = gzip.compress(CONTENT)


@pytest.fixture(autouse=True)
def no_proxy_and_no_pause(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching, "PAUSES_SECONDS", (0, 0))
    monkeypatch.setattr(fetching, "LOOK_SECONDS", 0.02)


@contextmanager
def server(answer, certificate=None):
    """A server whose `answer(handler)` replies to each GET; yields its URL and the paths asked.

    With a certificate, it is one of https.
    """
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            # A client that has seen enough hangs up.
            with suppress(ConnectionError):
                answer(self)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            running.socket = context.wrap_socket(
                running.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if certificate is None else "https"
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"{scheme}://127.0.0.1:{running.server_port}/table.parquet", asked
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


def head(*headers, body=b"", status=200):
    """An answer with these headers and this body."""

    def answer(handler):
        handler.send_response(status)
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def lasting(body, seconds, headers=(), status=200):
    """An answer that sends `body` again and again, after a pause, until the client has enough."""

    def answer(handler):
        head(*headers, status=status)(handler)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            handler.wfile.write(body)
            time.sleep(seconds)

    return answer


@contextmanager
def raw_server(say):
    """A server that sends the bytes `say()`, whatever is asked, and hangs up; yields its URL.

    For None, it hangs up at once.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)

        def serve():
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(65536)
                        if (said := say()) is None:
                            connection.setsockopt(
                                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                            )
                        else:
                            connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/table.csv"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def problem_of(url, target, **limits):
    """The sentence of a download that fails; nothing may be left of it."""
    before = sorted(target.parent.iterdir())
    with pytest.raises(PipelineError) as error:
        fetching.fetch(url, target, **limits)
    assert sorted(target.parent.iterdir()) == before
    sentence = str(error.value)
    assert "\n" not in sentence
    assert "127.0.0.1" not in sentence
    return sentence


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """A function that brings a file as the stage does, to a folder that is empty."""
    monkeypatch.chdir(tmp_path)

    def run(path, sha256="", most_gigabytes=10.0):
        file = {"path": str(path), "sha256": sha256, "most_gigabytes": most_gigabytes}
        return stage.bring(
            check_section("download", {"source": "file", "file": file}, stage.Params)
        )

    return run


def place(url, checksum=f"sha256:{SHA256}", size=SIZE):
    return stage.Place(url=url, checksum=checksum, size=size)


# -- the pinned places -----------------------------------------------------------------------------


def test_a_pinned_file_is_fetched_and_verified(tmp_path):
    wished = []

    def answer(handler):
        wished.append((handler.headers["Accept-Encoding"], handler.headers["Connection"]))
        give(CONTENT)(handler)

    with server(answer) as (url, asked):
        target = tmp_path / "table"
        assert stage.fetch_first([place(url)], target) == url
        assert target.read_bytes() == CONTENT
        assert asked == ["/table.parquet"]
    assert wished == [("identity", "close")]


def test_the_git_blob_id_is_the_one_that_git_computes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    assert content.git_blob_id(path) == git.stdout.strip()


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
        (give(CONTENT[:23]), "has 23 bytes instead of the pinned 102,404"),
        (give(CONTENT + b"x"), "the file has more than the 102,404 bytes that are allowed"),
        (give(CONTENT[:1000], promised=SIZE), "broke off after 1,000 of 102,404 bytes"),
        (give(b"", 404), "the server answered 404"),
        (give(b"", 503), "the server answered 503"),
    ],
    ids=["wrong content", "too few bytes", "too many bytes", "cut off", "404", "503"],
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
    answers = iter([give(CONTENT[:1000], promised=SIZE), give(b"", 503), give(CONTENT)])
    with server(lambda handler: next(answers)(handler)) as (url, asked):
        stage.fetch_first([place(url)], tmp_path / "table")
    assert len(asked) == 3


def unused_url():
    with server(give(b"")) as (url, _):
        return url


def test_without_a_network_one_sentence_says_what_to_do(tmp_path):
    with pytest.raises(PipelineError) as error:
        stage.fetch_first([place(unused_url())], tmp_path / "table")
    assert str(error.value) == (
        "none of the 1 places gave the file (no connection to the server, it refuses: check host "
        "and port, or try again later): connect to the internet and run `dvc repro` again, or use "
        "a copy of your own with -S download.source=file -S download.file.path=/path/to/the/file"
    )


def test_a_place_that_fills_the_disk_leaves_room_for_the_next(tmp_path, small_disk):
    endless = lasting(bytes(100_000), 0)
    with server(endless) as (first, _), server(give(CONTENT)) as (second, _):
        places = [place(first, size=None), place(second)]
        assert stage.fetch_first(places, small_disk / "table") == second
    assert [path.name for path in small_disk.iterdir()] == ["table"]


# -- whole files, and no half ones -----------------------------------------------------------------

GZIP = ("Content-Encoding", "gzip")
CHUNKED = ("Transfer-Encoding", "chunked")


def length(body):
    return "Content-Length", str(len(body))


def chunks(body):
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


TWO_MEMBERS = gzip.compress(CONTENT[:9]) + gzip.compress(CONTENT[9:])


@pytest.mark.parametrize(
    "answer",
    [
        head(("Content-Length", f"{SIZE}, {SIZE}"), body=CONTENT),
        head(("Content-Encoding", "identity"), length(CONTENT), body=CONTENT),
        head(CHUNKED, body=chunks(CONTENT)),
        head(GZIP, length(PACKED), body=PACKED),
        head(GZIP, CHUNKED, body=chunks(TWO_MEMBERS)),
    ],
    ids=["length twice", "identity", "chunked", "gzip", "gzip in two, chunked"],
)
def test_a_whole_file_is_taken_in_each_way_that_it_may_come(tmp_path, answer):
    with server(answer) as (url, asked):
        fetching.fetch(url, tmp_path / "table")
    assert (tmp_path / "table").read_bytes() == CONTENT
    assert len(asked) == 1


def test_a_server_that_does_not_close_when_all_has_come_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "END_SECONDS", 0.1)
    done = threading.Event()

    def answer(handler):
        give(CONTENT)(handler)
        done.wait(5)

    with server(answer) as (url, _):
        start = time.monotonic()
        fetching.fetch(url, tmp_path / "table")
        assert time.monotonic() - start < 3
        done.set()
    assert (tmp_path / "table").read_bytes() == CONTENT


WHOLE = head(length(CONTENT), body=CONTENT)
HALVES = {
    "a part": (head(length(CONTENT), body=CONTENT, status=206), "answered 206 and not 200"),
    "from a proxy": (head(length(CONTENT), body=CONTENT, status=203), "answered 203 and not 200"),
    "accepted": (head(length(b""), status=202), "answered 202 and not 200"),
    "no content": (head(status=204), "answered 204 and not 200"),
    "not modified": (head(status=304), "the server answered 304"),
    "empty": (head(length(b"")), "the file is empty"),
    "fewer bytes": (give(CONTENT[:9], promised=SIZE), "broke off after 9 of 102,404 bytes"),
    "more bytes": (give(CONTENT, promised=SIZE - 1), "sent more than the 102,403 bytes that it an"),
    "a few more bytes": (give(b"a,b\n1,2\n", promised=6), "sent more than the 6 bytes"),
    "gzip cut": (head(GZIP, length(PACKED[:-9]), body=PACKED[:-9]), "damaged or cut off"),
    "gzip without its end": (head(GZIP, length(PACKED[:-4]), body=PACKED[:-4]), "or cut off"),
    "gzip damaged": (
        head(GZIP, length(PACKED), body=PACKED[:99] + b"\0" + PACKED[100:]),
        "damaged or cut off",
    ),
    "no gzip": (head(GZIP, length(CONTENT), body=CONTENT), "damaged or cut off"),
    "chunks cut": (head(CHUNKED, body=chunks(CONTENT)[:-900]), "the connection broke off before"),
    "last chunk missing": (head(CHUNKED, body=chunks(CONTENT)[:-5]), "broke off before the end"),
    "no chunks": (head(CHUNKED, body=b"zz\r\n" + CONTENT), "broke off before the end"),
    "no length": (head(body=CONTENT), "does not say how long the file is"),
    "packed otherwise": (head(("Content-Encoding", "br"), length(b"x"), body=b"x"), "not asked fo"),
    "packed on its way": (head(("Transfer-Encoding", "gzip"), body=PACKED), "not asked for"),
    "no number": (head(("Content-Length", "all"), body=CONTENT), "that is no number of bytes"),
    "negative": (head(("Content-Length", "-5"), body=CONTENT), "that is no number of bytes"),
    "two numbers": (head(("Content-Length", "5, 6"), body=b"12345"), "that is no number of bytes"),
    "absurd": (head(("Content-Length", "9" * 5000), body=CONTENT), "that is no number of bytes"),
    "huge": (head(("Content-Length", "9" * 17), body=CONTENT), "more than the 10,000,000,000 byt"),
    "web page": (head(("Content-Type", "text/html; charset=x"), length(b"x"), body=b"x"), "log in"),
    "said to be text": (give(b"\xef\xbb\xbf \n<!DocType html>"), "a web page instead of the file"),
    "UTF-16": (give("<html>".encode("utf-16")), "a web page instead of the file"),
    "XML": (give(b'<?xml version="1.0"?><Error/>'), "a web page instead of the file"),
    "JSON": (give(b'{"error": "no such file"}'), "JSON instead of the file"),
    "Git LFS": (give(b"version https://git-lfs.github.com/spec/v1\noid"), "a pointer of Git LFS"),
}


@pytest.mark.parametrize(("answer", "problem"), HALVES.values(), ids=HALVES)
def test_what_is_not_the_whole_file_is_refused(tmp_path, answer, problem):
    with server(answer) as (url, _):
        assert problem in problem_of(url, tmp_path / "table")


def test_what_is_refused_is_not_offered_to_be_pinned(bring, capsys):
    with server(give(b"<html>log in</html>")) as (url, _):
        with pytest.raises(PipelineError, match="a web page instead of the file"):
            bring(url)
        assert "pin it" not in capsys.readouterr().out
    assert list(Path("data").iterdir()) == []


def test_without_a_length_a_pinned_file_is_taken(tmp_path):
    with server(head(body=CONTENT)) as (url, _):
        fetching.fetch(url, tmp_path / "table", f"sha256:{SHA256}")
    assert (tmp_path / "table").read_bytes() == CONTENT


# -- nothing without end ---------------------------------------------------------------------------


def bomb():
    """A gzip stream of 50 MB that is 50 kB long."""
    return gzip.compress(bytes(50_000_000), 9)


@pytest.mark.parametrize(
    "answer",
    [
        lasting(bytes(100_000), 0),
        lasting(b"186a0\r\n" + bytes(100_000) + b"\r\n", 0, [CHUNKED]),
        head(GZIP, CHUNKED, body=chunks(bomb())),
    ],
    ids=["no length", "chunks", "gzip bomb"],
)
def test_a_file_without_end_is_read_as_far_as_is_allowed(tmp_path, answer):
    with server(answer) as (url, _):
        said = problem_of(url, tmp_path / "table", checksum=f"sha256:{SHA256}", most=1_000_000)
    assert said == "the file has more than the 1,000,000 bytes that are allowed"


def test_a_file_that_is_announced_too_large_is_refused_before_it_comes(bring):
    sent = []

    def answer(handler):
        head(("Content-Length", "20000000000"))(handler)
        sent.append(handler.rfile.read(1))  # until the client hangs up

    with server(answer) as (url, asked):
        with pytest.raises(PipelineError) as error:
            bring(url)
        assert len(asked) == 1
    assert str(error.value) == (
        f"{url}: the file has more than the 10,000,000,000 bytes that are allowed: raise "
        "`download.file.most_gigabytes`"
    )


@pytest.mark.parametrize(
    ("header", "body"),
    [(length(CONTENT), CONTENT), (CHUNKED, b"1\r\nx\r\n" * 2000), (GZIP, PACKED)],
    ids=["plain", "chunked", "gzip"],
)
def test_a_server_that_sends_next_to_nothing_is_given_up(tmp_path, monkeypatch, header, body):
    monkeypatch.setattr(fetching, "WINDOW_SECONDS", 0.2)

    def answer(handler):
        head(header)(handler)
        for byte in body:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.005)

    with server(answer) as (url, asked):
        said = problem_of(url, tmp_path / "table", checksum=f"sha256:{SHA256}")
        assert len(asked) == 1
    assert said == (
        "the server sent less than 10,000 bytes a second for 0.2 seconds: try again later"
    )


def test_headers_without_end_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "WINDOW_SECONDS", 0.2)

    def answer(handler):
        for _ in range(500):
            handler.wfile.write(b"H")
            time.sleep(0.01)

    with server(answer) as (url, _):
        assert "less than 10,000 bytes a second" in problem_of(url, tmp_path / "table")


def test_a_download_ends_after_half_a_day(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "MOST_SECONDS", 0.36)
    with server(lasting(bytes(1000), 0.01)) as (url, asked):
        said = problem_of(url, tmp_path / "table", checksum=f"sha256:{SHA256}")
        assert len(asked) == 1
    assert "the download took longer than 0.0001 hours" in said


def test_a_server_that_says_nothing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.1)
    silence = threading.Event()
    with server(lambda handler: silence.wait(5)) as (url, asked):
        assert problem_of(url, tmp_path / "table") == "no answer for 0.1 seconds: try again later"
        assert len(asked) == 3
        silence.set()


def test_a_server_that_falls_silent_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.1)
    silence = threading.Event()

    def answer(handler):
        give(CONTENT[:1000], promised=SIZE)(handler)
        silence.wait(5)

    with server(answer) as (url, _):
        assert problem_of(url, tmp_path / "table") == "no answer for 0.1 seconds: try again later"
        silence.set()


# -- disks -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no disk can be made here: that takes Linux and root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_keeps_its_reserve(small_disk):
    with server(lasting(bytes(100_000), 0)) as (url, _):
        said = problem_of(url, small_disk / "table", checksum=f"sha256:{SHA256}")
    assert re.fullmatch(
        f"the disk of {small_disk} has too little room: [0-9,]+ bytes are free, of which 104,857 "
        "are kept: make room on that disk, then run it again",
        said,
    )


def test_what_the_disk_cannot_hold_is_refused_before_it_comes(small_disk):
    with server(head(("Content-Length", "3000000"))) as (url, asked):
        assert "has too little room" in problem_of(url, small_disk / "table")
        assert len(asked) == 1


def test_a_disk_that_others_fill_meanwhile_is_named(small_disk, monkeypatch):
    monkeypatch.setattr(local, "check_room", lambda folder, size: None)
    with server(lasting(bytes(100_000), 0)) as (url, _):
        said = problem_of(url, small_disk / "table", checksum=f"sha256:{SHA256}")
    assert said == (
        f"{small_disk}/table: No space left on device: make room on that disk, then run it again"
    )


def test_a_limit_on_the_size_of_files_is_told(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with server(give(CONTENT)) as (url, _):
            said = problem_of(url, tmp_path / "table")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said == (
        f"{tmp_path}/table: {os.strerror(errno.EFBIG)}: raise the limit of the size of files "
        "(`ulimit -f`), then run it again"
    )


def test_a_local_file_that_the_disk_cannot_hold_is_refused(tmp_path, small_disk):
    source = tmp_path / "large.csv"
    with source.open("wb") as file:
        file.truncate(3_000_000)  # a file with a hole: it takes no room here
    with pytest.raises(PipelineError, match="has too little room"):
        local.copy(source, small_disk / "table", 10**9)
    assert list(small_disk.iterdir()) == []


# -- sentences that name the cause -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (None, "the connection broke off before the end of the file"),
        (b"", "the connection broke off before the end of the file"),
        (b"220 mail.example.org ESMTP\r\n", "the answer is no HTTP"),
        (b"\0\1\2\3" * 50, "the answer is no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000 + b"\r\n", "headers without end"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 99_000 + b"\r\n\r\n", "headers without end"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "the answer is no HTTP"),
    ],
    ids=["reset", "hung up", "mail", "noise", "many headers", "long header", "no status"],
)
def test_what_is_no_answer_has_a_sentence_of_its_own(tmp_path, said, problem):
    with raw_server(lambda: said) as url:
        assert problem in problem_of(url, tmp_path / "table")


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (SIZE, CONTENT),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(CONTENT),
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunks(PACKED),
]
ADDED = [b"\r\n", b"\r\n\r\n", b"\0", b"-", b"\xff", b"9" * 30, b"A" * 70_000, b"X: y\r\n" * 150]


def spoiled(answer, random):
    """An answer of which a byte is another one, or some are missing or added."""
    at = random.randrange(random.choice([60, 200, len(answer)]))
    match random.randrange(4):
        case 0:
            return answer[:at] + random.randbytes(1) + answer[at + 1 :]
        case 1:
            return answer[:at]
        case 2:
            return answer[:at] + answer[at + random.randrange(1, 20) :]
    return answer[:at] + random.choice(ADDED) + answer[at:]


def test_a_spoiled_answer_gives_the_pinned_file_or_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "PAUSES_SECONDS", ())
    random = Random(1)
    target, came, sentences = tmp_path / "table", 0, set()
    with raw_server(lambda: spoiled(random.choice(ANSWERS), random)) as url:
        for _ in range(60):
            try:
                fetching.fetch(url, target, f"sha256:{SHA256}", SIZE)
            except PipelineError as error:
                sentences.add(str(error))
            else:
                assert target.read_bytes() == CONTENT
                target.unlink()
                came += 1
            assert list(tmp_path.iterdir()) == []
    assert came
    assert len(sentences) > 5
    assert "\n" not in "".join(sentences)


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (401, "put `machine HOST login USER password PASSWORD` in ~/.netrc"),
        (403, "it refuses the file: check the right to it"),
        (404, "the server answered 404"),
        (410, "the server answered 410, it has no such file: check the URL"),
        (302, "does not say where the file is: check the URL"),
        (418, "it does not take the request: check the URL"),
        (429, "it cannot serve now: try again later"),
        (500, "it cannot serve now: try again later"),
    ],
)
def test_a_status_says_what_to_do(tmp_path, status, problem):
    with server(give(b"", status)) as (url, _):
        assert problem in problem_of(url, tmp_path / "table")


def test_a_name_that_nobody_knows_is_told(tmp_path):
    said = problem_of("http://no-such-host.invalid/x.csv", tmp_path / "table")
    assert said == "the server's name is not known: check the host in the URL, and the network"


def test_a_proxy_that_is_down_is_told_without_its_password(tmp_path, monkeypatch):
    port = unused_url().split(":")[2].split("/")[0]
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("http_proxy", f"http://me:hunter2@127.0.0.1:{port}")
    said = problem_of("http://example.invalid/x.csv", tmp_path / "table")
    assert said.startswith("the proxy gives no connection: check HTTP_PROXY and HTTPS_PROXY")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody but itself has signed, with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl, which makes certificates")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=us"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run([openssl, *command.split(), *names], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_a_certificate_that_nobody_signed_is_told_and_may_be_trusted(
    tmp_path, monkeypatch, certificate
):
    with server(give(CONTENT), certificate) as (url, asked):
        said = problem_of(url, tmp_path / "table")
        assert "certificate is not trusted (self-signed certificate)" in said
        assert "set REQUESTS_CA_BUNDLE to the file of its certificates" in said
        assert asked == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
        assert "REQUESTS_CA_BUNDLE names no file" in problem_of(url, tmp_path / "table")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", f"{certificate}.crt")
        fetching.fetch(url, tmp_path / "table")
    assert (tmp_path / "table").read_bytes() == CONTENT


def test_https_hides_no_bytes_that_were_not_announced(tmp_path, monkeypatch, certificate):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", f"{certificate}.crt")
    monkeypatch.setattr(fetching, "END_SECONDS", 0.1)
    with server(give(CONTENT, promised=SIZE - 1), certificate) as (url, _):
        assert "sent more than the 102,403 bytes" in problem_of(url, tmp_path / "table")


def test_https_to_a_server_without_it_is_told(tmp_path):
    with server(give(CONTENT)) as (url, _):
        said = problem_of(url.replace("http:", "https:"), tmp_path / "table")
    assert said.startswith("there is no encrypted connection to the server: check https against")


# -- secrets ---------------------------------------------------------------------------------------

RANDOM = "9f86d081884c7d659a2feaa0c55ad015"


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@example.org/t.csv",
        "https://hunter2@example.org/t.csv",
        "HTTPS://me:hun@ter2@example.org/t.csv",
        "https:me:hunter2@example.org/t.csv",
        "https://example.org/t.csv?token=hunter2",
        "https://example.org/t.csv?a=1&apiKey=hunter2",
        "https://example.org/t.csv?a=1;API-KEY=hunter2",
        "https://example.org/t.csv?%74oken=hunter2",
        "https://example.org/t.csv?sv=2020&sig=hunter2",
        "https://example.org/t.csv?X-Amz-Date=hunter2",
        "https://example.org/t.csv?AWSAccessKeyId=hunter2",
        "https://example.org/t.csv?subscription-key=hunter2",
        "https://example.org/t.csv?token=$MY_TOKEN-hunter2",
        "https://example.org/t.csv?token=$my_token_hunter2",
        f"https://example.org/t.csv?{RANDOM}hunter2",
        "https://example.org/t.csv#access_token=hunter2",
        "https://example.org/t.csv;token=hunter2?a=1",
        "https://example.org/t.csv?from=https://me:hunter2@example.org",
        "https://example.org/t.csv?from=https%3A%2F%2Fme:hunter2%40example.org",
        "https://example.org/https://me:hunter2@example.org/t.csv",
        "https://me:hunter2@exa mple.org:70000/t.csv\n",
        "https://[me:hunter2@example.org/t.csv",
        " https://example.org/t.csv?token=hunter2",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url):
    """As a file's path, and as the URL of a place."""
    place = {"url": url, "checksum": f"sha256:{SHA256}", "size": None}
    with pytest.raises(
        ParameterError, match=r"^params.yaml: `download\.file\.path` (has|begins)"
    ) as one:
        stage.check_path(url)
    with pytest.raises(
        ParameterError, match=r"yaml: `download\.mame\.places\.0\.url` (has|begins)"
    ) as two:
        check_section("download", {"source": "mame", "mame": {"places": [place]}}, stage.Params)
    for secret in ("hunter2", "ter2", RANDOM):
        assert secret not in str(one.value) + str(two.value)


@pytest.mark.parametrize(
    "secret",
    [
        RANDOM,
        "550e8400-e29b-41d4-a716-446655440000",
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "n4bQgYhMfWWaL%2BqgxVrQFaO/TxsrC4Is0V1sFbDwCgg%3D",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    ],
    ids=["hexadecimal", "UUID", "base64 of URLs", "base64", "JWT", "GitHub"],
)
def test_what_was_drawn_at_random_is_taken_for_a_secret(secret):
    assert "may be a secret in its query" in url_problem(f"https://example.org/t.csv?x={secret}")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?token=$MY_TOKEN",
        "?a=1&sig=$SIG&expires=2030-01-01",
        "?token=",
        "?$limit=50000&$order=year",
        "?file=MAMe_dataset_extended_2024.csv&author=Monet",
        "?name=Etchings-of-the-19th-century-part-2.csv",
        "?file=/data/v1/2024q1/set2a/2024-01-15_run_3_of_12_v2.csv",
        "?$select=field1,field2,field3,field4,field5",
        "?table=MyLongNameForTheTableOfAMuseum2024",
    ],
)
def test_a_url_without_a_secret_that_shows_is_taken(query):
    assert url_problem(f"https://example.org/commit/{RANDOM}/t.csv{query}") is None


HERE = "https://me:hunter2@example.org/"


@pytest.mark.parametrize(
    "values",
    [
        {"source": HERE},
        {"mame": HERE},
        {"mame": {"places": HERE}},
        {"mame": {"places": [HERE]}},
        {"mame": {"places": [{"url": [HERE], "checksum": "x", "size": None}]}},
        {"mame": {"places": [{"url": "http://x/", "checksum": HERE, "size": None}]}},
        {"mame": {"places": [{HERE: None}]}},
        {"file": {"path": [HERE], "sha256": "", "most_gigabytes": 1}},
    ],
    ids=range(8),
)
def test_a_url_in_the_wrong_place_is_not_repeated(values):
    with pytest.raises(ParameterError) as error:
        check_section("download", {"source": "mame"} | values, stage.Params)
    assert "hunter2" not in str(error.value)


def test_a_url_that_stands_twice_is_not_repeated(stage_folder):
    Path("params.yaml").write_text(
        "download:\n  file:\n    path: x\n    path: https://me:hunter2@example.org/\n"
    )
    with pytest.raises(ParameterError) as error:
        stage.main()
    assert "hunter2" not in str(error.value)
    assert "line 4" in str(error.value)


def test_a_secret_of_the_environment_is_seen_by_the_server_alone(bring, monkeypatch, capsys):
    monkeypatch.setenv("MY_TOKEN", "hunter2 &/%2B\udcff")
    table = b"Image file,Medium\n"
    with server(give(table)) as (url, asked):
        bring(f"{url}?token=$MY_TOKEN")
    assert asked == ["/table.parquet?token=hunter2%20%26%2F%2B%FF"]
    assert json.loads(Path("data/raw/provenance.json").read_text())["location"] == (
        f"{url}?token=$MY_TOKEN"
    )
    written = "".join(path.read_text() for path in Path().rglob("*") if path.is_file())
    assert "hunter2" not in written + "".join(capsys.readouterr())


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_named(bring, monkeypatch, value):
    monkeypatch.delenv("MY_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_TOKEN", value)
    with server(give(CONTENT)) as (url, asked):
        with pytest.raises(PipelineError, match=r"variable MY_TOKEN, which is not set: export MY_"):
            bring(f"{url}?token=$MY_TOKEN")
        assert asked == []


def test_user_and_password_come_from_netrc(bring, tmp_path, monkeypatch):
    """They are not sent to where the server redirects to."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    told = []

    def answer(handler):
        told.append(handler.headers["Authorization"])
        if handler.path == "/table.parquet":
            there = f"http://localhost:{handler.server.server_port}/there?token=hunter2"
            head(("Location", there), status=302)(handler)
        else:
            give(CONTENT)(handler)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with server(answer) as (url, _):
        said = bring(url)
    assert told == [f"Basic {base64.b64encode(b'me:hunter2').decode()}", None]
    assert said.endswith(f"bytes from {url}")
    assert "hunter2" not in Path("data/raw/provenance.json").read_text()


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("file:///etc/passwd", "redirects to what is no http or https URL"),
        ("ftp://example.org/x?sig=hunter2", "redirects to what is no http or https URL"),
        ("http://[x/?sig=hunter2", "redirects to what is no http or https URL"),
        ("/table.parquet", "redirects in a circle"),
        ("?n={}&sig=hunter2", "redirects more than 10 times"),
        ("http://no-such-host.invalid/?sig=hunter2", "the server's name is not known"),
        ("http://example.org:99999/?sig=hunter2", "cannot be asked for: check it"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_told_without_its_query(tmp_path, target, problem):
    asked = []

    def answer(handler):
        asked.append(handler.path)
        head(("Location", target.format(len(asked))), status=302)(handler)

    with server(answer) as (url, _):
        said = problem_of(url, tmp_path / "table")
    assert problem in said
    assert "hunter2" not in said
    assert len(asked) in (1, 3, 11)


def test_a_redirect_to_the_same_address_with_a_cookie_is_followed(tmp_path):
    def answer(handler):
        if handler.headers["Cookie"] == "seen=1":
            give(CONTENT)(handler)
        else:
            headers = [("Location", handler.path), ("Set-Cookie", "seen=1")]
            head(*headers, status=302)(handler)

    with server(answer) as (url, asked):
        fetching.fetch(url, tmp_path / "table")
        assert len(asked) == 2


def test_a_redirect_from_https_to_http_is_refused(tmp_path, monkeypatch, certificate):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", f"{certificate}.crt")
    with (
        server(give(CONTENT)) as (plain, asked),
        server(head(("Location", plain), status=301), certificate) as (url, _),
    ):
        assert "redirects from https to http" in problem_of(url, tmp_path / "table")
        assert asked == []


def test_a_redirect_is_followed_and_what_comes_with_it_is_not_read(tmp_path):
    with (
        server(give(CONTENT)) as (there, _),
        server(lasting(bytes(1000), 0, [("Location", f"{there}?sig=hunter2")], 307)) as (url, _),
    ):
        fetching.fetch(url, tmp_path / "table")
    assert (tmp_path / "table").read_bytes() == CONTENT


# -- the path in params.yaml -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("file:///somewhere/t.csv", "should be a path alone, without file://"),
        ("sftp://host/t.csv", "(sftp:// is not fetched: download the file, and give its path)"),
        ("s3://bucket", "should be s3://BUCKET/PATH"),
        ("s3:///t.csv", "should be s3://BUCKET/PATH"),
        ("s3://key:secret@bucket/t.csv", "has a user or a password in it"),
        ("FTP://example.org/t.csv", "(ftp:// is not fetched: download the file, and give its"),
        ("http:///t.csv", "has no host"),
        ("http:/t.csv", "has no host"),
        ("https:", "has no host"),
        ("http://:80/t.csv", "has no host"),
        ("http://example.org:99999/t.csv", "has a port that is no number"),
        ("http://example.org:eighty/t.csv", "has a port that is no number"),
        ("http://example.org:0/t.csv", "has a port that is no number"),
        ("http://*.example.org/t.csv", "has a host that is no name of a server"),
        ("http://$HOST/t.csv", "has a host that is no name of a server"),
        (f"http://{'ü' * 70}.org/t.csv", "has a host that is no name of a server"),
        ("http://[::1/t.csv", "has a host in brackets that is no IPv6 address"),
        ("http://example.org/a\nb", "has a line break or another character"),
        (f"http://example.org/{'a' * 9000}", "has more than 8,000 letters"),
    ],
)
def test_a_url_that_cannot_be_asked_for_says_why(bring, url, problem):
    with pytest.raises(ParameterError) as error:
        bring(url)
    assert str(error.value).startswith("params.yaml: `download.file.path` ")
    assert problem in str(error.value)


def test_the_scheme_may_be_in_capitals(bring):
    with server(give(CONTENT)) as (url, _):
        bring(url.replace("http://", "HTTP://"))
    assert Path("data/raw/MAMe_dataset_extended.parquet").read_bytes() == CONTENT


def test_a_host_may_have_letters_of_any_language(bring, monkeypatch):
    look_up = socket.getaddrinfo

    def found(host, *arguments, **options):
        return look_up({"xn--mnchen-3ya.example": "127.0.0.1"}[host], *arguments, **options)

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", found)
    with server(give(CONTENT)) as (url, _):
        bring(url.replace("127.0.0.1", "münchen.example"))
    assert Path("data/raw/MAMe_dataset_extended.parquet").is_file()


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("mine.csv")


PATHS = {
    "a loop": (lambda path: path.symlink_to(path), "is a link that leads back to itself"),
    "a broken link": (lambda path: path.symlink_to("gone"), "is a link to a file that is not ther"),
    "a folder": (Path.mkdir, "is a folder: give the path of the file in it"),
    "a pipe": (os.mkfifo, "is a pipe, not a file"),
    "a socket": (make_socket, "is a socket, not a file"),
    "an empty file": (Path.touch, "is an empty file"),
    "nothing": (lambda path: None, "leads nowhere: there is no file mine.csv (a relative path"),
}


@pytest.mark.parametrize(("make", "problem"), PATHS.values(), ids=PATHS)
def test_a_path_that_is_no_file_says_why(bring, make, problem):
    make(Path("mine.csv"))
    raw = Path("data/raw/kept")
    raw.parent.mkdir(parents=True)
    raw.touch()
    with pytest.raises(ParameterError) as error:
        bring("mine.csv")
    assert str(error.value).startswith(f"params.yaml: `download.file.path` {problem}")
    assert raw.exists()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/no/such/table.csv", "there is no file /no/such/table.csv"),
        ("~no-such-user/table.csv", "there is no file ~no-such-user/table.csv"),
        ("params.yaml/table.csv", "there is no file params.yaml/table.csv"),
        ("me:hunter2@example.org:table.csv", "there is no file of that name"),
        ("//example.org/t.csv?token=hunter2", "there is no file of that name"),
        ("", "is empty, give the path or URL"),
        ("a\0b", "has a line break or another character"),
        ("a\nb", "has a line break or another character"),
        ("C:\\tables\\t.csv", "is a path of Windows"),
        ("D:/tables/t.csv", "is a path of Windows"),
        ("\\\\server\\tables\\t.csv", "is a path of Windows"),
        ("x" * 300, "is longer than the name of a file can be"),
        ("/dev/zero", "is a device"),
        ("/dev/null", "is a device"),
        ("/proc/cpuinfo", "is made up by the kernel"),
        ("/proc/self/status", "is made up by the kernel"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "is made up by the kernel"),
    ],
)
def test_a_path_that_leads_nowhere_is_a_mistake_in_params(path, problem):
    if path.startswith(("/dev", "/proc", "/sys")) and not os.path.exists(path):  # noqa: PTH110
        pytest.skip(f"this system has no {path}")
    with pytest.raises(ParameterError) as error:
        stage.check_path(path)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_may_not_be_read_is_told():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "mine.csv"
        path.write_text("a,b\n")
        path.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may read everything
        try:
            with pytest.raises(ParameterError, match="may not be read by you: ask for the right"):
                stage.check_path(str(path))
        finally:
            os.seteuid(user)


# -- local files -----------------------------------------------------------------------------------


def test_a_local_file_is_copied_as_it_is(bring):
    source = write_csv_table(Path("mine.csv"), tiny_rows())
    bring(source)
    assert Path("data/raw/MAMe_dataset_extended.csv").read_bytes() == source.read_bytes()


def test_a_link_to_a_file_is_followed(bring):
    Path("link.csv").symlink_to(write_csv_table(Path("mine.csv"), tiny_rows()))
    bring("link.csv")
    assert not Path("data/raw/MAMe_dataset_extended.csv").is_symlink()


def test_a_file_that_grows_while_it_is_copied_is_refused_and_not_followed(tmp_path, monkeypatch):
    source = parquet_like(tmp_path)
    read = local.pieces_of

    def pieces(file):
        for number, piece in enumerate(read(file)):
            assert number < 10
            with source.open("ab") as more:
                more.write(bytes(100))
            yield piece

    monkeypatch.setattr(local, "pieces_of", pieces)
    with pytest.raises(PipelineError, match=r"like\.parquet changed while it was copied"):
        local.copy(source, tmp_path / "table", 10**9)
    assert list(tmp_path.iterdir()) == [source]
    # One piece when it came, one of what it had grown by.
    assert source.stat().st_size == SIZE + 200


def test_a_local_file_that_is_larger_than_is_allowed_is_refused(bring, tmp_path):
    source = parquet_like(tmp_path)
    with pytest.raises(PipelineError) as error:
        bring(source, most_gigabytes=1e-4)
    assert str(error.value) == (
        f"{source}: the file has more than the 100,000 bytes that are allowed: raise "
        "`download.file.most_gigabytes`"
    )


def test_the_log_says_how_to_pin_a_file(bring, capsys):
    source = write_csv_table(Path("mine.csv"), tiny_rows())
    bring(source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert f"set `download.file.sha256` to {digest} to pin it" in capsys.readouterr().out
    bring(source, digest.upper())
    assert "to pin it" not in capsys.readouterr().out


def test_a_file_that_changed_since_it_was_pinned_is_refused(bring, capsys):
    with pytest.raises(PipelineError, match="the content is not what was pinned"):
        bring(write_csv_table(Path("mine.csv"), tiny_rows()), "0" * 64)
    assert "to pin it" not in capsys.readouterr().out


def test_a_file_from_a_url_is_fetched(bring):
    with server(give(CONTENT)) as (url, _):
        assert bring(url, SHA256) == (
            f"file: MAMe_dataset_extended.parquet, {SIZE:,} bytes from {url}"
        )
    assert Path("data/raw/MAMe_dataset_extended.parquet").read_bytes() == CONTENT


def parquet_like(folder):
    path = folder / "like.parquet"
    path.write_bytes(CONTENT)
    return path


# -- the stage -------------------------------------------------------------------------------------


def start_stage(folder, **values):
    """Start the stage as DVC does, with these values in `download` of params.yaml."""
    yaml = YAML()
    content = yaml.load(TESTS_PARAMS)
    for key, value in values.items():
        content["download"][key] = value
    yaml.dump(content, folder / "params.yaml")
    return subprocess.Popen(
        [sys.executable, "-m", "stages.download"],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT), "PATH": "", "NO_PROXY": "127.0.0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run_stage(folder, **values):
    """Run it; return its exit code and what it says on standard error."""
    process = start_stage(folder, **values)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_the_mame_source_runs_as_a_stage(tmp_path):
    with server(give(b"", 404)) as (first, _), server(give(CONTENT)) as (second, _):
        places = [
            {"url": first, "checksum": "git-blob:" + "0" * 40, "size": None},
            {"url": second, "checksum": f"sha256:{SHA256}", "size": len(CONTENT)},
        ]
        code, said = run_stage(tmp_path, source="mame", mame={"places": places})
    assert code == 0, said
    raw = tmp_path / "data/raw"
    assert (raw / "MAMe_dataset_extended.parquet").read_bytes() == CONTENT
    assert json.loads((raw / "provenance.json").read_text()) == {
        "source": "mame",
        "location": second,
        "file": "MAMe_dataset_extended.parquet",
        "bytes": len(CONTENT),
        "sha256": SHA256,
    }


def test_the_mame_source_ends_with_one_sentence_and_no_table(tmp_path):
    with server(give(b"", 404)) as (url, _):
        places = [{"url": url, "checksum": f"sha256:{SHA256}", "size": None}]
        code, said = run_stage(tmp_path, source="mame", mame={"places": places})
    assert code == 1
    assert said.startswith("[download] error: none of the 1 places gave the file")
    assert said.count("\n") == 1
    assert list((tmp_path / "data").iterdir()) == []


@as_published
def test_the_pinned_places_are_the_two_of_the_course():
    places = read_yaml(PARAMS)["download"]["mame"]["places"]
    pins = [place["checksum"] for place in places]
    assert pins == [
        "git-blob:15bf438280eb2c7516f9fb3f7ae9266a7e56333b",
        "sha256:a5b30a6b5f876a416002f46e2477e41e403fc4ba33257f43fd9c87b5931e5f2c",
    ]
    assert places[1]["size"] == 89_245_286


def test_a_table_in_the_folder_that_the_stage_empties_is_refused_and_kept(bring):
    mine = Path("data/raw/mine.csv")
    mine.parent.mkdir(parents=True)
    write_csv_table(mine, tiny_rows())
    with pytest.raises(ParameterError, match="lies in data/raw, which this stage empties: keep"):
        bring(mine)
    assert mine.is_file()


def test_what_an_earlier_run_left_is_replaced(bring, tmp_path):
    bring(parquet_like(tmp_path))
    Path("data/.raw.999999999.partial/half").mkdir(parents=True)  # one that was killed
    bring(write_csv_table(Path("mine.csv"), tiny_rows()))
    names = {path.as_posix() for path in Path("data").rglob("*")}
    table = "data/raw/MAMe_dataset_extended.csv"
    assert names == {"data/raw", table, "data/raw/provenance.json"}


def test_a_raw_folder_that_is_a_link_is_refused_and_what_it_leads_to_stays(bring, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/table").write_text("mine")
    Path("data").mkdir()
    Path("data/raw").symlink_to(tmp_path / "mine")
    with pytest.raises(PipelineError, match=r"data/raw is a link, .* let data be a link to it"):
        bring(parquet_like(tmp_path))
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["mine"]


def test_the_old_table_survives_a_download_that_fails(bring, tmp_path):
    bring(parquet_like(tmp_path))
    before = {path: path.read_bytes() for path in Path("data/raw").iterdir()}
    with server(give(CONTENT[:9], promised=SIZE)) as (url, _), pytest.raises(PipelineError):
        bring(url)
    assert {path: path.read_bytes() for path in Path("data/raw").iterdir()} == before
    assert list(Path("data").iterdir()) == [Path("data/raw")]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_download_that_is_stopped_leaves_no_file(bring, monkeypatch, stop):
    """Ctrl-C, and what a signal becomes: they come while the download is waited for."""

    def stopped(*arguments):
        raise stop

    monkeypatch.setattr(fetching, "wait", stopped)
    with server(lasting(bytes(1000), 0.01)) as (url, _), pytest.raises(stop):
        bring(url, "0" * 64)
    assert list(Path("data").iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_while_a_file_comes_leaves_none(tmp_path):
    came = threading.Event()

    def answer(handler):
        came.set()
        lasting(bytes(1000), 0.01)(handler)

    with server(answer) as (url, _):
        path = {"path": url, "sha256": "0" * 64, "most_gigabytes": 1}
        process = start_stage(tmp_path, source="file", file=path)
        came.wait(60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert said == "[download] error: stopped by Ctrl-C\n"
    assert list((tmp_path / "data").iterdir()) == []


@pytest.fixture
def cached(bring, set_params):
    """A folder where DVC has run the stage and removed what it wrote; gives what that was."""
    set_params(**{"download.source": "file", "download.file.path": "/no/such/table.csv"})
    bring(parquet_like(Path()))
    Path("dvc.yaml").write_text("stages: {download: {cmd: 'true', outs: [data/raw]}}")
    Repo.init(no_scm=True).close()
    with Repo() as repo:
        repo.commit(force=True)
    before = raw_files()
    shutil.rmtree("data/raw")
    return before


def raw_files():
    return {path: path.read_bytes() for path in Path("data/raw").iterdir()}


def test_what_dvc_removed_comes_back_from_its_cache_when_the_download_fails(cached, capsys):
    with pytest.raises(ParameterError, match="leads nowhere"):
        stage.main()
    assert raw_files() == cached
    assert "data/raw is back from DVC's cache, as dvc.lock has it" in capsys.readouterr().out
    with Repo() as repo:
        assert repo.status() == {}


@pytest.mark.parametrize("spoilt", ["damaged", "missing", "no lock"])
def test_what_the_cache_has_not_whole_is_not_put_back(cached, capsys, spoilt):
    cache = Path(".dvc/cache/files/md5").rglob("*")
    table = next(path for path in cache if path.is_file() and path.stat().st_size == SIZE)
    table.chmod(0o644)
    match spoilt:
        case "damaged":
            table.write_bytes(b"PAR2" + CONTENT[4:])
        case "missing":
            table.unlink()
        case "no lock":
            Path("dvc.lock").unlink()
    with pytest.raises(ParameterError, match="leads nowhere"):
        stage.main()
    assert list(Path("data").iterdir()) == []
    assert "is back" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_of_dvc_that_fails_keeps_the_table(project):
    before = project.results()
    project.set_params(**{"download.file.path": f"{unused_url()}?token=$MY_TOKEN"})
    result = project.dvc("repro", check=False)
    assert result.returncode != 0
    assert "names the environment variable MY_TOKEN, which is not set" in result.stderr
    project.git("checkout", "params.yaml")
    assert project.results() == before
    assert "up to date" in project.dvc("status").stdout


def test_the_content_decides_whether_a_table_is_parquet(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    (tmp_path / "b").write_bytes(b"Image file,Medium\n")
    assert stage.table_suffix(tmp_path / "a") == ".parquet"
    assert stage.table_suffix(tmp_path / "b") == ".csv"
    (tmp_path / "c").write_bytes(gzip.compress(b"a,b"))
    (tmp_path / "d").write_bytes(pa.compress(b"a,b", "zstd", asbytes=True))
    assert stage.table_suffix(tmp_path / "c") == ".csv.gz"
    assert stage.table_suffix(tmp_path / "d") == ".csv.zst"


@pytest.mark.parametrize("section", [None, {"path": "x.csv", "sha256": "abc"}])
def test_a_section_that_is_wrong_leaves_the_raw_table_alone(tmp_path, section):
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/kept").touch()
    code, said = run_stage(tmp_path, source="file", file=section)
    assert code == 2
    assert said.count("\n") == 1
    assert (tmp_path / "data/raw/kept").exists()


# -- stores ----------------------------------------------------------------------------------------


@pytest.fixture
def store(memory_store):
    """A store in the memory of this process, with the file `memory://bucket/t.parquet`."""
    memory_store.pipe("/bucket/t.parquet", CONTENT)
    return memory_store


def test_a_file_of_a_store_comes_as_it_is(bring, store):
    bring("memory://bucket/t.parquet")
    assert Path("data/raw/MAMe_dataset_extended.parquet").read_bytes() == CONTENT
    provenance = json.loads(Path("data/raw/provenance.json").read_text())
    assert provenance["location"] == "memory://bucket/t.parquet"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: files.rm("/bucket/t.parquet"), "t.parquet: there is no such file"),
        (lambda files: files.pipe("/bucket/t.parquet", b"<html>"), "t.parquet: "),
        (
            lambda files: files.rm("/bucket/t.parquet") or files.mkdir("/bucket/t.parquet"),
            ": the sto",
        ),
    ],
)
def test_what_a_store_does_not_give_is_told(bring, store, change, said):
    change(store)
    with pytest.raises(PipelineError) as error:
        bring("memory://bucket/t.parquet")
    assert said in str(error.value)
    assert not Path("data/raw/MAMe_dataset_extended.parquet").exists()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (PermissionError("s3cret"), "it may not be read with these credentials"),
        (RuntimeError("s3cret"), r"the store does not give it \(RuntimeError\): are its address"),
        (lambda content: content[:-1], " of 102,404 bytes came: run it again"),
    ],
)
def test_a_store_that_fails_in_the_middle_is_told_without_its_words(
    bring, store, monkeypatch, trouble, said
):
    opened = type(store).open

    def failing(self, path, *how, **more):
        if isinstance(trouble, Exception):
            raise trouble
        return io.BytesIO(trouble(opened(self, path, "rb").read()))

    monkeypatch.setattr(type(store), "open", failing)
    with pytest.raises(PipelineError, match=said) as error:
        bring("memory://bucket/t.parquet")
    assert "s3cret" not in str(error.value)
    assert not Path("data/raw/MAMe_dataset_extended.parquet").exists()


def test_a_larger_file_of_a_store_is_refused(bring, store, monkeypatch):
    with pytest.raises(PipelineError, match=r"raise `download\.file\.most_gigabytes`"):
        bring("memory://bucket/t.parquet", most_gigabytes=1e-9)


def test_a_store_without_its_package_names_it(bring):
    pytest.importorskip("fsspec")
    if find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    with pytest.raises(PipelineError, match=r"gs:// needs a package .*: `pip install gcsfs`"):
        bring("gs://bucket/t.parquet")


@pytest.mark.slow
def test_a_table_comes_from_s3_with_the_keys_of_the_environment(bring, bucket, monkeypatch):
    url, key, secret = bucket
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(PipelineError, match=r"does not give it|may not be read"):
        bring(f"s3://{BUCKET}/tables/t.parquet")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    import s3fs

    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.pipe(f"{BUCKET}/tables/t.parquet", CONTENT)
    s3fs.S3FileSystem.clear_instance_cache()
    bring(f"s3://{BUCKET}/tables/t.parquet")
    assert Path("data/raw/MAMe_dataset_extended.parquet").read_bytes() == CONTENT
    with pytest.raises(PipelineError, match="there is no such file"):
        bring(f"s3://{BUCKET}/tables/other.parquet")
    kept = Path("data/raw/provenance.json").read_text()
    assert key not in kept
    assert secret not in kept
