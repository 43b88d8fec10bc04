"""The model card: what a model is, what it was measured to do, and how to use it."""

from typing import Any

SOURCES = {
    "synthetic": (
        "**Synthetic data.** The embeddings were simulated: the figures below say nothing about "
        "photographs of artefacts, and the model is of no use for them."
    ),
    "mame": (
        "The MAMe dataset: photographs of artefacts of the Metropolitan Museum of Art, the Los "
        "Angeles County Museum of Art and the Cleveland Museum of Art (Parés et al. 2020, arXiv "
        "2007.13693), as MobileNetV1 embeddings."
    ),
    "file": "A table of the user's own: `download.file.path` in `params.yaml`.",
}

LIMITS = {
    "width": "- Width and height tell how a museum exports its photographs, not only what is on "
    "them.",
    "museum": "- It knows the museums of its training rows; for others the museum tells nothing.",
}

SAME_WAY = (
    " The photograph must be turned into an embedding in the same way as those of the training "
    "rows."
)


def model_card(
    metrics: dict[str, Any],
    metadata: dict[str, Any],
    inputs: list[str],
    embedding_length: int | None,
) -> str:
    """The card in Markdown, from metrics.json, the model's metadata and its inputs.

    `inputs` are their names; `embedding_length` is None where the embedding is none of them.
    """
    test, ranges = metrics["test"], metrics["test_interval"]
    lines = [
        "# Medium classifier",
        "",
        f"Tells the medium of a museum artefact, one of {len(metadata['labels'])}, from "
        f"{_words(inputs)}. Model: `{metadata['model']}`, "
        f"{len(metadata['feature_names']):,} features. Written by the stage `evaluate`.",
        "",
        "## Data",
        "",
        SOURCES[metadata["source"]],
        "",
        _rows(metadata),
        "",
        "## Intended use",
        "",
        "To propose a medium for a photograph of an artefact that a person then confirms, and to "
        "find records whose medium looks wrong." + (SAME_WAY if "embedding" in inputs else ""),
        "",
        "## Figures on test",
        "",
        "| figure | value | 95 % interval |",
        "|---|---:|---|",
    ]
    for name in ("accuracy", "macro_f1", "log_loss"):
        low, high = ranges[name]["low"], ranges[name]["high"]
        lines.append(f"| {name.replace('_', ' ')} | {test[name]:.4f} | {low:.4f} to {high:.4f} |")
    others = ("balanced_accuracy", "top3_accuracy", "top5_accuracy", "calibration_error")
    lines += [f"| {name.replace('_', ' ')} | {test[name]:.4f} | |" for name in others]
    if "test_without_near_duplicates" in metrics:
        distinct = metrics["test_without_near_duplicates"]
        lines.append(
            f"| accuracy on the {distinct['rows']:,} rows without a near-duplicate in train | "
            f"{distinct['accuracy']:.4f} | |"
        )
    majority = metrics["baseline"]["majority"]["accuracy"]
    by_chance = metrics["test_if_calibrated"]["calibration_error"]["mean"]
    lines += [
        "",
        "Always naming the most frequent medium of train would have an accuracy of "
        f"{majority:.4f}. Log loss is in nats. Probabilities that are exactly right would have a "
        f"calibration error of {by_chance:.4f} on average, by chance. The interval of the accuracy "
        "is Wilson's, the others are from a bootstrap over rows. Of intervals that are made like "
        "this, about 95 of 100 hold the value that all rows of this kind would give.",
        "",
        "## Limits",
        "",
        "- It answers with one of its labels for anything, also for what is no artefact.",
        _probabilities(metrics, metadata),
        *(LIMITS[name] for name in inputs if name in LIMITS),
        "",
        "## How to load it",
        "",
        f"Inputs: {', '.join(f'`{name}`' for name in inputs)}. Outputs: `probabilities`, in the "
        "order of `labels` in the file's metadata, and `medium`, the most probable label. A row "
        "with a size that is no number above 0, or with an embedding that is not finite or so "
        "large that the arithmetic overflows, has no answer: each of its probabilities is `nan`, "
        "and its medium is empty.",
        "",
        *_python(inputs, embedding_length),
        "",
        *_javascript(inputs),
        "",
        "## Labels",
        "",
        *(f"- `{' '.join(label.split())}`" for label in metadata["labels"]),
        "",
    ]
    return "\n".join(lines)


def _words(inputs: list[str]) -> str:
    names = {
        "embedding": "the embedding of its photograph",
        "width": "the photograph's width",
        "height": "its height in pixels",
        "museum": "the name of the museum",
    }
    *first, last = [names[name] for name in inputs]
    return f"{', '.join(first)} and {last}" if first else last


def _probabilities(metrics: dict[str, Any], metadata: dict[str, Any]) -> str:
    """How far the probabilities can be trusted."""
    error = metrics["test"]["calibration_error"]
    limit = metrics["test_if_calibrated"]["calibration_error"]["high"]
    found = "as right as chance can tell" if error <= limit else "off by more than chance explains"
    text = f"- On test, the probabilities are {found}."
    if metadata["few_val_rows"]:
        text += " Val had too few rows to calibrate them well."
    return f"{text} For another museum's photographs they may be too sure."


def _rows(metadata: dict[str, Any]) -> str:
    """On which rows the model was fitted and calibrated."""
    rows, refitted = metadata["training_rows"], metadata["parameters"]["refit_on_val"]
    text = f"Fitted on {rows:,} rows of train{' and val' if refitted else ''}"
    fewer = [f"{name} on {n:,} of them" for name, n in metadata["rows_used"].items() if n < rows]
    if fewer:
        text += f" ({', '.join(fewer)})"
    return (
        f"{text}. The {metadata['val_rows']:,} rows of val decided on all that is not fitted "
        "directly, the calibration included; test was used for the figures below and nothing else."
    )


def _python(inputs: list[str], embedding_length: int | None) -> list[str]:
    arrays = {
        "embedding": f"embedding,  # float32 (rows, {embedding_length})",
        "width": "np.array([1200.0]),  # pixels, float64",
        "height": "np.array([900.0]),",
        "museum": 'np.array(["The Cleveland Museum of Art"], dtype=object),',
    }
    return [
        "```python",
        "import json",
        "import numpy as np",
        "import onnxruntime",
        "",
        'model = onnxruntime.InferenceSession("models/model.onnx")',
        "probabilities, medium = model.run(None, {",
        *(f'    "{name}": {arrays[name]}' for name in inputs),
        "})",
        'labels = json.loads(model.get_modelmeta().custom_metadata_map["labels"])',
        "```",
    ]


def _javascript(inputs: list[str]) -> list[str]:
    tensors = {
        "embedding": 'new ort.Tensor("float32", embedding, [1, embedding.length])',
        "width": 'new ort.Tensor("float64", [1200], [1])',
        "height": 'new ort.Tensor("float64", [900], [1])',
        "museum": 'new ort.Tensor("string", ["The Cleveland Museum of Art"], [1])',
    }
    return [
        "```javascript",
        'import * as ort from "onnxruntime-web";',
        'const model = await ort.InferenceSession.create("model.onnx");',
        "const { probabilities, medium } = await model.run({",
        *(f"  {name}: {tensors[name]}," for name in inputs),
        "});",
        "console.log(medium.data[0], Math.max(...probabilities.data));",
        "```",
    ]
