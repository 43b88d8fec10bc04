"""Where the model's file lies, what stands beside it, and what its outputs are called."""

from pathlib import Path

MODEL = Path("models/model.onnx")
MODEL_CARD = Path("models/model_card.md")
TRAINING_CURVE = Path("models/training_curve.csv")
# What a model reached with each iteration, on train and on val.
CURVE_COLUMNS: dict[str, type] = {
    "iteration": int,
    "train_log_loss": float,  # nats
    "val_log_loss": float,
    "train_accuracy": float,
    "val_accuracy": float,
}

# Names of the model's outputs.
PROBABILITIES, MEDIUM = "probabilities", "medium"
# The same by a model that was fitted without the sizes; not each file has them.
PROBABILITIES_WITHOUT_SIZES = f"{PROBABILITIES}_without_sizes"
MEDIUM_WITHOUT_SIZES = f"{MEDIUM}_without_sizes"
# Each output of probabilities, with that of the most probable label.
ANSWERS = {PROBABILITIES: MEDIUM, PROBABILITIES_WITHOUT_SIZES: MEDIUM_WITHOUT_SIZES}
# What the features are called within the file. What a member of a blend adds to the logarithms of
# an output is called `/OUTPUT/MEMBER`.
FEATURES = "/features"
# What `train.model` calls the blend of several models.
ENSEMBLE = "ensemble"
