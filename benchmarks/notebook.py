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
from sklearn.model_selection import StratifiedKFold
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
X_sizes = sizes_scaler.transform(sizes).astype(np.float32)
standardized = embedding_scaler.transform(embedding)
pca = PCA(min(256, *standardized[train].shape)).fit(standardized[train])
X_embedding = pca.transform(standardized) / pca.explained_variance_**0.125
X_embedding /= np.sqrt((X_embedding**2).mean(axis=1, keepdims=True))
X = np.hstack([X_embedding, X_sizes])

# Photographs that are nearly the same in train and test
nearest = cosine_similarity(X_embedding[test], X_embedding[train]).max(axis=1)
print(f"{(nearest > 0.8).sum()} test rows have a near-duplicate in train")

both = np.concatenate([train, val])
one_hot = np.eye(len(labels))


class KernelRidge:
    """Kernel ridge regression, with scores of its own rows as if each had been left out."""

    def __init__(self, gamma, penalty):
        self.gamma, self.penalty = gamma, penalty

    def fit(self, rows):
        self.X = X_embedding[rows]
        self.means = one_hot[y[rows]].mean(axis=0)
        kernel = rbf_kernel(self.X, gamma=self.gamma / self.X.shape[1])
        inverse = inv(kernel + self.penalty * np.eye(len(rows)))
        self.coefficients = inverse @ (one_hot[y[rows]] - self.means)
        self.left_out = 10 * (one_hot[y[rows]] - self.coefficients / np.diag(inverse)[:, None])
        return self

    def decision_function(self, X):
        kernel = rbf_kernel(X, self.X, gamma=self.gamma / self.X.shape[1])
        return 10 * (kernel @ self.coefficients + self.means)


def temperature_of(logits, y):
    """The number by which logits are divided, so that the log loss is least."""
    found = minimize_scalar(
        lambda log_t: stack_loss(logits / np.exp(log_t), y), bounds=(-5, 5), method="bounded"
    )
    return np.exp(found.x)


def stack_loss(logits, y):
    return -log_softmax(logits, axis=1)[np.arange(len(y)), y].mean()


def tuned_ridge():
    """Kernel ridge regression with the parameters that are best when rows of train are left out."""
    some = np.random.default_rng(1).permutation(train)[:2000]

    def loss(gamma, penalty):
        scores = KernelRidge(gamma, penalty).fit(some).left_out
        return stack_loss(scores / temperature_of(scores, y[some]), y[some])

    gamma = min((1.0, 0.5, 2.0), key=lambda gamma: loss(gamma, 0.01))
    penalty = min((0.01, 0.003, 0.03, 0.1), key=lambda penalty: loss(gamma, penalty))
    return KernelRidge(gamma, penalty).fit(both)


# Linear discriminant analysis, and boosted trees on the sizes; each also without a fifth at a time
def fit_lda(rows):
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)
    return lda.fit(X_embedding[rows], y[rows])


def boosted(rounds, **more):
    return XGBClassifier(
        n_estimators=rounds,
        eval_metric="mlogloss",
        learning_rate=0.2,
        max_depth=3,
        min_child_weight=2,
        subsample=0.8,
        random_state=1,
        **more,
    )


def fit_trees(rows, others):
    trees = boosted(200, early_stopping_rounds=20)
    return trees.fit(X_sizes[rows], y[rows], eval_set=[(X_sizes[others], y[others])], verbose=False)


ridge = tuned_ridge()
shape = (len(both), len(labels))
lda_left_out, trees_left_out, rounds = np.empty(shape), np.empty(shape), []
folds = list(StratifiedKFold(5, shuffle=True, random_state=1).split(both, y[both]))
for kept, left in folds:
    lda_left_out[left] = fit_lda(both[kept]).decision_function(X_embedding[both[left]])
    trees = fit_trees(both[kept], both[left])
    trees_left_out[left] = trees.predict(X_sizes[both[left]], output_margin=True)
    rounds.append(trees.best_iteration + 1)
