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
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

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
    heading = Figure((figure.get_figwidth(), TITLE_HEIGHT))
    heading.text(0.01, 0.08 / TITLE_HEIGHT, title, weight="bold")
    picture = Image.fromarray(np.concatenate([_pixels(heading), _pixels(figure)]))
    with atomic_write(path) as temporary:
        picture.save(temporary, "png", dpi=(DPI, DPI))


def _pixels(figure: Figure) -> np.ndarray:
    """A figure on white: (height, width, 4) uint8."""
    canvas = FigureCanvasAgg(figure)
    figure.set(dpi=DPI, facecolor="white")
    canvas.draw()
    _keep_places(figure)
    return np.asarray(canvas.buffer_rgba())


def _keep_places(figure: Figure) -> None:
    """Leave all where it was drawn: to find the places takes as long as to draw."""
    figure.set_layout_engine(None)


def to_svg(figure: Figure, name: str) -> str:
    """A figure as an `svg` element, to stand in an HTML page among others.

    It is as wide as what is around it. Each id starts with `name`, which the page has once.
    """
    file = io.StringIO()
    settings = {**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}
    with style.context(settings, after_reset=True):
        # Not savefig, which draws a figure with a layout once more, without ink.
        FigureCanvasSVG(figure).print_svg(file)
        _keep_places(figure)
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
