"""Values that columns of several tables, or their metadata, take."""

from typing import Literal

# Where the data comes from: simulated, the course's file or a table of the user's own.
Source = Literal["synthetic", "mame", "file"]

# What a row is said to be from that names no museum.
UNKNOWN = "unknown"
SUBSETS = ("train", "val", "test")
