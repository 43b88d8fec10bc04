"""data/croissant.json describes the parsed table as it is."""

import hashlib
import json

import pyarrow as pa
import pytest
from conftest import tiny_rows

from stages import parse_embeddings_to_parquet as stage
from stages.parser.croissant import ABOUT, CONTEXT, CROISSANT, croissant
from stages.tables.artefacts import ARTEFACTS, METADATA, artefacts_schema

SECTION = "parse_embeddings_to_parquet"
# Terms of schema.org, which Croissant builds on; it adds those of `CONTEXT`.
SCHEMA_ORG = {"name", "description", "distribution", "contentUrl", "encodingFormat", "sha256"}


def described() -> dict:
    """The description that the stage has written."""
    return json.loads(CROISSANT.read_text(encoding="utf-8"))


def fields(description: dict) -> dict[str, dict]:
    """The fields of its only set of records, by their names."""
    (records,) = description["recordSet"]
    return {field["name"]: field for field in records["field"]}


def keys(value: object) -> set[str]:
    """All keys of a JSON value."""
    if isinstance(value, list):
        return set().union(*map(keys, value))
    return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()


def values_of(value: object, key: str) -> list:
    """What stands under a key anywhere in a JSON value."""
    if isinstance(value, list):
        return [found for part in value for found in values_of(part, key)]
    if not isinstance(value, dict):
        return []
    return [*([value[key]] if key in value else []), *values_of([*value.values()], key)]


def test_each_column_of_the_table_is_a_field_with_its_type(parse, set_params):
    set_params(**{f"{SECTION}.extra_columns": {"Year": "number", "Artist, if any": "category"}})
    rows = [row | {"Year": 1900, "Artist, if any": "A"} for row in tiny_rows()]
    table = parse(rows)
    found = fields(described())
    assert list(found) == table.column_names
    for column in table.schema:
        field = found[column.name]
        assert field["@type"] == "cr:Field"
        assert field["description"]
        assert field["source"] == {
            "fileObject": {"@id": "artefacts.parquet"},
            "extract": {"column": column.name},
        }
        text = pa.types.is_string(column.type)
        assert field["dataType"] == ("sc:Text" if text else "sc:Float")
        # Croissant 1.0 calls a column of lists repeated.
        assert field.get("repeated", False) == (column.name == "embedding")
    assert "8 numbers" in found["embedding"]["description"]


def test_the_file_is_the_table_and_its_checksum_is_right(parse):
    parse(tiny_rows())
    (file,) = described()["distribution"]
    assert file["@type"] == "cr:FileObject"
    assert CROISSANT.parent / file["contentUrl"] == ARTEFACTS
    assert file["encodingFormat"] == "application/x-parquet"
    assert file["sha256"] == hashlib.sha256(ARTEFACTS.read_bytes()).hexdigest()


def test_it_is_croissant_with_terms_that_are_explained_and_names_that_are_there(parse):
    parse(tiny_rows())
    description = described()
    assert description["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert description["@type"] == "sc:Dataset"
    assert description.pop("@context") == CONTEXT
    terms = {key for key in keys(description) if not key.startswith("@")}
    assert terms <= {*CONTEXT, *SCHEMA_ORG}
    ids = [value for value in values_of(description, "@id") if isinstance(value, str)]
    own = [file["@id"] for file in description["distribution"]]
    for records in description["recordSet"]:
        own += [records["@id"], *(field["@id"] for field in records["field"])]
    assert len(own) == len(set(own)) == 1 + 1 + len(METADATA) + 1
    assert set(ids) == set(own)
    assert description["recordSet"][0]["key"] == {"@id": "artefacts/image_file"}


def test_columns_of_any_name_have_ids_of_their_own():
    names = ("a b", "a/b", "a%20b", "é", "#", "")
    schema = artefacts_schema("file", None, dict.fromkeys(names, "number"))
    found = fields(croissant(schema, 1, 0, "0"))
    ids = [found[name]["@id"] for name in names]
    assert len(set(ids)) == len(names)
    assert ids[0] == "artefacts/a%20b"


@pytest.mark.parametrize("source", ABOUT)
def test_synthetic_data_is_called_synthetic_and_no_other(source):
    description = croissant(artefacts_schema(source, 3), 5, 0, "0")
    text = (description["name"] + description["description"]).lower()
    assert ("synthetic" in text) == (source == "synthetic")
    about = fields(description)["embedding"]["description"]
    assert ("simulated" in about) == (source == "synthetic")
    assert ("arXiv:2007.13693" in description.get("citeAs", "")) == (source == "mame")


def test_the_rows_those_set_aside_and_what_made_the_embeddings_are_told(parse, set_params):
    identity = {"network": "VGG16", "weights": "ours", "pooling": "average", "resize": "bicubic"}
    set_params(**{f"{SECTION}.on_bad_row": "quarantine", f"{SECTION}.embedding": identity})
    rows = tiny_rows()
    parse(rows)
    assert described()["description"].endswith("The table has 144 rows.")
    rows[7]["Width"] = "wide"
    parse(rows)
    told = "The table has 143 rows. Set aside, as they break a rule: 1."
    assert described()["description"].endswith(told)
    assert fields(described())["embedding"]["description"] == (
        "The photograph's embedding, 8 numbers, by network VGG16, weights ours, pooling average, "
        "resize bicubic"
    )


def test_the_same_table_is_described_by_the_same_bytes(parse):
    parse(tiny_rows())
    before = CROISSANT.read_bytes()
    CROISSANT.unlink()
    stage.main()
    assert CROISSANT.read_bytes() == before
