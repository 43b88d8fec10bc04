"""Start the threads of Arrow while there is memory for them."""

import sys
import tempfile
from pathlib import Path

from stages import memory_limits


def start_threads() -> None:
    """Below a limit of memory, give Arrow one thread to read and one to compute, and start them.

    It starts them when they are first needed, and where there is no memory for one then, it waits
    for that thread for ever. Nothing is done where Arrow is not loaded.
    """
    if "pyarrow" not in sys.modules or not any(memory_limits()):
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        pq.write_table(pa.table({"a": [1], "b": [2]}), path)
        pq.read_table(path)
