"""Where the raw table lies, and what is known about it."""

from pathlib import Path

RAW_FOLDER = Path("data/raw")
PROVENANCE = RAW_FOLDER / "provenance.json"

# How the simulator begins the names of its image files.
SIMULATED = "synthetic-"
