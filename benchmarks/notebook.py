"""The work of the default pipeline as a student would write it in the cells of a notebook.

    python benchmarks/notebook.py data/raw/MAMe_dataset_extended.csv /somewhere/output

It reads the raw CSV, fits the default model on its train and val rows, measures it on test,
and writes figures, tables and the model to the output folder. The last line that it prints is
JSON: the accuracy and the log loss (nats) on test. The parameters are those of params.yaml.

Nothing of the package `stages` is imported: it would limit the threads of this script too.
"""

import ast
import json
import sys
from pathlib import Path

import joblib
import matplotlib

matplotlib.use("Agg")  # pictures go to files
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.linalg import inv
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    classification_report,
    confusion_matrix,
    f1_score,
    log_loss,
    top_k_accuracy_score,
)
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import LabelEncoder, StandardScaler
from xgboost import XGBClassifier

source, output = Path(sys.argv[1]), Path(sys.argv[2])
output.mkdir(parents=True, exist_ok=True)

# Read the table, and look at it
table = pd.read_csv(source)
embedding = np.array(
    [ast.literal_eval(text) for text in table["MobileNetV1 features"]], dtype=np.float32
)
table = table.drop(columns="MobileNetV1 features")
assert table["Image file"].is_unique
assert table["Subset"].isin(["train", "val", "test"]).all()
assert (table[["Width", "Height"]] > 0).all(axis=None)
assert np.isfinite(embedding).all()
print(table.describe())

# Split
train, val, test = (
    np.flatnonzero(table["Subset"] == subset) for subset in ("train", "val", "test")
)
encoder = LabelEncoder().fit(table["Medium"].iloc[train])
labels = encoder.classes_
y = encoder.transform(table["Medium"])

# Features
width, height = np.log(table["Width"]), np.log(table["Height"])
aspect = width - height
sizes = np.column_stack([width, height, width + height, aspect, aspect.abs()])
embedding_scaler = StandardScaler().fit(embedding[train])
sizes_scaler = StandardScaler().fit(sizes[train])
X_embedding = embedding_scaler.transform(embedding)
X_sizes = sizes_scaler.transform(sizes).astype(np.float32)
X = np.hstack([X_embedding, X_sizes])

# Photographs that are nearly the same in train and test
nearest = cosine_similarity(X_embedding[test], X_embedding[train]).max(axis=1)
print(f"{(nearest > 0.8).sum()} test rows have a near-duplicate in train")

# Kernel ridge regression; a logistic regression makes probabilities of its leave-one-out scores
gamma = 0.6 / X.shape[1]
X_kernel = np.hstack([X_embedding, 4 * X_sizes])
inverse = inv(rbf_kernel(X_kernel[train], gamma=gamma) + 0.01 * np.eye(len(train)))
one_hot = np.eye(len(labels))[y[train]]
means = one_hot.mean(axis=0)
coefficients = inverse @ (one_hot - means)
leave_one_out = one_hot - coefficients / np.diag(inverse)[:, None]
ridge_softmax = LogisticRegression(C=10, max_iter=300).fit(leave_one_out, y[train])


def ridge_log_proba(rows):
    kernel = rbf_kernel(rows, X_kernel[train], gamma=gamma)
    return ridge_softmax.predict_log_proba(kernel @ coefficients + means)


# Linear discriminant analysis
lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(X[train], y[train])

# Boosted trees on the sizes
trees = XGBClassifier(
    n_estimators=400,
    early_stopping_rounds=20,
    eval_metric="mlogloss",
    learning_rate=0.1,
    max_depth=4,
    subsample=0.7,
    colsample_bynode=0.5,
    random_state=1,
)
trees.fit(X_sizes[train], y[train], eval_set=[(X_sizes[val], y[val])], verbose=False)


def opinions(X_embedding, X_sizes):
    """The logarithms of the probabilities that each model gives."""
    return [
        ridge_log_proba(np.hstack([X_embedding, 4 * X_sizes])),
        log_softmax(lda.decision_function(np.hstack([X_embedding, X_sizes])), axis=1),
        np.log(trees.predict_proba(X_sizes)),
    ]


