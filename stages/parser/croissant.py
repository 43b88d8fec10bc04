"""Describe the artefacts table to programs, in Croissant 1.0.

Croissant is the vocabulary of MLCommons for data sets, on top of schema.org, as JSON-LD:
http://mlcommons.org/croissant/1.0. It lets other tools load the table without a line of code
about it.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from stages.tables.artefacts import ARTEFACTS, EMBEDDING, identity_in_words
from stages.tables.values import SUBSETS

CROISSANT = Path("data/croissant.json")

# The terms that Croissant adds to schema.org, as its specification has them.
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        term: f"cr:{term}"
        for term in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject"),
            *("fileProperty", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key"),
            *("md5", "parentField", "path", "recordSet", "references", "regex", "repeated"),
            *("replace", "samplingRate", "separator", "source", "subField", "transform"),
        )
    },
}

# By source: what the table is called, and what it is.
ABOUT = {
    "synthetic": (
        "Synthetic museum artefacts",
        "Synthetic data: a simulation of MAMe, with embeddings that no photograph gave. It says "
        "nothing about museum photographs.",
    ),
    "mame": (
        "MAMe with embeddings",
        "Artefacts of three museums from the MAMe dataset (arXiv:2007.13693), with an embedding "
        "of each one's photograph.",
    ),
    "file": ("Museum artefacts", "Artefacts of museums, from a table of the user's own."),
}
CITED = {"mame": "Pares et al. (2020), The MAMe Dataset, arXiv:2007.13693"}

COLUMNS = {
    "image_file": "Name of the photograph's file, another one in each row",
    "medium": "The label: what the artefact is made of or made with",
    "museum": "Who has the artefact; empty where that is not known",
    "museum_based_instance_id": "The museum's own number; empty where that is not known",
    "subset": f"One of {', '.join(SUBSETS)} as the raw table has it, or empty",
    "width": "Width of the photograph in pixels",
    "height": "Height of the photograph in pixels",
    "product_size": "Width times height, as the raw table has it; it may be missing",
    "aspect_ratio": "Width divided by height, as the raw table has it; it may be missing",
}


def croissant(schema: pa.Schema, rows: int, set_aside: int, sha256: str) -> dict[str, Any]:
    """The description of an artefacts table with so many rows, as JSON-LD.

    `set_aside` raw rows broke a rule and are not in the table; `sha256` is that of its file.
    Nothing in it depends on the time or the machine.
    """
    source = schema.metadata[b"source"].decode()
    name, about = ABOUT[source]
    left_out = f" Set aside, as they break a rule: {set_aside:,}." if set_aside else ""
    cited = {"citeAs": CITED[source]} if source in CITED else {}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{about} The table has {rows:,} rows.{left_out}",
        **cited,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": ARTEFACTS.name,
                "name": ARTEFACTS.name,
                "description": "The table, one row for each photograph",
                "contentUrl": ARTEFACTS.name,
                "encodingFormat": "application/x-parquet",
                "sha256": sha256,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "artefacts",
                "name": "artefacts",
                "description": "One record for each photograph",
                "key": {"@id": _id("image_file")},
                "field": [_field(column, schema) for column in schema],
            }
        ],
    }


def _field(column: pa.Field, schema: pa.Schema) -> dict[str, Any]:
    """The description of one column."""
    vector = pa.types.is_fixed_size_list(column.type)
    if vector:
        simulated = schema.metadata[b"source"] == b"synthetic"
        about = "A simulated embedding" if simulated else "The photograph's embedding"
        about += f", {column.type.list_size:,} numbers"
        if (identity := schema.metadata.get(EMBEDDING.encode())) is not None:
            words = identity_in_words(json.loads(identity))
            about += f"; it imitates {words}" if simulated else f", by {words}"
    elif pa.types.is_string(column.type):
        about = COLUMNS.get(column.name, "A category; empty where it is missing")
    else:
        about = COLUMNS.get(column.name, "A number; it may be missing")
    return {
        "@type": "cr:Field",
        "@id": _id(column.name),
        "name": column.name,
        "description": about,
        "dataType": "sc:Text" if pa.types.is_string(column.type) else "sc:Float",
        **({"repeated": True} if vector else {}),
        "source": {"fileObject": {"@id": ARTEFACTS.name}, "extract": {"column": column.name}},
    }


def _id(column: str) -> str:
    # An extra column may be called anything; what stands here is part of an address.
    return f"artefacts/{quote(column, safe='')}"
