"""Seconds and peak memory of each stage on a table of MAMe's size with 10,944 numbers a row.

    python -m benchmarks.long_embeddings

So many numbers has an embedding that all 27 activations of MobileNetV1 give, each averaged over
the picture. The table is **synthetic**: half floats from a factor model, clipped as activations
are, with as many rows, mediums and subsets as MAMe. It says how the stages behave, and nothing
about photographs. The stages run once, one after the other, in a clone of the last commit and with
its parameters; the table of results goes to standard output, in Markdown. It takes some 10 minutes,
and 4 GB in the folder for temporary files. `--rows 4000` is a trial. `--numbers` makes embeddings
of another length, and each further argument sets a parameter, such as `train.model=lda`.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML
from tqdm import tqdm

from benchmarks.harness import Bench, apart, clone, table_of_stages
from scripts.params import set_params

NUMBERS = 10_944
ROWS, MEDIUMS = 37_407, 29
SUBSETS = {"train": 20_300, "val": 1_450, "test": 15_657}  # rows, of so many
SEED = 29
CEILING = 6.0  # of ReLU6
# Of a number's variance OWN_SHARE is noise of its own; the factors have the rest, the k-th in
# proportion to 1 / (k + 1), and of each factor BETWEEN lies between mediums. With these, ten
# principal components hold about as much of the variance as with real photographs, 0.5.
FACTORS, OWN_SHARE, BETWEEN = 512, 0.1, 0.02
ROWS_AT_A_TIME = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_embeddings")
    parser.add_argument("--rows", type=int, default=ROWS, help="of the table; more than 1,000")
    parser.add_argument("--numbers", type=int, default=NUMBERS, help="of an embedding")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="a parameter")
    arguments = parser.parse_args()
    settings = (argument.split("=", 1) for argument in arguments.settings)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "long.parquet"
        apart(write_table, path, arguments.rows, arguments.numbers)
        project = clone(Path(temporary) / "clone")
        set_params(
            project / "params.yaml",
            {
                "download.source": "file",
                "download.file.path": str(path),
                "split.strategy": "official",
                **{key: YAML(typ="safe").load(value) for key, value in settings},
            },
        )
        runs = Bench(Path(temporary), project).stages()
    print(table_of_stages([runs], list(runs)))


def write_table(path: Path, rows: int, numbers: int = NUMBERS) -> None:
    """Write the synthetic table, in the columns of the course's file."""
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("Image file", "Medium", "Museum")),
            *((name, pa.string()) for name in ("Museum-based instance ID", "Subset")),
            *((name, pa.float64()) for name in ("Width", "Height", "Product size", "Aspect ratio")),
            ("MobileNetV1 features", pa.list_(pa.float16())),
        ]
    )
    with (
        pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer,
        tqdm(desc="synthetic table", total=rows, unit=" rows", disable=None) as bar,
    ):
        for batch in batches(rows, numbers, schema):
            writer.write_batch(batch)
            bar.update(batch.num_rows)


def batches(rows: int, numbers: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of the table, `ROWS_AT_A_TIME` at a time."""
    random = np.random.default_rng(SEED)
    strength = 1 / np.arange(1, FACTORS + 1)
    strength *= (1 - OWN_SHARE) / strength.sum()
    loadings = random.standard_normal((FACTORS, numbers)) * np.sqrt(strength)[:, None]
    loadings = loadings.astype(np.float32)
    centres = np.sqrt(BETWEEN) * random.standard_normal((MEDIUMS, FACTORS))
    mean = random.lognormal(np.log(0.5), 1, numbers).clip(0, 5).astype(np.float32)
    spread = (0.5 * mean).astype(np.float32)
    medium = random.permutation(np.arange(rows) % MEDIUMS)
    ends = np.cumsum(list(SUBSETS.values())) * rows // sum(SUBSETS.values())
    subset = np.array(list(SUBSETS))[np.searchsorted(ends, np.arange(rows), side="right")]
    order = random.permutation(rows)
    width, height = random.integers(500, 4000, (2, rows)).astype(float)
    for start in range(0, rows, ROWS_AT_A_TIME):
        some = order[start : start + ROWS_AT_A_TIME]
        scores = np.sqrt(1 - BETWEEN) * random.standard_normal((len(some), FACTORS))
        scores += centres[medium[some]]
        values = random.standard_normal((len(some), numbers), dtype=np.float32)
        values *= np.sqrt(OWN_SHARE).astype(np.float32)
        values += scores.astype(np.float32) @ loadings
        values = np.clip(mean + spread * values, 0, CEILING).astype(np.float16)
        offsets = pa.array(np.arange(len(some) + 1) * numbers, pa.int32())
        columns = [
            pa.array([f"synthetic-{row:06d}.jpg" for row in some]),
            pa.array([f"Synthetic medium {place + 1:02d}" for place in medium[some]]),
            pa.array([f"Synthetic museum {row % 3 + 1}" for row in some]),
            pa.array([f"SYNTHETIC.{row:06d}" for row in some]),
            pa.array(subset[some]),
            pa.array(width[some]),
            pa.array(height[some]),
            pa.array(width[some] * height[some]),
            pa.array(np.round(width[some] / height[some], 4)),
            pa.ListArray.from_arrays(offsets, pa.array(values.ravel())),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


if __name__ == "__main__":
    main()
