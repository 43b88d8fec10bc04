"""Numbers with a decimal comma, as some countries write them, as numbers with a point."""

from collections.abc import Generator
from contextlib import closing

import pyarrow as pa
import pyarrow.compute as pc

from stages.parser.columns import Columns
from stages.parser.raw_file import RawFile
from stages.tables.artefacts import METADATA

# What a number with a point becomes where the decimal is a comma: 1.234 may be a thousand.
_POINTED = " (with a point)"


def plain_batches(raw: RawFile, columns: Columns) -> Generator[pa.RecordBatch, None, None]:
    """The columns of a raw table that are read, with points in the numbers of texts.

    Raises PipelineError as `batches` of the raw file does.
    """
    numbers = [name for key, name in columns.metadata.items() if not _is_text(key)]
    numbers += [name for name, kind in columns.extra.items() if kind == "number"]
    change = dict.fromkeys(numbers, numbers_with_points)
    in_lists = len(columns.embedding) == 1
    change |= dict.fromkeys(
        columns.embedding, lists_with_points if in_lists else numbers_with_points
    )
    with closing(raw.batches(columns.all)) as batches:
        for batch in batches:
            if raw.decimal != ".":
                for name, with_points in change.items():
                    place = batch.schema.get_field_index(name)
                    batch = batch.set_column(place, name, with_points(batch.column(place)))
            yield batch


def _is_text(key: str) -> bool:
    return bool(pa.types.is_string(METADATA[key]))


def numbers_with_points(text: pa.StringArray) -> pa.StringArray:
    """Numbers with decimal commas. One that has a point is none: it may mean thousands."""
    marked = pc.binary_join_element_wise(text, _POINTED, "")
    return pc.if_else(pc.match_substring(text, "."), marked, pc.replace_substring(text, ",", "."))


def lists_with_points(text: pa.StringArray) -> pa.StringArray:
    """Lists of numbers with decimal commas, and semicolons or white space between.

    A list that has a point is as Python writes it, whatever the decimal of the table.
    """
    points = pc.replace_substring(text, ",", ".")
    trimmed = pc.ascii_trim_whitespace(points)
    for pattern, replacement in ((r"\[\s+", "["), (r"\s+\]", "]"), (r"\s*;\s*|\s+", ",")):
        trimmed = pc.replace_substring_regex(trimmed, pattern, replacement)
    return pc.if_else(pc.match_substring(text, "."), text, trimmed)
