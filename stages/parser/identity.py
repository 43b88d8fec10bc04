"""What made the embeddings: the network, its weights, and what was done to pictures."""

from typing import Annotated

from pydantic import Field, ValidationError

from stages.common.errors import PipelineError, shorten
from stages.common.params import Section
from stages.parser.raw_file import RawFile
from stages.sources.identity import KNOWN
from stages.tables.artefacts import EMBEDDING, differences

# Where it stands in params.yaml, for messages.
SECTION = "parse_embeddings_to_parquet.embedding"


# The names of many layers take thousands.
Text = Annotated[
    str, Field(min_length=1, max_length=10_000, description="a text of 1 to 10,000 characters")
]


class Identity(Section):
    """`parse_embeddings_to_parquet.embedding`, and what a Parquet file says under that name.

    docs/table.md says what each is. Those that have a default may be left out.
    """

    network: Text
    weights: Text
    layers: Text | None = None
    pooling: Text
    input: Text | None = None
    scaling: Text | None = None
    resize: Text
    fit: Text | None = None
    orientation: Text | None = None

    def texts(self) -> dict[str, str]:
        """What is said, without what is left out."""
        return self.model_dump(exclude_none=True)


def identity_of_file(raw: RawFile) -> Identity | None:
    """What the raw file itself says of its embeddings, None where it says nothing.

    Raises PipelineError for something else in that place.
    """
    text = raw.metadata.get(EMBEDDING.encode())
    if text is None:
        return None
    try:
        return Identity.model_validate_json(text)
    except ValidationError:
        raise PipelineError(
            f"{raw.path}: `{EMBEDDING}` in its schema's metadata is not JSON with texts called "
            f"{_names(required=True)} and, where known, {_names(required=False)}: mend it, or take "
            "it out"
        ) from None


def find_identity(raw: RawFile, given: Identity | None, source: str) -> dict[str, str] | None:
    """What made the embeddings of a raw table, None where nobody knows.

    The file itself is asked first, then params.yaml, where `given` stands, then the source.

    Raises PipelineError when the file and params.yaml disagree.
    """
    of_file = identity_of_file(raw)
    found = of_file.texts() if of_file else {}
    said = given.texts() if given else {}
    if different := differences(found, said):
        key = different[0]
        raise PipelineError(
            f"{raw.path} names `{shorten(found[key])}` as the {key} of its embeddings, "
            f"and `{SECTION}.{key}` names `{shorten(said[key])}`: mend the one that is "
            f"wrong, or set `{SECTION}` to null, and what the file says counts"
        )
    return {**said, **found} or KNOWN.get(source)


def _names(required: bool) -> str:
    fields = Identity.model_fields.items()
    return ", ".join(name for name, field in fields if field.is_required() == required)
