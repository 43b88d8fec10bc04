"""The model card: what a model is, what it was measured to do, and how to use it."""

import io
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd
from ruamel.yaml import YAML

from stages.model_file.interface import (
    MEDIUM,
    MEDIUM_WITHOUT_SIZES,
    PROBABILITIES,
    PROBABILITIES_WITHOUT_SIZES,
)
from stages.model_file.making import (
    steps_of,
    too_few_rows,
    what_members_add,
    what_rows_did,
    what_was_chosen,
)
from stages.model_file.words import Words
from stages.tables.artefacts import EMBEDDING, identity_in_words


class Source(NamedTuple):
    """Where data is from."""

    name: str
    description: str


SOURCES = {
    "synthetic": Source(
        "synthetic data (simulated: it says nothing about museum photographs)",
        "**Synthetic data.** The embeddings were simulated: the metrics below say nothing about "
        "photographs of artefacts, and the model is of no use for them.",
    ),
    "mame": Source(
        "MAMe data",
        "The MAMe dataset: photographs of artefacts of the Metropolitan Museum of Art, the Los "
        "Angeles County Museum of Art and the Cleveland Museum of Art (Parés et al. 2020, arXiv "
        "2007.13693), as MobileNetV1 embeddings.",
    ),
    "file": Source(
        "data of a file of the user's own",
        "A table of the user's own: `download.file.path` in `params.yaml`.",
    ),
}

LICENCE = "mit"  # that of the project: LICENSE
TASK = "tabular-classification"  # in the words of model hubs: numbers in, probabilities out
# What model hubs call the metrics of ours that they know.
HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "log_loss": "log_loss"}
# The metrics that have an interval, and what people call them.
METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "top3_accuracy": "top-3 accuracy",
    "top5_accuracy": "top-5 accuracy",
    "log_loss": "log loss",
}


def model_card(
    metrics: dict[str, Any],
    details: dict[str, Any],
    metadata: dict[str, Any],
    curve: pd.DataFrame,
    words: Words,
) -> str:
    """The card in Markdown, with the header that model hubs read.

    It is made of metrics.json, details.json, the metadata of the model's file and the training
    curve alone.
    """
    label = words.label
    test, ranges = metrics["test"], details["test_interval"]
    inputs = _inputs(metadata, words)
    synthetic = metadata["source"] == "synthetic"
    lines = [
        "---",
        _header(metrics, metadata, words),
        "---",
        "",
        f"# {label[:1].upper()}{label[1:]} classifier",
        "",
        f"Tells the {label} of an artefact, one of {len(metadata['labels'])}, from "
        f"{_listed(value['words'] for value in inputs)}. Model: `{metadata['model']}`, "
        f"{len(metadata['feature_names']):,} features. Written by the stage `evaluate`.",
        "",
        "## Data",
        "",
        SOURCES[metadata["source"]].description,
        "",
        *_embedding(metadata),
        f"{what_rows_did(metadata)} Test was used for the metrics below and nothing else.",
        *_chosen(metadata),
        "",
        *_members(curve, metadata),
        "## Intended use",
        "",
        *(["To show that the pipeline works. A model of real data is for this:", ""] * synthetic),
        f"To propose the {label} of an artefact, which a person then confirms, and to find "
        f"records whose {label} looks wrong.",
        "",
        "## Metrics on test",
        "",
        "| metric | value | 95 % interval |",
        "|---|---:|---|",
    ]
    for name in METRICS:
        low, high = ranges[name]["low"], ranges[name]["high"]
        lines.append(f"| {METRICS[name]} | {test[name]:.4f} | {low:.4f} to {high:.4f} |")
    chance = details["test_if_calibrated"]["calibration_error"]["high"]
    error = f"{test['calibration_error']:.4f} | chance alone: up to {chance:.4f}"
    lines.append(f"| calibration error | {error} |")
    if "test_without_near_duplicates" in details:
        distinct = details["test_without_near_duplicates"]
        lines.append(
            f"| accuracy on the {distinct['rows']:,} rows without a near-duplicate in train | "
            f"{distinct['accuracy']:.4f} | |"
        )
    lines += _metrics_of_answers(details)
    majority = metrics["baseline"]["majority"]["accuracy"]
    by_chance = details["test_if_calibrated"]["calibration_error"]["mean"]
    names = ", ".join(f"`{_one_line(value['name'])}`" for value in inputs)
    limits = [words.fill(kind["limit"]) for kind in metadata["kinds"] if kind["limit"]]
    lines += [
        "",
        f"Always naming the most frequent {label} of train would have an accuracy of "
        f"{majority:.4f}. Log loss is in nats. Probabilities that are exactly right would have a "
        f"calibration error of {by_chance:.4f} on average, by chance. The interval of the accuracy "
        "is Wilson's, the others are from a bootstrap over rows. Of intervals that are made like "
        "this, about 95 of 100 hold the value that all rows of this kind would give.",
        "",
        "## Limits",
        "",
        "- It answers with one of its labels for anything, also for what is no artefact.",
        _probabilities(metrics, details, metadata, words),
        *(f"- {_one_line(limit)}" for limit in limits),
        "",
        *_commands(metadata),
        "## How to load it",
        "",
        f"Inputs: {names}. Outputs: "
        f"`{PROBABILITIES}`, in the order of `labels` in the file's metadata, and `{MEDIUM}`, the "
        "most probable label. A row with a number that cannot be used (missing where it is needed, "
        "infinite, out of its range, or so large that the arithmetic overflows) has no answer: "
        f"each of its probabilities is `nan`, and its `{MEDIUM}` is empty."
        + _outputs_without_sizes(metadata),
        "",
        *_python(inputs),
        "",
        *_javascript(inputs),
        "",
        "## Labels",
        "",
        *(f"- `{_one_line(name)}`" for name in metadata["labels"]),
        "",
    ]
    return "\n".join(lines)


