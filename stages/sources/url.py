"""What a URL in params.yaml may hold, so that no secret of it is written anywhere.

A URL stands in the log, in data/raw/provenance.json, in dvc.lock and on the page. So user and
password belong in ~/.netrc, and a secret of the query in an environment variable: as
`?token=$MY_TOKEN` it is stored and shown, and its value is seen by the server alone.
"""

import os
import re
from collections.abc import Collection
from typing import Annotated
from urllib.parse import SplitResult, quote, unquote_plus, urlsplit

from pydantic import AfterValidator

from stages.common.errors import PipelineError

# `http:` counts without the slashes too: whoever types it means a URL. A letter and a colon are a
# drive of Windows.
URL = re.compile(r"https?:|[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# Small letters are left alone: `?$limit=100` is the query of a server of open data.
VARIABLE = re.compile(r"\$([A-Z_][A-Z0-9_]*)")
# Names of what is secret: whole words of a key, such as apiKey or api_key, and parts of it.
SECRET_WORDS = {"auth", "bearer", "jwt", "key", "otp", "pass", "pw", "pwd", "sas", "sid", "sig"}
SECRET_PARTS = re.compile(
    "accesskey|apikey|authkey|authorization|credential|passphrase|passw|secret|sessid|session"
    "|signature|subscriptionkey|token"
)
SIGNED = ("x-amz-", "x-goog-", "x-ms-", "x-oss-")
MOST_LETTERS = 8000
# Letters and digits of a word that may be drawn at random, and of one that surely is, and how often
# letters and digits meet in the former. `museum-2024-01-15_part_2` is neither.
LONG, VERY_LONG, TURNS = 16, 40, 4


def is_url(path: str) -> bool:
    """Whether a path is meant to be a URL, whatever its scheme."""
    return URL.match(path.strip()) is not None


def url_problem(url: str, stores: Collection[str] = ()) -> str | None:
    """What is wrong with a URL, as the words that go on after its name, without a secret of it.

    None for a URL of http or https, or of one of the stores, that can be asked for, and has no
    secret that shows as one: a secret in the path looks like any other folder.
    """
    if url != url.strip():
        return "begins or ends with a blank: take it out"
    if not url.isprintable():
        return "has a line break or another character in it that no URL has: take it out"
    if len(url) > MOST_LETTERS:
        return f"has more than {MOST_LETTERS:,} letters, which no server takes"
    try:
        parts = urlsplit(url)
    except ValueError:
        return "has a host in brackets that is no IPv6 address"
    scheme = parts.scheme
    if scheme == "file":
        return "should be a path alone, without file://, or an http or https URL"
    if scheme not in ("http", "https", *stores):
        other = f" ({scheme}:// is not fetched: download the file, and give its path)"
        return f"should be an http or https URL{other if is_url(url) else ''}"
    # Also of a URL that stands in this one.
    if "@" in parts.netloc or re.search("//[^/]*@", unquote_plus(url)):
        return (
            "has a user or a password in it, which would be kept with the results: leave them out "
            "here, and put `machine HOST login USER password PASSWORD` in ~/.netrc"
        )
    host_problem = _host_problem(url, parts) if scheme not in stores else _no_bucket(parts)
    return host_problem or _secret_problem(parts)


def _no_bucket(parts: SplitResult) -> str | None:
    if parts.netloc and parts.path.strip("/"):
        return None
    return f"should be {parts.scheme}://BUCKET/PATH"


def _host_problem(url: str, parts: SplitResult) -> str | None:
    from requests import PreparedRequest, RequestException

    if not parts.hostname:
        return "has no host: it should be http(s)://HOST/PATH"
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        return "has a port that is no number from 1 to 65535"
    try:
        PreparedRequest().prepare_url(url, None)
    except (RequestException, UnicodeError, ValueError):
        return "has a host that is no name of a server"
    if re.search(r"[^\w.:%-]", parts.hostname):
        return "has a host that is no name of a server"
    return None


def _secret_problem(parts: SplitResult) -> str | None:
    _, *of_path = parts.path.split(";")
    for pair in (*of_path, *re.split("[&;]", parts.query), *re.split("[&;]", parts.fragment)):
        key, _, value = (unquote_plus(part) for part in pair.partition("="))
        rest = VARIABLE.sub("", value)
        named = bool(rest) and _names_a_secret(key)
        if named or _is_random(VARIABLE.sub("", key)) or _is_random(rest):
            shown = key if named and re.fullmatch(r"[\w.-]{1,40}", key) else "KEY"
            return (
                "has what may be a secret in its query, which would be kept with the results: put "
                f"it in an environment variable, named in capitals, and write {shown}=$MY_SECRET "
                "instead"
            )
    return None


def _names_a_secret(key: str) -> bool:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", key)
    letters = re.sub(r"[^a-z]", "", key.lower())
    return (
        any(word.lower() in SECRET_WORDS for word in words)
        or SECRET_PARTS.search(letters) is not None
        or key.lower().startswith(SIGNED)
    )


def _is_random(text: str) -> bool:
    for word in re.findall("[A-Za-z0-9_~+=-]+", text):
        if re.search(f"[A-Za-z0-9]{{{VERY_LONG}}}", word):
            return True
        length = len(re.findall("[A-Za-z0-9]", word))
        turns = len(re.findall("(?<=[A-Za-z])[0-9]|(?<=[0-9])[A-Za-z]", word))
        cases = len(re.findall("(?<=[a-z])[A-Z]|(?<=[A-Z])[a-z]", word))
        if length >= LONG and (turns >= TURNS or (turns >= 2 and turns + cases >= 0.45 * length)):
            return True
    return False


def _checked(url: str) -> str:
    if (problem := url_problem(url)) is not None:
        raise ValueError(problem)
    return url


Url = Annotated[str, AfterValidator(_checked)]


def expanded(url: str) -> str:
    """The URL with the values of the environment variables that it names, percent-encoded.

    It is for the request alone. `%` is left as it is: a signature is often copied encoded.

    Raises PipelineError for a variable that is not set.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if not os.environ.get(name):
            raise PipelineError(
                f"the URL names the environment variable {name}, which is not set: "
                f"export {name}=... in the shell that starts the run"
            )
        return quote(os.fsencode(os.environ[name]), safe="%")

    return VARIABLE.sub(value, url)
