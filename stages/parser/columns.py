"""Which columns of the raw table are read, and what they are in the artefacts table."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.common.errors import PipelineError, shorten
from stages.parser.contract import MOST_TEXT, NO_MEDIUMS, Artefact
from stages.parser.embeddings import holds_numbers, to_float, to_numbers
from stages.tables.artefacts import EMBEDDING, METADATA, ExtraKind
from stages.tables.values import SUBSETS

# The sections of params.yaml that name columns, for messages.
SECTION = "parse_embeddings_to_parquet.columns"
EXTRA_SECTION = "parse_embeddings_to_parquet.extra_columns"
# What looks alike in these is made alike: the course's file writes "Woven fabric " throughout.
TIDIED = ("medium", "museum", "subset")
# Columns that a table may lack, beside the embedding.
MAY_BE_NULL = ("museum", "museum_based_instance_id", "subset", "product_size", "aspect_ratio")
# Other words for a subset, in small letters.
SUBSET_WORDS = {
    **{name: name for name in SUBSETS},
    "training": "train",
    **dict.fromkeys(("validation", "valid", "dev"), "val"),
    "testing": "test",
}


@dataclass(frozen=True)
class Columns:
    """The columns of the raw table that are read."""

    metadata: dict[str, str]  # name in the artefacts table -> name in the raw table
    embedding: list[str]  # one of lists, or one for each dimension, or none
    extra: Mapping[str, ExtraKind]  # those that are kept under their own names -> what they hold

    @property
    def all(self) -> list[str]:
        """Their names in the raw table."""
        # The embedding last: a CSV table whose last field it is takes less time to read.
        return [*self.metadata.values(), *self.extra, *self.embedding]


def choose_columns(
    names: list[str], mapping: Mapping[str, str | None], extra: Mapping[str, ExtraKind]
) -> Columns:
    """Find the columns that `mapping` and `extra` name, and those of the embedding, among `names`.

    `mapping` has the names of the artefacts table; None stands for what the raw table
    does not have. `extra` has the further columns that are kept, and what they hold.

    Raises PipelineError when a column is missing, or a name stands twice.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise PipelineError(f"the raw table has more than one column {backticked(repeated)}")
    metadata = {key: name for key in METADATA if (name := mapping[key]) is not None}
    missing = [key for key, name in metadata.items() if name not in names]
    if missing:
        raise PipelineError(
            f"the raw table has no column {backticked([metadata[key] for key in missing])}; it has "
            f"{backticked(names)}; `{SECTION}.{missing[0]}` says what the column is called"
            + (f"; {NO_MEDIUMS}" if missing == ["medium"] else _how_to_lack(missing))
        )
    missing = [name for name in extra if name not in names]
    if missing:
        raise PipelineError(
            f"the raw table has no column {backticked(missing)}, which `{EXTRA_SECTION}` names; it "
            f"has {backticked(names)}"
        )
    others = [name for name in names if name not in {*metadata.values(), *extra}]
    return Columns(metadata, embedding_columns(others, mapping[EMBEDDING]), extra)


def embedding_columns(names: list[str], wanted: str | None) -> list[str]:
    """The column of embeddings, or those that have one dimension each, in their order.

    Those are called as `wanted` or anything else, with a number at the end that counts
    from 0 or 1. The result is empty where there are none, or `wanted` is None.

    Raises PipelineError when one of them is missing, or there are several sets of them.
    """
    if wanted is None or wanted in names:
        return [] if wanted is None else [wanted]
    sets: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        # `wanted` may end in a number itself; any other prefix ends before its first one.
        for prefix in (re.escape(wanted), ".*?"):
            if match := re.fullmatch(f"({prefix})([0-9]{{1,9}})", name, re.DOTALL):
                sets.setdefault(match[1], []).append((int(match[2]), name))
                break
    if wanted in sets:
        sets = {wanted: sets[wanted]}
    else:
        sets = {k: v for k, v in sets.items() if len(v) > 1 and min(v)[0] in (0, 1)}
    if len(sets) > 1:
        raise PipelineError(
            f"the raw table has no column `{wanted}`, but numbered columns that begin with "
            f"{backticked(list(sets))}: set `{SECTION}.embedding` to the beginning of those that "
            "are the embedding, or to null if none are"
        )
    for prefix, numbered in sets.items():
        numbered.sort()
        start = min(numbered[0][0], 1)
        for (number, _), expected in zip(numbered, range(start, 1 << 31), strict=False):
            if number != expected:
                problem = f"twice {number}" if number < expected else f"no {expected}"
                raise PipelineError(
                    f"the numbered columns that begin with {backticked([prefix])} have {problem}: "
                    f"mend the table, or set `{SECTION}.embedding` to null if they are no embedding"
                )
        return [name for _, name in numbered]
    return []


def backticked(names: list[str]) -> str:
    """The first names, each in backticks, for a message."""
    shown = ", ".join(f"`{shorten(name, 40)}`" for name in names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12:,} more"


def _how_to_lack(missing: list[str]) -> str:
    """How to say that there is no such column, for those of them that a table may lack."""
    options = [f"-S {SECTION}.{key}=null" for key in missing if key in MAY_BE_NULL]
    if "subset" in missing:
        options.append("-S split.strategy=stratified")
    return f", or null where there is none: `dvc exp run {' '.join(options)}`" if options else ""


