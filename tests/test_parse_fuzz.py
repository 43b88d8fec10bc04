"""Whatever the raw file holds, the parser ends with a good table or with one sentence.

Hypothesis takes a file of tests/corpus/ and spoils it. The number of tries is small and
they are the same each time, unless a variable says how many:

    FUZZ_EXAMPLES=100000 python -m pytest tests/test_parse_fuzz.py

When the process itself crashes, the file that did it lies in the folder of pytest's last
run (`raw0/data/raw/`).

`PYTHONPATH=. python tests/test_parse_fuzz.py` writes tests/corpus/ again.
"""

import csv
import faulthandler
import gzip
import io
import math
import re
import sys
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_parse_forms import NAMES, RAW, Stage, bits, examples, nearest_float32, packed
from test_parse_forms import _parser as _parser  # the fixture `parser`

from stages.common.errors import PipelineError
from stages.parser import csv_file, parquet_file
from stages.parser.columns import SUBSET_WORDS
from stages.parser.contract import (
    ASPECT_RATIO_TOLERANCE,
    MAME_MEDIUMS,
    PRODUCT_SIZE_TOLERANCE,
    RULES,
)
from stages.tables.artefacts import ARTEFACTS, EXTRA, METADATA
from stages.tables.quarantine import QUARANTINE, QUARANTINE_COLUMNS
from stages.tables.values import SUBSETS

CORPUS = Path(__file__).parent / "corpus"
# No small file takes so long; one that does never ends.
HANG_SECONDS = 120
LONGEST_SENTENCE = 2000


# --- The corpus ----------------------------------------------------------------------------
# Files called good-... give a table, bad-RULE... a table and one row that breaks the rule,
# refused-... a sentence.

HEADER = ",".join(NAMES.values()) + "\n"
ROWS = (
    'a.jpg,Etching,"Museum, East",007.10,train,640,480,307200,1.33,"[0.5, -1.5, 3e-2]"\n'
    'b.jpg,Marble,Museum,1e5,val,100.5,200,,,"[1, 2.25, 1.00000005960464477539062500000001]"\n'
    'c.jpg,"Oil ""on"" canvas",,,test,2e3,1000,2000000,2,"[0.0, 1e-45, 16777217]"\n'
)


def with_row(row: str) -> bytes:
    return (HEADER + ROWS + row + "\n").encode()


def row(**values: str) -> str:
    """A good row, but for the values that are given; each may hold commas."""
    good = dict(
        zip(NAMES, ["d.jpg", "Glass", "M", "4", "test", "10", "20", "200", "0.5"], strict=False)
    )
    return ",".join(
        '"' + value.replace('"', '""') + '"'
        for value in {**good, "embedding": "[1, 2, 3]", **values}.values()
    )


def numbered_columns(first: str, second: str, third: str) -> bytes:
    header = ",".join([*list(NAMES.values())[:-1], first, second, third])
    return (
        f"{header}\na.jpg,Glass,,,val,1,1,,,0.5, 2 ,-3e0\nb.jpg,Gold,,,val,1,1,,,1,2,3\n".encode()
    )


def parquet(**columns: pa.Array) -> bytes:
    """A good Parquet table of two rows, but for the columns that are given."""
    table = {
        "image_file": pa.array(["a.jpg", "b.jpg"]),
        "medium": pa.array(["Glass", "Gold"]),
        "museum": pa.array(["M", None]),
        "museum_based_instance_id": pa.array(["1", "2"]),
        "subset": pa.array(["train", "test"]),
        "width": pa.array([10, 20]),
        "height": pa.array([20.0, 10.0]),
        "product_size": pa.array([200, None]),
        "aspect_ratio": pa.array([0.5, None]),
        "embedding": pa.array([[0.5, -1.5, 3e-2], [1.0, 2.0, 3.0]], pa.list_(pa.float32())),
        **columns,
    }
    sink = io.BytesIO()
    pq.write_table(
        pa.table({NAMES.get(key, key): column for key, column in table.items()}),
        sink,
        compression="none",  # so that a changed byte changes a value
        store_schema=any(pa.types.is_dictionary(column.type) for column in table.values()),
    )
    return sink.getvalue()


