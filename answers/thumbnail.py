"""Photographs as small pictures, to be shown beside others."""

import base64
import io
from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import ImageOps

from photographs.pictures.picture import PictureError, open_picture
from photographs.pictures.places import Place, shown_name

LONGEST = 320  # pixels, of the longer side
QUALITY = 80


def thumbnail(content: bytes) -> bytes:
    """A photograph as a JPEG of at most 320 x 320 pixels, turned as its EXIF orientation says.

    It holds the picture alone: neither where it was taken, nor when.

    Raises PictureError where Pillow cannot read it.
    """
    with open_picture(content) as picture:
        # A JPEG is decoded at an eighth of its size, where that is enough.
        picture.draft(None, (2 * LONGEST, 2 * LONGEST))
        ImageOps.exif_transpose(picture, in_place=True)  # without a second picture in memory
        small = picture if picture.mode == "RGB" else picture.convert("RGB")
        small.thumbnail((LONGEST, LONGEST))
        small.info = {}
        file = io.BytesIO()
        small.save(file, "JPEG", quality=QUALITY)
        return file.getvalue()


@dataclass(frozen=True)
class Picture:
    """A thumbnail, or why there is none."""

    jpeg: bytes | None
    problem: str = ""

    @classmethod
    def of(cls, content: bytes) -> "Picture":
        """That of a photograph, by the content of its file."""
        try:
            return cls(thumbnail(content))
        except PictureError as error:
            return cls(None, str(error))

    @property
    def uri(self) -> str | None:
        """The picture as a page holds it."""
        if self.jpeg is None:
            return None
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


class Pictures:
    """The photographs in a place, by the image files of tables. Several threads may use one."""

    def __init__(self, place: Place) -> None:
        self._place = place
        # The names of the files there, by their paths below the place, and by the last parts.
        self._by_path = {shown_name(name): name for name in place.names()}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path, name in self._by_path.items():
            self._by_name[PurePosixPath(path).name].append(name)

    def of(self, image_file: str) -> Picture:
        """The photograph whose path this is, or the only one of this name."""
        path = self._by_path.get(image_file)
        names = [path] if path is not None else self._by_name.get(image_file, [])
        if len(names) != 1:
            return Picture(
                None, "several files have this name" if names else "the file is not there"
            )
        try:
            return Picture.of(self._place.read(names[0]))
        except PictureError as error:
            return Picture(None, str(error))
