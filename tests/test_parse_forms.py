"""Every accepted form of a table gives the same output, bit for bit.

Hypothesis makes small tables, and writes each of them in several ways. What the numbers
should become is computed with exact fractions, not with the parser.

`FORM_EXAMPLES=2000 python -m pytest tests/test_parse_forms.py` tries that many tables, others
each time; without it the same few are tried.
"""

import contextlib
import functools
import gzip
import io
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_params
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages import parse_embeddings_to_parquet as stage
from stages.common.params import load_params, load_value
from stages.parser import csv_file, embeddings, parquet_file, parquet_sizes
from stages.parser.croissant import CROISSANT
from stages.parser.embeddings import to_float32
from stages.tables.artefacts import ARTEFACTS, METADATA
from stages.tables.parquet import fixed_size_list, matrix, source_of
from stages.tables.quarantine import QUARANTINE

# The names of the columns in the course's file.
NAMES = {
    "image_file": "Image file",
    "medium": "Medium",
    "museum": "Museum",
    "museum_based_instance_id": "Museum-based instance ID",
    "subset": "Subset",
    "width": "Width",
    "height": "Height",
    "product_size": "Product size",
    "aspect_ratio": "Aspect ratio",
    "embedding": "MobileNetV1 features",
}
TEXTS = ("image_file", "medium", "museum", "museum_based_instance_id", "subset")
SIZES = ("width", "height", "product_size", "aspect_ratio")
RAW = Path("data/raw")
FLOAT32_MAX = float(np.finfo(np.float32).max)


