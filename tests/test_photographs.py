"""A file of any kind is read as Keras reads it, or left out with a reason; none outside is read."""

import errno
import io
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import unicodedata
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT
from PIL import Image, PngImagePlugin

from photographs.networks.description import Description, Last
from photographs.pictures import picture as module
from photographs.pictures import places
from photographs.pictures.picture import (
    FORMATS,
    MOST_PIXELS,
    Limits,
    PictureError,
    Reading,
    network_input,
    read_picture,
)
from photographs.pictures.places import Folder, Zip, open_place, shown_name
from stages.common.errors import PipelineError

# pytest lets through what the program keeps quiet.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Palette images with Transparency"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
COURSE = Reading(32, 24, "nearest", "stretch", exif_rotation=False)
ORIENTATION = 0x0112  # a tag of EXIF


def drawn(size=(60, 40), seed=0) -> Image.Image:
    """A picture, RGB, in which no two places are alike: a slope, and noise on it."""
    random = np.random.default_rng(seed)
    width, height = size
    slope = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 100, width))
    pixels = slope[:, :, None] + random.integers(0, 35, (height, width, 3)) + [0, 1, 0]
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    """A picture as a file has it."""
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def jpeg(seed=0, size=(60, 40), **options) -> bytes:
    return encoded(drawn(size, seed), "JPEG", **options)


def with_alpha() -> Image.Image:
    """Transparent on one side, half so on the other."""
    picture = drawn().convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def sixteen_bits() -> Image.Image:
    values = np.arange(60 * 40, dtype=np.uint16).reshape(40, 60) * 27
    return Image.fromarray(values)


def moving(kind: str) -> bytes:
    frames = [drawn(seed=seed) for seed in (1, 2)]
    return encoded(drawn(), kind, save_all=True, append_images=frames, duration=50)


def palette() -> Image.Image:
    return drawn().quantize(16)


def png_chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def tiny_png(width: int, height: int) -> bytes:
    """A PNG file that declares a size and has next to no pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")


def broken_exif() -> bytes:
    content = jpeg(exif=oriented(6))
    place = content.index(b"Exif\x00\x00")
    return content[: place + 6] + b"\xff" * 20 + content[place + 26 :]


def text_of_png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "a\x00b\nc" * 10, zip=True)
    return encoded(drawn(), "PNG", pnginfo=text)


def icon(png: bytes) -> bytes:
    """An icon that says it has 48 x 48 pixels, whatever the picture in it has."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 48, 48, 0, 0, 1, 32, len(png), 22) + png


