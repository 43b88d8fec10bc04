"""What simple models are right in: how good is good enough?"""

import warnings

import numpy as np

from stages.features.kinds.sizes import logarithms
from stages.features.moments import class_means, moments
from stages.tables.artefacts import Artefacts
from stages.tables.features import Features

NEIGHBOURS = 15  # training rows that the baseline of sizes alone asks


def baselines(train: Features, test: Features) -> dict[str, np.ndarray]:
    """What two models that need no tuning predict for the test rows: arrays (n,) of labels.

    `majority` always names the label with most training rows (of equals, the first
    in the alphabet), `nearest_centroid` the one whose mean features are nearest
    (Euclidean distance; scikit-learn's refuses features that are all constant).
    """
    mediums, medium_of_row, counts = np.unique(
        train.mediums, return_inverse=True, return_counts=True
    )
    centroids = class_means(train.values, medium_of_row).astype(np.float32)
    # The squared distance, less the part that is the same for all centroids.
    distances = (centroids**2).sum(axis=1) - test.values @ (2 * centroids.T)
    return {
        "majority": np.full(len(test.mediums), mediums[counts.argmax()]),
        "nearest_centroid": mediums[distances.argmin(axis=1)],
    }


def nearest_sizes(train: Artefacts, mediums: np.ndarray, test: Artefacts) -> np.ndarray:
    """What the sizes alone tell: an array (n,) of labels for the n test rows.

    The label that most of the `NEIGHBOURS` training rows have whose sizes (standardised
    logarithms) are nearest. `mediums` are those of the training rows.
    """
    from sklearn.neighbors import KNeighborsClassifier

    sizes = logarithms(train)
    mean, scale = moments(sizes)
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(mediums)))
    with warnings.catch_warnings():
        # Few rows of many labels are still labels.
        warnings.filterwarnings("ignore", "The number of unique classes")
        neighbours.fit((sizes - mean) / scale, mediums)
    return neighbours.predict((logarithms(test) - mean) / scale)


def accuracies(
    predicted: dict[str, np.ndarray], mediums: np.ndarray
) -> dict[str, dict[str, float]]:
    """The accuracy of each baseline's labels (n,) on rows of these mediums (n,)."""
    return {
        name: {"accuracy": float(np.mean(labels == mediums))} for name, labels in predicted.items()
    }
