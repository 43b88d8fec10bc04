"""Where the model lies, and which kind it is."""

import json
from pathlib import Path

MODEL = Path("models/model.json")
TRAINING_CURVE = Path("models/training_curve.csv")


def model_kind(path: Path) -> str:
    """The kind that a model file names: at its top, or as an attribute of XGBoost's format."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["kind"] if "kind" in content else content["learner"]["attributes"]["kind"]
