"""Write a figure as a picture or as a part of a page, with the same bytes from run to run.

Where text, axes and intervals have the colour `INK`, the SVG takes the colour of the text around
it: it is as readable on a dark page as on a light one.
"""

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stages.common.files import atomic_write
from stages.reporting.style import INK, STYLE, styled

TITLE_HEIGHT = 0.3  # inches
DPI = 150  # of pictures
# Characters that XML cannot hold, which a name may have.
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@styled
def to_png(figure: Figure, path: Path, title: str = "") -> None:
    """Write a figure as a picture on white, with a title above it.

    The title is added to the picture: in the figure it would stand in the legend's place.
    """
    canvas = FigureCanvasAgg(figure)
    figure.set(dpi=DPI, facecolor="white")
    canvas.draw()
    width, height = figure.get_size_inches()
    whole = Figure((width, height + TITLE_HEIGHT), dpi=DPI, facecolor="white")
    whole.figimage(np.asarray(canvas.buffer_rgba()), origin="upper")
    whole.text(0.01, (height + 0.08) / (height + TITLE_HEIGHT), title, weight="bold")
    with atomic_write(path) as temporary:
        # Without the version of Matplotlib.
        whole.savefig(temporary, format="png", metadata={"Software": None})


def to_svg(figure: Figure, name: str) -> str:
    """A figure as an `svg` element, to stand in an HTML page among others.

    It is as wide as what is around it. Each id starts with `name`, which the page has once.
    """
    file = io.StringIO()
    settings = {**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}
    with style.context(settings, after_reset=True):
        figure.savefig(file, format="svg", dpi=100)
    root = ElementTree.fromstring(NO_XML.sub("\ufffd", file.getvalue()))
    view = root.get("viewBox", "")
    # Its metadata, a date among them, and its style, which would count for the whole page.
    for element in root.findall("{*}metadata") + root.findall("{*}defs[{*}style]"):
        root.remove(element)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = dict(_attribute(*pair, name) for pair in element.items())
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": view,
        "font-family": "sans-serif",
        "stroke-linejoin": "round",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> tuple[str, str]:
    """An attribute of Matplotlib's SVG as it is in a page: see `to_svg`."""
    key = key.rpartition("}")[2]
    if key == "id":
        value = f"{name}-{value}"
    elif key == "href":
        value = re.sub("^#", f"#{name}-", value.replace(" ", ""))
    else:
        value = value.replace("url(#", f"url(#{name}-").replace(INK, "currentColor")
        value = re.sub(r"font-family: [^;]*;? ?", "", value)
    return key, value
