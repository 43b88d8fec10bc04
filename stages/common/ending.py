"""End a process when it is asked to, and with the run of DVC that started it."""

import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from stages.common.files import remove_partial_files

# Seconds that a library may take to return once the process was asked to end.
GRACE = 5.0
ENDED_WITH_DVC = (
    "stopped because the run of DVC that started it has ended: `dvc repro` goes on; where you have "
    "set DVC_STAGE yourself, unset it"
)


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; the text is a sentence that says which.

    It is a KeyboardInterrupt, so that whatever tidies up after Ctrl-C does it after this too.
    """

    def __init__(self, sentence: str, number: int) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + number  # as shells count


@contextmanager
def ends_when_asked(stage: str) -> Iterator[None]:
    """Raise `Stopped` in the block when SIGTERM, SIGHUP or Ctrl-C comes, or when DVC ends.

    The processes that it has started end too. What does not return from a library within GRACE
    seconds is ended there, and its temporary files are gone then. A signal that is ignored, as
    SIGHUP is below `nohup`, stays so. Outside the main thread there are no signals, and nothing is
    done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in map(signal.Signals.__getitem__, names)}
    before = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    with_dvc = threading.Event()

    def sentence(number: int) -> str:
        if with_dvc.is_set():
            return ENDED_WITH_DVC
        by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        return f"stopped by {by}"

    def stop(number: int, _: object) -> None:
        for other in before:  # nothing interrupts the tidying
            signal.signal(other, _ignore)
        raise Stopped(sentence(number), number)

    # The system writes a signal's number here at once, also while a library keeps Python waiting.
    told, tell = socket.socketpair()
    tell.setblocking(False)

    def end_late() -> None:
        while (number := told.recv(1)) and number[0] not in before:
            pass
        if number:  # none once the block is over
            time.sleep(GRACE)
            remove_partial_files()
            _end_children()
            print(f"[{stage}] error: {sentence(number[0])}", file=sys.stderr, flush=True)
            os._exit(128 + number[0])

    old_wakeup = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=end_late, name="end late", daemon=True).start()
    for number in before:
        signal.signal(number, stop)
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with_dvc, args=(with_dvc,), name="dvc", daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        _end_children()
        raise
    finally:
        signal.set_wakeup_fd(old_wakeup)
        tell.close()
        for number, old in before.items():
            # After a signal, more of them would only disturb the end.
            if signal.getsignal(number) is stop:
                signal.signal(number, old)


def _ignore(number: int, frame: object) -> None:
    """Do nothing; a handler that the system ignores would be inherited by what is started."""


def _end_children() -> None:
    """End the processes that this one has started, and those that they have."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()


def _end_with_dvc(with_dvc: threading.Event) -> None:
    """Wait for the end of DVC, then ask this process to end."""
    dvc = find_dvc(psutil.Process().parent())
    if dvc is not None:
        dvc.wait()
    with_dvc.set()
    # To the main thread, as it may be asleep.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def find_dvc(process: psutil.Process | None) -> psutil.Process | None:
    """The process of DVC above this one, from its parent on; None where it has ended.

    Between them is the shell that DVC asks to run the command, unless it let itself be replaced,
    and whatever the command may wrap the stage in, such as a script or make.
    """
    ours = " ".join(sys.orig_argv[1:3])  # such as -m stages.train
    try:
        while process is not None:
            command = " ".join(process.cmdline())
            if not command:
                # What is ending has lost its words before it is gone. What stays has none.
                with suppress(psutil.TimeoutExpired):
                    process.wait(1)
                    return None
            # What takes over an orphan is no program of Python.
            if ours not in command and re.search("dvc|python", command):
                return process
            process = process.parent()
    except psutil.AccessDenied:
        return process  # another user's: it can be waited for all the same
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        pass
    return None
