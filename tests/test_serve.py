"""The page to try a photograph on: what it answers, what it refuses, and how it reads."""

import base64
import csv
import http.client
import io
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import write_params
from pictures import draw, write_network
from PIL import Image
from test_photographs import tiny_png
from test_report_page import CHROMIUM, SCREENSHOTS, WIDTHS, browser, contrast  # noqa: F401

from answers import server as module
from answers.answerer import SYNTHETIC, Answerer
from answers.page import as_html, policy, render
from answers.photographs import as_artefacts, embedder_for
from answers.reply import GIVEN, Replies, share
from answers.server import CONTENT, MOST_BYTES, Site, listen, make_server
from answers.thumbnail import Pictures
from answers.training import Training
from commands import serve
from photographs.embed import embed
from photographs.pictures.embedder import Embedder
from photographs.pictures.picture import FORMATS
from photographs.pictures.places import open_place
from scripts.params import set_params
from stages import download, evaluate, featurize, parse_embeddings_to_parquet, split, train
from stages.common.errors import PipelineError
from stages.model_file.interface import MODEL, MODEL_CARD, PROBABILITIES
from stages.model_file.scoring import ModelFile
from stages.model_file.words import Words

MEDIUMS = ["Etching", "Bronze", "<b>Ivory</b>", "Oil & canvas", "Glass", "Wood"]
EACH = 12  # photographs


# A run on drawn photographs, and one server for all tests


WORDS = Words("medium", "mediums", "museum", "museums")


