"""Run a stage: one closing log line, and one sentence when the user has to mend something."""

import errno
import io
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from stages import NO_MEMORY, STARTED, nobody, out_of_memory
from stages.common.ending import Stopped, ends_when_asked
from stages.common.environment import check_environment
from stages.common.errors import PipelineError, shorten
from stages.common.inputs import Inputs
from stages.common.threads import start_threads


def log(stage: str, message: str) -> None:
    """Print one line that begins with the name of the stage.

    Raises OSError where it cannot be printed.
    """
    try:
        print(f"[{stage}] {message}", flush=True)
    except OSError as error:  # a pipe that nobody reads, a full disk
        # What Python still holds would be tried once more at the end, with a traceback.
        sys.stdout = nobody()
        raise OSError(error.errno, error.strerror, "standard output") from None


def run(stage: str, main: Callable[[], str]) -> None:
    """Run a stage's `main` and close with one log line: what `main` returned, and the seconds.

    Packages that are not those of requirements.txt get a line on standard error before it.
    A `PipelineError`, a file that cannot be read or written, or too little memory ends the process
    with one sentence on standard error and exit code 1 (2 for a `ParameterError`), as does, below
    DVC, a file to read that is not what dvc.lock says, and a script that changes meanwhile. Ctrl-C
    ends it with exit code 130, another signal or the end of DVC as `ends_when_asked` says.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal or a file that cannot take a character gets its number instead.
            stream.reconfigure(errors="backslashreplace")
    try:
        with ends_when_asked(stage):
            if (note := check_environment()) is not None:
                print(f"[{stage}] note: {note}", file=sys.stderr, flush=True)
            start_threads()
            inputs = Inputs(STARTED)
            _refuse(inputs.damaged())
            start = time.perf_counter()
            summary = main()
            _refuse(inputs.changed_meanwhile())
            log(stage, f"{summary}, {time.perf_counter() - start:.1f} s")
    except PipelineError as error:
        _stop(stage, str(error), error.exit_code)
    except Stopped as error:
        _stop(stage, str(error), error.exit_code)
    except KeyboardInterrupt:
        _stop(stage, "stopped by Ctrl-C", 130)
    except Exception as error:
        if out_of_memory(error):
            _stop(stage, f"there is too little memory: {_reason(error)}: {NO_MEMORY}", 1)
        if isinstance(error, OSError):
            _stop(stage, about_file(error), 1)
        raise


def about_file(error: OSError) -> str:
    """What a user should know of a file that cannot be read or written, and do."""
    made_here = str(error.filename).startswith(("data/", "models/"))
    again = "then run it again"
    hints = {
        errno.ENOENT: "run `dvc repro`, which makes it" if made_here else "",
        errno.ENOSPC: f"make room on that disk, {again}",
        errno.EDQUOT: f"your share of that disk is used up: make room there, {again}",
        errno.EFBIG: f"raise the limit of the size of files (`ulimit -f`), {again}",
        errno.EROFS: f"that disk may only be read: let it be written to, {again}",
        errno.EACCES: f"give yourself the right to it, {again}",
        errno.EPERM: f"give yourself the right to it, {again}",
        errno.EMFILE: f"raise the limit of open files, such as by `ulimit -n 4096`, {again}",
        errno.ENFILE: f"close other programs, {again}",
        errno.EIO: f"the disk or the network below it fails: look at the system's log, {again}",
        errno.EISDIR: f"a folder is where a file should be: move it away, {again}",
        errno.ENOTDIR: f"a file is where a folder should be: move it away, {again}",
        errno.EEXIST: f"a file is where a folder should be: move it away, {again}",
        errno.EPIPE: f"what should read it has ended: let it read all, {again}",
    }
    hint = hints.get(error.errno or 0, "")
    return f"{error.filename or 'a file'}: {_reason(error)}{f': {hint}' if hint else ''}"


def _reason(error: Exception) -> str:
    """What an error says, in one line."""
    text = str(error)
    if isinstance(error, OSError):
        text = error.strerror or text
        # Arrow's own text names the temporary file, and more.
        if "[errno" in text.lower() and error.errno:
            text = os.strerror(error.errno)
    return shorten(text or type(error).__name__, 300)


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise PipelineError(problem)


def _stop(stage: str, sentence: str, exit_code: int) -> None:
    # A pipe that nobody reads, or a full disk below standard error, keeps no one from ending.
    with suppress(OSError):
        print(f"[{stage}] error: {sentence}", file=sys.stderr, flush=True)
    sys.exit(exit_code)