def corpus_files() -> dict[str, bytes]:
    good = (HEADER + ROWS).encode()
    spaced = row(embedding=" [\n1 ,\t2.5 ,\r\n 0.3 ] ")
    mixed_lengths = HEADER + ROWS + row(embedding="[1, 2]") + "\n"
    lists = pa.array([[0.5, -1.5], [1.0, 2.0]], pa.list_(pa.float16(), 2))
    texts = pa.array(["[0.5, -1.5, 3e-2]", "1,2,3"], pa.large_string())
    good_parquet = parquet()
    # Thirty rows, of which the last is a hundred times as long.
    alike = [row(image_file=f"{number}.jpg", embedding="[1, 2, 3]") for number in range(29)]
    alike.append(row(image_file="29.jpg", embedding="[100, 200, 300]"))
    return {
        "good-python-lists.csv": good,
        "good-byte-order-mark-and-crlf.csv": b"\xef\xbb\xbf" + good.replace(b"\n", b"\r\n"),
        "good-cr-only.csv": good.replace(b"\n", b"\r"),
        "good-json.csv": good.replace(b", ", b","),
        "good-no-brackets.csv": good.replace(b"[", b"").replace(b"]", b""),
        "good-white-space.csv": with_row(spaced),
        "good-no-last-line-end.csv": good.rstrip(),
        "good-empty-lines.csv": b"\n" + good.replace(b"\n", b"\n\n"),
        "good-packed.csv.gz": packed(good, ".gz"),
        "good-packed.csv.zst": packed(good, ".zst"),
        "good-two-members.csv.gz": packed(good[:200], ".gz") + packed(good[200:], ".gz"),
        "good-columns-from-0.csv": numbered_columns("x0", "x1", "x2"),
        "good-columns-from-1.csv": numbered_columns("dim_03", "dim_01", "dim_02"),
        "good-metadata-only.csv": re.sub(rb',"?MobileNet[^\n]*|,"\[[^\n]*', b"", good),
        "good-extra-column.csv": re.sub(
            rb"(?m)^(?=.\.jpg)", b"x,", good.replace(b"Image file", b"Note,Image file")
        ),
        "good-lone-quotes.csv": with_row(row().replace('"Glass"', 'Glass 5" x 7"')),
        "good-lists.parquet": good_parquet,
        "good-fixed-size-lists.parquet": parquet(embedding=lists),
        "good-text.parquet": parquet(embedding=texts),
        "good-dictionary.parquet": parquet(medium=pa.array(["Glass", "Gold"]).dictionary_encode()),
        "bad-fields-too-many.csv": with_row("d.jpg,Glass,M,4,test,10,20,200,0.5,[1, 2, 3]"),
        "bad-fields-too-few.csv": with_row("d.jpg,Glass"),
        "bad-image_file.csv": with_row(row(image_file=" ")),
        "bad-image_file_repeated.csv": with_row(row(image_file="b.jpg")),
        "bad-medium.csv": with_row(row(medium=" ")),
        "bad-medium_unknown.csv": with_row(row(medium="Cheese")).replace(
            b'"Oil ""on"" canvas"', b"Oil on canvas"
        ),
        "bad-subset.csv": with_row(row(subset="held out")),
        "bad-width.csv": with_row(row(width="0")),
        "bad-height.csv": with_row(row(height="tall")),
        "bad-product_size.csv": with_row(row(product_size="201")),
        "bad-aspect_ratio.csv": with_row(row(aspect_ratio="2")),
        "bad-embedding_missing.csv": with_row(row(embedding="")),
        "bad-embedding_missing.parquet": parquet(
            embedding=pa.array([[1, 2], None], pa.list_(pa.int8()))
        ),
        "bad-embedding_printed.csv": with_row(row(embedding="[0.1 0.2 ... 0.9]")),
        "bad-embedding_printed-array.csv": with_row(row(embedding="array([1., 2., 3.])")),
        "bad-embedding_unreadable.csv": with_row(row(embedding="[1, two, 3]")),
        "bad-embedding_unreadable-cut.csv": with_row(row(embedding="[1, 2, 3")),
        "bad-embedding_length.csv": mixed_lengths.encode(),
        "bad-embedding_not_finite.csv": with_row(row(embedding="[1, 1e999, nan]")),
        "bad-embedding_not_finite.parquet": parquet(
            embedding=pa.array([[1.0, 2.0], [1e300, None]])
        ),
        "bad-embedding_all_zero.csv": with_row(row(embedding="[0, -0.0, 1e-60]")),
        "bad-embedding_outlier.csv": "\n".join([HEADER.strip(), *alike, ""]).encode(),
        "bad-text_too_long.csv": with_row(row(museum="M" * 1001)),
        "refused-empty.csv": b"",
        "refused-header-only.csv": HEADER.encode(),
        "refused-html.csv": b"<!DOCTYPE html><html><body>Not found, sorry</body></html>",
        "refused-nul-bytes.csv": b"\x00\x01\x02" + good,
        "refused-utf-16.csv": good.decode().encode("utf-16"),
        "refused-zip.csv": b"PK\x03\x04\x14\x00" + good[:99],
        "refused-latin-1.csv": good.replace(b"Museum, East", b"Mus\xe9e"),
        "refused-semicolons.csv": HEADER.replace(",", ";").encode() + b"a;b;c\n",
        "refused-unclosed-quote.csv": with_row('d.jpg,"Glass,M,4,test,10,20,200,0.5,1'),
        "refused-repeated-column.csv": good.replace(b"Museum,", b"Medium,", 1),
        "refused-two-sets-of-columns.csv": numbered_columns("x0", "x1", "y0").replace(
            b"y0", b"y0,y1"
        ),
        "refused-a-missing-dimension.csv": numbered_columns("x0", "x1", "x3"),
        "refused-cut-off.csv.gz": packed(good, ".gz")[:-12],
        "refused-cut-off.csv.zst": packed(good, ".zst")[:-12],
        "refused-not-packed.csv.gz": good,
        "refused-cut-off.parquet": good_parquet[:-40],
        "refused-only-magic.parquet": b"PAR1PAR1",
        "refused-numbers-as-labels.parquet": parquet(medium=pa.array([[1], [2]])),
        "refused-lists-of-lists.parquet": parquet(embedding=pa.array([[[1.0]], [[2.0]]])),
    }