def examples(variable: str, few: int) -> settings:
    """How many examples are tried: as many as the variable says, else the same few each time."""
    wanted = os.environ.get(variable)
    return settings(
        max_examples=int(wanted) if wanted else few,
        derandomize=not wanted,
        database=None,
        # Machines that run tests are shared: how long one example takes says little.
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# --- Running the stage ---------------------------------------------------------------------


class Stage:
    """The stage, run in the current folder without reading params.yaml each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.defaults = load_params(stage.STAGE, stage.Params).model_dump()
        self.split_strategy = load_value("split.strategy")
        self._params = self.params()
        monkeypatch.setattr(stage, "load_params", lambda *_: self._params)
        monkeypatch.setattr(stage, "load_value", lambda _: self.split_strategy)
        # Not in a process of its own, which takes longer than all the rest.
        monkeypatch.setattr(parquet_file, "_unpacked_sizes", parquet_sizes.unpacked_sizes)
        RAW.mkdir(parents=True)

    def params(self, columns: dict[str, str | None] | None = None, **others: Any) -> stage.Params:
        columns = {**self.defaults["columns"], **(columns or {})}
        return stage.Params(**{**self.defaults, **others, "columns": stage.ColumnNames(**columns)})

    def run(
        self, content: bytes, name: str, params: stage.Params | None = None, source: str = "file"
    ) -> str:
        """Run the stage on a raw file; return what it printed and what it summed up.

        The file lies in the folder that pytest keeps, also when the process crashes.
        """
        for path in RAW.iterdir():
            path.unlink()
        ARTEFACTS.unlink(missing_ok=True)
        QUARANTINE.unlink(missing_ok=True)
        CROISSANT.unlink(missing_ok=True)
        (RAW / name).write_bytes(content)
        (RAW / "provenance.json").write_text(json.dumps({"source": source, "file": name}))
        self._params = params or self.params()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            summary = stage.main()
        return printed.getvalue() + summary


@pytest.fixture(scope="module", name="parser")
def _parser(tmp_path_factory) -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("raw")
        write_params(folder)
        monkeypatch.chdir(folder)
        # Rounding is tested up to the ends of 32 bits, beyond what an embedding may have.
        monkeypatch.setattr(embeddings, "MOST_NUMBER", FLOAT32_MAX)
        monkeypatch.setattr(embeddings, "LEAST_NUMBER", 2.0**-149)
        yield Stage(monkeypatch)


# --- What the numbers should become --------------------------------------------------------


@functools.lru_cache(maxsize=100_000)
def nearest_float32(number: str | float | Fraction) -> float:
    """The float32 that is nearest to a number, the even one of two; it may be infinite.

    A text is taken as it is written, so that there is no rounding to a float64 in between.
    """
    if isinstance(number, str) and number.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return float(number)
    negative = math.copysign(1, float(number)) < 0
    if isinstance(number, str) and abs(int(number.lower().partition("e")[2] or 0)) > 10_000:
        # Fractions of that size take for ever, and a float64 is 0 or infinite, as a float32 is.
        return float(number)
    exact = abs(Fraction(number))
    if exact == 0:
        return -0.0 if negative else 0.0
    power = exact.numerator.bit_length() - exact.denominator.bit_length()
    if exact < Fraction(2) ** power:
        power -= 1  # now 2 ** power <= exact < 2 ** (power + 1)
    power_of_last_bit = max(power - 23, -149)
    result = round(exact / Fraction(2) ** power_of_last_bit) * Fraction(2) ** power_of_last_bit
    found = math.inf if result >= 2**128 else float(result)  # exact, a float32 is a float64
    return -found if negative else found


def bits(values: Any) -> list[list[int]]:
    """Rows of numbers as the bits of their float32: 0.0 and -0.0 differ."""
    return np.asarray(values, dtype=np.float32).view(np.uint32).tolist()


# --- Tables --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A good table, by the names of the artefacts table; numbers are text as it is written."""

    metadata: list[dict[str, str]]
    embeddings: list[list[str]]  # all of one length

    @functools.cached_property
    def float32(self) -> list[list[float]]:
        return [[nearest_float32(text) for text in row] for row in self.embeddings]

    def numbers(self, name: str) -> list[float | None]:
        return [float(row[name]) if row[name] else None for row in self.metadata]

    def expected(self) -> dict[str, list]:
        return {key: [row[key] for row in self.metadata] for key in TEXTS} | {
            key: self.numbers(key) for key in SIZES
        }


def test_a_decimal_is_rounded_once():
    # A little more than half way to the next float32; the nearest float64 is just half way.
    text = "1.00000005960464477539062500000001"
    assert np.float32(float(text)) == 1
    found = to_float32(pa.array([Decimal(text), Decimal(2)], pa.decimal128(38, 32)))
    assert found.tolist() == [np.nextafter(np.float32(1), np.float32(2)), 2]


def decimals(number: Fraction) -> str:
    """All the digits of a fraction whose denominator is a power of 2."""
    places = number.denominator.bit_length() - 1
    digits = str(abs(number.numerator) * 5**places).rjust(places + 1, "0")
    whole, rest = digits[: len(digits) - places], digits[len(digits) - places :]
    return f"{'-' if number < 0 else ''}{whole}.{rest or '0'}"


def halfway(number: float, last: str) -> str:
    """The text of the number between two float32, with `last` after its many digits."""
    if number == FLOAT32_MAX:
        return repr(number)
    above = np.nextafter(np.float32(number), np.float32(np.inf))
    text = decimals((Fraction(float(number)) + Fraction(float(above))) / 2)
    return text + last


float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
float64s = st.floats(-FLOAT32_MAX, FLOAT32_MAX)
usual = st.floats(0, 6, width=32)
written_numbers = st.one_of(
    usual.map(repr),
    usual.map(lambda number: str(np.float32(number))),
    float32s.map(repr),
    float64s.map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-99, 99).map(str),
    st.tuples(float64s, st.integers(9, 20), st.sampled_from("eE")).map(
        lambda parts: f"{parts[0]:.{parts[1]}{parts[2]}}"
    ),
    st.tuples(st.integers(1, 9), st.integers(-60, 37), st.sampled_from(["e", "E"])).map(
        lambda parts: f"{parts[0]}{parts[2]}{parts[1]}"
    ),
    float64s.map(lambda number: decimals(Fraction(number))),
    # Beside a number between two float32, the digits after the 17th decide.
    st.tuples(
        st.one_of(usual, float32s), st.sampled_from(["", "0", "1", "000000000000000001"])
    ).map(lambda parts: halfway(*parts)),
    st.integers(0, 2**23).map(lambda units: repr(units * 2.0**-149)),  # subnormal
    st.sampled_from(
        [
            "0",
            "-0",
            "0.0",
            "-0.0",
            "-0e5",
            ".5",
            "5.",
            "1e-400",
            "7.006492321624085e-46",
            "7.006492321624086e-46",
            "3.4028235677973366e38",  # just below what would be infinite
            "340282346638528859811704183484516925440",
            "1.00000005960464477539062500000001",
            "1.000000059604644775390625",
            "1.00000005960464477539062499999999",
            "16777217",
            "1" + "0" * 38,
            "0." + "0" * 44 + "1",
        ]
    ),
)
# No surrogates, which are no text, and no NUL, which makes a file no text.
characters = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"),
    st.sampled_from(",\"\n\r\t ;'[]"),
)
text = st.text(characters, max_size=8)
# Blanks around them would be removed.
labels = text.map(lambda text: f"{text}".join("Mm"))
sizes = st.one_of(
    st.integers(1, 20_000).map(str),
    st.integers(1, 20_000).map(lambda size: f"{size}.0"),
    st.floats(1, 20_000).map(repr),
    st.integers(1, 20_000).map(lambda size: f"{size:.3e}"),
)


