"""The table of the rows that were set aside, as CSV."""

from pathlib import Path
from typing import TYPE_CHECKING

from stages.common.files import read_csv

if TYPE_CHECKING:
    import pandas as pd

QUARANTINE = Path("data/quarantine.csv")

# One line for each rule that a row breaks. Text is cut to a length that can be read.
QUARANTINE_COLUMNS = {
    "row": int,  # counted from 1, without the header
    "line": float,  # of the CSV file, counted from 1 with the header; empty for Parquet
    "image_file": str,
    "rule": str,  # its name in stages/parser/contract.py
    "value": str,  # what the row has
    "reason": str,  # what is wrong with it
}


def read_quarantine() -> "pd.DataFrame":
    """The rows that were set aside.

    Raises PipelineError for another table, or one that cannot be read.
    """
    return read_csv(QUARANTINE, QUARANTINE_COLUMNS)