def blend(parts, weights):
    return sum(weight * part for weight, part in zip(weights, parts, strict=True))


def blend_loss(weights, parts, y):
    return -log_softmax(blend(parts, weights), axis=1)[np.arange(len(y)), y].mean()


# Blend them, one more at a time, with the weights that suit val best
on_train, on_val = (opinions(X_embedding[rows], X_sizes[rows]) for rows in (train, val))
curve = []
for count in (1, 2, 3):
    start, bounds = np.full(count, 1 / count), [(0, None)] * count
    found = minimize(blend_loss, start, (on_val[:count], y[val]), bounds=bounds)
    weights = found.x
    curve.append(
        {
            "models": count,
            "train_log_loss": blend_loss(weights, on_train[:count], y[train]),
            "val_log_loss": found.fun,
            "train_accuracy": np.mean(blend(on_train[:count], weights).argmax(axis=1) == y[train]),
            "val_accuracy": np.mean(blend(on_val[:count], weights).argmax(axis=1) == y[val]),
        }
    )
curve = pd.DataFrame(curve)
found = minimize_scalar(
    lambda log_t: blend_loss(weights / np.exp(log_t), on_val, y[val]),
    bounds=(-5, 5),
    method="bounded",
)
weights = weights / np.exp(found.x)
print("weights", weights.round(2))
model = (embedding_scaler, sizes_scaler, X_kernel[train], coefficients, means, ridge_softmax, lda)
joblib.dump((*model, trees, weights, labels), output / "model.joblib")


# Evaluate on test
def predict_proba(X_embedding, X_sizes):
    return softmax(blend(opinions(X_embedding, X_sizes), weights), axis=1)


probabilities = predict_proba(X_embedding[test], X_sizes[test])
actual, predicted = y[test], probabilities.argmax(axis=1)
classes = np.arange(len(labels))
metrics = {
    "accuracy": accuracy_score(actual, predicted),
    "balanced_accuracy": balanced_accuracy_score(actual, predicted),
    "macro_f1": f1_score(actual, predicted, average="macro"),
    "top3_accuracy": top_k_accuracy_score(actual, probabilities, k=3, labels=classes),
    "top5_accuracy": top_k_accuracy_score(actual, probabilities, k=5, labels=classes),
    "log_loss": log_loss(actual, probabilities, labels=classes),
}
of_classes = classification_report(
    actual,
    predicted,
    labels=classes,
    target_names=[str(label) for label in labels],
    output_dict=True,
    zero_division=0,
)
per_class = pd.DataFrame(of_classes).T.loc[list(labels)]
confusion = confusion_matrix(actual, predicted, labels=classes, normalize="true")

# How far chance in the choice of rows may have moved the accuracy
random = np.random.default_rng(0)
draws = [random.integers(0, len(test), len(test)) for _ in range(1000)]
low, high = np.percentile([accuracy_score(actual[d], predicted[d]) for d in draws], [2.5, 97.5])
metrics |= {"accuracy_low": low, "accuracy_high": high}

# Baselines
baselines = {
    "most frequent medium": DummyClassifier().fit(X[train], y[train]).predict(X[test]),
    "nearest mean features": NearestCentroid().fit(X[train], y[train]).predict(X[test]),
    "sizes alone": KNeighborsClassifier(15).fit(X_sizes[train], y[train]).predict(X_sizes[test]),
}
baselines = {name: accuracy_score(actual, answers) for name, answers in baselines.items()}

# What the model leans on
order = random.permutation(test)
shuffled = {
    "embedding": predict_proba(X_embedding[order], X_sizes[test]),
    "sizes": predict_proba(X_embedding[test], X_sizes[order]),
}
importance = {
    name: metrics["accuracy"] - accuracy_score(actual, answers.argmax(axis=1))
    for name, answers in shuffled.items()
}