# Whatever a folder may hold that Pillow reads, by name; the names' ends are those of the files.
READABLE = {
    "rgb.jpg": lambda: jpeg(),
    "progressive.jpg": lambda: jpeg(progressive=True, quality=30),
    "grey.jpg": lambda: encoded(drawn().convert("L"), "JPEG"),
    "cmyk.jpg": lambda: encoded(drawn().convert("CMYK"), "JPEG"),
    "turned.jpg": lambda: jpeg(exif=oriented(6)),
    "broken exif.jpg": broken_exif,
    "rgb.png": lambda: encoded(drawn(), "PNG"),
    "named otherwise.jpg": lambda: encoded(drawn(), "PNG"),
    "rgba.png": lambda: encoded(with_alpha(), "PNG"),
    "la.png": lambda: encoded(with_alpha().convert("LA"), "PNG"),
    "palette.png": lambda: encoded(palette(), "PNG"),
    "palette, transparent.png": lambda: encoded(palette(), "PNG", transparency=3),
    "palette, half transparent.png": lambda: encoded(
        palette(), "PNG", transparency=bytes(range(0, 256, 16))
    ),
    "grey.png": lambda: encoded(drawn().convert("L"), "PNG"),
    "grey, transparent.png": lambda: encoded(drawn().convert("L"), "PNG", transparency=90),
    "rgb, transparent.png": lambda: encoded(drawn(), "PNG", transparency=(9, 9, 9)),
    "16-bit.png": lambda: encoded(sixteen_bits(), "PNG"),
    "1-bit.png": lambda: encoded(drawn().convert("1"), "PNG"),
    "moving.png": lambda: moving("PNG"),
    "text.png": text_of_png,
    "moving.gif": lambda: moving("GIF"),
    "transparent.gif": lambda: encoded(palette(), "GIF", transparency=3),
    "rgb.webp": lambda: encoded(drawn(), "WEBP"),
    "webp.jpg": lambda: encoded(drawn(), "WEBP", lossless=True),
    "rgba.webp": lambda: encoded(with_alpha(), "WEBP", lossless=True),
    "moving.webp": lambda: moving("WEBP"),
    "rgb.tif": lambda: encoded(drawn(), "TIFF"),
    "cmyk.tif": lambda: encoded(drawn().convert("CMYK"), "TIFF", compression="tiff_lzw"),
    "lab.tif": lambda: encoded(drawn().convert("LAB"), "TIFF"),
    "16-bit.tif": lambda: encoded(sixteen_bits(), "TIFF"),
    "float.tif": lambda: encoded(drawn().convert("F"), "TIFF"),
    "turned.tif": lambda: encoded(drawn(), "TIFF", exif=oriented(6)),
    "several.tif": lambda: moving("TIFF"),
    "rgb.bmp": lambda: encoded(drawn(), "BMP"),
    "rgb.jp2": lambda: encoded(drawn(), "JPEG2000"),
    "rgb.ppm": lambda: encoded(drawn(), "PPM"),
    "rgb.tga": lambda: encoded(drawn(), "TGA"),
    "rgb.ico": lambda: encoded(drawn((48, 48)), "ICO"),
    "one pixel.png": lambda: encoded(drawn((1, 1)), "PNG"),
    "narrow.png": lambda: encoded(drawn((1, 300)), "PNG"),
    "of the network's size.png": lambda: encoded(drawn((32, 24)), "PNG"),
}
# And whatever is not read, with the reason that is given.
UNREADABLE = {
    "truncated.jpg": (lambda: jpeg()[:-400], "Pillow cannot read it: image file is truncated"),
    "without pixels.jpg": (lambda: jpeg()[:100], "Pillow cannot read it: "),
    "truncated.png": (
        lambda: encoded(drawn(), "PNG")[:-2000],
        "Pillow cannot read it: image file is truncated",
    ),
    "truncated.webp": (lambda: encoded(drawn(), "WEBP")[:200], "Pillow cannot read it: "),
    "empty.jpg": (lambda: b"", "the file is empty"),
    "text.jpg": (lambda: b"A letter to the museum.\n" * 50, "no picture of a format that is read"),
    "zeros.jpg": (lambda: bytes(5000), "no picture of a format that is read"),
    "bomb.png": (lambda: tiny_png(100_000, 100_000), "it has more than 500,000,000 pixels"),
    "bomb.ico": (lambda: icon(tiny_png(100_000, 100_000)), "it has more than 500,000,000 pixels"),
    "drawing.svg": (
        lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><circle r="9"/></svg>',
        "no picture of a format that is read",
    ),
    "page.pdf": (lambda: encoded(drawn(), "PDF"), "no picture of a format that is read"),
    "program.eps": (lambda: encoded(drawn(), "EPS"), "no picture of a format that is read"),
}


def write_all(folder: Path) -> None:
    """A folder with all of them."""
    for name, make in READABLE.items():
        (folder / name).write_bytes(make())
    for name, (make, _) in UNREADABLE.items():
        (folder / name).write_bytes(make())


# Pictures


