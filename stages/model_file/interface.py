"""Where the model's file lies, what stands beside it, and what its outputs are called."""

from pathlib import Path

MODEL = Path("models/model.onnx")
MODEL_CARD = Path("models/model_card.md")
TRAINING_CURVE = Path("models/training_curve.csv")

# Names of the model's outputs.
PROBABILITIES, MEDIUM = "probabilities", "medium"
# What `train.model` calls the blend of several models.
ENSEMBLE = "ensemble"