# Museums
right = pd.Series(predicted == actual)
by_museum = right.groupby(table["Museum"].iloc[test].to_numpy()).agg(["mean", "size"])

per_class.to_csv(output / "per_class.csv")
by_museum.to_csv(output / "by_museum.csv")
answers = pd.DataFrame(probabilities, columns=labels)
answers.insert(0, "Image file", table["Image file"].iloc[test].to_numpy())
answers.to_csv(output / "predictions.csv", index=False)
(output / "metrics.json").write_text(json.dumps(metrics, indent=2))


# Figures
def save(name):
    plt.tight_layout()
    plt.savefig(output / f"{name}.png", dpi=150)
    plt.close()


pd.crosstab(table["Medium"], table["Museum"]).plot.barh(stacked=True, figsize=(8, 8))
plt.xlabel("rows")
save("rows")

fig, axes = plt.subplots(1, 2, figsize=(8, 3.5))
for museum, rows in table.groupby("Museum"):
    sides, ratios = rows[["Width", "Height"]].max(axis=1), rows["Width"] / rows["Height"]
    axes[0].hist(np.log2(sides), 30, density=True, histtype="step", label=museum)
    axes[1].hist(np.log2(ratios), 30, density=True, histtype="step")
axes[0].set_xlabel("longer side, log2 of pixels")
axes[1].set_xlabel("width divided by height, log2")
axes[0].legend(fontsize=6)
save("sizes")

fig, axes = plt.subplots(1, 2, figsize=(8, 3))
axes[0].hist(embedding[train].mean(axis=0), 40)
axes[0].set_xlabel("mean")
axes[1].hist(embedding[train].std(axis=0), 40)
axes[1].set_xlabel("standard deviation")
save("embedding")

places = PCA(2).fit_transform(X_embedding[train])
fig, axes = plt.subplots(-(-len(labels) // 6), 6, figsize=(9, 9), squeeze=False)
for ax in axes.flat:
    ax.set_axis_off()
for class_, ax in enumerate(axes.flat[: len(labels)]):
    ax.scatter(*places.T, s=1, color="grey")
    ax.scatter(*places[y[train] == class_].T, s=4, color="red")
    ax.set_title(labels[class_], fontsize=7)
save("map")

fig, axes = plt.subplots(1, 2, figsize=(8, 3))
for ax, name in zip(axes, ("log_loss", "accuracy"), strict=True):
    for subset in ("train", "val"):
        ax.plot(curve["models"], curve[f"{subset}_{name}"], "o-", label=subset)
    ax.set_xlabel("models")
    ax.set_ylabel(name)
    ax.legend()
save("training")

plt.figure(figsize=(8, 2.5))
plt.barh(["this model", *baselines], [metrics["accuracy"], *baselines.values()])
plt.plot([low, high], [0, 0], color="black")
plt.xlabel("accuracy")
save("headline")

per_class.sort_values("recall")[["recall", "f1-score"]].plot.barh(figsize=(8, 9))
save("per_class")

plt.figure(figsize=(9, 9))
plt.imshow(confusion)
plt.colorbar(shrink=0.5)
plt.xticks(classes, labels, rotation=90, fontsize=7)
plt.yticks(classes, labels, fontsize=7)
plt.xlabel("predicted medium")
plt.ylabel("actual medium")
save("confusion")

plt.figure(figsize=(6, 5))
shares, sureness = calibration_curve(predicted == actual, probabilities.max(axis=1), n_bins=15)
plt.plot([0, 1], [0, 1], "--", color="grey")
plt.plot(sureness, shares, "o-")
plt.xlabel("probability of the first answer")
plt.ylabel("accuracy")
save("reliability")

plt.figure(figsize=(8, 2.5))
plt.barh(by_museum.index, by_museum["mean"])
plt.xlabel("accuracy")
save("museums")

plt.figure(figsize=(8, 2))
plt.barh(list(importance), list(importance.values()))
plt.xlabel("accuracy lost when shuffled")
save("importance")

print(json.dumps({name: float(metrics[name]) for name in ("accuracy", "log_loss")}))
