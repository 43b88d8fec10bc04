"""Read a stage's section of params.yaml and check it before any work is done."""

import difflib
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common.errors import ParameterError, shorten

PARAMS_FILE = Path("params.yaml")
# Far beyond what anybody types: larger files take minutes to read.
MOST_BYTES, MOST_VALUES = 300_000, 100_000
MOST_SHOWN = 100  # characters of a name or a value in a message


class Section(BaseModel):
    """A mapping in params.yaml; unknown keys, missing keys and converted types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


SectionType = TypeVar("SectionType", bound=Section)


def load_params(stage: str, schema: type[SectionType], choice: str | None = None) -> SectionType:
    """Read and check the section of params.yaml that has the stage's name.

    `choice` names the key that picks one of the section's sub-sections, such as
    `source` in `download`. Only the picked sub-section is read, as only that one
    is tracked in dvc.yaml; in `schema` the others are None.

    Raises ParameterError, which names the first key that is unknown, missing, of
    the wrong type or out of range.
    """
    section = load_section(stage)
    if choice is not None:
        options = get_args(schema.model_fields[choice].annotation)
        picked = section.get(choice)
        if picked in options and section.get(str(picked)) is None:
            raise ParameterError(f"params.yaml: `{stage}.{picked}` is missing")
        section = {k: v for k, v in section.items() if k == picked or k not in options}
    return check_section(stage, section, schema)


def chosen(section: SectionType | None) -> SectionType:
    """The sub-section that a choice picked: `load_params` refuses a section that lacks it."""
    if section is None:
        raise ValueError("another sub-section was chosen")
    return section


def load_section(stage: str) -> dict[str, Any]:
    """Read the section of params.yaml that has the stage's name, unchecked.

    Raises ParameterError when there is none.
    """
    section = _read_yaml().get(stage)
    if not isinstance(section, dict):
        raise ParameterError(f"params.yaml has no section `{stage}`")
    return section


def load_value(key: str) -> Any:
    """Read one value of another stage's section, such as `split.strategy`, unchecked.

    Raises ParameterError when it is missing.
    """
    return load_values(key)[0]


def load_values(*keys: str) -> list[Any]:
    """Read several values as `load_value` does, and params.yaml once."""
    content, found = _read_yaml(), []
    for key in keys:
        value: Any = content
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ParameterError(f"params.yaml: `{key}` is missing")
            value = value[part]
        found.append(value)
    return found


def load_optional(key: str, default: Any) -> Any:
    """Read one value that stands in no section, unchecked; the default where it is missing."""
    return _read_yaml().get(key, default)


def check_section(name: str, content: Any, schema: type[SectionType]) -> SectionType:
    """Check the content of the section of params.yaml called `name`.

    Raises ParameterError as `load_params` does.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise ParameterError(_first_problem(name, error, schema)) from None


def _read_yaml() -> dict[str, Any]:
    # ruamel.yaml reads YAML 1.2, as DVC does; for PyYAML 1e-4 would be text.
    try:
        if PARAMS_FILE.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        content = YAML(typ="safe", pure=True).load(PARAMS_FILE)
        _count(content, {})
    except FileNotFoundError:
        raise ParameterError(
            f"there is no params.yaml in {Path.cwd()}: start the stage in the project's folder"
        ) from None
    except YAMLError as error:
        problem = shorten(_hidden(str(error)), 300)
        raise ParameterError(f"params.yaml is not valid YAML: {problem}") from None
    except RecursionError:
        raise ParameterError("params.yaml is nested too deeply: mend it") from None
    except Exception as error:  # ruamel.yaml has more than its own
        said = (error.strerror if isinstance(error, OSError) else str(error)) or repr(error)
        raise ParameterError(
            f"params.yaml cannot be read ({shorten(_hidden(said), 200)}): mend it, or restore it "
            "from Git"
        ) from None
    if not isinstance(content, dict):
        raise ParameterError("params.yaml has no sections")
    return content


def _count(value: Any, known: dict[int, int]) -> int:
    """The values in a value, those that are referred to counted each time.

    Raises ValueError where they are too many: a few lines may refer to billions.
    """
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = MOST_VALUES  # as many as there are in one that refers to itself
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(part, known) for part in parts)
    if known[id(value)] > MOST_VALUES:
        raise ValueError("its references to other values make too many values")
    return known[id(value)]


def _first_problem(section: str, error: ValidationError, schema: type[Section]) -> str:
    # An unknown key comes first: a misspelt key is also a missing one.
    unknown = ("extra_forbidden", "invalid_key")
    problem = min(error.errors(), key=lambda problem: problem["type"] not in unknown)
    # pydantic marks what is wrong with a key itself.
    name = ".".join(str(part) for part in (section, *problem["loc"]) if part != "[key]")
    name = shorten(_hidden(name), MOST_SHOWN)
    if problem["type"] in unknown:
        *parents, key = problem["loc"]
        return _unknown(name, key, _schema_at(schema, parents).model_fields)
    if problem["type"] == "missing":
        return f"params.yaml: `{name}` is missing"
    if problem["type"] == "value_error":  # raised by a schema's own check, which says it all
        return f"params.yaml: `{name}` {problem['ctx']['error']}"
    if problem["type"] == "model_type":
        rule = "should be a mapping of keys to values"
    elif problem["loc"] and (description := _description_at(schema, problem["loc"])):
        rule = f"should be {description}"
    else:
        rule = problem["msg"].replace("Input should", "should", 1)
    found = shorten(_hidden(repr(problem["input"])), MOST_SHOWN)
    return f"params.yaml: `{name}` {rule}, not {found}"


def _hidden(text: str) -> str:
    """A text without what may be a URL, because that may have a password in it."""
    return re.sub(r"[^\s'\"`]*(://|@)[^\s'\"`]*", "(a URL)", text)


def check_keys(section: str, found: Collection[str], known: Collection[str]) -> None:
    """Raises ParameterError for a key of a section that is none of those that are known."""
    for key in found:
        if key not in known:
            raise ParameterError(_unknown(shorten(f"{section}.{key}", MOST_SHOWN), key, known))


def _unknown(name: str, key: object, known: Collection[str]) -> str:
    if not known:
        return f"params.yaml: unknown key `{name}`, take it out"
    nearest = difflib.get_close_matches(str(key)[:MOST_SHOWN], known, n=1, cutoff=0)[0]
    return f"params.yaml: unknown key `{name}`, did you mean `{nearest}`?"


def _schema_at(schema: type[Section], location: Sequence[str | int]) -> type[Section]:
    """The schema of a nested section; numbers in `location` are places in a list."""
    found: Any = schema
    for part in location:
        if isinstance(part, str):
            annotation = found.model_fields[part].annotation
            # `Section | None` and `list[Section]` both hold the nested schema as an argument.
            found = next(iter(get_args(annotation)), annotation)
    return found


def _description_at(schema: type[Section], location: Sequence[str | int]) -> str | None:
    """What a schema says about a value in its own words, where it does."""
    *parents, key = location
    schema = _schema_at(schema, parents)
    # What is in a plain mapping, such as `dict[str, ...]`, has no schema of its own.
    field = schema.model_fields.get(str(key)) if issubclass(schema, Section) else None
    return field.description if field else None