CORPUS_FILES = {path.name: path.read_bytes() for path in CORPUS.glob("*-*.*")}


def suffix(name: str) -> str:
    return "".join(Path(name).suffixes)


ASCII_BLANKS = " \t\n\v\f\r"


# --- What holds of every outcome -----------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """How the stage is run."""

    on_bad_row: str = "quarantine"
    max_bad_fraction: float = 1.0
    extra_columns: tuple[tuple[str, str], ...] = ()
    official_split: bool = True
    source: str = "file"
    csv_block: int = csv_file.CSV_BLOCK
    batch_rows: int = parquet_file.PARQUET_BATCH_ROWS


def outcome(parser: Stage, content: bytes, name: str, how: Settings) -> pa.Table | str:
    """Run the stage; return its table or its sentence, after both have been checked."""
    parser.split_strategy = "official" if how.official_split else "stratified"
    params = parser.params(
        on_bad_row=how.on_bad_row,
        max_bad_fraction=how.max_bad_fraction,
        extra_columns=dict(how.extra_columns),
        compression="none",
    )
    ignored: list[Any] = []
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            # What is raised in a callback of Arrow, which prints it and goes on.
            monkeypatch.setattr(sys, "unraisablehook", lambda it: ignored.append(it.exc_value))
            monkeypatch.setattr(csv_file, "CSV_BLOCK", how.csv_block)
            monkeypatch.setattr(parquet_file, "PARQUET_BATCH_ROWS", how.batch_rows)
            printed = parser.run(content, name, params, how.source)
    except PipelineError as error:
        check_sentence(str(error))
        return str(error)
    finally:
        faulthandler.cancel_dump_traceback_later()
        assert not ignored
    check_text(printed)
    table = pq.read_table(ARTEFACTS)
    quarantine = read_quarantine()
    check_table(table, how)
    if name.endswith(".parquet"):
        check_against_parquet(table, quarantine, name)
    else:
        check_against_csv(table, quarantine, content, name)
    return table