@st.composite
def metadata_rows(draw: Callable, row: int) -> dict[str, str]:
    width, height = draw(sizes), draw(sizes)
    ratio = float(width) / float(height)
    return {
        "image_file": f"{draw(text)}{row}.jpg",
        "medium": draw(labels),
        "museum": draw(st.one_of(st.just(""), labels)),
        "museum_based_instance_id": draw(st.one_of(text, st.sampled_from(["007.10", "1e5"]))),
        "subset": draw(st.sampled_from(["train", "val", "test"])),
        "width": width,
        "height": height,
        "product_size": draw(st.sampled_from(["", repr(float(width) * float(height))])),
        "aspect_ratio": draw(st.sampled_from(["", repr(ratio), f"{ratio:.2f}"])),
    }


@st.composite
def tables(draw: Callable) -> Table:
    rows, length = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    metadata = [draw(metadata_rows(row)) for row in range(rows)]
    embeddings = []
    for _ in range(rows):
        numbers = draw(st.lists(written_numbers, min_size=length, max_size=length))
        # A row of zeros only is no embedding.
        if not any(nearest_float32(number) for number in numbers):
            numbers[draw(st.integers(0, length - 1))] = "0.25"
        embeddings.append(numbers)
    return Table(metadata, embeddings)


# --- Forms of a table ----------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Form:
    """One way to write a table."""

    name: str  # of the file
    content: bytes
    columns: dict[str, str] = field(default_factory=dict)  # what it calls its columns
    longest_line: int = 0  # bytes of the longest row of a CSV table, of its header too

    def __repr__(self) -> str:
        # Hypothesis shows it when a test fails.
        return f"Form({self.name!r}, {self.content[:1000]!r}, {self.columns!r})"


white_space = st.text(" \t\n\r", max_size=3)
prefixes = st.one_of(
    st.sampled_from(["feature_", "f", "dim-", "", "Merkmal ", "é"]),
    text.filter(lambda text: "\n" not in text and not text[-1:].isdecimal()),
)
column_names = st.fixed_dictionaries(
    {key: text.map(lambda text, key=key: f"{text}{key}") for key in NAMES if key != "embedding"}
)


def quoted(value: str, always: bool) -> str:
    if always or any(char in value for char in ',"\n\r'):
        return '"' + value.replace('"', '""') + '"'
    return value


def numbered(prefix: str, length: int, start: int, padding: int) -> list[str]:
    return [f"{prefix}{number:0{padding}d}" for number in range(start, start + length)]


@st.composite
def numbered_names(draw: Callable, length: int) -> list[str]:
    prefix = draw(prefixes)
    if length == 1:
        # One numbered column may be anything, unless it is called as the embedding is.
        prefix = NAMES["embedding"]
    return numbered(prefix, length, draw(st.integers(0, 1)), draw(st.sampled_from([0, 1, 2, 4])))


@st.composite
def lists_as_text(draw: Callable, rows: list[list[str]]) -> list[str]:
    style = draw(st.sampled_from(["python", "json", "no brackets", "any white space"]))
    if style == "python":
        return [f"[{', '.join(row)}]" for row in rows]
    if style == "json":
        return [f"[{','.join(row)}]" for row in rows]
    if style == "no brackets":
        return [draw(st.sampled_from([", ", ","])).join(row) for row in rows]
    texts = []
    for row in rows:
        blanks = [draw(white_space) for _ in range(4)]
        inner = ",".join(f"{blanks[0]}{number}{blanks[1]}" for number in row)
        opening, closing = draw(st.sampled_from(["[]", ("", "")]))
        texts.append(f"{blanks[2]}{opening}{inner}{closing}{blanks[3]}")
    return texts


