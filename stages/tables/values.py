"""Values that columns of several tables take."""

SUBSETS = ("train", "val", "test")