def check_text(text: str) -> None:
    """What is shown to people has no characters that a terminal would obey."""
    assert not [char for char in text if unicodedata.category(char) == "Cc" and char != "\n"], text


def check_sentence(text: str) -> None:
    sentence, *examples_of_it = text.split("\n")
    assert sentence.strip()
    assert len(sentence) <= LONGEST_SENTENCE
    assert "Traceback" not in text
    assert all(line.startswith("  ") for line in examples_of_it), text
    check_text(text)
    assert [path.name for path in ARTEFACTS.parent.iterdir()] == [RAW.name]


def read_quarantine() -> list[dict[str, str]]:
    with QUARANTINE.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        found = list(reader)
    assert tuple(reader.fieldnames) == tuple(QUARANTINE_COLUMNS)
    for problem in found:
        assert None not in problem, problem  # no more values than columns
        assert None not in problem.values(), problem
        assert problem["rule"] in RULES
        assert problem["reason"] == RULES[problem["rule"]].broken
        check_text(problem["value"])
    rows = [int(problem["row"]) for problem in found]
    assert rows == sorted(rows)
    return found


def check_table(table: pa.Table, how: Settings) -> None:
    """No row of the table breaks a rule."""
    table.validate(full=True)
    assert table.num_rows
    fields = {field.name: field.type for field in table.schema}
    assert list(fields)[: len(METADATA)] == list(METADATA)
    assert {name: fields[name] for name in METADATA} == METADATA
    rows = table.select(list(METADATA)).to_pylist()
    assert all(count == 1 for count in Counter(row["image_file"] for row in rows).values())
    for row in rows:
        assert row["image_file"].strip()
        assert row["medium"].strip()
        assert row["medium"] in MAME_MEDIUMS or how.source != "mame"
        assert row["subset"] in SUBSETS or not how.official_split
        width, height = row["width"], row["height"]
        assert 0 < width < math.inf
        assert 0 < height < math.inf
        if row["product_size"] is not None:
            tolerance = PRODUCT_SIZE_TOLERANCE * width * height
            assert abs(row["product_size"] - width * height) <= tolerance
        if row["aspect_ratio"] is not None:
            assert abs(row["aspect_ratio"] - width / height) <= ASPECT_RATIO_TOLERANCE
    for name, kind in how.extra_columns:
        assert fields[name] == EXTRA[kind]
        for value in table[name].to_pylist():
            assert value is None or math.isfinite(value) if kind == "number" else value is not None
    if "embedding" in fields:
        assert pa.types.is_fixed_size_list(fields["embedding"])
        assert fields["embedding"].value_type in (pa.float32(), pa.float16())
        for embedding in table["embedding"].to_pylist():
            assert all(math.isfinite(number) for number in embedding)
            assert any(embedding)


def check_against_csv(
    table: pa.Table, quarantine: list[dict[str, str]], content: bytes, name: str
) -> None:
    """Each row of the file is in the table, as it was written, or in the quarantine."""
    try:
        text = unpacked(content, name).decode("utf-8-sig")
    except UnicodeDecodeError:
        return  # in a column that is not read; what its rows are cannot be said
    csv.field_size_limit(1 << 20)
    records = [record for record in csv.reader(io.StringIO(text, newline="")) if record]
    # A quote that was never closed swallows what follows it.
    *_, last = csv.reader(io.StringIO(f"{text}\n\nend\n", newline=""))
    assert last == ["end"], "the file ends inside quotes"
    header, *records = records
    set_aside = {int(problem["row"]) for problem in quarantine}
    assert table.num_rows + len(set_aside) == len(records)
    kept = [record for row, record in enumerate(records, 1) if row not in set_aside]
    assert all(len(record) == len(header) for record in kept)
    columns = [dict(zip(header, record, strict=True)) for record in kept]
    check_values(table, columns)


