"""What the model's file says of itself, as `train` writes it: the form that this has."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.tables.values import Source


class Said(BaseModel):
    """A mapping of the metadata; it may have more keys."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class ModelInput(Said):
    """An input, as stages/features/block.py describes it."""

    name: str
    type: Literal["float32", "float64", "string"]
    words: str
    example: float | str | None
    length: int | None
    low: float | None
    high: float | None

    @model_validator(mode="after")
    def _a_range_has_two_ends(self) -> "ModelInput":
        if (self.low is None) != (self.high is None):
            raise ValueError("a range has one end only")
        return self


class Kind(Said):
    """A kind of features."""

    name: str
    inputs: list[ModelInput]
    features: int
    columns: str
    treatment: str
    reason: str
    limit: str | None


class Kinds(Said):
    """What is said of the features."""

    kinds: list[Kind]
    embedding: dict[str, str] | None


class SureFrom(Said):
    """From which probability on an answer is sure, None where none is."""

    threshold: float | None
    accuracy: float


class Answer(Said):
    """An output of probabilities."""

    members: list[str]
    temperature: float = Field(gt=0)
    sure: SureFrom


class Parameters(Said):
    """Those of the run that are told of."""

    refit_on_val: bool


class Metadata(Kinds):
    """All of it."""

    labels: list[str] = Field(min_length=2)
    feature_names: list[str] = Field(min_length=1)
    source: Source
    model: str
    parameters: Parameters
    answers: dict[str, Answer]
    training_rows: int
    rows_used: dict[str, int]
    chosen: dict[str, dict[str, float]]
    val_rows: int
    calibrating_rows: int
    few_calibrating_rows: bool


def check_kinds(said: dict[str, Any]) -> None:
    """Raises ValueError where what is said of the features is of another form."""
    Kinds.model_validate(said)


def check_metadata(metadata: dict[str, Any]) -> None:
    """Raises ValueError where something is missing or of another type."""
    found = Metadata.model_validate(metadata)
    if found.labels != sorted(set(found.labels)):
        raise ValueError("its labels are not sorted, or one is there twice")