def _header(metrics: dict[str, Any], metadata: dict[str, Any], words: Words) -> str:
    """What model hubs read, as YAML: licence, tags, and the metrics on test."""
    source = metadata["source"]
    name = f"{'-'.join(words.label.lower().split())}-classifier"
    found = [
        {"type": hub, "name": METRICS[ours], "value": metrics["test"][ours]}
        for ours, hub in HUB_METRICS.items()
    ]
    content = {
        "license": LICENCE,
        "library_name": "onnx",
        "pipeline_tag": TASK,
        "tags": ["onnx", TASK, *(["synthetic"] if source == "synthetic" else [])],
        "metrics": list(HUB_METRICS.values()),
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": TASK},
                        "dataset": {"type": source, "name": SOURCES[source].name, "split": "test"},
                        "metrics": found,
                    }
                ],
            }
        ],
    }
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 1000
    yaml.dump(content, text)
    return text.getvalue().rstrip()


def _inputs(metadata: dict[str, Any], words: Words) -> list[dict[str, Any]]:
    """What the model takes, each once, in the order of the kinds of features."""
    inputs = {value["name"]: value for kind in metadata["kinds"] for value in kind["inputs"]}
    return [{**value, "words": words.fill(value["words"])} for value in inputs.values()]


def _listed(parts: Iterable[str]) -> str:
    *first, last = [_one_line(part) for part in parts]
    return f"{', '.join(first)} and {last}" if first else last


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _embedding(metadata: dict[str, Any]) -> list[str]:
    """What made the embeddings, where somebody said so."""
    identity = metadata["embedding"]
    if identity is None:
        return []
    parts = identity_in_words({name: _one_line(value) for name, value in identity.items()})
    synthetic = metadata["source"] == "synthetic"
    begin = "The simulation imitates embeddings" if synthetic else "The embeddings were"
    return [f"{begin} made with: {parts}.", ""]


def _probabilities(
    metrics: dict[str, Any], details: dict[str, Any], metadata: dict[str, Any], words: Words
) -> str:
    """How far the probabilities can be trusted."""
    error = metrics["test"]["calibration_error"]
    limit = details["test_if_calibrated"]["calibration_error"]["high"]
    found = "as right as chance can tell" if error <= limit else "off by more than chance explains"
    text = f"- On test, the probabilities are {found}."
    if few := too_few_rows(metadata):
        text += f" {few}"
    return f"{text} For the photographs of another {words.group} they may be too sure."


def _chosen(metadata: dict[str, Any]) -> list[str]:
    """What was not said in params.yaml, but tried."""
    found = what_was_chosen(metadata)
    return ["", f"Chosen by what training rows have tried (`auto`): {found}."] if found else []


def _members(curve: pd.DataFrame, metadata: dict[str, Any]) -> list[str]:
    """What each member of a blend adds."""
    steps = steps_of(curve, metadata)
    if not steps:
        return []
    return [
        "## What each member adds",
        "",
        "| blended, one after another | log loss on val | lower by | accuracy on val |",
        "|---|---:|---:|---:|",
        *(
            f"| `{step.name}` | {step.log_loss:.4f} | "
            f"{'' if step.gained is None else f'{step.gained:.4f}'} | {step.accuracy:.4f} |"
            for step in steps
        ),
        "",
        what_members_add(steps),
        "",
    ]


