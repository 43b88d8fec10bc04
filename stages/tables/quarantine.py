"""The table of the rows that were set aside, as CSV."""

from pathlib import Path

QUARANTINE = Path("data/quarantine.csv")

# One line for each rule that a row breaks. Text is cut to a length that can be read.
QUARANTINE_COLUMNS = (
    "row",  # counted from 1, without the header
    "line",  # of the CSV file, counted from 1 with the header; empty for Parquet
    "image_file",
    "rule",  # its name in stages/parser/contract.py
    "value",  # what the row has
    "reason",  # what is wrong with it
)
