"""What has to be known of a network to use it: a small JSON file beside its ONNX file.

    models/network.onnx     takes n pictures, gives numbers
    models/network.json     says how the pictures have to be, and what the numbers are

So a newer network needs no code: its ONNX file, and this description.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from stages.common.errors import PipelineError, shorten
from stages.common.files import MOST_JSON, write_text
from stages.common.params import Section

NETWORK = Path("models/network.onnx")

# What a picture's pixels become when it gets another size; the names are Pillow's.
Resize = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
# How a picture of another shape becomes the network's: stretched, or its middle cut out.
Fit = Literal["stretch", "crop"]
# The values of `--layers` that are not names of outputs.
LAST, ALL = "last", "all"
# Which way up a picture is read: as its pixels are stored, or turned as EXIF says.
AS_STORED, EXIF = "as stored", "EXIF"

Text = Annotated[str, Field(min_length=1, max_length=200)]
Three = Field(min_length=3, max_length=3)
Finite = Annotated[float, Field(allow_inf_nan=False)]
Divisor = Annotated[float, Field(allow_inf_nan=False, gt=0)]


class Last(Section):
    """The output that is taken when nothing else is asked for."""

    output: Text
    pooling: Text


class Layers(Section):
    """Outputs of single layers, in the network's order, that may be taken together."""

    outputs: list[Text] = Field(min_length=1)
    pooling: Text
    # Of each number in the table: 16 are enough for small ones, such as those from 0 to 6.
    bits: Literal[16, 32] = 32


class Description(Section):
    """A network that takes pictures as (n, height, width, 3) float32, or (n, 3, height, width).

    A pixel's red, green and blue, from 0 to 255, are divided by `divide`, and `subtract` is
    subtracted, both channel by channel. Each output is (n, length) float32.
    """

    network: Text
    weights: Text
    # What the table calls the column of the numbers.
    column: Text
    width: int = Field(gt=0, le=10_000)
    height: int = Field(gt=0, le=10_000)
    layout: Literal["NHWC", "NCHW"]
    divide: Annotated[list[Divisor], Three]
    subtract: Annotated[list[Finite], Three]
    resize: Resize
    fit: Fit
    last: Last
    layers: Layers | None = None

    def outputs(self, layers: str) -> list[str]:
        """The names of the outputs that `--layers` asks for, in the network's order.

        `layers` is `last`, `all`, or names with commas between.

        Raises PipelineError for those that the network has not.
        """
        asked = [name.strip() for name in layers.split(",")]
        known = self.layers.outputs if self.layers else []
        if asked == [LAST]:
            return [self.last.output]
        if asked == [ALL] and known:
            return known
        unknown = [name for name in asked if name not in known]
        if unknown:
            some = f", or {ALL}, or some of {', '.join(known)}" if known else " alone"
            raise PipelineError(f"`{layers}` names no layers: {self.network} gives {LAST}{some}")
        return [name for name in known if name in asked]

    def identity(self, outputs: list[str], resize: Resize, exif_rotation: bool) -> dict[str, str]:
        """All that embeddings depend on beside the photographs, as texts: docs/table.md.

        Two tables may be used together when these agree.
        """
        if self.layers is None or outputs == [self.last.output]:
            layers, pooling = LAST, self.last.pooling
        else:
            layers = ALL if outputs == self.layers.outputs else ", ".join(outputs)
            pooling = self.layers.pooling
        return {
            "network": self.network,
            "weights": self.weights,
            "layers": layers,
            "pooling": pooling,
            "input": f"{self.width} x {self.height}",
            "scaling": f"x / {_in_words(self.divide)} - {_in_words(self.subtract)}",
            "resize": resize,
            "fit": self.fit,
            "orientation": EXIF if exif_rotation else AS_STORED,
        }


def _in_words(channels: list[float]) -> str:
    """One number where all channels have the same."""
    texts = [f"{value:.9g}" for value in channels]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def description_path(network: Path) -> Path:
    """Where the description of an ONNX file lies."""
    return network.with_suffix(".json")


def read_description(network: Path) -> Description:
    """Read what lies beside an ONNX file.

    Raises PipelineError when there is none, or when it is no description.
    """
    path = description_path(network)
    if not network.is_file():
        raise PipelineError(
            f"there is no network {network}: `python -m commands.network` makes it, and docs/"
            "photographs.md says how to use another"
        )
    try:
        if path.stat().st_size > MOST_JSON:
            raise PipelineError(f"{path} is too large to be the description of a network")
        return Description.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise PipelineError(
            f"{network} has no description beside it: write {path} as docs/photographs.md says"
        ) from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise PipelineError(
            f"{path} is no description of a network: {f'`{shorten(place)}`: ' if place else ''}"
            f"{problem['msg']}"
        ) from None


def write_description(network: Path, description: Description) -> None:
    """Write it beside an ONNX file."""
    text = description.model_dump_json(indent=2, exclude_none=True)
    write_text(description_path(network), text + "\n")
