"""A photograph's file to the numbers that a network takes."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from photographs.networks.description import Description, Fit, Resize
from stages.common.errors import shorten

# A file that declares more pixels is taken for an attack: 500 million are 2 GB in memory.
MOST_PIXELS = 500_000_000
# Larger pictures are decoded one after the other, so that memory holds one of them.
LARGE_PIXELS = 25_000_000
_one_large_at_a_time = threading.Lock()

METHODS: dict[Resize, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# Pillow refuses twice as many. Its own limit is far below the panoramas that museums publish.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2
# Half a picture is no picture.
ImageFile.LOAD_TRUNCATED_IMAGES = False
# It warns of what it mends, such as a broken EXIF block. For all threads: there is no other way.
warnings.filterwarnings("ignore", module=r"PIL\.")
# It finds out what it can read with the first files, and two threads would meet that half done.
Image.preinit()
Image.init()
# All but PostScript, a program that Pillow would have run by Ghostscript where that is installed.
FORMATS = tuple(name for name in Image.ID if name != "EPS")


class Limits(NamedTuple):
    """What is read as a picture: no more pixels than these, and no other formats of Pillow's."""

    pixels: int
    formats: tuple[str, ...]


OWN = Limits(MOST_PIXELS, FORMATS)  # for photographs of one's own


class PictureError(Exception):
    """Why a file cannot be embedded, in a few words."""


def in_few_words(error: Exception, length: int = 120) -> str:
    """What a library's error says, in one line; its name where it says nothing."""
    return shorten(str(error), length) or type(error).__name__


@dataclass(frozen=True)
class Reading:
    """How pictures are read."""

    width: int  # pixels, of what the network takes
    height: int
    resize: Resize
    fit: Fit
    exif_rotation: bool  # turn a picture as its EXIF orientation says

    @classmethod
    def of(cls, network: Description, resize: Resize | None, exif_rotation: bool) -> "Reading":
        """As a network asks, but for a resize of one's own."""
        return cls(
            network.width, network.height, resize or network.resize, network.fit, exif_rotation
        )


@contextmanager
def open_picture(content: bytes, limits: Limits = OWN) -> Iterator[Image.Image]:
    """A picture, by the content of its file. Its pixels are decoded in the block.

    Raises PictureError where Pillow cannot read it, also for what goes wrong in the block.
    """
    if not content:
        raise PictureError("the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=limits.formats) as picture:
            width, height = picture.size
            if width * height > limits.pixels:
                raise Image.DecompressionBombError
            if width * height > LARGE_PIXELS:
                with _one_large_at_a_time:
                    yield picture
            else:
                yield picture
    except UnidentifiedImageError:
        raise PictureError("no picture of a format that is read") from None
    except Image.DecompressionBombError:
        raise PictureError(f"it has more than {limits.pixels:,} pixels") from None
    except MemoryError:
        raise PictureError("it takes more memory than there is") from None
    except Exception as error:
        # Pillow's decoders raise errors of many kinds for broken files.
        raise PictureError(f"Pillow cannot read it: {in_few_words(error)}") from None


def read_picture(content: bytes, how: Reading, limits: Limits = OWN) -> tuple[np.ndarray, int, int]:
    """A picture's pixels (height, width, 3) uint8 as the network takes them, its width and height.

    As Keras's `load_img` with `target_size` reads it, where `how` has the course's values: the
    first frame, converted to RGB, which drops transparency, then resized.

    Raises PictureError where Pillow cannot read it, or the limits do not allow it.
    """
    with open_picture(content, limits) as picture:
        return _decode(picture, how)


def _decode(picture: Image.Image, how: Reading) -> tuple[np.ndarray, int, int]:
    size = (how.width, how.height)
    if how.exif_rotation:
        ImageOps.exif_transpose(picture, in_place=True)  # without a second picture in memory
    own = picture.size
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if own != size and how.fit == "crop":
        picture = ImageOps.fit(picture, size, METHODS[how.resize])
    elif own != size:
        picture = picture.resize(size, METHODS[how.resize])
    return np.asarray(picture), *own


def network_input(pixels: np.ndarray, network: Description) -> np.ndarray:
    """Pixels (height, width, 3) uint8 as the network takes one picture: (1, ...) float32."""
    # By rows: NumPy is slow along an axis of three.
    rows = pixels.reshape(len(pixels), -1).astype(np.float32)
    divide, subtract = (
        np.tile(np.array(channels, np.float32), pixels.shape[1])
        for channels in (network.divide, network.subtract)
    )
    values = (rows / divide - subtract).reshape(pixels.shape)
    if network.layout == "NCHW":
        values = np.ascontiguousarray(values.transpose(2, 0, 1))
    return values[None]
