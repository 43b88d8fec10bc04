"""Recompute `stages/sources/simulator_facts.csv` from MAMe's official metadata.

    python -m scripts.simulator_facts MAMe_dataset.csv stages/sources/simulator_facts.csv

`MAMe_dataset.csv` lies in MAMe_metadata.zip (https://storage.hpai.bsc.es/mame-dataset/). Without
the second argument the facts go to standard output. Only aggregates are kept, and none of a group
too small to hide its photographs.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from stages.tables.values import SUBSETS

# Denser in the middle than a grid of tenths would be in the tails; the outermost percent is cut,
# because a maximum is one particular photograph's.
LEVELS = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99)
# A smaller group borrows the sizes of its whole medium: five photographs give no quantiles, and
# what they gave would be the photographs themselves.
MIN_GROUP = 20


def size_quantiles(metadata: pd.DataFrame) -> dict[str, float]:
    """Quantiles of the longer side, in pixels, and of width / height.

    These two are the sizes' nearly independent halves: museums export photographs at a fixed
    longer side (4,000 pixels for one in eight), whatever the shape of the artefact.
    """
    width, height = metadata["Width"].to_numpy(), metadata["Height"].to_numpy()
    levels = np.array(LEVELS) / 100
    sides = np.round(np.quantile(np.maximum(width, height), levels)).astype(int)
    aspects = np.round(np.quantile(width / height, levels), 3)
    return {f"side_q{level:02d}": int(side) for level, side in zip(LEVELS, sides, strict=True)} | {
        f"aspect_q{level:02d}": float(a) for level, a in zip(LEVELS, aspects, strict=True)
    }


def facts(metadata: pd.DataFrame) -> pd.DataFrame:
    """One row per medium and museum: photographs per subset, then the quantiles of their sizes.

    `metadata` has the columns Medium, Museum, Subset, Width and Height; the result is sorted by
    medium and museum.
    """
    rows = []
    for (medium, museum), group in metadata.groupby(["Medium", "Museum"], sort=True):
        counts = {subset: int((group["Subset"] == subset).sum()) for subset in SUBSETS}
        sized = group if len(group) >= MIN_GROUP else metadata[metadata["Medium"] == medium]
        rows.append({"medium": medium, "museum": museum} | counts | size_quantiles(sized))
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Aggregate MAMe's metadata for the simulator.")
    parser.add_argument("metadata", type=Path, help="MAMe_dataset.csv")
    parser.add_argument("output", type=Path, nargs="?", help="standard output if left out")
    arguments = parser.parse_args()
    table = facts(pd.read_csv(arguments.metadata))
    table.to_csv(arguments.output or sys.stdout, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