def _metrics_of_answers(details: dict[str, Any]) -> list[str]:
    """Lines of the table of metrics: the answers that are sure, and those without the sizes."""
    sure, without = details["test_sure"], details.get("test_without_sizes")
    parts = []
    if sure["rows"]:
        parts.append((f"accuracy of the sure answers, {sure['share']:.1%} of the rows", sure))
    if without:
        parts.append(("accuracy without width and height", without))
    return [
        f"| {name} | {part['accuracy']:.4f} | {part['accuracy_low']:.4f} to "
        f"{part['accuracy_high']:.4f} |"
        for name, part in parts
    ]


def _commands(metadata: dict[str, Any]) -> list[str]:
    """What to type to get answers, and what they say of themselves."""
    with_embedding = any(
        value["name"] == EMBEDDING for kind in metadata["kinds"] for value in kind["inputs"]
    )
    asked = "photographs" if with_embedding else "table.parquet"
    sure = metadata["answers"][PROBABILITIES]["sure"]
    if sure["threshold"] is None:
        said = (
            f"No answer is called sure: on val, there is no probability from which on "
            f"{sure['accuracy']:.0%} of the answers are right."
        )
    else:
        said = (
            f"An answer is called sure from a probability of {sure['threshold']:.4f} on: on val, "
            f"{sure['share']:.0%} of the answers are sure, and {sure['accuracy']:.0%} of these or "
            "more are right."
        )
    if PROBABILITIES_WITHOUT_SIZES in metadata["answers"]:
        said += (
            " Where width and height say nothing, because photographs were exported otherwise than "
            "those of train, `--ignore-sizes` answers without them."
        )
    return [
        "## How to ask it",
        "",
        "In the folder of the project:",
        "",
        "```sh",
        f"python -m commands.predict /somewhere/{asked} -o predictions.csv",
        "python -m commands.explain IMAGE_FILE",
        *(["python -m commands.serve"] if with_embedding else []),
        "```",
        "",
        "The first answers for the rows of a table, or for photographs; the second says why, for "
        f"one of them{'; the third opens a page to try photographs on' if with_embedding else ''}. "
        f"{said}",
        "",
    ]


def _outputs_without_sizes(metadata: dict[str, Any]) -> str:
    if PROBABILITIES_WITHOUT_SIZES not in metadata["answers"]:
        return ""
    return (
        f" `{PROBABILITIES_WITHOUT_SIZES}` and `{MEDIUM_WITHOUT_SIZES}` are the same without width "
        "and height, which may then be anything."
    )


def _python(inputs: list[dict[str, Any]]) -> list[str]:
    """Code that loads and runs the model, on one example."""
    arrays = []
    for value in inputs:
        name = value["name"]
        if value["length"] is not None:  # too long to be written out: the reader has it
            array, shape = name, f"{value['type']} (rows, {value['length']})"
        else:
            type_ = "object" if value["type"] == "string" else f"np.{value['type']}"
            array, shape = f"np.array([{_literal(value['example'])}], dtype={type_})", "(rows,)"
        comment = f"{_one_line(value['words'])}, {shape}"
        arrays.append(f"    {_literal(name)}: {array},  # {comment}")
    return [
        "```python",
        "import json",
        "import numpy as np",
        "import onnxruntime",
        "",
        'model = onnxruntime.InferenceSession("models/model.onnx")',
        f'{PROBABILITIES}, {MEDIUM} = model.run(["{PROBABILITIES}", "{MEDIUM}"], {{',
        *arrays,
        "})",
        'labels = json.loads(model.get_modelmeta().custom_metadata_map["labels"])',
        "```",
    ]


def _javascript(inputs: list[dict[str, Any]]) -> list[str]:
    """The same in JavaScript."""
    tensors = []
    for value in inputs:
        name = value["name"]
        array, shape = f"[{_literal(value['example'])}]", "[1]"
        if value["length"] is not None:
            array, shape = name, f"[1, {name}.length]"
        tensors.append(
            f"  {_literal(name)}: new ort.Tensor({_literal(value['type'])}, {array}, {shape}),"
        )
    return [
        "```javascript",
        'import * as ort from "onnxruntime-web";',
        'const model = await ort.InferenceSession.create("model.onnx");',
        f"const {{ {PROBABILITIES}, {MEDIUM} }} = await model.run({{",
        *tensors,
        "});",
        f"console.log({MEDIUM}.data[0], Math.max(...{PROBABILITIES}.data));",
        "```",
    ]


def _literal(value: object) -> str:
    """A text or a number as both languages write it."""
    return json.dumps(value, ensure_ascii=False)