def check_against_parquet(table: pa.Table, quarantine: list[dict[str, str]], name: str) -> None:
    set_aside = {int(problem["row"]) for problem in quarantine}
    assert table.num_rows + len(set_aside) == pq.read_metadata(RAW / name).num_rows
    try:
        rows = pq.read_table(RAW / name).to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError):
        return  # in a column that is not read; or a time that Python has no type for
    check_values(table, [row for number, row in enumerate(rows, 1) if number not in set_aside])


def check_values(table: pa.Table, raw: list[dict[str, Any]]) -> None:
    """The table has these rows, in this order, and the numbers that they have."""
    for parsed, written in zip(table.to_pylist(), raw, strict=True):
        for key, type_ in METADATA.items():
            value = written[NAMES[key]]
            if pa.types.is_floating(type_):
                missing = value is None or (isinstance(value, str) and not value.strip())
                number = value.strip() if isinstance(value, str) else value
                assert parsed[key] == (None if missing else float(number)), key
            elif isinstance(value, str):
                read = value.strip() if key in ("medium", "museum", "subset") else value
                if key == "subset":
                    read = SUBSET_WORDS.get(read.lower(), read)
                assert parsed[key] == read, key
        if "embedding" in parsed:
            numbers = [nearest_float32(number) for number in written_embedding(written)]
            assert bits(parsed["embedding"]) == bits(numbers)


def written_embedding(written: dict[str, Any]) -> list[Any]:
    """The numbers of a row of the raw table, as numbers or as text."""
    if NAMES["embedding"] in written:
        return numbers_of(written[NAMES["embedding"]])
    numbered = []
    for name in written:
        found = re.fullmatch(r"(.*?)([0-9]+)", name, re.DOTALL)
        if found and name not in NAMES.values():
            numbered.append((found[1], int(found[2]), name))
    prefixes = Counter(prefix for prefix, _, _ in numbered)
    wanted = NAMES["embedding"]
    prefix = wanted if wanted in prefixes else prefixes.most_common(1)[0][0]
    values = [written[name] for found, _, name in sorted(numbered) if found == prefix]
    return [number for value in values for number in numbers_of(value)]


def numbers_of(value: Any) -> list[Any]:
    if not isinstance(value, str):
        return value if isinstance(value, list) else [value]
    value = value.strip(ASCII_BLANKS)
    value = value[1:-1] if value.startswith("[") else value
    return [number.strip(ASCII_BLANKS) for number in value.split(",")]


def unpacked(content: bytes, name: str) -> bytes:
    """The bytes of a packed file; a file that is damaged must not get as far as this."""
    if name.endswith(".gz"):
        return gzip.decompress(content)
    if name.endswith(".zst"):
        return pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    return content


# --- Spoiled files -------------------------------------------------------------------------