@st.composite
def csv_forms(draw: Callable, table: Table) -> Form:
    names = draw(st.one_of(st.just(NAMES), column_names))
    columns = [(names[key], [row[key] for row in table.metadata]) for key in (*TEXTS, *SIZES)]
    if draw(st.booleans()):
        columns.append((NAMES["embedding"], draw(lists_as_text(table.embeddings))))
    else:
        length = len(table.embeddings[0])
        before, after = draw(white_space), draw(white_space)
        for place, name in enumerate(draw(numbered_names(length))):
            cells = [f"{before}{row[place]}{after}" for row in table.embeddings]
            columns.append((name, cells))
    if draw(st.booleans()):
        columns.append(("a column of no use", [draw(text)] * len(table.metadata)))
    columns = draw(st.permutations(columns))
    always_quoted = draw(st.booleans())
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [
        ",".join(quoted(value, always_quoted) for value in row) + end
        for row in [
            [name for name, _ in columns],
            *zip(*(cells for _, cells in columns), strict=True),
        ]
    ]
    written = "".join(lines)
    if draw(st.booleans()):
        written = written.removesuffix(end)
    content = written.encode("utf-8-sig" if draw(st.booleans()) else "utf-8")
    name = draw(st.sampled_from(["table.csv", "table.csv.gz", "table.csv.zst", "table.txt.csv"]))
    longest = max(len(line.encode()) for line in lines)
    return Form(name, packed(content, name), {**names, "embedding": NAMES["embedding"]}, longest)


def packed(content: bytes, name: str) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(content, mtime=0)
    if name.endswith(".zst"):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(content)
        return sink.getvalue().to_pybytes()
    return content


def fits(value: float, type_: type) -> bool:
    with np.errstate(over="ignore"):
        return float(type_(value)) == value


@st.composite
def numbers_in_parquet(draw: Callable, table: Table) -> tuple[list[list[Any]], pa.DataType]:
    """The embeddings as values of a type that holds them without rounding."""
    types = [pa.float32(), pa.float64()]
    if all(fits(value, np.float16) for row in table.float32 for value in row):
        types.append(pa.float16())
    type_ = draw(st.sampled_from(types))
    values = table.float32
    if type_ == pa.float64() and all(
        Fraction(float(text)) == Fraction(text) for row in table.embeddings for text in row
    ):
        # Those which a float64 holds and a float32 does not: the parser has to round them.
        values = [[float(text) for text in row] for row in table.embeddings]
    return [np.array(row, dtype=type_.to_pandas_dtype()) for row in values], type_


@st.composite
def parquet_forms(draw: Callable, table: Table) -> Form:
    names = draw(st.one_of(st.just(NAMES), column_names))
    columns: list[tuple[str, pa.Array]] = []
    for key in TEXTS:
        cells = [row[key] or draw(st.sampled_from(["", None])) for row in table.metadata]
        type_ = draw(
            st.sampled_from(
                [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
            )
        )
        columns.append((names[key], pa.array(cells, pa.string()).cast(type_)))
    for key in SIZES:
        numbers = table.numbers(key)
        if draw(st.booleans()):
            columns.append((names[key], pa.array([row[key] for row in table.metadata])))
        elif all(number is not None and number.is_integer() for number in numbers):
            columns.append((names[key], pa.array([int(number) for number in numbers])))
        else:
            columns.append((names[key], pa.array(numbers, pa.float64())))
    length = len(table.embeddings[0])
    values, type_ = draw(numbers_in_parquet(table))
    form = draw(st.sampled_from(["list", "large list", "fixed-size list", "text", "columns"]))
    if form == "text":
        column = pa.array(draw(lists_as_text(table.embeddings)))
        columns.append((NAMES["embedding"], column))
    elif form == "columns":
        columns += [
            (name, pa.array([row[place] for row in values], type_))
            for place, name in enumerate(draw(numbered_names(length)))
        ]
    else:
        lists = {
            "list": pa.list_(type_),
            "large list": pa.large_list(type_),
            "fixed-size list": pa.list_(type_, length),
        }
        columns.append((NAMES["embedding"], pa.array(values, lists[form])))
    columns = draw(st.permutations(columns))
    written = pa.table([column for _, column in columns], names=[name for name, _ in columns])
    sink = io.BytesIO()
    pq.write_table(
        written,
        sink,
        compression=draw(st.sampled_from(["none", "snappy", "gzip", "zstd", "brotli", "lz4"])),
        row_group_size=draw(st.sampled_from([1, 2, 5, 100])),
        use_dictionary=draw(st.booleans()),
        data_page_version=draw(st.sampled_from(["1.0", "2.0"])),
        store_schema=draw(st.booleans()),
    )
    return Form("table.parquet", sink.getvalue(), {**names, "embedding": NAMES["embedding"]})


@st.composite
def tables_in_forms(draw: Callable) -> tuple[Table, list[Form]]:
    table = draw(tables())
    return table, [
        draw(csv_forms(table)),
        draw(parquet_forms(table)),
        draw(st.one_of(csv_forms(table), parquet_forms(table))),
    ]


def parse(parser: Stage, form: Form) -> pa.Table:
    parser.run(form.content, form.name, parser.params(form.columns))
    return pq.read_table(ARTEFACTS)


# --- Tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1.00000005960464477539062499999999", 1.0),
        ("1.000000059604644775390625", 1.0),
        # As a float64 it is the number in the line above.
        ("1.00000005960464477539062500000001", 1.0 + 2.0**-23),
        ("7.006492321624085e-46", 0.0),
        ("7.006492321624086e-46", 2.0**-149),
        ("3.4028235677973366e38", FLOAT32_MAX),
        ("3.4028235677973367e38", math.inf),
        ("-16777217", -16777216.0),
        ("0.1", float(np.float32(0.1))),
    ],
)
def test_the_reference_gives_the_nearest_float32(written, expected):
    assert nearest_float32(written) == expected


