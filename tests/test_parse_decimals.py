"""CSV tables with other separators and decimals: the same table, or the options that read it."""

import csv
import io
import re

import pytest
from conftest import tiny_rows

from stages.common.errors import PipelineError

SECTION = "parse_embeddings_to_parquet.csv"
EMBEDDING = "MobileNetV1 features"
ROWS = tiny_rows(2, 3, length=3)


def comma(number):
    return str(number).replace(".", ",")


def text_of(separator=",", decimal=".", embedding=str):
    """The rows as a file in this form; `embedding` writes a list of numbers."""
    numbers = comma if decimal == "," else str
    rows = [
        {
            name: value if isinstance(value, str) else numbers(value)
            for name, value in (
                row | {"Year": 1850.5, EMBEDDING: embedding(row[EMBEDDING])}
            ).items()
        }
        for row in ROWS
    ]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def listed(between, brackets="[]"):
    return lambda numbers: brackets[:1] + between.join(map(comma, numbers)) + brackets[1:]


@pytest.mark.parametrize(
    ("separator", "decimal", "embedding"),
    [
        (";", ".", str),
        ("\t", ".", str),
        ("|", ".", str),
        (";", ",", str),  # as pandas writes it: the decimal is not that of lists
        (";", ",", listed("; ")),
        (";", ",", listed(" ", "")),
        (";", ",", lambda numbers: f" [ {listed(' ;  ', '')(numbers)} ] "),
        ("\t", ",", listed(" ")),
        (",", ",", listed(";")),
    ],
)
def test_another_form_gives_the_same_table(parse, set_params, separator, decimal, embedding):
    extra = {"parse_embeddings_to_parquet.extra_columns": {"Year": "number"}}
    set_params(**extra)
    expected = parse(text_of())
    form = {"separator": "tab" if separator == "\t" else separator, "decimal": decimal}
    set_params(**{f"{SECTION}.{key}": value for key, value in form.items()})
    assert parse(text_of(separator, decimal, embedding)).equals(expected)


def test_one_column_for_each_number_may_have_decimal_commas(parse, set_params):
    set_params(**{f"{SECTION}.separator": ";", f"{SECTION}.decimal": ","})
    wide = text_of(";", ",", listed(";", "")).replace(b'"', b"")
    header, rest = wide.split(b"\r\n", 1)
    names = header.replace(EMBEDDING.encode(), b"f0;f1;f2")
    found = parse(names + b"\r\n" + rest)
    assert found["embedding"].to_pylist() == [row[EMBEDDING] for row in ROWS]


@pytest.mark.parametrize("width", ["1.234", "1.234,5"])
def test_a_point_is_not_guessed_at_where_the_decimal_is_a_comma(parse, set_params, width):
    set_params(**{f"{SECTION}.separator": ";", f"{SECTION}.decimal": ","})
    first = comma(ROWS[0]["Width"])
    spoiled = text_of(";", ",").replace(f";{first};".encode(), f";{width};".encode(), 1)
    with pytest.raises(PipelineError, match=re.escape(f"1,000,000: {width} (with a point)")):
        parse(spoiled)


@pytest.mark.parametrize(
    ("separator", "called", "option"),
    [(";", "semicolons", "';'"), ("\t", "tabs", "tab"), ("|", "bars", "'|'")],
)
@pytest.mark.parametrize("decimal", [".", ","])
def test_a_file_in_another_form_names_the_options_that_read_it(
    parse, set_params, separator, called, option, decimal
):
    content = text_of(separator, decimal)
    with pytest.raises(PipelineError, match=f"are separated by {called}") as error:
        parse(content)
    options = dict(re.findall(r'-S "(\S+?)=(\S+)"', str(error.value)))
    assert options.pop(f"{SECTION}.separator") == option
    assert options == ({f"{SECTION}.decimal": "','"} if decimal == "," else {})
    values = {f"{SECTION}.separator": option.strip("'"), f"{SECTION}.decimal": decimal}
    set_params(**values)
    assert parse(content).num_rows == len(ROWS)


def test_decimal_commas_alone_are_named_with_their_option(parse, set_params):
    set_params(**{f"{SECTION}.separator": ";"})
    with pytest.raises(PipelineError, match=re.escape(f"""`-S "{SECTION}.decimal=','"` reads""")):
        parse(text_of(";", ","))


def test_commas_where_the_parameters_say_semicolons_are_named(parse, set_params):
    set_params(**{f"{SECTION}.separator": ";"})
    with pytest.raises(PipelineError, match="are separated by commas"):
        parse(text_of())
