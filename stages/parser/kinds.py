"""Tell what a file is that is neither CSV nor Parquet, and what becomes a table of it."""

import re

_AS_CSV = "save the table as CSV, in UTF-8"
_TO_PARQUET = 'write it as Parquet, in Python by `pandas.{}.to_parquet("table.parquet")`'

# How files begin, what they are, and what to do.
KINDS = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", _AS_CSV),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", _AS_CSV),
    (b"SQLite format 3\0", "an SQLite database", _TO_PARQUET.format("read_sql(query, connection)")),
    (b"ARROW1", "a Feather or Arrow file", _TO_PARQUET.format("read_feather(path)")),
    (b"FEA1", "an old Feather file", _TO_PARQUET.format("read_feather(path)")),
    (b"ORC", "an ORC file", _TO_PARQUET.format("read_orc(path)")),
    (b"\x89HDF\r\n", "an HDF5 file", _TO_PARQUET.format("read_hdf(path)")),
    (b"\x93NUMPY", "an array of NumPy, which has no names and labels", "make a table of it"),
    (b"\x80", "a pickle or other bytes that are not text", "write the table as CSV or Parquet"),
    (b"\x1f\x8b", "packed with gzip", "end its name in .csv.gz"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "end its name in .csv.zst"),
    (b"PAR1", "a Parquet file", "end its name in .parquet"),
    (b"BZh", "packed with bzip2", "unpack it"),
    (b"\xfd7zXZ\0", "packed with xz", "unpack it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"%PDF", "a PDF document", _AS_CSV),
    (b"\x89PNG", "a picture", "`python -m commands.embed` makes a table of photographs"),
    (b"\xff\xd8\xff", "a picture", "`python -m commands.embed` makes a table of photographs"),
    (b"\xff\xfe", "UTF-16 text", _AS_CSV),
    (b"\xfe\xff", "UTF-16 text", _AS_CSV),
)
_JSON = re.compile(rb'(\xef\xbb\xbf)?\s*\[?\s*\{\s*"')
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<[!?a-z]", re.IGNORECASE)


def other_kind(start: bytes) -> str | None:
    """What a file is that begins so, and what to do, in words; None for what may be CSV."""
    for magic, what, remedy in KINDS:
        if start.startswith(magic):
            return f"{what}: {remedy}"
    if _JSON.match(start):
        lines = ", lines=True" if re.match(rb"\s*\{.*\}\s*\n\s*\{", start) else ""
        return f"JSON: {_TO_PARQUET.format(f'read_json(path{lines})')}"
    if _PAGE.match(start):
        return f"a web page or XML: {_AS_CSV}"
    # Without the mark at its beginning, every second byte of most texts is 0.
    zeros = sorted(start[place:1000:2].count(0) for place in (0, 1))
    if zeros[1] > max(4 * zeros[0], len(start[:1000]) // 3):
        return f"UTF-16 text: {_AS_CSV}"
    return None