TOKENS = [
    *(b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"\n\n", b"[", b"]", b"[]", b"[[", b" ", b"\t"),
    *(b"nan", b"NaN", b"inf", b"-Infinity", b"1e999", b"-1e39", b"1e-999", b"1_0", b"0x10", b"+1"),
    *(b"-0.0", b"1.", b".5", b"1,5", b"None", b"null", b"True", b"...", b"array(", b"np.float32("),
    *(b"\x00", b"\xff", b"\x80", b"\x1b[31m", b"\x1c", b"\x85", b"\xc2\x85", b"\xe2\x80\xa8"),
    *(b"\xef\xbb\xbf", b"\xef\xbf\xbd", b"\xff\xfe", b"\xc2\xa0", b"\xed\xa0\x80", b"\xf0\x9f"),
    *(b"PAR1", b"PK\x03\x04", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x00" * 8, b"\xff" * 8),
    *(
        b",,,,,,,,,\n",
        b'\n"',
        b'",',
        b'"\n',
        b"a.jpg",
        b"b.jpg",
        b"synthetic-",
        b"9" * 40,
        b"Medium,",
    ),
    *(b"x0,x1,", b"1,2,3", b"\n,,,,,,,,,", b"train", b"=cmd", b";", b"'", b"\\", b"\x7f", b"\x0b"),
]

KINDS = ("insert", "replace", "delete", "duplicate", "flip", "splice", "cut", "swap")
edits = st.tuples(
    st.sampled_from(KINDS),
    st.integers(0, 4095),
    st.integers(0, 255),
    st.sampled_from(TOKENS),
)
how_to_run = st.builds(
    Settings,
    on_bad_row=st.sampled_from(["quarantine", "fail"]),
    max_bad_fraction=st.sampled_from([1.0, 0.5, 0.01, 0.0]),
    # `Note` stands in one of the files; in the others it is a column that the table lacks.
    extra_columns=st.sampled_from([(), (), (("Note", "category"),), (("Note", "number"),)]),
    official_split=st.booleans(),
    source=st.sampled_from(["file", "file", "mame"]),
    csv_block=st.sampled_from([csv_file.CSV_BLOCK, csv_file.CSV_BLOCK, 600, 250]),
    batch_rows=st.sampled_from([parquet_file.PARQUET_BATCH_ROWS, 1]),
)


def spoil(content: bytes, changes: list[tuple[str, int, int, bytes]], other: bytes) -> bytes:
    for kind, place, amount, token in changes:
        at = place % (len(content) + 1)
        if kind == "insert":
            content = content[:at] + token + content[at:]
        elif kind == "replace":
            content = content[:at] + token + content[at + len(token) :]
        elif kind == "delete":
            content = content[:at] + content[at + amount :]
        elif kind == "duplicate":
            content = content[: at + amount] + content[at:]
        elif kind == "flip":
            flipped = bytes(byte ^ amount for byte in content[at : at + 1])
            content = content[:at] + flipped + content[at + 1 :]
        elif kind == "splice":
            content = content[:at] + other[place % (len(other) + 1) :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "swap":
            content = content[at : at + amount] + content[:at] + content[at + amount :]
    return content


@st.composite
def spoiled_files(draw: Callable) -> tuple[str, bytes]:
    names = st.sampled_from(sorted(CORPUS_FILES))
    name, other = draw(names), draw(names)
    content, other_content = CORPUS_FILES[name], CORPUS_FILES[other]
    ending = suffix(name)
    changes = draw(st.lists(edits, max_size=6))
    if ending in (".csv.gz", ".csv.zst") and draw(st.booleans()):
        # Spoil what is inside, too: bytes of packed text rarely unpack once they are changed.
        try:
            content = unpacked(content, name)
        except (OSError, EOFError, zlib.error):
            pass
        else:
            content = packed(spoil(content, changes, other_content), name)
            changes = changes[:1] if draw(st.booleans()) else []
    return f"table{ending}", spoil(content, changes, other_content)


def ends_the_process(content: bytes, name: str) -> bool:
    """Whether a damaged Parquet file ends Python itself, when asked for what it says of a column.

    pyarrow lets the C++ error for a histogram of the wrong length go uncaught there. The same
    error is an ordinary one where the column is read.
    """
    if not name.endswith(".parquet"):
        return False
    try:
        pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        return "histogram size mismatch" in str(error)
    return False


# --- Parquet tables of any types -----------------------------------------------------------

THREE: dict[str, pa.Array] = {
    "text": pa.array(["a", "b", " c "]),
    "the same text": pa.array(["a", "a", None]),
    "no text": pa.array(["", None, " \x1c"]),
    "text of numbers": pa.array(["1", " 2 ", "3e0"]),
    "text of lists": pa.array(["[1, 2]", "[3,4]", "5, 6"]),
    "text that is none": pa.array([b"\xff", b"a\x80", b"\xfe"]).view(pa.string()),
    "large text": pa.array(["train", "val", "\x1b[31m"], pa.large_string()),
    "text view": pa.array(["train", None, "x" * 40], pa.string_view()),
    "bytes": pa.array([b"train", b"\xff", None]),
    "fixed bytes": pa.array([b"ab", b"cd", None], pa.binary(2)),
    "dictionary": pa.array(["x", None, "x"]).dictionary_encode(),
    "dictionary of numbers": pa.array([1.5, None, 2.5]).dictionary_encode(),
    "integers": pa.array([1, 2, None]),
    "large integers": pa.array([2**63 - 1, -(2**63), 16777217]),
    "unsigned": pa.array([2**64 - 1, 1, 0], pa.uint64()),
    "floats": pa.array([1.5, math.nan, None]),
    "large floats": pa.array([1e300, math.inf, 5e-324]),
    "good sizes": pa.array([10.0, 20.0, 30.0]),
    "half floats": pa.array([1.5, 2.5, None], pa.float16()),
    "decimals": pa.array([Decimal("1.50"), Decimal("-2.25"), None]),
    "long decimals": pa.array([Decimal("1" * 60 + ".5"), Decimal(1), None], pa.decimal256(76, 2)),
    "bool": pa.array([True, False, None]),
    "missing": pa.nulls(3),
    "missing text": pa.nulls(3, pa.string()),
    "missing lists": pa.nulls(3, pa.list_(pa.float32())),
    "dates": pa.array([0, 1, None], pa.date32()),
    "times": pa.array([0, 2**62, None], pa.timestamp("ns", "UTC")),
    "durations": pa.array([0, 1, None], pa.duration("s")),
    "structs": pa.array([{"x": 1, "y": "a"}, None, {"x": 2, "y": None}]),
    "lists": pa.array([[1.0, 2.0], [3.0, None], None]),
    "good lists": pa.array([[1.0, 2.0], [3.0, 4.0], [5e-46, 16777217.0]]),
    "good whole lists": pa.array([[1, 2], [3, 16777217], [2**60 + 1, 0]]),
    "empty lists": pa.array([[], [], []], pa.list_(pa.float64())),
    "large lists": pa.array([[1, 2], [3], []], pa.large_list(pa.int8())),
    "fixed-size lists": pa.array([[1, 2], None, [3, None]], pa.list_(pa.float16(), 2)),
    "lists of text": pa.array([["1", "2"], ["x"], None]),
    "lists of lists": pa.array([[[1.0]], [[2.0], None], None]),
    "lists of decimals": pa.array([[Decimal("0.1"), Decimal(2)], [Decimal(3), None], []]),
    "lists of missing": pa.array([[None, None], [None], []]),
    "lists of bool": pa.array([[True, False], [True], []]),
    "lists of structs": pa.array([[{"x": 1.0}], [], None]),
    "maps": pa.array([[("a", 1.0)], [], None], pa.map_(pa.string(), pa.float64())),
}
ANY_COLUMN = st.sampled_from(sorted(THREE))
USUAL = {
    "image_file": pa.array(["a.jpg", "b.jpg", "c.jpg"]),
    "medium": pa.array(["Glass", "Gold", "Iron"]),
    "museum": pa.array(["M", "", None]),
    "museum_based_instance_id": pa.array(["1", "2", None]),
    "subset": pa.array(["train", "val", "test"]),
    "width": pa.array([10, 20, 30]),
    "height": pa.array([10.0, 20.0, 30.0]),
    "product_size": pa.array([None, 400.0, None]),
    "aspect_ratio": pa.array([1.0, None, 1.0]),
    "embedding": THREE["good lists"],
}
FURTHER = (
    "x0",
    "x1",
    "X1",
    "1",
    "",
    "note",
    "a.b",
    "medium",
    "MobileNetV1 features0",
    "e\n0",
    "\x1b",
)


@st.composite
def typed_tables(draw: Callable) -> bytes:
    columns = dict(USUAL)
    for key in draw(st.lists(st.sampled_from(list(NAMES)), max_size=3)):
        columns[key] = THREE[draw(ANY_COLUMN)]
    if draw(st.booleans()):
        del columns["embedding"]
    named = {NAMES[key]: column for key, column in columns.items()}
    for name in draw(st.lists(st.sampled_from(FURTHER), max_size=3)):
        named[name] = THREE[draw(ANY_COLUMN)]
    sink = io.BytesIO()
    pq.write_table(
        pa.table(named).slice(0, draw(st.integers(0, 3))),
        sink,
        compression=draw(st.sampled_from(["none", "snappy"])),
        row_group_size=draw(st.sampled_from([1, 3])),
        store_schema=draw(st.booleans()),
    )
    return sink.getvalue()


# --- Tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CORPUS_FILES))
def test_a_file_of_the_corpus_ends_as_its_name_says(parser, name):
    kind, rule = name.removesuffix(suffix(name)).split("-", 1)
    rule = rule.split("-")[0]
    source = "mame" if rule == "medium_unknown" else "file"
    result = outcome(parser, CORPUS_FILES[name], f"table{suffix(name)}", Settings(source=source))
    if kind == "refused":
        assert isinstance(result, str)
        return
    assert isinstance(result, pa.Table), result
    assert [problem["rule"] for problem in read_quarantine()] == ([rule] if kind == "bad" else [])


def test_the_corpus_is_what_this_module_writes():
    written = corpus_files()
    assert sorted(written) == sorted(CORPUS_FILES)
    # Other versions of the libraries pack the same content into other bytes.
    csv_files = [name for name in written if name.endswith(".csv")]
    assert {name: CORPUS_FILES[name] for name in csv_files} == {
        name: written[name] for name in csv_files
    }


NO_TEXT = THREE["text that is none"].slice(0, 2)
WITH_NOTE = CORPUS_FILES["good-extra-column.csv"]
FOUND = {
    "a line end in the name of a column": with_row(row()).replace(b"Medium", b'"Me\ndium"', 1),
    "an escape in the name of a column": WITH_NOTE.replace(b"Note", b"\x1b[31m"),
    "escapes in numbered columns": numbered_columns("\x1b0", "\x1b1", "\x1b2"),
    "Latin-1 in a row of too few fields": with_row(row()) + b"e.jpg,Mus\xe9e\n",
    "CR in an image file": with_row(row(image_file="d\r.jpg", width="0")),
    "image files of a separator": with_row(row(image_file="\x1c") + "\n" + row(image_file="\x1c")),
    "a header that ends inside quotes": numbered_columns("x0", "x1", '"0'),
    "a column whose name is no text": parquet().replace(b"Museum", b"Mus\xffum"),
    **{
        f"{key} that is no text": parquet(**{key: NO_TEXT})
        for key in ("image_file", "medium", "museum_based_instance_id", "width", "embedding")
    },
}


@pytest.mark.parametrize("name", sorted(FOUND))
def test_what_spoiled_files_brought_to_light_stays_mended(parser, name):
    ending = ".parquet" if FOUND[name].startswith(b"PAR1") else ".csv"
    outcome(parser, FOUND[name], f"table{ending}", Settings())


def test_a_replacement_character_in_a_header_is_text(parser):
    content = WITH_NOTE.replace(b"Note", "\ufffd".encode())
    assert isinstance(outcome(parser, content, "table.csv", Settings()), pa.Table)


@examples("FUZZ_EXAMPLES", few=500)
@given(file=spoiled_files(), how=how_to_run)
def test_a_spoiled_file_ends_with_a_good_table_or_a_sentence(parser, file, how):
    name, content = file
    assume(not ends_the_process(content, name))
    outcome(parser, content, name, how)


@examples("FUZZ_EXAMPLES", few=250)
@given(content=typed_tables(), how=how_to_run)
def test_columns_of_any_type_end_with_a_good_table_or_a_sentence(parser, content, how):
    outcome(parser, content, "table.parquet", how)


if __name__ == "__main__":
    CORPUS.mkdir(exist_ok=True)
    for old in CORPUS.iterdir():
        old.unlink()
    for file_name, file_content in corpus_files().items():
        (CORPUS / file_name).write_bytes(file_content)
