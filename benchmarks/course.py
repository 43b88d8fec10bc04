"""From the course's CSV file to accuracy and log loss, as a student of the course would write it.

    python benchmarks/course.py data/raw/MAMe_dataset_extended.csv

Every text of an embedding is evaluated, everything is standardised on the training rows, and a
logistic regression is fitted until it converges. The official subsets say which rows train and
which test. The last line that it prints is JSON: the accuracy and the log loss (nats) on test.

Nothing of the package `stages` is imported: it would limit the threads of this script too.
"""

import ast
import json
import sys

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.preprocessing import StandardScaler

SIZES = ["Width", "Height", "Product size", "Aspect ratio"]

table = pd.read_csv(sys.argv[1])
embedding = np.stack(table["MobileNetV1 features"].apply(ast.literal_eval))
X = np.hstack([embedding, table[SIZES]])
y = table["Medium"]
train, test = (table["Subset"] == subset for subset in ("train", "test"))

scaler = StandardScaler().fit(X[train])
model = LogisticRegression(max_iter=10_000).fit(scaler.transform(X[train]), y[train])
probabilities = model.predict_proba(scaler.transform(X[test]))
predicted = model.classes_[probabilities.argmax(axis=1)]
figures = {
    "accuracy": float(accuracy_score(y[test], predicted)),
    "log_loss": float(log_loss(y[test], probabilities, labels=model.classes_)),
}
print(json.dumps(figures))
