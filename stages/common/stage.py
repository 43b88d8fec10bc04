"""Run a stage: one closing log line, and one sentence when the user has to mend something."""

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from stages import NO_MEMORY, STARTED, out_of_memory, unread_stream
from stages.common.ending import Stopped, ends_when_asked
from stages.common.environment import check_environment
from stages.common.errors import PipelineError, about_file, reason
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
        sys.stdout = unread_stream()
        raise OSError(error.errno, error.strerror, "standard output") from None


@contextmanager
def hidden(library: str) -> Iterator[None]:
    """Keep a library that is not loaded yet out of what is imported meanwhile.

    Others load it, where it is installed, for what nothing here uses: Arrow and scikit-learn load
    pandas, to see whether a value is one of its, and XGBoost loads scikit-learn. That takes a third
    of a short stage's seconds.
    """

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == library:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Finder)
    try:
        yield
    finally:
        sys.meta_path.remove(Finder)


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
            _stop(stage, f"there is too little memory: {reason(error)}: {NO_MEMORY}", 1)
        if isinstance(error, OSError):
            _stop(stage, about_file(error), 1)
        raise


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise PipelineError(problem)


def _stop(stage: str, sentence: str, exit_code: int) -> None:
    # A pipe that nobody reads, or a full disk below standard error, keeps no one from ending.
    with suppress(OSError):
        print(f"[{stage}] error: {sentence}", file=sys.stderr, flush=True)
    sys.exit(exit_code)
