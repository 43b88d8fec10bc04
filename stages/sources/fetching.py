"""Fetch a file from a server: the whole of it, within limits, or one sentence that says why not."""

import gzip
import http.client
import io
import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from threading import Thread, Timer
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin, urlsplit

from stages.common.errors import PipelineError, about_file
from stages.common.files import atomic_write
from stages.sources.content import check_beginning, check_content
from stages.sources.local import PIECE_BYTES, check_room, check_size, within
from stages.sources.url import expanded

if TYPE_CHECKING:
    import requests

# A try ends when the server sends nothing for so long,
TIMEOUT_SECONDS = 30
# or less than this on the average of so long;
LEAST_BYTES_PER_SECOND = 10_000
WINDOW_SECONDS = 60
# and all tries end after half a day.
MOST_SECONDS = 12 * 3600
# Pauses before further tries, after a fault that may pass.
PAUSES_SECONDS = (1, 2)
MOST_REDIRECTS = 10
ANOTHER_WAY = "download the file in another way, such as a browser, and give its path"
NO_NUMBER = (
    f"the server announces a length (Content-Length) that is no number of bytes: {ANOTHER_WAY}"
)
# The most that is taken where nobody says how much it should be.
MOST_BYTES = 10_000_000_000
# How long a server that has sent all is given to send more than it announced, or to close.
END_SECONDS = 1
# How often the download is looked at.
LOOK_SECONDS = 0.2
WEB_PAGE = ("text/html", "application/xhtml+xml")


class PassingError(PipelineError):
    """A fault that may be gone with the next try."""


def fetch(
    url: str,
    target: Path,
    checksum: str | None = None,
    size: int | None = None,
    most: int = MOST_BYTES,
    check: Callable[[Path], object] = check_beginning,
) -> None:
    """Download `url` to `target`, atomically, with further tries, limits and a progress bar.

    With a checksum, as `check_content` takes it, the content has to have it, and `size` bytes if
    that is given; else it may have `most` bytes. Environment variables that the URL names are put
    in for the request alone; user and password come from ~/.netrc. What the messages say has
    neither, nor the URL. `check` is given the path of what came, and raises PipelineError where it
    is something else.

    Raises PipelineError with the reason when the file cannot be had whole, and TooLargeError when
    it has more than `most` bytes.
    """
    address = expanded(url)
    deadline = time.monotonic() + MOST_SECONDS
    for pause in (*PAUSES_SECONDS, None):
        try:
            with atomic_write(target) as temporary:
                with temporary.open("wb") as file:
                    pinned = checksum is not None
                    _Download(address, file, target, pinned, size or most).run(deadline)
                check(temporary)
                if checksum is not None:
                    check_content(temporary, checksum, size)
            return
        except PassingError:
            if pause is None:
                raise
            time.sleep(pause)
        except OSError as error:
            raise PipelineError(about_file(error)) from None


class _Download:
    """One try. The server is listened to in a thread, because Python cannot end a read, or a look
    for the server's name, that goes on and on; the thread that asked for it watches."""

    def __init__(
        self,
        address: str,
        file: BinaryIO,
        target: Path,
        pinned: bool,
        most: int,
    ) -> None:
        self.address, self.file, self.target = address, file, target
        self.pinned, self.most = pinned, most
        self.received = 0  # bytes of the file
        self.announced: int | None = None  # bytes that the server says it sends

    def run(self, deadline: float) -> None:
        """Raises PipelineError, or OSError where the file cannot be written."""
        from tqdm import tqdm

        done: Future[None] = Future()
        # It dies with the process, and, when the file is closed here, of its next write.
        Thread(target=self._listen, args=(done,), daemon=True).start()
        # A bar without a total is false, and tqdm would not show it.
        with tqdm(desc=self.target.name, unit="B", unit_scale=True, disable=None) as bar:
            window, received = time.monotonic() + WINDOW_SECONDS, 0
            while not wait([done], LOOK_SECONDS).done:
                bar.total = self.announced
                bar.update(self.received - bar.n)
                now = time.monotonic()
                if now > deadline:
                    raise PipelineError(
                        f"the download took longer than {MOST_SECONDS / 3600:g} hours: "
                        f"{ANOTHER_WAY}"
                    )
                if now > window:
                    if self.received - received < LEAST_BYTES_PER_SECOND * WINDOW_SECONDS:
                        raise PipelineError(
                            f"the server sent less than {LEAST_BYTES_PER_SECOND:,} bytes a second "
                            f"for {WINDOW_SECONDS:g} seconds: try again later"
                        )
                    window, received = now + WINDOW_SECONDS, self.received
        done.result()

    def _listen(self, done: "Future[None]") -> None:
        try:
            self._receive()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _receive(self) -> None:
        import requests

        with requests.Session() as session, _ask(session, self.address) as response:
            if response.headers.get("Content-Type", "").split(";")[0].strip().lower() in WEB_PAGE:
                raise PipelineError(
                    "the server sent a web page instead of the file, such as one that asks to log "
                    "in: open the URL in a browser to see what it gives"
                )
            body = _Body(response)
            source = _unpacked(body, response.headers.get("Content-Encoding", ""))
            if body.announced is None and not body.chunked and not self.pinned:
                raise PipelineError(
                    "the server does not say how long the file is, so that half of it would pass "
                    "for the whole: pin its SHA-256, or download it and give its path"
                )
            if source is body:
                self.announced = body.announced
            # What is too much is refused before it comes.
            check_size(body.announced or 0, self.most)
            check_room(self.target.parent, body.announced or 0)
            for piece in within(_pieces(source), self.target.parent, self.most):
                self.file.write(piece)
                self.received += len(piece)


