"""A page to try photographs on, and the server that shows it.

It keeps nothing: a photograph is held in memory until it has its answer. `POST /answer` takes the
bytes of one as `application/octet-stream` and gives what `Replies.to` says as JSON; with
`?sizes=ignore` it does not look at the width and height, with `?sizes=use` it does. What is refused
has a sentence, `error`.
"""

import errno
import ipaddress
import json
import logging
import socket
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer, create_server
from waitress.task import ErrorTask

from answers.page import policy, render
from answers.reply import Replies
from photographs.pictures.picture import PictureError
from stages.common.errors import PipelineError

MOST_BYTES = 20_000_000  # of a photograph
# Photographs that are worked on at a time, and connections that may hold one in memory.
THREADS = 4
CONNECTIONS = 20
IDLE_SECONDS = 30  # after which a connection is closed that neither sends nor waits for an answer
REQUEST_SECONDS = 120  # in which a request has to come, or it would hold a connection for ever
CONTENT = "application/octet-stream"
MOST_PORT = 65535

HEADERS = [
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
# For all but the page.
NOTHING = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

Environ = dict[str, Any]
Response = tuple[HTTPStatus, list[tuple[str, str]], bytes]


class RequestError(Exception):
    """Why a request has no answer: a status of HTTP and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str, *headers: tuple[str, str]) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


def as_json(status: HTTPStatus, value: dict[str, Any], *headers: tuple[str, str]) -> Response:
    """An answer in JSON."""
    content = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return status, [("Content-Type", "application/json; charset=utf-8"), NOTHING, *headers], content


class Site:
    """What the server shows, by the protocol WSGI."""

    def __init__(self, replies: Replies, host: str, local: bool) -> None:
        """`host` is the one that it was told to listen on, `local` whether that is this machine
        alone."""
        self._replies = replies
        page = render(replies, MOST_BYTES)
        self._page = page.encode()
        self._policy = policy(page)
        self._hosts = {host.lower(), "localhost"}
        self._local = local

    def __call__(
        self, environ: Environ, start_response: Callable[[str, list[tuple[str, str]]], object]
    ) -> Iterable[bytes]:
        try:
            status, headers, content = self._answer(environ)
        except RequestError as error:
            status, headers, content = as_json(error.status, {"error": str(error)}, *error.headers)
        except Exception:
            logging.getLogger(__name__).exception("this request was not answered")
            status, headers, content = as_json(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                {"error": "Something went wrong in the program: its terminal says what."},
            )
        headers = [*headers, *HEADERS, ("Content-Length", str(len(content)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]

    def _answer(self, environ: Environ) -> Response:
        self._check_host(environ)
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == "/":
            check_method(method, "GET", "HEAD")
            headers = [
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Security-Policy", self._policy),
            ]
            return HTTPStatus.OK, headers, self._page
        if path == "/answer":
            check_method(method, "POST")
            check_origin(environ)
            return as_json(HTTPStatus.OK, self._reply(environ))
        raise RequestError(HTTPStatus.NOT_FOUND, "There is nothing here: the page is at /.")

    def _reply(self, environ: Environ) -> dict[str, Any]:
        if environ.get("CONTENT_TYPE") != CONTENT:
            raise RequestError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"Send the bytes of the photograph's file as {CONTENT}.",
            )
        query = parse_qs(environ.get("QUERY_STRING", ""))
        ignore_sizes = {"ignore": True, "use": False}.get(query.get("sizes", [""])[0])
        if ignore_sizes and not self._replies.answerer.can_ignore_sizes:
            raise RequestError(
                HTTPStatus.BAD_REQUEST, "This model cannot answer without the width and height."
            )
        try:
            return self._replies.to(environ["wsgi.input"].read(), ignore_sizes)
        except PictureError as error:
            raise RequestError(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"This photograph cannot be looked at: {error}."
            ) from None

    def _check_host(self, environ: Environ) -> None:
        """Refuses a name that another site may have led here, so that its page could read ours."""
        try:
            name = urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or ""
        except ValueError:
            name = ""
        if name not in self._hosts and (self._local or not is_address(name)):
            raise RequestError(
                HTTPStatus.FORBIDDEN, "This page is to be asked for by the address it was given."
            )


def check_method(method: str, *allowed: str) -> None:
    """Raises RequestError for another method than those."""
    if method not in allowed:
        raise RequestError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"This takes {' or '.join(allowed)}, and nothing else.",
            ("Allow", ", ".join(allowed)),
        )


def check_origin(environ: Environ) -> None:
    """Raises RequestError when the page of another site has sent the request."""
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and origin != f"http://{environ['HTTP_HOST']}":
        raise RequestError(HTTPStatus.FORBIDDEN, "The page of another site may not ask here.")


def is_address(name: str) -> bool:
    """Whether it is an IP address, which no other site can lead elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Refused(ErrorTask):  # type: ignore[misc]
    """What the server refuses before the page is asked, told as the page tells it."""

    def execute(self) -> None:
        error = self.request.error
        sentence = (
            f"The photograph has more than {MOST_BYTES // 1_000_000} MB: send a smaller one."
            if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            else f"{error.reason}: {error.body}."
        )
        status, headers, content = as_json(HTTPStatus(error.code), {"error": sentence})
        self.status = f"{status.value} {status.phrase}"
        self.response_headers += [*headers, *HEADERS]
        self.set_close_on_finish()
        self.content_length = len(content)
        self.write(content)


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _Refused
    _begun = 0.0  # when the first bytes came of the request that is coming

    def received(self, data: bytes) -> bool:
        now = time.monotonic()
        if self.request is None:
            self._begun = now
        elif now - self._begun > REQUEST_SECONDS:
            self.will_close = True
            return False
        return bool(super().received(data))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises PipelineError when there can be none.
    """
    if not 0 <= port <= MOST_PORT:
        raise PipelineError(f"--port {port}: a port is a number from 0 to {MOST_PORT}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except UnicodeError:  # a name that cannot be asked for
        raise PipelineError(f"--host {host} is no address") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PipelineError(
                f"port {port} is taken, perhaps by this command in another terminal: name another "
                "with --port"
            ) from None
        raise PipelineError(f"{host}, port {port}: {error.strerror}") from None


def is_local(listening: socket.socket) -> bool:
    """Whether only programs on this machine can reach it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def make_server(site: Site, listening: socket.socket) -> TcpWSGIServer:
    """A server whose `run` serves until Ctrl-C.

    What requests hold is bounded, and in memory: no photograph is written to a file.
    """
    # It warns whenever somebody has to wait.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = create_server(
        site,
        sockets=[listening],
        threads=THREADS,
        # It counts its own two as well.
        connection_limit=CONNECTIONS + 2,
        channel_timeout=IDLE_SECONDS,
        max_request_body_size=MOST_BYTES + 1,
        # Beyond these, it would write to files.
        inbuf_overflow=2 * MOST_BYTES,
        outbuf_overflow=2 * MOST_BYTES,
        ident=None,
    )
    server.channel_class = _Channel
    return server
