"""A photograph becomes a small picture that holds nothing else, and is found by its row's name."""

import io

import numpy as np
import pytest
from PIL import Image

from answers.thumbnail import Pictures, thumbnail
from photographs.pictures.picture import PictureError
from photographs.pictures.places import open_place

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


def test_a_photograph_is_found_by_its_path_or_by_a_name_that_no_other_has(tmp_path):
    for number, path in enumerate(["a/x.png", "b/x.png", "b/y.png", "x.png"], start=1):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(encoded(two_halves(size=(2 * number, 8)), "PNG"))
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = Pictures(open_place(tmp_path))

    def width(image_file):
        with Image.open(io.BytesIO(pictures.of(image_file).jpeg)) as small:
            return small.width

    assert [width(name) for name in ("b/x.png", "y.png", "x.png")] == [4, 6, 8]
    (tmp_path / "x.png").unlink()
    problems = {name: Pictures(open_place(tmp_path)).of(name) for name in ("x.png", "notes.txt")}
    assert problems["x.png"].problem == "several files have this name"
    assert problems["notes.txt"].problem == "no picture of a format that is read"
    assert pictures.of("z.png").problem == "the file is not there"
    assert pictures.of("z.png").uri is None