@pytest.fixture(scope="session")
def answering(shared):
    """A folder with a run on drawn photographs, these, and the network that embedded them."""

    def make(folder: Path) -> None:
        rows = [
            (draw(folder / "photographs" / f"{kind}-{number}.jpg", kind, number).name, medium)
            for kind, medium in enumerate(MEDIUMS)
            for number in range(EACH)
        ]
        with (folder / "catalogue.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("Image file", "Medium"), *rows])
        write_params(folder)
        write_network(folder / "network.onnx")
        with chdir(folder):
            embedder = Embedder(Path("network.onnx"))
            embed(Path("photographs"), Path("t.parquet"), embedder, Path("catalogue.csv"))
            values = {"download.source": "file", "download.file.path": str(folder / "t.parquet")}
            values |= {"split.strategy": "stratified", "train.model": "logistic_regression"}
            set_params(Path("params.yaml"), values)
            for stage in (download, parse_embeddings_to_parquet, split, featurize, train, evaluate):
                stage.main()

    return shared("answering", make)


@pytest.fixture(scope="module")
def replies(answering):
    answerer = Answerer(answering / MODEL)
    embedder = embedder_for(answerer, answering / "network.onnx", "test", exif_rotation=True)
    with chdir(answering):
        training = Training.read(answerer)
    pictures = Pictures(open_place(answering / "photographs"))
    return Replies(training, embedder, WORDS, pictures=pictures)


def start(replies, host="127.0.0.1"):
    """A server in a thread of its own; return its port."""
    listening = listen(host, 0)
    site = Site(replies, host, local=True)
    threading.Thread(target=make_server(site, listening).run, daemon=True).start()
    return listening.getsockname()[1]


@pytest.fixture(scope="module")
def port(replies):
    return start(replies)


@pytest.fixture
def photograph(answering):
    """A function that gives the path of a drawn photograph."""
    return lambda kind, number=0: answering / "photographs" / f"{kind}-{number}.jpg"


def ask(port, method="POST", path="/answer", content=b"", **headers):
    """Ask the server; return status, headers and what its JSON says, or the text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    sent = {"Content-Type": CONTENT} if method == "POST" else {}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, content, sent)
    answer = connection.getresponse()
    text = answer.read().decode()
    found = answer.status, answer.headers, text
    connection.close()
    return (*found[:2], json.loads(text)) if "json" in answer.headers["Content-Type"] else found


# What is answered


def test_the_answer_is_that_of_the_model(port, replies, photograph):
    status, headers, reply = ask(port, content=photograph(1).read_bytes())
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    artefact = as_artefacts(
        [""], [replies.embedder.embed(photograph(1).read_bytes())], replies.embedder
    )
    answers = replies.answerer.answer(artefact)
    said = [(each["medium"], each["probability"]) for each in reply["mediums"]]
    assert said == answers.best(0)
    assert [each["share"] for each in reply["mediums"]] == [
        share(each["probability"]) for each in reply["mediums"]
    ]
    assert len(reply["mediums"]) == 5
    assert reply["sure"] == answers.sure[0]
    assert reply["sizes"] is True
    assert reply["synthetic"] is False
    known = replies.training.right_when(answers.best(0)[0][1])
    assert f"were right in {known.right} of {known.rows} cases" in reply["sentences"][1]


def test_the_most_similar_training_artefacts_come_with_their_photographs(port, replies, photograph):
    name = replies.training.image_files[0]
    content = (photograph(0).parent / name).read_bytes()
    similar = ask(port, content=content)[2]["similar"]
    assert len(similar) == 5
    assert similar[0]["image_file"] == name
    assert similar[0]["medium"] == replies.training.mediums[0]
    assert similar[0]["cosine"] > 0.9999
    assert similar[1]["cosine"] < similar[0]["cosine"]
    begin, _, picture = similar[0]["picture"].partition(",")
    assert begin == "data:image/jpeg;base64"
    with (
        Image.open(io.BytesIO(base64.b64decode(picture))) as small,
        Image.open(io.BytesIO(content)) as own,
    ):
        assert small.size == own.size


def test_a_similar_photograph_that_is_not_there_is_not_shown(replies, photograph, tmp_path):
    content = photograph(0).read_bytes()
    (tmp_path / replies.training.image_files[0]).write_bytes(b"no picture")
    others = [replace(replies, pictures=found) for found in (None, Pictures(open_place(tmp_path)))]
    for other in others:
        assert {near["picture"] for near in other.to(content)["similar"]} == {None}


@pytest.mark.parametrize("above", [-0.1, 0.1, None])
def test_it_says_whether_it_is_sure_and_from_when_on(replies, monkeypatch, photograph, above):
    content = photograph(1).read_bytes()
    probability = replies.to(content)["mediums"][0]["probability"]
    threshold = None if above is None else probability + above
    monkeypatch.setattr(replies.answerer.model, "threshold", lambda output: threshold)
    reply = replies.to(content)
    assert reply["sure"] == (above == -0.1)
    if threshold is None:
        assert reply["sentences"][0].startswith("This model is never sure")
        assert reply["sentences"][0].endswith("right in 95 % of all cases.")
    else:
        verdict = "sure" if reply["sure"] else "unsure"
        assert reply["sentences"][0] == (
            f"The model is {verdict}: it is sure of an answer from {share(threshold)} on. Of all "
            f"such answers together, at least 95 % were right on val; of those near "
            f"{share(threshold)}, fewer. That holds for photographs like those of train alone."
        )


def test_shares_are_neither_nothing_nor_all_where_they_are_not():
    shares = [share(value) for value in (0.0, 0.0004, 0.314, 0.9996, 1.0)]
    assert shares == ["0.0 %", "under 0.1 %", "31.4 %", "over 99.9 %", "100.0 %"]


def test_the_sizes_are_ignored_where_they_are_far_from_those_of_train_or_one_asks_so(port):
    def answer(size, path="/answer"):
        file = io.BytesIO()
        Image.new("RGB", size, "teal").save(file, "PNG")
        reply = ask(port, path=path, content=file.getvalue())[2]
        return reply["sizes"], reply["sentences"][-1]

    assert answer((60, 50)) == (True, "The width and height, 60 x 50 pixels, were looked at too.")
    looked_at, sentence = answer((1060, 50))
    assert not looked_at
    assert "1,060 x 50 pixels is far from what the model was trained on" in sentence
    looked_at, sentence = answer((60, 50), "/answer?sizes=ignore")
    assert not looked_at
    assert "as you asked" in sentence


def test_sizes_are_ignored_from_the_start_where_the_command_says_so(replies, photograph):
    content = photograph(0).read_bytes()
    ignoring = replace(replies, ignore_sizes=True)
    assert ignoring.to(content) == replies.to(content, ignore_sizes=True)
    assert ignoring.to(content, ignore_sizes=False) == replies.to(content)
    assert re.search(r'id="ignore"\s*checked', render(ignoring, MOST_BYTES))
    assert not re.search(r'id="ignore"\s*checked', render(replies, MOST_BYTES))


def test_a_model_that_cannot_ignore_sizes_says_so(replies, monkeypatch, photograph):
    monkeypatch.setattr(ModelFile, "outputs", [PROBABILITIES])
    assert 'id="ignore"' not in render(replies, MOST_BYTES)
    status, _, reply = called(Site(replies, "127.0.0.1", True), query="sizes=ignore")
    assert (status, reply["error"]) == (
        "400 Bad Request",
        "This model cannot answer without the width and height.",
    )
    monkeypatch.setattr(replies.answerer, "ranges", {"width": (9e4, 9e5), "height": (9e4, 9e5)})
    reply = replies.to(photograph(0).read_bytes())
    assert reply["sizes"]
    assert reply["sentences"][-1].endswith("do not rely on this answer.")


def test_a_photograph_that_lies_on_its_side_is_turned_as_exif_says(port, photograph):
    with Image.open(photograph(1)) as picture:
        exif = Image.Exif()
        exif[0x0112] = 6
        upright, sideways = io.BytesIO(), io.BytesIO()
        picture.save(upright, "PNG")
        picture.transpose(Image.Transpose.ROTATE_90).save(sideways, "PNG", exif=exif)
    replies = [ask(port, content=file.getvalue())[2] for file in (upright, sideways)]
    assert replies[0] == replies[1]


def test_two_at_once_are_worked_on_at_once_and_get_their_own_answers(
    port, replies, photograph, monkeypatch
):
    contents = [photograph(kind).read_bytes() for kind in (0, 3)]
    alone = [ask(port, content=content)[2] for content in contents]
    assert alone[0] != alone[1]
    meet(replies, monkeypatch)
    found = {}
    threads = [
        threading.Thread(target=lambda k=k: found.update({k: ask(port, content=contents[k])[2]}))
        for k in (0, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[0], found[1]] == alone


def meet(replies, monkeypatch):
    """Let the network begin with a photograph only when another one has come too."""
    embed, barrier = replies.embedder.embed, threading.Barrier(2)

    def embed_together(*arguments):
        barrier.wait(timeout=20)
        return embed(*arguments)

    monkeypatch.setattr(replies.embedder, "embed", embed_together)


# What is refused


def encoded(kind, size=(60, 40)):
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"A letter to the museum.\n" * 50, "no picture of a format that is read"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><circle r="9"/></svg>', "no picture"),
        (encoded("PDF"), "no picture"),
        (encoded("ICO"), "no picture"),  # it may hold a picture that is larger than it says
        (encoded("JPEG", (600, 400))[:2000], "image file is truncated"),
        (tiny_png(20_000, 6_000), "it has more than 100,000,000 pixels"),
    ],
    ids=["empty", "text", "SVG", "PDF", "icon", "truncated", "pixels"],
)
def test_what_is_no_photograph_has_a_sentence(port, content, reason):
    status, _, reply = ask(port, content=content)
    assert status == 422
    assert reply["error"].startswith("This photograph cannot be looked at: ")
    assert reason in reply["error"]
    assert list(reply) == ["error"]


@pytest.mark.parametrize("kind", GIVEN.formats)
def test_what_cameras_and_browsers_make_is_answered(port, kind):
    assert kind in FORMATS
    assert ask(port, content=encoded(kind))[0] == 200


opened_to_write = None


def _watch(event, arguments):
    """Note what any thread opens to write, while a test looks."""
    if opened_to_write is not None and event == "open":
        _, mode, flags = arguments
        if set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            opened_to_write.append(arguments)


sys.addaudithook(_watch)


def test_as_many_bytes_as_are_allowed_are_taken_and_nothing_is_written_to_a_file(
    port, photograph, tmp_path
):
    global opened_to_write
    opened_to_write = []
    try:
        (tmp_path / "seen").write_bytes(b"")
        assert len(opened_to_write) == 1
        padded = photograph(0).read_bytes()
        padded += bytes(MOST_BYTES - len(padded))
        assert ask(port, content=padded)[0] == 200
        assert len(opened_to_write) == 1
    finally:
        opened_to_write = None


def test_more_bytes_are_refused_before_they_are_sent(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        lines = ["POST /answer HTTP/1.1", "Host: localhost", f"Content-Length: {MOST_BYTES + 1}"]
        connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 413
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        reply = json.loads(answer.read())
    assert reply == {"error": "The photograph has more than 20 MB: send a smaller one."}


def test_more_connections_wait_until_one_is_closed(replies, monkeypatch):
    monkeypatch.setattr(module, "CONNECTIONS", 2)
    port = start(replies)
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    # Both are taken when both have an answer.
    for connection in idle:
        connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"404" in connection.recv(100)
    with socket.create_connection(("127.0.0.1", port)) as third:
        third.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
        third.settimeout(0.2)
        with pytest.raises(TimeoutError):
            third.recv(100)
        idle[0].close()
        third.settimeout(10)
        assert b"404" in third.recv(100)
    idle[1].close()


@pytest.mark.parametrize(
    "start_of_it", ["GET / HTTP/1.1\r\nA: ", "POST /answer HTTP/1.1\r\nContent-Length: 99\r\n\r\n"]
)
def test_a_request_that_comes_a_byte_at_a_time_holds_no_connection(port, monkeypatch, start_of_it):
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(start_of_it.encode())

        def go_on() -> None:
            for _ in range(40):
                connection.sendall(b"x")
                time.sleep(0.05)

        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            go_on()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("HEAD", "/", {}, 200),
        ("GET", "/", {"Host": "localhost"}, 200),
        ("GET", "/", {"Host": "LOCALHOST:9000"}, 200),  # as by a tunnel of ssh
        ("GET", "/", {"Host": "example.org"}, 403),
        ("GET", "/", {"Host": "localhost.example.org"}, 403),
        ("GET", "/", {"Host": "192.0.2.7"}, 403),
        ("GET", "/", {"Host": ""}, 403),
        ("GET", "/", {"Host": "[::1"}, 403),
        ("POST", "/answer", {"Host": "example.org"}, 403),
        ("POST", "/answer", {"Host": "localhost", "Origin": "http://example.org"}, 403),
        ("POST", "/answer", {"Host": "localhost", "Origin": "https://localhost"}, 403),
        ("POST", "/answer", {"Host": "localhost:1", "Origin": "http://localhost:2"}, 403),
        ("POST", "/answer", {"Origin": "null"}, 403),
        ("POST", "/answer", {"Host": "localhost:1", "Origin": "http://localhost:1"}, 422),
        ("POST", "/answer", {"Content_Type": "multipart/form-data"}, 415),
        ("GET", "/answer", {}, 405),
        ("POST", "/", {}, 405),
        ("DELETE", "/answer", {}, 405),
        ("GET", "/nothing", {}, 404),
        ("GET", "/../params.yaml", {}, 404),
        ("GET", "/photographs/0-0.jpg", {}, 404),
    ],
)
def test_each_request_has_its_status_and_the_headers_that_keep_others_out(
    port, method, path, headers, status
):
    found, sent, content = ask(port, method, path, **headers)
    assert found == status
    assert sent["X-Content-Type-Options"] == "nosniff"
    assert sent["Referrer-Policy"] == "no-referrer"
    assert sent["Cache-Control"] == "no-store"
    assert sent["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert sent["Server"] is None
    if status == 405:
        assert sent["Allow"] == {"/": "GET, HEAD", "/answer": "POST"}[path]
    if status >= 400:
        assert content["error"].endswith(".")


def called(site, method="POST", path="/answer", query="", content=b"", host="localhost"):
    """What a site says without a server: status, headers, JSON."""
    said = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
    environ |= {"HTTP_HOST": host, "CONTENT_TYPE": CONTENT, "wsgi.input": io.BytesIO(content)}
    body = b"".join(site(environ, lambda *arguments: said.extend(arguments)))
    return (*said, json.loads(body) if body.startswith(b"{") else body.decode())


def test_what_goes_wrong_inside_is_logged_and_not_told(replies, caplog):
    def fail(*_):
        raise RuntimeError("a secret of the program")

    broken = replace(replies, embedder=SimpleNamespace(embed=fail))
    status, _, reply = called(Site(broken, "127.0.0.1", True), content=b"x")
    assert status == "500 Internal Server Error"
    assert reply == {"error": "Something went wrong in the program: its terminal says what."}
    assert "a secret of the program" in caplog.text


def test_a_server_for_the_network_takes_its_addresses_and_no_names_of_others(replies):
    site = Site(replies, "0.0.0.0", local=False)
    for host, status in (
        ("192.0.2.7:8000", "200 OK"),
        ("[2001:db8::7]:8000", "200 OK"),
        ("localhost", "200 OK"),
        ("example.org", "403 Forbidden"),
    ):
        assert called(site, "GET", "/", host=host)[0] == status
    named = Site(replies, "Studio.local", local=False)
    assert called(named, "GET", "/", host="studio.local:8000")[0] == "200 OK"


# The page as it is written


def test_the_policy_allows_what_is_written_in_the_page_and_nothing_else(port):
    _, headers, page = ask(port, "GET", "/")
    rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["img-src"] == "blob: data:"
    for name in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", rules[name])
    assert policy(page) == headers["Content-Security-Policy"]
    assert policy(page.replace("use strict", "use trust")) != policy(page)
    assert re.findall(r"(?:src|href)=\"(?!data:,)", page) == []
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_page_calls_labels_and_groups_what_the_parameters_call_them(replies):
    words = Words("maker", "makers", "dealer", "dealers")
    page = render(replace(replies, words=words), MOST_BYTES)
    text = page.split("<body")[1].split("<script")[0]
    assert "Telling the maker from a photograph" in text
    assert "how a dealer exports" in text
    assert 'data-unknown="dealer unknown"' in text


def test_the_card_is_html_with_the_headings_below_those_of_the_page():
    header = "---\nlicense: mit\n---\n\n"
    card = as_html(f"{header}# A <b>card</b>\n\n| a | n |\n|---|---:|\n| x | 1 |\n")
    assert "license" not in card
    assert "<h3>A &lt;b&gt;card&lt;/b&gt;</h3>" in card
    assert '<td class="number">1</td>' in card
    assert "style=" not in card


def test_a_model_of_simulated_data_has_a_banner_and_the_page_does_without_a_card(
    replies, monkeypatch, tmp_path
):
    assert SYNTHETIC.capitalize() not in render(replies, MOST_BYTES)
    assert "its card" in render(replies, MOST_BYTES)
    monkeypatch.setitem(replies.answerer.model.metadata, "source", "synthetic")
    monkeypatch.setattr(replies.answerer, "path", tmp_path / MODEL.name)
    page = render(replies, MOST_BYTES)
    assert SYNTHETIC.capitalize() in page
    assert "its card" not in page
    (tmp_path / MODEL_CARD.name).write_text("# A card")
    assert "<h3>A card</h3>" in render(replies, MOST_BYTES)
    (tmp_path / MODEL_CARD.name).write_bytes(b"# \xff")
    with pytest.raises(PipelineError, match=r"model_card.md cannot be used"):
        render(replies, MOST_BYTES)


# The command


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_command_serves_until_ctrl_c(answering, monkeypatch, capsys, host):
    monkeypatch.chdir(answering)
    everywhere = host == "0.0.0.0"
    monkeypatch.setattr(Answerer, "synthetic", everywhere)
    options = ["--network", "network.onnx", "--port", "0", "--host", host, "--open"]
    monkeypatch.setattr(sys, "argv", ["serve", *options])
    seen = []

    def visit(address):
        def get():
            try:
                port = int(address.rstrip("/").rpartition(":")[2])
                seen.extend([address, ask(port, "GET", "/")[2]])
            finally:
                os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=get).start()

    monkeypatch.setattr(serve.webbrowser, "open", visit)
    # A shell that starts programs in the background lets them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert serve.main() == "stopped"
    finally:
        signal.signal(signal.SIGINT, before)
    address, page = seen
    assert "Telling the medium from a photograph" in page
    said = capsys.readouterr().out
    assert f"[serve] {address} shows the page, until Ctrl-C\n" in said
    assert ("everyone in the network" in said) == everywhere
    assert (SYNTHETIC in said) == everywhere
    assert address.startswith(f"http://{'localhost' if everywhere else host}:")


def test_what_to_type_in_a_browser():
    assert serve.address_of("::1", 8000) == "http://[::1]:8000/"
    assert serve.address_of("::", 8000) == "http://localhost:8000/"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--port", "70000"], "--port 70000: a port is a number from 0 to 65535"),
        (["--host", "192.0.2.1"], "192.0.2.1, port 8000: Cannot assign requested address"),
        (["--model", "none.onnx"], "there is no model none.onnx"),
        (["--photographs", "none"], "there is no folder or zip file none"),
    ],
)
def test_what_keeps_it_from_serving_is_one_sentence(answering, monkeypatch, options, sentence):
    monkeypatch.chdir(answering)
    monkeypatch.setattr(sys, "argv", ["serve", "--network", "network.onnx", *options])
    monkeypatch.setattr(serve, "make_server", lambda *_: pytest.fail("it would serve"))
    with pytest.raises(PipelineError, match=re.escape(sentence)):
        serve.main()


def test_a_folder_without_a_run_is_told(answering, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    files = ["--model", str(answering / MODEL), "--network", str(answering / "network.onnx")]
    monkeypatch.setattr(sys, "argv", ["serve", *files])
    with pytest.raises(PipelineError, match="`dvc repro` makes it, and `dvc pull` fetches it"):
        serve.main()


def test_a_port_that_is_taken_is_told(port):
    with pytest.raises(PipelineError, match=f"port {port} is taken"):
        listen("127.0.0.1", port)


# The page in a browser

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture
def visit(browser, port):  # noqa: F811
    """A function that opens the page, and what the browser had to say of all of them."""
    pages, said, asked = [], [], []

    def open_page(width=1280, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda sent: asked.append(sent.url))
        page.goto(f"http://127.0.0.1:{port}/")
        pages.append(page)
        return page

    open_page.said, open_page.asked = said, asked
    yield open_page
    for page in pages:
        page.close()
    # Nothing was asked of anybody else.
    urls = [url for url in asked if not url.startswith(("blob:", "data:"))]
    assert {re.match(r"https?://[^/]+", url)[0] for url in urls} == {f"http://127.0.0.1:{port}"}


def given(page, content: bytes, name: str):
    """A file in the page, as it is dropped or pasted."""
    return page.evaluate_handle(
        """([content, name]) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, {type: "image/jpeg"}));
            return transfer;
        }""",
        [base64.b64encode(content).decode(), name],
    )


def drop(page, transfer):
    page.evaluate(
        """(dataTransfer) => {
            for (const kind of ["dragenter", "dragover", "drop"])
                document.body.dispatchEvent(
                    new DragEvent(kind, {dataTransfer, bubbles: true, cancelable: true}));
        }""",
        transfer,
    )


def shown(page) -> dict:
    """What the page answers, once it does."""
    page.locator("#answer").wait_for()
    assert page.locator("#problem").text_content() == ""
    return {
        "mediums": page.locator("#mediums li").evaluate_all(
            "items => items.map(item => [...item.querySelectorAll('span')].map(s => s.textContent))"
        ),
        "sentences": page.locator("#sentences p").all_text_contents(),
        "similar": page.locator("#similar li").evaluate_all(
            "items => items.map(item => item.children[3].textContent)"
        ),
    }


def expected(reply) -> dict:
    """What the page has to show."""
    plain = {
        "mediums": [[each["medium"], each["share"]] for each in reply["mediums"]],
        "sentences": reply["sentences"],
        "similar": [near["image_file"] for near in reply["similar"]],
    }
    return json.loads(json.dumps(plain, ensure_ascii=False).replace(" %", "\u00a0%"))


@in_a_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_reads_well(visit, width, photograph):
    phone = width < 500
    page = visit(width, has_touch=phone, is_mobile=phone)
    # A phone has a camera, and its button.
    assert page.locator(".camera").is_visible() == phone
    page.locator("#camera" if phone else "#file").set_input_files(photograph(2))
    shown(page)
    assert visit.said == []
    page.evaluate("document.querySelector('details').open = true")  # all that may be wide
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.locator("#picture").evaluate("picture => picture.naturalWidth") > 0
    pictures = page.locator("#similar img")
    assert pictures.count() == 5
    assert pictures.evaluate_all("all => all.every(picture => picture.naturalWidth > 0)")
    bar = page.locator(".bar div").first.evaluate(
        "bar => bar.getBoundingClientRect().width / bar.parentNode.clientWidth"
    )
    share_of_first = float(page.locator(".names span").nth(1).text_content().split("\u00a0")[0])
    assert bar == pytest.approx(share_of_first / 100, abs=0.01)
    SCREENSHOTS.mkdir(exist_ok=True)
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate("document.querySelector('details').open = true")
        assert faint(page) == []
        grounds.add(texts(page)[0][2])
        page.evaluate("document.querySelector('details').open = false")
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": width, "height": height})
        page.screenshot(path=SCREENSHOTS / f"serve-{width}-{scheme}.png")
    assert len(grounds) == 2


def faint(page) -> list[tuple[str, str, str]]:
    """The texts that do not stand out from what is behind them."""
    return [line for line in texts(page) if contrast(*line[1:]) < 7]


def texts(page) -> list[tuple[str, str, str]]:
    """Each text that is shown, with its colour and that of what is behind it."""
    return page.evaluate(
        """() => {
            const found = [];
            for (const node of document.querySelectorAll("body *")) {
                const own = [...node.childNodes].filter((n) => n.nodeType === Node.TEXT_NODE);
                const text = own.map((n) => n.textContent.trim()).join("");
                if (!text || !node.checkVisibility() || node.closest("script, .unseen")) continue;
                let behind = node;
                const ground = () => getComputedStyle(behind).backgroundColor;
                while (ground() === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
                found.push([text, getComputedStyle(node).color, ground()]);
            }
            return found;
        }"""
    )


@in_a_browser
def test_a_photograph_may_be_chosen_dropped_or_pasted(visit, port, photograph):
    page = visit()
    for kind, give in enumerate(
        [
            lambda path: page.locator("#file").set_input_files(path),
            lambda path: drop(page, given(page, path.read_bytes(), path.name)),
            lambda path: page.evaluate(
                """(clipboardData) => document.body.dispatchEvent(
                    new ClipboardEvent("paste", {clipboardData, bubbles: true}))""",
                given(page, path.read_bytes(), path.name),
            ),
        ]
    ):
        path = photograph(kind)
        give(path)
        assert shown(page) == expected(ask(port, content=path.read_bytes())[2])
        assert page.locator("#name").text_content() == path.name
        reply = ask(port, content=path.read_bytes())[2]
        verdict = "sure" if reply["sure"] else "unsure"
        assert page.locator("#verdict").text_content().split()[1] == verdict
        assert page.locator("#status").text_content().endswith(f"The model is {verdict}.")
        # Ready for the next one.
        assert page.locator("body.dragging").count() == 0
        page.evaluate("document.querySelector('#answer').hidden = true")
    assert visit.said == []


@in_a_browser
def test_the_box_asks_again_without_the_sizes(visit, port, photograph):
    page = visit()
    page.locator("#file").set_input_files(photograph(4))
    shown(page)
    with page.expect_response(re.compile("sizes=ignore")):
        page.locator("#ignore").check()
    content = photograph(4).read_bytes()
    assert shown(page) == expected(ask(port, path="/answer?sizes=ignore", content=content)[2])
    assert "as you asked" in page.locator("#sentences").text_content()


@in_a_browser
def test_wrong_files_have_a_sentence_and_names_are_no_html(visit, photograph):
    page = visit()
    problem = page.locator("#problem[role=alert]:not(:empty)")

    def asked():
        return sum("answer" in url for url in visit.asked)

    name = "<img src=x onerror=alert(1)>.jpg"
    drop(page, given(page, photograph(2).read_bytes(), name))
    shown(page)
    assert page.locator("#name").text_content() == name
    assert page.locator("main img").count() == 6  # those of the photographs
    assert "<b>" in page.locator("#alike").text_content()  # of the name of a medium
    assert page.locator("main b").count() == 0

    drop(page, given(page, b"A letter to the museum.", name))
    problem.wait_for()
    assert problem.text_content() == (
        "This photograph cannot be looked at: no picture of a format that is read."
    )
    assert faint(page) == []
    assert page.locator("#answer").is_hidden()
    assert page.locator("#result").is_hidden()
    assert page.locator("progress").is_hidden()

    before = asked()
    huge = page.evaluate_handle(
        """([bytes, name]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name));
            return transfer;
        }""",
        [MOST_BYTES + 100_000, name],
    )
    drop(page, huge)
    assert problem.text_content().startswith(f"{name} has 20.1 MB, and at most 20 MB are looked at")
    drop(page, page.evaluate_handle("new DataTransfer()"))
    assert problem.text_content().startswith("What was dropped is no file")
    assert asked() == before
    # What was asked and refused is told by the browser too, and nothing else.
    assert [text for text in visit.said if "422" not in text] == []

    page.route("**/answer*", lambda route: route.abort())
    page.locator("#file").set_input_files(photograph(2))
    page.get_by_text("is the program still running?").wait_for()


@in_a_browser
def test_two_pages_at_once_wait_visibly_and_get_their_own_answers(
    visit, port, replies, photograph, monkeypatch
):
    alone = [expected(ask(port, content=photograph(kind).read_bytes())[2]) for kind in (0, 5)]
    assert alone[0] != alone[1]
    meet(replies, monkeypatch)
    pages = [visit(), visit(reduced_motion="reduce")]
    for page, kind in zip(pages, (0, 5), strict=True):
        page.evaluate("""() => {
            const progress = document.querySelector("progress");
            new MutationObserver(() => {
                if (!progress.hidden) window.waited =
                    [progress.checkVisibility(), document.querySelector("#status").textContent];
            }).observe(progress.parentNode, {attributes: true, subtree: true, childList: true});
        }""")
        page.locator("#file").set_input_files(photograph(kind))
    assert [shown(page) for page in pages] == alone
    # What moves is not shown to those who asked for less of it.
    assert [page.evaluate("window.waited") for page in pages] == [
        [True, "Looking at the photograph ..."],
        [False, "Looking at the photograph ..."],
    ]


@in_a_browser
def test_all_is_done_by_keyboard_and_the_focus_is_seen(visit, photograph):
    page = visit()

    def focused():
        """What has the focus, and how wide the line around it, or around its label, is."""
        return page.evaluate(
            """() => {
                const node = document.activeElement;
                const seen = node.matches(".unseen") ? node.nextElementSibling : node;
                const style = getComputedStyle(seen);
                const line = style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
                return [node.id || node.tagName, line];
            }"""
        )

    # The browser is told early that we choose, as it does not wait for that.
    page.on("filechooser", lambda _: None)
    page.keyboard.press("Tab")
    assert focused() == ["file", 3]
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(photograph(1))
    shown(page)
    page.keyboard.press("Tab")
    assert focused() == ["ignore", 3]
    page.keyboard.press("Space")
    page.get_by_text("as you asked").wait_for()
    page.keyboard.press("Tab")
    assert focused() == ["SUMMARY", 3]
    page.keyboard.press("Enter")
    assert page.get_by_role("heading", name="Medium classifier").is_visible()
