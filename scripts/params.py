"""Change params.yaml from a script, in the form in which DVC writes it."""

from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML


def set_params(path: Path, values: Mapping[str, object]) -> None:
    """Change a file of parameters: {"train.model": "xgboost"}. Comments stay."""
    yaml = YAML()
    yaml.default_flow_style = False
    content = yaml.load(path)
    for key, value in values.items():
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[last] = value
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yaml.dump(content, file)
