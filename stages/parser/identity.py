"""What made the embeddings: the network, its weights, the pooling and the resize of pictures."""

from typing import Any

from pydantic import Field, ValidationError

from stages.common.params import Section
from stages.common.stage import PipelineError, shorten
from stages.parser.raw_file import RawFile
from stages.sources.identity import KNOWN
from stages.tables.artefacts import EMBEDDING

# Where it stands in params.yaml, for messages.
SECTION = "parse_embeddings_to_parquet.embedding"


def _text() -> Any:
    return Field(min_length=1, max_length=200, description="a text of 1 to 200 characters")


class Identity(Section):
    """`parse_embeddings_to_parquet.embedding`, and what a Parquet file says under that name."""

    network: str = _text()
    weights: str = _text()
    pooling: str = _text()
    resize: str = _text()


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
            f"{raw.path}: `{EMBEDDING}` in its schema's metadata is not JSON with four texts "
            f"called {', '.join(Identity.model_fields)}: mend it, or take it out"
        ) from None


def find_identity(raw: RawFile, given: Identity | None, source: str) -> Identity | None:
    """What made the embeddings of a raw table, None where nobody knows.

    The file itself is asked first, then params.yaml, where `given` stands, then the source.

    Raises PipelineError when the file and params.yaml disagree.
    """
    found = identity_of_file(raw)
    if found is not None and given is not None and found != given:
        key = next(key for key, text in found if text != getattr(given, key))
        raise PipelineError(
            f"{raw.path} names `{shorten(getattr(found, key))}` as the {key} of its embeddings, "
            f"and `{SECTION}.{key}` names `{shorten(getattr(given, key))}`: mend the one that is "
            f"wrong, or set `{SECTION}` to null, and what the file says counts"
        )
    known = KNOWN.get(source)
    return found or given or (Identity(**known) if known else None)