@examples("FORM_EXAMPLES", few=50)
@given(tables_in_forms())
def test_every_accepted_form_gives_the_same_table_bit_for_bit(parser, table_in_forms):
    table, forms = table_in_forms
    outputs: dict[pa.DataType, set[bytes]] = {}  # for the type of the numbers
    for form in forms:
        parsed = parse(parser, form)
        assert parsed.schema.names == [*METADATA, "embedding"]
        assert parsed.drop_columns(["embedding"]).to_pydict() == table.expected()
        assert bits(matrix(parsed["embedding"])) == bits(table.float32)
        assert source_of(ARTEFACTS) == "file"
        type_ = parsed.schema.field("embedding").type.value_type
        outputs.setdefault(type_, set()).add(ARTEFACTS.read_bytes())
    assert outputs.keys() <= {pa.float32(), pa.float16()}
    assert all(len(tables) == 1 for tables in outputs.values())


@examples("FORM_EXAMPLES", few=25)
@given(table=tables(), data=st.data())
def test_the_size_of_the_blocks_of_a_csv_table_changes_nothing(parser, table, data):
    form = data.draw(csv_forms(table))
    parse(parser, form)
    whole = ARTEFACTS.read_bytes()
    # A row fits in a block, and the header with a byte order mark before it.
    block = form.longest_line + 4 + data.draw(st.integers(0, 300))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(csv_file, "CSV_BLOCK", block)
        parse(parser, form)
    assert ARTEFACTS.read_bytes() == whole


def test_a_row_with_nothing_before_its_embedding_keeps_its_place(tmp_path, monkeypatch):
    # `predict` takes tables of image files and embeddings alone.
    rows = [f'{name},"[{number}, 2]"' for number, name in enumerate(["a", "", "b", "", ""] * 20)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["name,embedding", *rows, ""]))
    monkeypatch.setattr(csv_file, "CSV_BLOCK", 200)
    batches = csv_file.CsvFile(path, csv_file.CsvForm(separator=",", decimal=".")).batches(
        ["name", "embedding"]
    )
    found = [row for batch in batches for row in zip(*batch.to_pydict().values(), strict=True)]
    assert found == [tuple(row.replace('"', "").split(",", 1)) for row in rows]


@examples("FORM_EXAMPLES", few=25)
@given(table=tables(), data=st.data())
def test_the_size_of_the_batches_of_a_parquet_table_changes_nothing(parser, table, data):
    form = data.draw(parquet_forms(table))
    parse(parser, form)
    whole = ARTEFACTS.read_bytes()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(parquet_file, "PARQUET_BATCH_ROWS", data.draw(st.integers(1, 5)))
        parse(parser, form)
    assert ARTEFACTS.read_bytes() == whole


@examples("FORM_EXAMPLES", few=20)
@given(table=tables(), rows=st.integers(1, 5), data=st.data())
def test_the_order_of_the_rows_stays_whatever_the_row_groups(parser, table, rows, data):
    form = data.draw(st.one_of(csv_forms(table), parquet_forms(table)))
    parser.run(form.content, form.name, parser.params(form.columns, row_group_rows=rows))
    parsed = pq.read_table(ARTEFACTS)
    assert parsed["image_file"].to_pylist() == [row["image_file"] for row in table.metadata]
    assert bits(matrix(parsed["embedding"])) == bits(table.float32)


def test_row_groups_that_were_read_do_not_stay_in_the_memory(tmp_path):
    values = fixed_size_list(np.random.default_rng(0).random((10_000, 256), dtype=np.float32))
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"embedding": values}), path, row_group_size=200)
    before, most = pa.total_allocated_bytes(), 0
    for _ in parquet_file.ParquetFile(path).batches(["embedding"]):
        most = max(most, pa.total_allocated_bytes() - before)
    assert 0 < most < path.stat().st_size / 4