@pytest.mark.filterwarnings("ignore")
def test_pictures_are_read_bit_for_bit_as_keras_reads_them(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    import keras

    write_all(tmp_path)
    network = description(divide=[127.5] * 3, subtract=[1.0] * 3)
    differ = []
    for name in READABLE:
        content = (tmp_path / name).read_bytes()
        for resize in ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"):
            theirs = keras.utils.load_img(
                tmp_path / name, target_size=(24, 32), interpolation=resize
            )
            ours, _, _ = read_picture(content, replace(COURSE, resize=resize))
            if not np.array_equal(ours, np.asarray(theirs)):
                differ.append((name, resize))
        array = keras.utils.img_to_array(theirs)[None]
        scaled = keras.applications.mobilenet.preprocess_input(array)
        if not np.array_equal(network_input(ours, network), scaled):
            differ.append((name, "scaling"))
    assert differ == []


def description(**changes) -> Description:
    """Of a network that takes pictures as they are."""
    values = {
        "network": "none",
        "weights": "none",
        "column": "none",
        "width": 32,
        "height": 24,
        "layout": "NHWC",
        "divide": [1.0] * 3,
        "subtract": [0.0] * 3,
        "resize": "nearest",
        "fit": "stretch",
        "last": Last(output="last", pooling="max"),
    }
    return Description.model_validate(values | changes)


def test_each_channel_is_scaled_by_its_own_numbers_and_both_layouts_say_the_same():
    pixels = np.asarray(drawn((32, 24)))
    how = description(divide=[1.0, 2.0, 4.0], subtract=[0.0, 1.0, -1.0])
    (found,) = network_input(pixels, how)
    assert found.dtype == np.float32
    assert np.array_equal(found, pixels / [1, 2, 4] - [0, 1, -1])
    (turned,) = network_input(pixels, how.model_copy(update={"layout": "NCHW"}))
    assert np.array_equal(turned, found.transpose(2, 0, 1))


@pytest.mark.parametrize("name", READABLE)
def test_width_and_height_are_those_of_the_file(name):
    _, width, height = read_picture(READABLE[name](), COURSE)
    sizes = {
        "one pixel.png": (1, 1),
        "narrow.png": (1, 300),
        "of the network's size.png": (32, 24),
        "rgb.ico": (48, 48),
        # Of this format Pillow itself turns the pixels.
        "turned.tif": (40, 60),
    }
    assert (width, height) == sizes.get(name, (60, 40))


@pytest.mark.parametrize(("name", "expected"), [(n, r) for n, (_, r) in UNREADABLE.items()])
def test_what_cannot_be_read_has_a_reason(name, expected):
    make, _ = UNREADABLE[name]
    with pytest.raises(PictureError) as error:
        read_picture(make(), COURSE)
    assert str(error.value).startswith(expected)
    assert str(error.value).isprintable()


def test_exif_orientation_counts_only_where_it_is_asked_for():
    content = encoded(drawn(), "PNG", exif=oriented(6))
    as_stored, *size = read_picture(content, COURSE)
    assert np.array_equal(as_stored, read_picture(encoded(drawn(), "PNG"), COURSE)[0])
    assert size == [60, 40]
    turned, *size = read_picture(content, replace(COURSE, exif_rotation=True))
    by_hand = encoded(drawn().transpose(Image.Transpose.ROTATE_270), "PNG")
    assert np.array_equal(turned, read_picture(by_hand, COURSE)[0])
    assert size == [40, 60]
    # What Pillow turns itself is not turned again.
    tiff = READABLE["turned.tif"]()
    assert np.array_equal(turned, read_picture(tiff, replace(COURSE, exif_rotation=True))[0])
    assert np.array_equal(turned, read_picture(tiff, COURSE)[0])


def test_crop_takes_the_middle_and_stretch_takes_all():
    picture = Image.new("RGB", (60, 20), "red")
    picture.paste("blue", (20, 0, 40, 20))
    square = Reading(20, 20, "nearest", "crop", exif_rotation=False)
    cropped, *size = read_picture(encoded(picture, "PNG"), square)
    assert (cropped == [0, 0, 255]).all()
    assert size == [60, 20]
    stretched, _, _ = read_picture(encoded(picture, "PNG"), replace(square, fit="stretch"))
    assert (stretched[:, :6] == [255, 0, 0]).all()


def test_a_panorama_is_read():
    content = encoded(Image.new("L", (30_000, 2_000), 77), "PNG", compress_level=1)
    pixels, width, height = read_picture(content, COURSE)
    assert (width, height) == (30_000, 2_000)
    assert (pixels == 77).all()


def test_the_limit_of_pixels_is_that_of_what_a_file_declares():
    for height, reason in (
        (MOST_PIXELS // 1000, "truncated"),
        (MOST_PIXELS // 1000 + 1, "more than"),
    ):
        with pytest.raises(PictureError, match=reason):
            module.read_picture(tiny_png(1000, height), COURSE)


def test_other_limits_are_of_pixels_and_of_formats():
    limits = Limits(60 * 40, ("PNG",))
    read_picture(encoded(drawn(), "PNG"), COURSE, limits)
    with pytest.raises(PictureError, match="more than 2,400 pixels"):
        read_picture(encoded(drawn((61, 40)), "PNG"), COURSE, limits)
    with pytest.raises(PictureError, match="no picture"):
        read_picture(jpeg(), COURSE, limits)


def test_large_pictures_are_decoded_one_after_the_other(monkeypatch):
    decode, now, most = module._decode, [], [0]

    def watched(picture, how):
        now.append(1)
        most[0] = max(most[0], len(now))
        time.sleep(0.02)
        found = decode(picture, how)
        now.pop()
        return found

    def at_a_time() -> int:
        most[0] = 0
        threads = [
            threading.Thread(target=read_picture, args=(jpeg(seed), COURSE)) for seed in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return most[0]

    monkeypatch.setattr(module, "_decode", watched)
    assert at_a_time() > 1
    monkeypatch.setattr(module, "LARGE_PIXELS", 60 * 40 - 1)
    assert at_a_time() == 1


def test_all_that_pillow_knows_is_known_before_the_first_thread_asks():
    # Pillow learns them with the first files that it opens, and tells another thread in the
    # middle of that, that it does not know a file.
    assert set(FORMATS) == set(Image.OPEN) - {"EPS"}
    assert {"TIFF", "JPEG", "WEBP", "PSD"} <= set(FORMATS)


QUIETLY = """
import sys, warnings
from photographs.pictures.picture import Reading, read_picture

how = Reading(32, 24, "nearest", "stretch", exif_rotation=False)
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        read_picture(file.read(), how)
warnings.warn("of ours")
"""


def test_what_pillow_mends_makes_no_noise(tmp_path):
    noisy = ["palette, half transparent.png", "broken exif.jpg"]
    for name in noisy:
        (tmp_path / name).write_bytes(READABLE[name]())
    paths = [tmp_path / name for name in noisy]
    with pytest.warns(UserWarning, match="Palette images with Transparency"):
        Image.open(paths[0]).convert("RGB")
    command = [sys.executable, "-c", QUIETLY, *paths]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    (line, *_) = run.stderr.splitlines()
    assert "of ours" in line


def test_too_little_memory_is_a_reason(monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(module, "_decode", no_memory)
    with pytest.raises(PictureError, match="more memory than there is"):
        read_picture(jpeg(), COURSE)


# Folders


@contextmanager
def no_longer_than(seconds: int):
    """What waits for ever fails instead."""

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def contents(place) -> dict[str, bytes | str]:
    """What is read by each name, or the reason why nothing is."""
    found: dict[str, bytes | str] = {}
    for name in place.names():
        try:
            found[name] = place.read(name)
        except PictureError as error:
            found[name] = str(error)
    return found


def reason(place, name: str) -> str:
    with pytest.raises(PictureError) as error:
        place.read(name)
    return str(error.value)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "photographs"
    path.mkdir()
    return path


def test_files_of_all_folders_are_found_by_their_paths(folder):
    names = ["a.jpg", "b/a.jpg", "b/c/a.jpg", "with a space/ä é.jpg", "画/絵.jpg", ".hidden/.a"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "no files in it").mkdir()
    assert contents(Folder(folder)) == {name: name.encode() for name in sorted(names)}


def test_names_that_are_not_utf8_are_read_too(folder):
    name = os.fsdecode(b"caf\xe9\n.jpg")
    (folder / name).write_bytes(b"content")
    assert contents(Folder(folder)) == {name: b"content"}
    assert shown_name(name) == "caf?\n.jpg"
    assert shown_name(unicodedata.normalize("NFD", "é")) == "é"


def test_folders_may_be_a_thousand_deep(folder):
    deep, name = os.open(folder, os.O_RDONLY), ""
    for _ in range(1200):
        os.mkdir("d", dir_fd=deep)
        inner = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep, name = inner, f"{name}d/"
    os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=deep))
    os.close(deep)
    try:
        assert contents(Folder(folder)) == {f"{name}a.jpg": b""}
    finally:
        # Python's own way of removing it goes by recursion.
        subprocess.run(["rm", "-r", folder / "d"], check=True)


def test_nothing_outside_of_the_folder_is_read(folder, tmp_path):
    outside = tmp_path / "outside"
    (outside / "deeper").mkdir(parents=True)
    (outside / "secret.jpg").write_bytes(jpeg())
    (outside / "deeper/secret.jpg").write_bytes(jpeg())
    (folder / "file.jpg").symlink_to(outside / "secret.jpg")
    (folder / "relative.jpg").symlink_to("../outside/secret.jpg")
    (folder / "folder").symlink_to(outside)
    (folder / "root").symlink_to("/")
    (folder / "beside").symlink_to(tmp_path / "photographs and more")
    (tmp_path / "photographs and more").write_bytes(jpeg())
    (folder / "two steps.jpg").symlink_to("file.jpg")
    opened = opened_files()
    found = contents(Folder(folder))
    opened.active = False
    assert set(found.values()) == {"a link that leads out of the folder"}
    assert len(found) == 6
    assert [path for path in opened.paths if "secret" in path or "and more" in path] == []


class opened_files:  # noqa: N801 - it is used as a function
    """The paths that are opened from now on, until `active` is false."""

    def __init__(self):
        self.paths, self.active = [], True
        sys.addaudithook(self.hook)  # for good: there is no way back

    def hook(self, event, arguments):
        if self.active and event == "open":
            self.paths.append(os.fsdecode(arguments[0]) if arguments[0] else "")


def test_links_within_the_folder_are_followed_to_files(folder):
    (folder / "b").mkdir()
    (folder / "b/a.jpg").write_bytes(b"content")
    (folder / "link.jpg").symlink_to("b/a.jpg")
    (folder / "whole path.jpg").symlink_to(folder / "b/a.jpg")
    (folder / "folder").symlink_to("b")
    (folder / "itself").symlink_to(".")
    (folder / "broken.jpg").symlink_to("nowhere.jpg")
    (folder / "loop 1").symlink_to("loop 2")
    (folder / "loop 2").symlink_to("loop 1")
    assert contents(Folder(folder)) == {
        "b/a.jpg": b"content",
        "link.jpg": b"content",
        "whole path.jpg": b"content",
        "folder": "a folder, or a link to one",
        "itself": "a folder, or a link to one",
        "broken.jpg": "there is no such file, or it is a broken link",
        "loop 1": "a link that leads to itself",
        "loop 2": "a link that leads to itself",
    }


def test_a_folder_that_is_itself_a_link_is_read(folder, tmp_path):
    (folder / "a.jpg").write_bytes(b"content")
    (tmp_path / "link").symlink_to(folder)
    assert contents(open_place(tmp_path / "link")) == {"a.jpg": b"content"}


def test_what_is_no_file_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe.jpg")
    with no_longer_than(5):
        assert contents(Folder(folder)) == {"pipe.jpg": "no regular file"}
        single = open_place(folder / "pipe.jpg", single=True)
        assert contents(single) == {"pipe.jpg": "no regular file"}


def test_a_file_alone_is_a_place_where_that_is_asked_for(folder, tmp_path, monkeypatch):
    (folder / "a.jpg").write_bytes(b"content")
    (tmp_path / "link.jpg").symlink_to(folder / "a.jpg")
    for name in ("photographs/a.jpg", "link.jpg"):
        single = open_place(tmp_path / name, single=True)
        assert contents(single) == {Path(name).name: b"content"}
    monkeypatch.setattr(places, "MOST_BYTES", 6)
    assert contents(open_place(folder / "a.jpg", single=True)) == {"a.jpg": places.TOO_LARGE}
    with pytest.raises(PipelineError, match="there is no folder or zip file"):
        open_place(tmp_path / "nothing.jpg", single=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all files")
def test_what_may_not_be_read_is_a_reason(folder):
    (folder / "secret.jpg").write_bytes(b"content")
    (folder / "secret.jpg").chmod(0)
    (folder / "secrets").mkdir()
    (folder / "secrets/a.jpg").write_bytes(b"content")
    (folder / "secrets").chmod(0)
    try:
        assert contents(Folder(folder)) == {
            "secret.jpg": "the file cannot be read: Permission denied",
            "secrets/": "the folder cannot be read: Permission denied",
        }
    finally:
        (folder / "secrets").chmod(0o700)


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    (folder / "a.jpg").write_bytes(b"content")
    (folder / "b").mkdir()
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert contents(Folder(folder)) == {
        "a.jpg": b"content",
        "b/": "the folder cannot be read: Permission denied",
    }


def test_files_that_change_after_they_were_listed(folder, tmp_path):
    for name in ("gone", "becomes a folder", "becomes a link", "is another"):
        (folder / name).write_bytes(b"before")
    place = Folder(folder)
    place.names()
    for path in folder.iterdir():
        path.unlink()
    (folder / "becomes a folder").mkdir()
    (tmp_path / "outside").write_bytes(b"secret")
    (folder / "becomes a link").symlink_to(tmp_path / "outside")
    (folder / "is another").write_bytes(b"after")
    assert reason(place, "gone") == "there is no such file, or it is a broken link"
    assert reason(place, "becomes a folder") == "a folder, or a link to one"
    assert reason(place, "becomes a link") == "a link that leads out of the folder"
    assert place.read("is another") == b"after"


def test_a_file_that_becomes_a_link_in_the_last_moment_is_not_followed(
    folder, tmp_path, monkeypatch
):
    (tmp_path / "outside").write_bytes(b"secret")
    (folder / "a.jpg").write_bytes(b"before")
    open_it = os.open

    def too_late(path, *arguments, **options):
        Path(path).unlink()
        Path(path).symlink_to(tmp_path / "outside")
        return open_it(path, *arguments, **options)

    place = Folder(folder)
    monkeypatch.setattr(os, "open", too_late)
    assert "the file cannot be read" in reason(place, "a.jpg")


def test_a_file_too_large_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(places, "MOST_BYTES", 1000)
    (folder / "large.tif").write_bytes(bytes(1001))
    (folder / "less.tif").write_bytes(bytes(1000))
    found = contents(Folder(folder))
    assert found == {"large.tif": places.TOO_LARGE, "less.tif": bytes(1000)}


def test_some_files_are_no_photographs(folder):
    (folder / "a.jpg").write_bytes(b"content")
    (folder / "b").mkdir()
    (folder / "b/table.parquet").write_bytes(b"table")
    assert Folder(folder, [folder / "b/table.parquet"]).names() == ["a.jpg"]


# Zip files


def zipped(path: Path, files: dict[str, bytes], **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def test_a_zip_file_is_read_as_it_is(tmp_path):
    files = {"b/a.jpg": b"1" * 500, "画/ä é.jpg": b"2", "empty.jpg": b"", "a.jpg": b"3"}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = zipped(tmp_path / "photographs.zip", files | {"b/": b""}, compression=method)
        assert contents(open_place(path)) == files
        assert open_place(path).names() == sorted(files)


def test_names_that_lead_out_of_a_zip_file_are_not_taken(tmp_path):
    names = ["../x.jpg", "/etc/x.jpg", "a/../../x.jpg"]
    place = Zip(zipped(tmp_path / "p.zip", dict.fromkeys(names, b"content")))
    assert contents(place) == dict.fromkeys(names, "its name leads out of the zip file")


def test_links_in_a_zip_file_are_not_followed(tmp_path):
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    found = contents(Zip(tmp_path / "p.zip"))
    assert found == {"link.jpg": "a link, which is not followed in a zip file"}


def test_two_files_of_one_name_are_both_not_taken(tmp_path):
    with (
        warnings.catch_warnings(action="ignore"),
        zipfile.ZipFile(tmp_path / "p.zip", "w") as file,
    ):
        for content in (b"one", b"other"):
            file.writestr("a.jpg", content)
        file.writestr("b.jpg", b"content")
    assert contents(Zip(tmp_path / "p.zip")) == {
        "a.jpg": "the zip file holds more than one file of this name",
        "b.jpg": b"content",
    }


def changed(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


def test_damage_to_one_file_of_a_zip_file_is_its_reason(tmp_path):
    path = zipped(tmp_path / "p.zip", {"a.jpg": b"the content of it", "b.jpg": b"another"})
    found = contents(Zip(changed(path, b"content", b"CONTENT")))
    assert found == {
        "a.jpg": "the zip file is damaged here: Bad CRC-32 for file 'a.jpg'",
        "b.jpg": b"another",
    }


def test_a_packed_file_that_is_damaged_is_a_reason(tmp_path):
    content = np.random.default_rng(0).bytes(2000) + bytes(2000)
    path = zipped(tmp_path / "p.zip", {"a.jpg": content}, compression=zipfile.ZIP_DEFLATED)
    packed = bytearray(path.read_bytes())
    packed[40:60] = b"\xff" * 20
    path.write_bytes(packed)
    assert reason(Zip(path), "a.jpg").startswith("the zip file is damaged here: ")


def test_encrypted_files_are_not_read(tmp_path):
    path = zipped(tmp_path / "p.zip", {"a.jpg": b"content"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert reason(Zip(path), "a.jpg") == "it is encrypted"


def test_packing_without_a_bound_is_not_unpacked(tmp_path):
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = zipped(tmp_path / "p.zip", {"a.jpg": b"content"}, compression=method)
        assert reason(Zip(path), "a.jpg") == "it is packed by another method than deflate"


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    bomb = zipped(tmp_path / "p.zip", {"a.jpg": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(places, "MOST_BYTES", 10**7 - 1)
    assert reason(Zip(bomb), "a.jpg") == places.TOO_LARGE


def test_a_zip_bomb_that_lies_about_its_size_unpacks_to_what_it_said(tmp_path):
    import tracemalloc

    size = 50_000_000
    path = zipped(tmp_path / "p.zip", {"a.jpg": bytes(size)}, compression=zipfile.ZIP_DEFLATED)
    lies = Zip(changed(path, struct.pack("<I", size), struct.pack("<I", 1000)))
    tracemalloc.start()
    try:
        assert "Bad CRC-32" in reason(lies, "a.jpg")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_threads_read_one_zip_file_together(tmp_path):
    files = {f"{number}.jpg": np.random.default_rng(number).bytes(30_000) for number in range(40)}
    place = Zip(zipped(tmp_path / "p.zip", files))
    wrong = []

    def read() -> None:
        wrong.extend(name for name in files if place.read(name) != files[name])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_place(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    whole = zipped(tmp_path / "p.zip", {"a.jpg": b"content", "b.jpg": b"content"}).read_bytes()
    directory = whole.index(b"PK\x01\x02")
    (tmp_path / "no list.zip").write_bytes(whole[:directory] + b"PK__" + whole[directory + 4 :])
    (tmp_path / "cut off.zip").write_bytes(whole[: directory + 10])
    for name, sentence in {
        "nowhere": "there is no folder or zip file .*nowhere",
        "a.jpg": "is neither a folder nor a zip file of photographs",
        "cut off.zip": "is neither a folder nor a zip file of photographs",
        "no list.zip": "cannot be read as a zip file: Bad magic number",
    }.items():
        with pytest.raises(PipelineError, match=sentence):
            open_place(tmp_path / name)
