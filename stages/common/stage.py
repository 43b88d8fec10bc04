"""Run a stage: one closing log line, and one sentence when the user has to mend something."""

import sys
import time
from collections.abc import Callable

from stages.common.environment import check_environment


class PipelineError(Exception):
    """Something that the user can mend; its text is one sentence that says how."""

    exit_code = 1


class ParameterError(PipelineError):
    """A value in params.yaml that cannot be used."""

    exit_code = 2


def log(stage: str, message: str) -> None:
    """Print one line that begins with the name of the stage."""
    print(f"[{stage}] {message}", flush=True)


def shorten(text: str, length: int = 60) -> str:
    """The beginning of a text, in one line, with nothing that a terminal would obey."""
    words = " ".join(text[: 4 * length].split())  # cut first: the text may be a megabyte
    shown = "".join(char if char.isprintable() else "\ufffd" for char in words)
    return shown if len(shown) <= length else f"{shown[:length]}..."


def run(stage: str, main: Callable[[], str]) -> None:
    """Run a stage's `main` and close with one log line: what `main` returned, and the seconds.

    Packages that are not those of requirements.txt get a line on standard error before it.
    A `PipelineError` or a file that cannot be read or written ends the process with
    one sentence on standard error and exit code 1 (2 for a `ParameterError`);
    Ctrl-C ends it with exit code 130.
    """
    try:
        if (note := check_environment()) is not None:
            print(f"[{stage}] note: {note}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        summary = main()
    except PipelineError as error:
        _stop(stage, str(error), error.exit_code)
    except OSError as error:
        made_here = str(error.filename).startswith(("data/", "models/"))
        hint = ": run `dvc repro`, which makes it" if made_here else ""
        _stop(stage, f"{error.filename or 'a file'}: {error.strerror or error}{hint}", 1)
    except KeyboardInterrupt:
        _stop(stage, "stopped by Ctrl-C", 130)
    else:
        log(stage, f"{summary}, {time.perf_counter() - start:.1f} s")


def _stop(stage: str, sentence: str, exit_code: int) -> None:
    print(f"[{stage}] error: {sentence}", file=sys.stderr, flush=True)
    sys.exit(exit_code)
