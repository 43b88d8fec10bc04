"""Other ways from the raw table to a Parquet file that has the embeddings as lists of float32.

    python -m benchmarks.peers polars table.csv target.parquet

Each is what one would write without this project. They read all columns, and pack with
zstd as the project does. Nothing is checked. Each imports what it needs when it is called,
so that a run pays for its own libraries only.
"""

import sys

FEATURES = "MobileNetV1 features"


def pandas_literal_eval(source: str, target: str) -> None:
    import ast

    import numpy as np
    import pandas as pd

    table = pd.read_csv(source)
    table[FEATURES] = [
        np.array(ast.literal_eval(text), dtype=np.float32) for text in table[FEATURES]
    ]
    table.to_parquet(target, compression="zstd", index=False)


def pandas_json(source: str, target: str) -> None:
    import json

    import numpy as np
    import pandas as pd

    table = pd.read_csv(source)
    table[FEATURES] = [np.array(json.loads(text), dtype=np.float32) for text in table[FEATURES]]
    table.to_parquet(target, compression="zstd", index=False)


def pandas_fromstring(source: str, target: str) -> None:
    import numpy as np
    import pandas as pd

    table = pd.read_csv(source)
    table[FEATURES] = [
        np.fromstring(text.strip("[]"), dtype=np.float32, sep=",") for text in table[FEATURES]
    ]
    table.to_parquet(target, compression="zstd", index=False)


def polars_streaming(source: str, target: str) -> None:
    import polars as pl

    numbers = pl.col(FEATURES).str.strip_chars("[]").str.split(", ").cast(pl.List(pl.Float32))
    pl.scan_csv(source).with_columns(numbers).sink_parquet(target, compression="zstd")


def duckdb_copy(source: str, target: str) -> None:
    import duckdb

    duckdb.execute(
        f"""
        COPY (
            SELECT * REPLACE (CAST("{FEATURES}" AS FLOAT[]) AS "{FEATURES}")
            FROM read_csv($source)
        ) TO $target (FORMAT parquet, COMPRESSION zstd)
        """,
        {"source": source, "target": target},
    )


def pandas_parquet(source: str, target: str) -> None:
    """The only one that reads Parquet, with the embeddings as lists of float64."""
    import numpy as np
    import pandas as pd

    table = pd.read_parquet(source)
    embeddings = np.stack(table[FEATURES]).astype(np.float32)
    table[FEATURES] = list(embeddings)
    table.to_parquet(target, compression="zstd", index=False)


PEERS = {
    "pandas-literal-eval": pandas_literal_eval,
    "pandas-json": pandas_json,
    "pandas-fromstring": pandas_fromstring,
    "polars": polars_streaming,
    "duckdb": duckdb_copy,
    "pandas-parquet": pandas_parquet,
}


if __name__ == "__main__":
    name, source, target = sys.argv[1:]
    PEERS[name](source, target)
