"""What a user can mend, in one sentence."""

import errno
import os


class PipelineError(Exception):
    """Something that the user can mend; its text is one sentence that says how."""

    exit_code = 1


class ParameterError(PipelineError):
    """A value in params.yaml that cannot be used."""

    exit_code = 2


def shorten(text: str, length: int = 60) -> str:
    """The beginning of a text, in one line, with nothing that a terminal would obey."""
    words = " ".join(text[: 4 * length].split())  # cut first: the text may be a megabyte
    shown = "".join(char if char.isprintable() else "\ufffd" for char in words)
    return shown if len(shown) <= length else f"{shown[:length]}..."


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
    return f"{error.filename or 'a file'}: {reason(error)}{f': {hint}' if hint else ''}"


def reason(error: Exception) -> str:
    """What an error says, in one line."""
    text = str(error)
    if isinstance(error, OSError):
        text = error.strerror or text
        # Arrow's own text names the temporary file, and more.
        if "[errno" in text.lower() and error.errno:
            text = os.strerror(error.errno)
    return shorten(text or type(error).__name__, 300)