class _Body(io.RawIOBase):
    """What a server sends after its headers, as it comes, as long as it is what was announced.

    http.client would stop at the Content-Length and tell nothing of what comes after it.
    """

    def __init__(self, response: "requests.Response") -> None:
        self.raw: Any = response.raw
        self.wire: http.client.HTTPResponse = response.raw._original_response
        self.received = 0
        self.announced: int | None = None
        coding = response.headers.get("Transfer-Encoding", "").strip().lower()
        length = response.headers.get("Content-Length")
        self.chunked = coding == "chunked"
        if coding not in ("", "chunked"):
            raise PipelineError(
                "the server packs its answer in a way that was not asked for (Transfer-Encoding): "
                f"{ANOTHER_WAY}"
            )
        if length is not None and not self.chunked:
            # The same number twice is one number; requests refuses two that differ.
            number = length.split(",")[0].strip()
            if not re.fullmatch("[0-9]{1,18}", number):
                raise PipelineError(NO_NUMBER)
            self.announced = int(number)
            self.wire.length = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises PipelineError when the content is cut off, or longer than announced."""
        complete = self.received == self.announced
        closing = Timer(END_SECONDS, self._hang_up)
        if complete:
            closing.start()
        try:
            piece = self.wire.read1(len(buffer))
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not complete:
                raise _fault(error) from None
            piece = b""
        finally:
            closing.cancel()
        self.received += len(piece)
        if self.announced is not None:
            if self.received > self.announced:
                raise PipelineError(
                    f"the server sent more than the {self.announced:,} bytes that it announced, so "
                    f"that its file is not known to be whole: {ANOTHER_WAY}"
                )
            if not piece and not complete:
                raise PassingError(
                    f"the connection broke off after {self.received:,} of {self.announced:,} "
                    "bytes: try again"
                )
        buffer[: len(piece)] = piece
        return len(piece)

    def _hang_up(self) -> None:
        """End the reading of what a server leaves open, though it was asked to close it."""
        with suppress(OSError, RuntimeError, ValueError):
            self.raw.shutdown()


def _unpacked(body: _Body, coding: str) -> io.RawIOBase | gzip.GzipFile:
    """The content without the packing that some servers apply though it was not asked for."""
    match coding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            return gzip.GzipFile(fileobj=io.BufferedReader(body, PIECE_BYTES))
    raise PipelineError(
        "the server packs the file in a way that was not asked for (Content-Encoding): "
        f"{ANOTHER_WAY}"
    )


def _pieces(source: io.RawIOBase | gzip.GzipFile) -> Iterator[bytes]:
    """Raises PipelineError when the packing is damaged or cut off."""
    while True:
        try:
            piece = source.read(PIECE_BYTES)
        except (gzip.BadGzipFile, zlib.error, EOFError):
            raise PassingError(
                "the file came damaged or cut off (its gzip packing does not end well): try again"
            ) from None
        if not piece:
            return
        yield piece


def _ask(session: "requests.Session", address: str) -> "requests.Response":
    """The answer with the file, after redirects. Raises PipelineError where there is none.

    They are followed here: requests would go anywhere, tell where, though the address often has a
    signature, and read all that comes with a redirect, though it may have no end.
    """
    import requests

    redirect_of = session.get_redirect_target
    session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]
    session.headers.update({"Accept-Encoding": "identity", "Connection": "close"})
    seen = {(address, "[]")}
    while True:
        try:
            response = session.get(
                address, stream=True, timeout=TIMEOUT_SECONDS, allow_redirects=False
            )
            target = redirect_of(response)
        except (requests.RequestException, OSError, http.client.HTTPException, ValueError) as error:
            raise _fault(error) from None
        if target is None:
            _check_status(response)
            return response
        response.close()
        address = _redirected(address, target)
        step = (address, repr(sorted(session.cookies.items())))
        if step in seen:
            raise PipelineError(f"the server redirects in a circle: {ANOTHER_WAY}")
        seen.add(step)
        if len(seen) > MOST_REDIRECTS + 1:
            raise PipelineError(
                f"the server redirects more than {MOST_REDIRECTS} times: give the last address, "
                "as a browser shows it"
            )


def _redirected(address: str, target: str) -> str:
    try:
        there = urljoin(address, target)
        scheme = urlsplit(there).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https"):
        raise PipelineError("the server redirects to what is no http or https URL: check the URL")
    if scheme == "http" and urlsplit(address).scheme == "https":
        raise PipelineError(
            "the server redirects from https to http, where anybody may change the file on its "
            f"way: {ANOTHER_WAY}"
        )
    return there


def _check_status(response: "requests.Response") -> None:
    status = response.status_code
    if status == 200:
        return
    said = f"the server answered {status}"
    if status == 401:
        raise PipelineError(
            f"{said}, it wants to know who asks: put `machine HOST login USER password PASSWORD` "
            "in ~/.netrc"
        )
    if status == 403:
        raise PipelineError(f"{said}, it refuses the file: check the right to it, or the secret")
    if status == 407:
        raise PipelineError(f"{said}, the proxy wants a user and a password: check HTTP_PROXY")
    if status in (408, 425, 429) or status >= 500:
        raise PassingError(f"{said}, it cannot serve now: try again later")
    if 200 < status < 300:
        raise PipelineError(f"{said} and not 200, which the whole file would have: check the URL")
    if status < 400:
        raise PipelineError(f"{said} and does not say where the file is: check the URL")
    if status in (404, 410):
        raise PipelineError(f"{said}, it has no such file: check the URL")
    raise PipelineError(f"{said}, it does not take the request: check the URL")


def _fault(error: Exception) -> PipelineError:
    """What a failed connection means. The texts of libraries are not shown: they have addresses."""
    import requests

    chain = list(_causes(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in chain)

    if has(
        requests.exceptions.ProxyError,
        requests.exceptions.InvalidProxyURL,
        requests.exceptions.InvalidSchema,
    ):
        return PipelineError(
            "the proxy gives no connection: check HTTP_PROXY and HTTPS_PROXY, or name the host in "
            "NO_PROXY"
        )
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return PipelineError(
                f"the server's certificate is not trusted ({cause.verify_message}): where it is "
                "your organisation's own, set REQUESTS_CA_BUNDLE to the file of its certificates"
            )
    if has(requests.exceptions.InvalidHeader):
        return PipelineError(NO_NUMBER)
    if "CA certificate bundle" in str(error):
        return PipelineError(
            "REQUESTS_CA_BUNDLE names no file of certificates: set it, or unset it"
        )
    if has(ssl.SSLError):
        return PipelineError(
            "there is no encrypted connection to the server: check https against http, and the port"
        )
    if has(socket.gaierror):
        return PassingError(
            "the server's name is not known: check the host in the URL, and the network"
        )
    if has(ConnectionRefusedError):
        return PassingError(
            "no connection to the server, it refuses: check host and port, or try again later"
        )
    if has(TimeoutError, requests.Timeout):
        return PassingError(f"no answer for {TIMEOUT_SECONDS} seconds: try again later")
    if has(ConnectionError, http.client.IncompleteRead):
        return PassingError("the connection broke off before the end of the file: try again")
    if has(http.client.HTTPException):
        return PipelineError(
            "the answer is no HTTP, or has headers without end: check the port, and http against "
            "https"
        )
    for cause in chain:
        if isinstance(cause, OSError) and cause.errno and cause.strerror:
            return PassingError(f"no connection to the server: {cause.strerror}: try again later")
    if has(ValueError):
        return PipelineError("the URL, or where it redirects to, cannot be asked for: check it")
    return PipelineError(f"the download failed with {type(error).__name__}: {ANOTHER_WAY}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error with those that it was made of, as requests and urllib3 wrap them."""
    yield error
    for inner in (*error.args, getattr(error, "reason", None), error.__cause__):
        if isinstance(inner, BaseException):
            yield from _causes(inner)