lda = fit_lda(both)
trees = boosted(int(np.median(rounds))).fit(X_sizes[both], y[both])


def opinions(X_embedding, X_sizes):
    """The logits that each model gives."""
    return [
        ridge.decision_function(X_embedding),
        lda.decision_function(X_embedding),
        trees.predict(X_sizes, output_margin=True),
    ]


# Blend them, with the weights and corrections that suit rows which they have not seen
def log_probabilities(members, temperatures):
    tempered = zip(members, temperatures, strict=True)
    return [log_softmax(logits / temperature, axis=1) for logits, temperature in tempered]


def fit_stack(members, y):
    """Temperatures and weights of the models, and what their probabilities add to the logits."""
    temperatures = [temperature_of(logits, y) for logits in members]
    parts = log_probabilities(members, temperatures)
    rows, count = np.arange(len(y)), len(parts)
    probabilities = np.exp(np.hstack(parts))

    def weights_loss(weights):
        total = log_softmax(np.tensordot(weights, parts, 1), axis=1)
        gradient = [((np.exp(total) * part).sum(axis=1) - part[rows, y]).sum() for part in parts]
        away = (weights - 1 / count) / 0.25
        return away @ away / 2 - total[rows, y].sum(), gradient + away / 0.25

    bounds = [(0, None)] * count
    weights = minimize(weights_loss, np.full(count, 1 / count), jac=True, bounds=bounds).x
    blended = np.tensordot(weights, parts, 1)

    def corrections_loss(values):
        corrections = values.reshape(-1, len(labels))
        total = log_softmax(blended + probabilities @ corrections, axis=1)
        excess = np.exp(total) - one_hot[y]
        loss = values @ values / 2 - total[rows, y].sum()
        return loss, (probabilities.T @ excess).ravel() + values

    start, options = np.zeros(probabilities.shape[1] * len(labels)), {"ftol": 1e-5}
    found = minimize(corrections_loss, start, jac=True, method="L-BFGS-B", options=options)
    return temperatures, weights, found.x.reshape(-1, len(labels))


def blend(members, stack):
    temperatures, weights, corrections = stack
    parts = log_probabilities(members, temperatures)
    return np.tensordot(weights, parts, 1) + np.exp(np.hstack(parts)) @ corrections


def cross_fitted(members):
    """The blend of each row by a stack that is fitted without its fold."""
    result = np.empty(shape)
    for kept, left in folds:
        stack = fit_stack([logits[kept] for logits in members], y[both[kept]])
        result[left] = blend([logits[left] for logits in members], stack)
    return result


left_out = [ridge.left_out, lda_left_out, trees_left_out]
on_train, of_val = opinions(X_embedding[train], X_sizes[train]), slice(len(train), None)
curve = []
for count in (1, 2, 3):
    stack = fit_stack(left_out[:count], y[both])
    crossed = cross_fitted(left_out[:count])
    temperature = temperature_of(crossed, y[both])
    said_of = {
        "train": (blend(on_train[:count], stack) / temperature, y[train]),
        "val": (crossed[of_val] / temperature, y[val]),
    }
    curve.append(
        {
            "models": count,
            **{f"{name}_log_loss": stack_loss(*said) for name, said in said_of.items()},
            **{
                f"{name}_accuracy": np.mean(logits.argmax(axis=1) == known)
                for name, (logits, known) in said_of.items()
            },
        }
    )
curve = pd.DataFrame(curve)
print("weights", stack[1].round(2))
model = (embedding_scaler, pca, sizes_scaler, ridge, lda, trees)
joblib.dump((model, stack, temperature, labels), output / "model.joblib")


# Evaluate on test
def predict_proba(X_embedding, X_sizes):
    return softmax(blend(opinions(X_embedding, X_sizes), stack) / temperature, axis=1)


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

places = X_embedding[train, :2]
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
