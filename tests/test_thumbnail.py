"""A photograph becomes a small picture that holds nothing else."""

import io

import numpy as np
import pytest
from PIL import Image

from answers.thumbnail import thumbnail
from photographs.pictures.picture import PictureError

ORIENTATION, MAKER = 0x0112, 0x010F  # tags of EXIF


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def two_halves(mode="RGB", size=(1600, 800)):
    """Dark on the left, light on the right."""
    picture = Image.new("L", size, 40)
    picture.paste(220, (size[0] // 2, 0, *size))
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("P", "PNG"), ("LA", "PNG")]
)
def test_it_is_a_small_jpeg_of_the_same_picture(mode, kind):
    with Image.open(io.BytesIO(thumbnail(encoded(two_halves(mode), kind)))) as small:
        assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (320, 160))
        pixels = np.asarray(small.convert("L"), dtype=int)
    assert abs(pixels[:, :150] - 40).max() < 12
    assert abs(pixels[:, 170:] - 220).max() < 12


def test_it_is_turned_as_exif_says_and_keeps_no_word():
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKER] = 6, "A phone of mine"
    content = encoded(two_halves(), "JPEG", exif=exif, comment=b"My garden")
    small = thumbnail(content)
    assert b"phone" not in small
    assert b"garden" not in small
    with Image.open(io.BytesIO(small)) as picture:
        assert picture.size == (160, 320)
        assert not picture.getexif()
        pixels = np.asarray(picture.convert("L"), dtype=int)
    assert pixels[:150].mean() < 60  # what was on the left is above
    assert pixels[170:].mean() > 200


def test_a_small_picture_keeps_its_size():
    with Image.open(io.BytesIO(thumbnail(encoded(two_halves(size=(30, 20)), "PNG")))) as small:
        assert small.size == (30, 20)


def test_what_is_no_picture_has_none():
    with pytest.raises(PictureError, match="no picture"):
        thumbnail(b"A letter to the museum.")
