"""What every row of the raw table must hold, and why.

The rules for single values of metadata are the typed fields of `Artefact`. Those for embeddings
are applied to whole columns in stages/parser/embeddings.py, because there are a thousand numbers
in a row, and those for extra columns in stages/parser/columns.py. docs/table.md tells users about
them.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from stages.tables.values import SUBSETS

# The labels of MAMe (arXiv 2007.13693), without the blank at the end of one of them.
MAME_MEDIUMS = (
    "Albumen photograph",
    "Bronze",
    "Ceramic",
    "Clay",
    "Engraving",
    "Etching",
    "Faience",
    "Glass",
    "Gold",
    "Graphite",
    "Hand-colored engraving",
    "Hand-colored etching",
    "Iron",
    "Ivory",
    "Limestone",
    "Lithograph",
    "Marble",
    "Oil on canvas",
    "Pen and brown ink",
    "Polychromed wood",
    "Porcelain",
    "Silk and metal thread",
    "Silver",
    "Steel",
    "Wood",
    "Wood engraving",
    "Woodblock",
    "Woodcut",
    "Woven fabric",
)

# A catalogue may round: the product to 1 in 1,000, the ratio to two decimals.
PRODUCT_SIZE_TOLERANCE = 1e-3  # of width x height
ASPECT_RATIO_TOLERANCE = 0.01

# The longest text, in characters, and the largest width and height, in pixels.
MOST_TEXT = 1000
MOST_PIXELS = 1_000_000
# The largest and the smallest that the largest number of an embedding may be, but for its sign.
MOST_NUMBER, LEAST_NUMBER = 1e9, 1e-9
# How many times the median of the first rows the norm of an embedding may be, and how many first
# rows there have to be for a median that means something.
OUTLIER = 10
LEAST_FIRST_ROWS = 30

# What a user of a table without labels is told.
NO_MEDIUMS = (
    "a table without mediums cannot be trained on: `python -m commands.predict` answers for it"
)

# Anything but what Python and Arrow call white space, of which pydantic's \s lacks four.
NOT_BLANK = r"[^\s\x1c-\x1f]"


@dataclass(frozen=True)
class Rule:
    """One thing that every row must hold."""

    broken: str  # what a row that does not is, or has; it begins with a verb
    reason: str  # why the rule is there
    advice: str = ""  # what to do about it, where that is not plain

    @property
    def broken_by_many(self) -> str:
        """`broken` for more than one row."""
        return self.broken.replace("has ", "have ", 1)


RULES = {
    "fields": Rule(
        "has more or fewer fields than the header",
        "nobody can tell which value belongs to which column",
        "A text with commas, such as a list, needs quotes around it",
    ),
    "image_file": Rule(
        "has no image file",
        "the image file is the name of the row in every later table",
    ),
    "image_file_repeated": Rule(
        "has the image file of an earlier good row",
        "the same picture in train and test would make the test easier than it is",
    ),
    "text_too_long": Rule(
        "has an image file, medium, museum, museum's own number, subset or extra category of more "
        f"than {MOST_TEXT:,} characters",
        "no name is that long: a quote or a separator is wrong, and such texts fill the memory",
    ),
    "medium": Rule(
        "has no medium",
        "the medium is what the model learns to tell",
    ),
    "medium_unknown": Rule(
        "has a medium that MAMe does not have",
        "MAMe has 29 mediums; another one means that the file is not what it claims to be; "
        "checked only when `download.source` is mame",
    ),
    "subset": Rule(
        "has a subset other than train, val and test",
        "the official split takes the subset from the table; checked only when `split.strategy` is "
        "official",
        "`-S split.strategy=stratified` draws subsets instead",
    ),
    "width": Rule(
        f"has a width that is not a number from 1 to {MOST_PIXELS:,}",
        "no photograph has fewer pixels or so many; sizes become features by their logarithm, and "
        "one such row would make the sizes of all others look alike",
    ),
    "height": Rule(
        f"has a height that is not a number from 1 to {MOST_PIXELS:,}",
        "as for the width",
    ),
    "product_size": Rule(
        "has a product size that is not width times height",
        "when they disagree, one of the three is wrong; it may be missing, as it follows from them",
    ),
    "aspect_ratio": Rule(
        "has an aspect ratio that is not width divided by height",
        "when they disagree, one of the three is wrong; it may be missing, as it follows from them",
    ),
    "extra_number": Rule(
        "has an extra column of numbers with something else",
        "text that is not a number, nan and infinity cannot become a feature; a number may be "
        "missing; checked where `parse_embeddings_to_parquet.extra_columns` says number",
        "A column of words is a `category`",
    ),
    "embedding_missing": Rule(
        "has no embedding",
        "a row without one cannot be compared with the others",
    ),
    "embedding_printed": Rule(
        "has an embedding that is a NumPy array printed as text",
        "printing rounds the numbers and, from 1,000 on, leaves most of them out",
        "When the table was written, its arrays were printed as a person would read them. The "
        "numbers are lost: compute the table again, or open what it was made of, and turn each "
        "array into a list before writing (`array.tolist()`)",
    ),
    "embedding_unreadable": Rule(
        "has an embedding that is not a list of numbers",
        "a text that is not a number is never guessed at",
    ),
    "embedding_length": Rule(
        "has an embedding of another length than most",
        "every row becomes a row of one matrix; the length that most of the first rows have counts",
    ),
    "embedding_not_finite": Rule(
        f"has an embedding with a number that is nan, infinite or larger than {MOST_NUMBER:,.0f}",
        "one such number makes every mean and product that it enters useless, and no network gives "
        "one",
    ),
    "embedding_all_zero": Rule(
        "has an embedding of zeros only, or of numbers that are all smaller than "
        f"{LEAST_NUMBER:.9f}",
        "no photograph gives that: the network was not run, or failed",
    ),
    "embedding_outlier": Rule(
        f"has an embedding with a norm of more than {OUTLIER} times the median norm",
        "means and standard deviations are taken over all training rows, so that one such row "
        "harms every model; in three tables of real photographs the largest norm is 1.3 times the "
        "median; the first rows of the table give the median, and the rule is checked only when "
        f"at least {LEAST_FIRST_ROWS} of them are good",
    ),
}


@dataclass(frozen=True)
class Conditions:
    """What decides which rules are checked."""

    mame: bool  # the table says that it is MAMe's
    official_split: bool  # the subsets are those of the table
    longest: float = math.inf  # the greatest norm that an embedding may have
    # Of medium, width and height, those whose rules do not hold for a row that lacks the value: a
    # model may answer without them.
    may_lack: Collection[str] = ()


class Artefact(BaseModel):
    """The metadata of one row that has rules; the fields are those of the artefacts table."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    image_file: str = Field(pattern=NOT_BLANK, max_length=MOST_TEXT)
    medium: str = Field(pattern=NOT_BLANK, max_length=MOST_TEXT)
    museum: str = Field(max_length=MOST_TEXT)
    museum_based_instance_id: str = Field(max_length=MOST_TEXT)
    subset: str = Field(max_length=MOST_TEXT)
    width: float = Field(ge=1, le=MOST_PIXELS)
    height: float = Field(ge=1, le=MOST_PIXELS)
    product_size: float | None
    aspect_ratio: float | None

    @field_validator("medium")
    @classmethod
    def _is_known(cls, medium: str, info: ValidationInfo[Conditions]) -> str:
        if info.context.mame and medium not in MAME_MEDIUMS:
            raise PydanticCustomError("medium_unknown", "")
        return medium

    @field_validator("subset")
    @classmethod
    def _is_official(cls, subset: str, info: ValidationInfo[Conditions]) -> str:
        if info.context.official_split and subset not in SUBSETS:
            raise PydanticCustomError("subset", "")
        return subset

    @field_validator("product_size")
    @classmethod
    def _is_product(cls, product: float | None, info: ValidationInfo) -> float | None:
        sizes = info.data  # the fields before this one, as far as they are good
        if product is not None and "width" in sizes and "height" in sizes:
            expected = sizes["width"] * sizes["height"]
            if abs(product - expected) > PRODUCT_SIZE_TOLERANCE * expected:
                raise PydanticCustomError("product_size", "")
        return product

    @field_validator("aspect_ratio")
    @classmethod
    def _is_ratio(cls, ratio: float | None, info: ValidationInfo) -> float | None:
        sizes = info.data
        if (
            ratio is not None
            and "width" in sizes
            and "height" in sizes
            and abs(ratio - sizes["width"] / sizes["height"]) > ASPECT_RATIO_TOLERANCE
        ):
            raise PydanticCustomError("aspect_ratio", "")
        return ratio


_ARTEFACTS = TypeAdapter(list[Artefact])


def broken_metadata(
    rows: Sequence[dict[str, Any]], conditions: Conditions
) -> list[tuple[int, str, Any]]:
    """The rules that rows of metadata break: place in `rows`, name of the rule, value.

    A number that could not be read stands in `rows` as its text.
    """
    try:
        _ARTEFACTS.validate_python(rows, context=conditions)
    except ValidationError as error:
        return [
            (int(problem["loc"][0]), _rule_of(problem), problem["input"])
            for problem in error.errors(include_url=False, include_context=False)
            if not (_rule_of(problem) in conditions.may_lack and _is_missing(problem["input"]))
        ]
    return []


def _is_missing(value: object) -> bool:
    """Whether a value stands for nothing: nan does in the tables of pandas, 0 pixels in some."""
    return value in (None, "", 0) or value != value


def _rule_of(problem: Mapping[str, Any]) -> str:
    """The name of the rule that a row breaks."""
    if problem["type"] == "string_too_long":
        return "text_too_long"
    # The other rules that pydantic applies by itself have the name of their column.
    return str(problem["type"] if problem["type"] in RULES else problem["loc"][1])
