"""What people call the labels, and the groups that rows come from."""

from dataclasses import asdict, dataclass, fields

from stages.common.errors import ParameterError
from stages.common.params import load_values


@dataclass(frozen=True)
class Words:
    """The words of `evaluate` in params.yaml: one, and several."""

    label: str
    labels: str
    group: str
    groups: str

    @classmethod
    def read(cls) -> "Words":
        """Those of params.yaml in the current folder.

        Raises ParameterError for one that is missing, or no text.
        """
        found = load_values(*(f"evaluate.{word.name}" for word in fields(cls)))
        for word, value in zip(fields(cls), found, strict=True):
            if not isinstance(value, str):
                raise ParameterError(f"params.yaml: `evaluate.{word.name}` should be a word")
        return cls(*found)

    def fill(self, text: str) -> str:
        """A text of the model's file, in which these words stand as `{label}` or `{groups}`."""
        # Not by str.format: the name of a column may have braces too.
        for name, word in asdict(self).items():
            text = text.replace(f"{{{name}}}", word)
        return text
