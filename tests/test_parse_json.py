"""simdjson gives what Arrow gives, bit for bit, and leaves to Arrow what it would read otherwise.

`FUZZ_EXAMPLES=100000 python -m pytest tests/test_parse_json.py` tries that many lists.
"""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_parse_forms import examples

from stages.parser import embeddings
from stages.parser.embeddings import Numbers, numbers_of_text

pytestmark = pytest.mark.skipif(embeddings.simdjson is None, reason="there is no simdjson")

SIMDJSON = embeddings.simdjson


def read(texts: list[str | None], monkeypatch: pytest.MonkeyPatch, library: object) -> Numbers:
    monkeypatch.setattr(embeddings, "simdjson", library)
    return numbers_of_text(pa.array(texts, pa.string()))


def check_alike(texts: list[str | None]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        ours = read(texts, monkeypatch, SIMDJSON)
        arrows = read(texts, monkeypatch, None)
    assert ours.values.dtype == arrows.values.dtype == np.float32
    assert ours.values.tobytes() == arrows.values.tobytes()
    assert ours.lengths.tolist() == arrows.lengths.tolist()
    assert ours.readable.tolist() == arrows.readable.tolist()


def decimal(number: Fraction) -> str:
    """All digits of a number whose denominator is a power of two."""
    places = number.denominator.bit_length() - 1
    digits = str(abs(number.numerator) * 5**places).rjust(places + 1, "0")
    point = len(digits) - places
    return f"{'-' * (number < 0)}{digits[:point]}.{digits[point:] or 0}"


@st.composite
def halfway(draw: st.DrawFn) -> str:
    """A number halfway between two float32, or as near to that as a few more digits take it."""
    bits = draw(st.integers(0, 0x7F7FFFFE))
    low, high = np.array([bits, bits + 1], np.uint32).view(np.float32).tolist()
    middle = (Fraction(low) + Fraction(high)) / 2 * draw(st.sampled_from([1, -1]))
    if draw(st.booleans()):  # the nearest float64, as Python writes it
        return repr(float(middle))
    return decimal(middle) + draw(st.sampled_from(["", "0" * 30 + "1"]))


WORDS = [
    "0", "-0", "-0.0", "0e9", "-0e9", "-0E-0", "0e99999999999", "1e-0", "5e-05", "1e5", "1E+05",
    "1e999", "-1e999", "1e-999", "-1e-999", "1e-99999999999999999999", "1e99999999999999999999",
    "1e-45", "1e-46", "1.17549435e-38", "3.4028235e38", "3.4028236e38", "16777217",
    "9007199791611905", "18446744073709551615", "18446744073709551616",
    "123456789012345678901234567890", "nan", "NaN", "inf", "-Infinity", "+1", ".5", "1.", "01",
    "-01", "00", "0x10", "1_0", "1e", "1e+", "-", "--", "true", "null", '"1"', "[1]", "[]",
    "{}", '{"a":1}', "1]", "[1", "]1", "\\", "1\x00", "\xa01", "\uff11", "\u22121", "...",
    "array(1)",
]  # fmt: skip
NUMBERS = st.one_of(
    st.floats(width=32).map(repr),
    st.floats().map(repr),
    st.integers(-(2**70), 2**70).map(str),
    halfway(),
)
PIECES = st.one_of(NUMBERS, NUMBERS, st.sampled_from(WORDS), st.just(""))
SEPARATORS = st.sampled_from([", ", ",", " ,\t", ",\n", ",\r\n", ",\v", ",,", ";", " "])
AROUND = st.sampled_from(
    [("[", "]")] * 8
    + [("", ""), ("[", ""), ("", "]"), ("[[", "]]"), ("[ ", "\n]"), (" [", "] "), ("\v[", "]\f")]
    + [("[", "]x"), ("[", "],"), ("[", "] [1]"), ("[", "]\x00"), ('"[', ']"'), ('{"a":[', "]}")]
)
LISTS = st.builds(
    lambda pieces, separator, around: around[0] + separator.join(pieces) + around[1],
    st.one_of(st.lists(NUMBERS, max_size=9), st.lists(PIECES, max_size=3)),
    SEPARATORS,
    AROUND,
)


@examples("FUZZ_EXAMPLES", 300)
@given(st.lists(st.one_of(LISTS, LISTS, st.none(), st.text(max_size=9)), max_size=3))
def test_every_text_is_read_as_arrow_reads_it(texts):
    check_alike(texts)


@examples("FUZZ_EXAMPLES", 100)
@given(st.lists(halfway(), min_size=1, max_size=20))
def test_numbers_halfway_between_two_are_rounded_once(numbers):
    check_alike([f"[{', '.join(numbers)}]"])


@pytest.mark.parametrize("word", WORDS)
def test_each_odd_word_is_read_as_arrow_reads_it(word):
    check_alike(["[0.5, 1]", f"[0.5, {word}]"])
    check_alike([f"[{word}]"])


def test_lists_as_python_and_json_write_them_need_no_arrow(monkeypatch):
    monkeypatch.setattr(embeddings, "_split_and_cast", None)
    numbers = numbers_of_text(pa.array(["[0.5, -0.0, 5e-05]", "[1,-2,1e40]", "[]"]))
    expected = np.array([0.5, -0.0, 5e-5, 1, -2, np.inf], np.float32)
    assert numbers.values.tobytes() == expected.tobytes()
    assert numbers.lengths.tolist() == [3, 3, 0]
