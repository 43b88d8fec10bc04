"""Other ways to tell the medium from the features, as one would write them without this project.

    python -m benchmarks.model_peers logistic-regression data/features

Each fits on train.parquet of that folder and prints, as JSON, the accuracy and the log loss
(nats) on test.parquet. Keras also looks at val.parquet, to stop; the others do not. Estimators
of scikit-learn and XGBoost have their defaults. No peer writes a file. Each imports what it
needs when it is called, so that a run pays for its own libraries only.

Nothing of the package `stages` is imported: it would limit the threads of the others, too.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 1


@dataclass(frozen=True)
class Rows:
    """The rows of one subset."""

    values: np.ndarray  # (n, d) float32, the features
    classes: np.ndarray  # (n,) int, places in the sorted mediums of train


def read_rows(folder: Path) -> dict[str, Rows]:
    """The rows of train, val and test."""
    import pyarrow.parquet as pq

    rows: dict[str, Rows] = {}
    mediums = np.empty(0)
    for subset in ("train", "val", "test"):
        table = pq.read_table(folder / f"{subset}.parquet").combine_chunks()
        values = table["features"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        labels = table["medium"].to_numpy().astype(str)
        if subset == "train":
            mediums = np.unique(labels)
        rows[subset] = Rows(values, np.searchsorted(mediums, labels))
    return rows


def keras_head(train: Rows, val: Rows, test: np.ndarray) -> np.ndarray:
    """The course's notebook: a dense head on the features, on the processor."""
    import os

    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import keras

    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(int(train.classes.max()) + 1, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(
        train.values,
        train.classes,
        batch_size=64,
        epochs=50,
        validation_data=(val.values, val.classes),
        callbacks=[keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)],
        verbose=0,
    )
    return model.predict(test, batch_size=1024, verbose=0)


def logistic_regression(train: Rows, val: Rows, test: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    return fit(LogisticRegression(), train, test)


def linear_discriminant_analysis(train: Rows, val: Rows, test: np.ndarray) -> np.ndarray:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return fit(LinearDiscriminantAnalysis(), train, test)


def support_vector_machine(train: Rows, val: Rows, test: np.ndarray) -> np.ndarray:
    """`SVC` has no probabilities of its own from scikit-learn 1.11 on; this is its advice."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    return fit(CalibratedClassifierCV(SVC(), ensemble=False), train, test)


def mlp_classifier(train: Rows, val: Rows, test: np.ndarray) -> np.ndarray:
    from sklearn.neural_network import MLPClassifier

    return fit(MLPClassifier(random_state=SEED), train, test)


def xgb_classifier(train: Rows, val: Rows, test: np.ndarray) -> np.ndarray:
    from xgboost import XGBClassifier

    return fit(XGBClassifier(), train, test)


def fit(estimator: Any, train: Rows, test: np.ndarray) -> np.ndarray:
    """Fit an estimator; return its probabilities (n, k) for n test rows."""
    return estimator.fit(train.values, train.classes).predict_proba(test)


def figures(classes: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy and log loss (nats) of the probabilities (n, k) of n rows."""
    from sklearn.metrics import accuracy_score, log_loss

    normalized = probabilities.astype(np.float64)
    normalized /= normalized.sum(axis=1, keepdims=True)
    return {
        "accuracy": float(accuracy_score(classes, normalized.argmax(axis=1))),
        "log_loss": float(log_loss(classes, normalized, labels=range(normalized.shape[1]))),
    }


# From training rows, validation rows and the values of n test rows to probabilities (n, k).
PEERS: dict[str, Callable[[Rows, Rows, np.ndarray], np.ndarray]] = {
    "keras": keras_head,
    "linear-discriminant-analysis": linear_discriminant_analysis,
    "logistic-regression": logistic_regression,
    "svc": support_vector_machine,
    "mlp-classifier": mlp_classifier,
    "xgb-classifier": xgb_classifier,
}


def run_peer(name: str, folder: Path) -> dict[str, float]:
    """What a peer reaches on the features of a folder, as `figures` has it."""
    rows = read_rows(folder)
    probabilities = PEERS[name](rows["train"], rows["val"], rows["test"].values)
    return figures(rows["test"].classes, probabilities)


if __name__ == "__main__":
    print(json.dumps(run_peer(sys.argv[1], Path(sys.argv[2]))))
