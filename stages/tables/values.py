"""Values that columns of several tables, or their metadata, take."""

from typing import Literal

# Where the data comes from: simulated, the course's file or a table of the user's own.
Source = Literal["synthetic", "mame", "file"]

SUBSETS = ("train", "val", "test")
