"""Run all stages, and train and evaluate with every model; print the MD5 of all that they write.

    python tests/every_stage.py

tests/test_machines.py runs it on machines of several kinds. It is one process, because some of
these machines take long to import the libraries.
"""

import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

import stages  # noqa: F401, I001  (before NumPy, as each stage does it)

import numpy as np

from scripts.params import set_params
from stages import download, evaluate, featurize, report, split, train
from stages import parse_embeddings_to_parquet as parse
from stages.features.kinds.embedding import LONGEST_EXACT, principal_components
from stages.models.registry import MODELS


def checksums() -> dict[str, str]:
    """The MD5 of each file below data/, models/ and reports/."""
    return {
        path.as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for folder in ("data", "models", "reports")
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def components_of_a_long_embedding() -> str:
    """The MD5 of principal components for which the exact solver would take too long."""
    rows = np.random.default_rng(0).random((200, LONGEST_EXACT + 1), dtype=np.float32)
    components, _ = principal_components(rows, 16)
    return hashlib.md5(components.astype(np.float16).tobytes()).hexdigest()


def run(*modules: object) -> dict[str, str]:
    for module in modules:
        module.main()
    return checksums()


found = {"default": run(download, parse, split, featurize, train, evaluate, report)}
# A second fit of each is nothing new: the default has two.
set_params(Path("params.yaml"), {"train.without_sizes": False})
for model in MODELS:
    set_params(Path("params.yaml"), {"train.model": model})
    found[model] = run(train, evaluate)
set_params(Path("params.yaml"), {"featurize.pca.components": 16})
for embedding in ("raw", "power", "pca"):
    set_params(Path("params.yaml"), {"featurize.embedding": embedding})
    found[embedding] = run(featurize)
found["long embedding"] = {"components": components_of_a_long_embedding()}
print(json.dumps(found))
