"""What a user can mend, in one sentence."""


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