def read_metadata(
    batch: pa.RecordBatch, columns: Columns
) -> tuple[dict[str, pa.Array], list[dict[str, Any]], Counter[str]]:
    """The columns of metadata of n raw rows.

    Returns the columns by their names in the artefacts table, empty where the raw table has
    none; what `contract.broken_metadata` checks, a mapping for each row, in which a number
    that cannot be read stands as its text; and the rows in which a text was changed, by what
    was done.

    Raises PipelineError for a column of a type that cannot be text or numbers.
    """
    arrays: dict[str, pa.Array] = {}
    values: dict[str, list[Any]] = {}
    changes: Counter[str] = Counter()
    for key, type_ in METADATA.items():
        name = columns.metadata.get(key)
        if name is None:
            empty = "" if pa.types.is_string(type_) else None
            arrays[key] = pa.repeat(pa.scalar(empty, type_), batch.num_rows)
            values[key] = [empty] * batch.num_rows
        elif pa.types.is_string(type_):
            arrays[key] = _text(batch.column(name), name)
            if key in TIDIED:
                arrays[key], done = _tidied(arrays[key], key)
                changes += done
            if key == "subset":
                arrays[key], understood = _subsets(arrays[key])
                changes += understood
            values[key] = arrays[key].to_pylist() if key in Artefact.model_fields else []
        else:
            arrays[key], values[key] = _numbers(batch.column(name), name)
    ruled = list(Artefact.model_fields)
    rows = [
        dict(zip(ruled, row, strict=True))
        for row in zip(*(values[key] for key in ruled), strict=True)
    ]
    return arrays, rows, changes


def read_extra(
    batch: pa.RecordBatch, extra: Mapping[str, ExtraKind]
) -> tuple[list[pa.Array], list[tuple[int, str, str]], Counter[str]]:
    """The extra columns of n raw rows.

    `extra` has their names, and what they hold.

    Returns the columns in the order of `extra`; the place of each row that breaks a rule, with the
    name of the rule and the value; and the rows in which a text was changed, by what was done.

    Raises PipelineError for a column of a type that cannot be what it should hold.
    """
    arrays: list[pa.Array] = []
    broken: list[tuple[int, str, str]] = []
    changes: Counter[str] = Counter()
    for name, kind in extra.items():
        called = backticked([name])
        if kind == "number":
            array, values = _numbers(batch.column(name), name)
            rule = "extra_number"
            wrong = [
                (row, value)
                for row, value in enumerate(values)
                if value is not None and (isinstance(value, str) or not math.isfinite(value))
            ]
        else:
            array, done = _tidied(_text(batch.column(name), name), f"text of {called}")
            changes += done
            rule = "text_too_long"
            long = pc.greater(pc.utf8_length(array), MOST_TEXT)
            wrong = [(row, array[row].as_py()) for row in pc.indices_nonzero(long).to_pylist()]
        arrays.append(array)
        broken += [(row, rule, f"{called}: {value}") for row, value in wrong]
    return arrays, broken, changes


def _text(raw: pa.Array, name: str) -> pa.StringArray:
    """A column as text, "" where it is missing."""
    try:
        return pc.fill_null(raw.cast(pa.string()), "")
    except pa.ArrowException:
        raise PipelineError(f"{backticked([name])} holds {raw.type}, which is not text") from None


def _tidied(text: pa.StringArray, called: str) -> tuple[pa.StringArray, Counter[str]]:
    """Texts in Unicode's composed form, without blanks around them, and in how many rows what was
    done."""
    composed = pc.utf8_normalize(text, "NFC")
    stripped = pc.utf8_trim_whitespace(composed)
    steps = {
        f"joined letters with their accents in the {called}": (text, composed),
        f"removed blanks around the {called}": (composed, stripped),
    }
    return stripped, Counter(
        {done: pc.sum(pc.not_equal(*texts)).as_py() or 0 for done, texts in steps.items()}
    )


def _subsets(text: pa.StringArray) -> tuple[pa.StringArray, Counter[str]]:
    """Subsets by their usual names, and in how many rows one was called otherwise."""
    counts = Counter(text.to_pylist())
    meant = {word: SUBSET_WORDS.get(word.lower(), word) for word in counts}
    if all(word == name for word, name in meant.items()):
        return text, Counter()
    changes = Counter(
        {
            f"read the subset `{word}` as {name}": counts[word]
            for word, name in meant.items()
            if word != name
        }
    )
    return pa.array([meant[word] for word in text.to_pylist()], pa.string()), changes


def _numbers(raw: pa.Array, name: str) -> tuple[pa.Array, list[Any]]:
    """A column as float64, and as a list in which text that is no number stands as it is."""
    if not pa.types.is_string(raw.type):
        if not holds_numbers(raw.type):
            raise PipelineError(f"{backticked([name])} holds {raw.type}, which is not numbers")
        numbers = to_float(raw, pa.float64())
        return numbers, numbers.to_pylist()
    text = pc.utf8_trim_whitespace(raw)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    numbers = to_numbers(text, pa.float64())
    values = numbers.to_pylist()
    for row in pc.indices_nonzero(pc.and_(pc.is_valid(text), pc.is_null(numbers))).to_pylist():
        values[row] = text[row].as_py()
    return numbers, values
