"""Print what the columns of a Parquet file grow to, by row group, as JSON.

It runs in a process of its own: some damaged files crash the process that asks for
the sizes of their columns, although reading them merely raises an error (seen with
pyarrow 26.0.1).
"""

import json
import sys

if __name__ == "__main__":
    # Arrow can do without NumPy, whose import takes half of the time.
    sys.modules["numpy"] = None  # type: ignore[assignment]

import pyarrow.parquet as pq


def unpacked_sizes(path: str) -> list[dict[str, int]]:
    """For each row group, the bytes of each column: at 8 a value, or as encoded if that is more."""
    metadata = pq.read_metadata(path)
    sizes = []
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        columns = [row_group.column(index) for index in range(row_group.num_columns)]
        sizes.append(
            {c.path_in_schema: max(8 * c.num_values, c.total_uncompressed_size) for c in columns}
        )
    return sizes


if __name__ == "__main__":
    print(json.dumps(unpacked_sizes(sys.argv[1])))
