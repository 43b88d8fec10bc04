"""Make names fit: how wide a text is in a figure, and shorter forms of it."""

import textwrap
from collections.abc import Iterable
from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

MAP_LINES = 3  # of a panel's title
# No name that fits on a line, or in the title of a panel, has more characters.
MOST_CHARACTERS = 400


def fit(names: Iterable[str], points: float) -> list[str]:
    """Each name on one line of at most so many points, cut in the middle if it is longer."""
    return [_fit(name, points) for name in names]


def _fit(name: str, points: float) -> str:
    if len(name) <= MOST_CHARACTERS and text_width(name) <= points:
        return name
    # The more characters are kept, the wider it is, but for a few points: halve the range.
    least, most = 0, min(len(name) - 1, MOST_CHARACTERS)
    while least < most:
        kept = (least + most + 1) // 2
        if text_width(_cut(name, kept)) <= points:
            least = kept
        else:
            most = kept - 1
    return _cut(name, least)


def _cut(name: str, kept: int) -> str:
    return f"{name[: kept - kept // 3]}…{name[len(name) - kept // 3 :]}"


def wrapped(name: str, points: float) -> str:
    """A name on at most `MAP_LINES` lines of at most so many points, cut if it is longer."""
    # A line may also end after a slash: a tab stands there meanwhile.
    marked = name[:MOST_CHARACTERS].replace("/", "/\t")
    for characters in range(min(len(marked), MOST_CHARACTERS // MAP_LINES), 0, -1):
        parts = textwrap.wrap(
            marked,
            characters,
            max_lines=MAP_LINES,
            placeholder="…",
            expand_tabs=False,
            replace_whitespace=False,
        )
        text = "\n".join(parts).replace("\t", "")
        if text_width(text) <= points:
            return text
    return ""


@lru_cache(maxsize=20_000)
def text_width(text: str) -> float:
    """How wide a text is, in points."""
    font = FontProperties()
    return max(
        text_to_path.get_text_width_height_descent(line, font, False)[0]
        for line in text.split("\n")
    )
