"""Where the raw table lies, and what is known about it."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from stages.common.files import read_json, reading
from stages.tables.values import Source

RAW_FOLDER = Path("data/raw")
PROVENANCE = RAW_FOLDER / "provenance.json"

# How the simulator begins the names of its image files.
SIMULATED = "synthetic-"


class Provenance(BaseModel):
    """What is known of a raw table."""

    model_config = ConfigDict(strict=True)

    source: Source
    file: str  # its name, in the same folder
    # What the page tells: None where it is not said.
    location: str | None = None  # a path, a URL or a description
    bytes: int | None = None
    sha256: str | None = None

    @field_validator("file")
    @classmethod
    def _is_a_name(cls, file: str) -> str:
        if file in ("", ".", "..") or Path(file).name != file:
            raise ValueError("it is no name of a file")
        return file


def read_provenance(*needed: str) -> dict[str, Any]:
    """What `download` says of the raw table, by the names of `Provenance`.

    Raises PipelineError when it says something else, or nothing of what is needed.
    """
    content = read_json(PROVENANCE)
    with reading(PROVENANCE):
        found = Provenance.model_validate(content).model_dump()
        for name in needed:
            if found[name] is None:
                raise KeyError(name)
        return found
