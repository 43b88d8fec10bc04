"""A photograph as a small picture, to be shown beside others."""

import io

from PIL import ImageOps

from photographs.pictures.picture import open_picture

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
